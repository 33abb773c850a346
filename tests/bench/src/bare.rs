//! The limits: bare inserts, and a bare hop over Redis.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use futures::{FutureExt as _, StreamExt as _};
use parlance_cluster::Cluster;
use redis::AsyncCommands as _;
use sqlx::postgres::PgConnectOptions;
use sqlx::sqlite::{SqliteConnectOptions, SqliteJournalMode, SqliteSynchronous};
use sqlx::{ConnectOptions as _, Connection as _, PgConnection, SqliteConnection};
use tokio::sync::Mutex;
use uuid::Uuid;

use crate::caller::TEXT;
use crate::load::{Rate, rate};
use crate::measured::Measured;

/// Connections that insert at the same time.
const CONNECTIONS: usize = 16;

const TABLE: &str = "CREATE TABLE bare (id TEXT PRIMARY KEY, payload TEXT NOT NULL)";
const INSERT: &str = "INSERT INTO bare (id, payload) VALUES ($1, $2)";

/// Inserts of one row each, beside the suite's own tables.
#[derive(Debug)]
pub(crate) enum Inserts {
    Postgres(Arc<Vec<Mutex<PgConnection>>>),
    Sqlite(Arc<Mutex<SqliteConnection>>),
}

impl Inserts {
    pub(crate) async fn open(suite: &Measured) -> Self {
        match suite {
            Measured::Distributed(cluster) => Self::postgres(cluster).await,
            Measured::Embedded(embedded) => Self::sqlite(embedded.folder()).await,
        }
    }

    async fn postgres(cluster: &Cluster) -> Self {
        let options: PgConnectOptions = cluster.database.url().parse().expect("a URL");
        let mut connections = Vec::new();
        for number in 0..CONNECTIONS {
            let mut connection = options.connect().await.expect("Postgres");
            if number == 0 {
                let table = TABLE.replace("TABLE", "TABLE IF NOT EXISTS");
                let table = sqlx::raw_sql(sqlx::AssertSqlSafe(table));
                table.execute(&mut connection).await.expect("a table");
            }
            connections.push(Mutex::new(connection));
        }
        Self::Postgres(Arc::new(connections))
    }

    /// In a file beside the suite's, as durable as the suite's.
    async fn sqlite(folder: &Path) -> Self {
        let file = folder.join(format!("bare-{}.db", Uuid::new_v4()));
        let options = SqliteConnectOptions::new()
            .filename(file)
            .create_if_missing(true)
            .journal_mode(SqliteJournalMode::Wal)
            .synchronous(SqliteSynchronous::Full);
        let mut connection = options.connect().await.expect("SQLite");
        sqlx::raw_sql(TABLE).execute(&mut connection).await.expect("a table");
        Self::Sqlite(Arc::new(Mutex::new(connection)))
    }

    /// What is measured, for people.
    pub(crate) const fn name(&self) -> &'static str {
        match self {
            Self::Postgres(_) => "bare inserts, 16 connections",
            Self::Sqlite(_) => "bare inserts, FULL",
        }
    }

    /// As many as there can be.
    pub(crate) async fn rate(&self, length: Duration) -> Rate {
        match self {
            Self::Postgres(connections) => {
                let connections = Arc::clone(connections);
                rate(CONNECTIONS, length, move |worker, _| {
                    let connections = Arc::clone(&connections);
                    async move { postgres(&mut *connections[worker].lock().await).await }
                })
                .await
            }
            Self::Sqlite(connection) => {
                let connection = Arc::clone(connection);
                rate(1, length, move |_, _| {
                    let connection = Arc::clone(&connection);
                    async move { sqlite(&mut *connection.lock().await).await }
                })
                .await
            }
        }
    }

    /// One.
    pub(crate) async fn insert(&self) {
        let inserted = match self {
            Self::Postgres(connections) => postgres(&mut *connections[0].lock().await).await,
            Self::Sqlite(connection) => sqlite(&mut *connection.lock().await).await,
        };
        assert!(inserted, "a row could not be inserted");
    }

    pub(crate) async fn close(self) {
        match self {
            Self::Postgres(connections) => {
                for connection in Arc::into_inner(connections).into_iter().flatten() {
                    connection.into_inner().close().await.ok();
                }
            }
            Self::Sqlite(connection) => {
                if let Some(connection) = Arc::into_inner(connection) {
                    connection.into_inner().close().await.ok();
                }
            }
        }
    }
}

fn text() -> String {
    "x".repeat(TEXT)
}

async fn postgres(connection: &mut PgConnection) -> bool {
    let insert = sqlx::query(INSERT).bind(Uuid::now_v7().to_string()).bind(text());
    insert.execute(connection).await.is_ok()
}

async fn sqlite(connection: &mut SqliteConnection) -> bool {
    let insert = sqlx::query(INSERT).bind(Uuid::now_v7().to_string()).bind(text());
    insert.execute(connection).await.is_ok()
}

/// A publisher and a subscriber of one channel.
pub(crate) struct RedisHop {
    publisher: redis::aio::MultiplexedConnection,
    heard: redis::aio::PubSub,
}

impl RedisHop {
    pub(crate) async fn open(url: &str) -> Self {
        let client = redis::Client::open(url).expect("a URL");
        let publisher = client.get_multiplexed_async_connection().await.expect("Redis");
        let mut heard = client.get_async_pubsub().await.expect("Redis");
        heard.subscribe("bench").await.expect("subscribed");
        Self { publisher, heard }
    }

    /// Publishes, and waits until it is heard.
    pub(crate) async fn pass(&mut self) {
        let Self { publisher, heard } = self;
        let mut heard = heard.on_message();
        let told = publisher.publish::<_, _, ()>("bench", text()).map(|told| told.expect("told"));
        let ((), message) = tokio::join!(told, heard.next());
        message.expect("a message");
    }
}
