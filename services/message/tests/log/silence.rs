//! A database whose host falls silent: nothing answers and nothing is refused.

use futures::future::join_all;
use parlance_db::testing::{Link, TestSchema};
use parlance_db::{Db, Location, StoreError};
use parlance_message::{Error, MIGRATIONS};
use parlance_rpc::testing::eventually;
use sqlx::{AssertSqlSafe, Connection, PgConnection};

use crate::world::World;

/// Connections of the pool that reads; that which writes has as many.
const CONNECTIONS: u32 = 3;

#[tokio::test]
async fn a_host_that_falls_silent_does_not_take_the_pool_along() {
    let schema = TestSchema::new();
    let link = Link::to(&schema.url).await;
    let (url, name) = (link.url(), schema.name.clone());
    let location = Location::Postgres { url, schema: name, connections: 2 * CONNECTIONS };
    let world = World::open(Db::open(&location, MIGRATIONS).await.expect("open")).await;
    let log_id = world.group("r", &["ann"]).await;
    let views = || join_all((0..CONNECTIONS).map(|_| world.store.view(log_id, None)));

    // Silent while every connection waits for an answer.
    let mut admin = PgConnection::connect(&schema.url).await.expect("connect");
    let lock = format!("BEGIN; LOCK TABLE {}.heads IN ACCESS EXCLUSIVE MODE", schema.name);
    sqlx::raw_sql(AssertSqlSafe(lock)).execute(&mut admin).await.expect("locked");
    let silence = async {
        let waiting = format!(
            "SELECT COUNT(*) FROM pg_locks WHERE relation = '{}.heads'::regclass AND NOT granted",
            schema.name
        );
        let mut count = 0;
        while count < i64::from(CONNECTIONS) {
            let query = sqlx::query_scalar(AssertSqlSafe(waiting.clone()));
            count = query.fetch_one(&mut admin).await.expect("a count");
        }
        link.silence();
        sqlx::raw_sql("ROLLBACK").execute(&mut admin).await.expect("unlocked");
    };
    let (unanswered, ()) = tokio::join!(views(), silence);
    for view in unanswered {
        assert!(matches!(view, Err(Error::Store(StoreError::Late(_)))), "{view:?}");
    }
    // Those connections are given up, and new ones work.
    eventually(|| async { world.store.view(log_id, None).await.is_ok() }).await;
    for view in views().await {
        view.expect("a view");
    }
    world.db.close().await;
    schema.drop().await;
}
