//! A database whose host falls silent: nothing answers and nothing is refused.

use std::net::SocketAddr;
use std::str::FromStr;
use std::time::Duration;

use futures::future::join_all;
use parlance_db::testing::TestSchema;
use parlance_db::{Db, Location};
use parlance_message::{Error, MIGRATIONS};
use sqlx::postgres::PgConnectOptions;
use sqlx::{AssertSqlSafe, Connection, PgConnection};
use tokio::io::copy_bidirectional;
use tokio::net::{TcpListener, TcpStream};
use tokio_util::sync::{CancellationToken, DropGuard};

use crate::world::World;

/// Connections of the pool.
const CONNECTIONS: u32 = 3;

/// Between a store and its Postgres.
struct Proxy {
    address: SocketAddr,
    /// Nothing passes any more on the connections that were open then.
    silence: CancellationToken,
    _stop: DropGuard,
}

impl Proxy {
    async fn start(server: String) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let address = listener.local_addr().expect("an address");
        let (silence, stop) = (CancellationToken::new(), CancellationToken::new());
        let (silenced, stopped) = (silence.clone(), stop.clone());
        let accept = async move {
            loop {
                let (mut near, _) = listener.accept().await.expect("a connection");
                let mut far = TcpStream::connect(&server).await.expect("a connection");
                let (silenced, stopped) = (silenced.clone(), stopped.clone());
                let is_new = silenced.is_cancelled();
                tokio::spawn(async move {
                    tokio::select! {
                        _ = copy_bidirectional(&mut near, &mut far) => return,
                        () = silenced.cancelled(), if !is_new => {}
                    }
                    stopped.cancelled().await;
                    drop((near, far));
                });
            }
        };
        tokio::spawn(stop.clone().run_until_cancelled_owned(accept));
        Self { address, silence, _stop: stop.drop_guard() }
    }
}

#[tokio::test]
async fn a_host_that_falls_silent_does_not_take_the_pool_along() {
    let schema = TestSchema::new();
    let server = PgConnectOptions::from_str(&schema.url).expect("a url");
    let server = format!("{}:{}", server.get_host(), server.get_port());
    let proxy = Proxy::start(server.clone()).await;
    let url = schema.url.replace(&server, &proxy.address.to_string());
    assert_ne!(url, schema.url);
    let location =
        Location::Postgres { url, schema: schema.name.clone(), connections: CONNECTIONS };
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
        proxy.silence.cancel();
        sqlx::raw_sql("ROLLBACK").execute(&mut admin).await.expect("unlocked");
    };
    let (unanswered, ()) = tokio::join!(views(), silence);
    for view in unanswered {
        assert!(matches!(view, Err(Error::StoreTimeout)), "{view:?}");
    }
    // Those connections are given up, and new ones work.
    let again = async { while world.store.view(log_id, None).await.is_err() {} };
    tokio::time::timeout(Duration::from_secs(20), again).await.expect("the pool recovers");
    for view in views().await {
        view.expect("a view");
    }
    world.db.close().await;
    schema.drop().await;
}
