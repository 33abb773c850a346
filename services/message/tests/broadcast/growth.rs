//! What broadcasts cost, those who have some and those who have none.

use std::sync::atomic::{AtomicI64, Ordering};

use parlance_db::testing::{Effort, stays_as_cheap};
use parlance_db::{Db, test_on_each_db};
use parlance_proto::message::v1::RoomKind;
use parlance_types::{TenantId, UserId};

use super::contacts::broadcast;
use crate::harness::{TENANT, World, unread};
use crate::rooms::plan;

test_on_each_db!(parlance_message::MIGRATIONS, crate::broadcast::growth, on_own_postgres =>
    a_first_contact_costs_the_same_beside_many_who_made_theirs,
    a_contact_that_was_made_costs_the_same_beside_many,
    a_tenant_without_broadcasts_pays_one_look_at_an_index,
);

const SIZES: [i64; 2] = [100, 10_000];

/// A broadcast in which so many more have a place, who read it all and have as many messages.
async fn grow(db: &Db, world: &World, room: &crate::rooms::Room, count: i64) {
    let insert = "
        WITH RECURSIVE n (i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < $2)
        INSERT INTO members (log_id, user_id, tenant_id, role, joined_seq, joined_time,
                             read_seq, read_ord, delivered_seq, marked_unread)
        SELECT $1, 'user ' || CAST($2 + n.i AS TEXT), $3, 1, 1, 1, 2, 0, 2, FALSE FROM n";
    let insert = db.write(insert).bind(room.log_id.0).bind(count).bind(TENANT);
    insert.execute().await.expect("places");
    // Broadcasts of others are nobody's business.
    for n in 0..3 {
        let name = format!("{count} {n}");
        plan(&name).of_tenant("globex").kind(RoomKind::Broadcast).make(world).await;
    }
}

async fn a_first_contact_costs_the_same_beside_many_who_made_theirs(db: Db) {
    let world = World::open(db.clone()).await;
    let room = broadcast(&world, "news").await;
    let next = AtomicI64::new(0);
    let contact = async || {
        let user = format!("new {}", next.fetch_add(1, Ordering::Relaxed));
        assert_eq!(unread(&mut world.user(&user)).await, 0);
    };
    stays_as_cheap(&db, contact, async |count| grow(&db, &world, &room, count).await, SIZES).await;
}

async fn a_contact_that_was_made_costs_the_same_beside_many(db: Db) {
    let world = World::open(db.clone()).await;
    let room = broadcast(&world, "news").await;
    let look = async || assert_eq!(unread(&mut world.user("ann")).await, 0);
    stays_as_cheap(&db, look, async |count| grow(&db, &world, &room, count).await, SIZES).await;
}

async fn a_tenant_without_broadcasts_pays_one_look_at_an_index(db: Db) {
    let world = World::open(db.clone()).await;
    for n in 0..30 {
        let room = format!("news {n}");
        plan(&room).of_tenant(&format!("tenant {n}")).kind(RoomKind::Broadcast).make(&world).await;
    }
    let effort = Effort::of(&db).await;
    let most = if matches!(effort, Effort::Steps(_)) { 9 } else { 1 };
    let (tenant_id, ann) = (TenantId::new(TENANT), UserId::new("ann"));
    let look = async || world.service.store().make_contacts(&tenant_id, &ann).await.expect("made");
    let mut costs = Vec::new();
    for _ in 0..5 {
        costs.push(effort.taken_by(look()).await.1);
    }
    assert!(costs.iter().min().is_some_and(|least| *least <= most), "{costs:?}");
}
