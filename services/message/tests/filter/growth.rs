//! What a content filter costs the database beside those of many tenants.

use std::collections::BTreeMap;

use parlance_db::testing::stays_as_cheap;
use parlance_db::{Db, test_on_each_db};
use parlance_message::filter::Filters;
use parlance_message::message::{Content, Filter as _};
use parlance_proto::message::v1 as pb;
use parlance_types::TenantId;

use super::filters::put;
use crate::harness::{TENANT, World};

test_on_each_db!(parlance_message::MIGRATIONS, crate::filter::growth, on_own_postgres =>
    beside_filters_of_other_tenants,
);

async fn beside_filters_of_other_tenants(db: Db) {
    let world = World::open(db.clone()).await;
    put(&world, &["darn"], pb::FilterAction::Refuse).await;
    let (tenant_id, other) = (TenantId::new(TENANT), TenantId::new("none"));
    let content = Content::parse(String::new(), "darn".to_owned(), BTreeMap::default(), None);
    let content = content.expect("a content");
    let work = async || {
        // A node that begins has looked at nothing yet.
        let filters = Filters::new(db.clone());
        assert!(filters.judge(&tenant_id, &content).await.is_err());
        assert!(filters.judge(&other, &content).await.is_ok());
        put(&world, &["darn"], pb::FilterAction::Refuse).await;
        let get = pb::GetContentFilterRequest {};
        world.internal(TENANT).filters.get_content_filter(get).await.expect("a filter");
    };
    let grow = async |size: i64| {
        let insert = "
            WITH RECURSIVE n (i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < $1)
            INSERT INTO content_filters (tenant_id, list_id, action, words)
            SELECT 'tenant ' || CAST($1 AS TEXT) || ' ' || CAST(n.i AS TEXT), f.list_id, 1, 'word'
              FROM n, content_filters f WHERE f.tenant_id = $2";
        db.write(insert).bind(size).bind(TENANT).execute().await.expect("filters");
    };
    stays_as_cheap(&db, work, grow, [100, 10_000]).await;
}
