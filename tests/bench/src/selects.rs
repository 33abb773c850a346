//! The limit of pages: the same rows by index, with no service in front of them.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use sqlx::postgres::PgConnectOptions;
use sqlx::sqlite::SqliteConnectOptions;
use sqlx::{ConnectOptions as _, Connection as _, PgConnection, SqliteConnection};
use tokio::sync::Mutex;
use uuid::Uuid;

use crate::load::{Rate, rate};
use crate::measured::Measured;
use crate::process::cpu;

/// Selects what a page shows of the suite's own tables, on connections of its own.
#[derive(Debug)]
pub(crate) struct Selects {
    log_id: Uuid,
    connections: Connections,
}

#[derive(Debug)]
enum Connections {
    Postgres(Arc<Vec<Mutex<PgConnection>>>),
    Sqlite(Arc<Vec<Mutex<SqliteConnection>>>),
}

/// A page by its newest message and its size.
type Row = (i64, i64, Vec<u8>);

const POSTGRES: &str = "SELECT seq, time, payload FROM parlance_message.events
                         WHERE log_id = $1 AND seq < $2 ORDER BY seq DESC LIMIT $3";
const SQLITE: &str = "SELECT seq, time, payload FROM events
                       WHERE log_id = $1 AND seq < $2 ORDER BY seq DESC LIMIT $3";

impl Selects {
    /// So many connections, which read the log of a room.
    pub(crate) async fn open(suite: &Measured, room: &str, count: usize) -> Self {
        match suite {
            Measured::Distributed(cluster) => {
                let options: PgConnectOptions = cluster.database.url().parse().expect("a URL");
                let mut connections = Vec::new();
                for _ in 0..count {
                    connections.push(options.connect().await.expect("Postgres"));
                }
                let of = "SELECT log_id FROM parlance_message.room_logs WHERE room_id = $1";
                let of = sqlx::query_scalar(of).bind(room).fetch_one(&mut connections[0]);
                let log_id = of.await.expect("a log");
                let connections = connections.into_iter().map(Mutex::new).collect();
                Self { log_id, connections: Connections::Postgres(Arc::new(connections)) }
            }
            Measured::Embedded(embedded) => {
                let file = embedded.folder().join("data/message.db");
                let options = SqliteConnectOptions::new().filename(file);
                let mut connections = Vec::new();
                for _ in 0..count {
                    connections.push(options.connect().await.expect("SQLite"));
                }
                let of = "SELECT log_id FROM room_logs WHERE room_id = $1";
                let of = sqlx::query_scalar(of).bind(room).fetch_one(&mut connections[0]);
                let log_id = of.await.expect("a log");
                let connections = connections.into_iter().map(Mutex::new).collect();
                Self { log_id, connections: Connections::Sqlite(Arc::new(connections)) }
            }
        }
    }

    /// As many as there can be: of `size` rows below the place that `before` says.
    pub(crate) async fn rate(
        &self,
        length: Duration,
        size: usize,
        before: impl Fn(usize, usize) -> i64 + Clone + Send + 'static,
    ) -> Rate {
        let (log_id, limit) = (self.log_id, i64::try_from(size).expect("a size"));
        match &self.connections {
            Connections::Postgres(connections) => {
                let connections = Arc::clone(connections);
                rate(connections.len(), length, move |worker, number| {
                    let (connections, before) = (Arc::clone(&connections), before(worker, number));
                    async move {
                        let select = sqlx::query_as(POSTGRES).bind(log_id).bind(before).bind(limit);
                        let mut connection = connections[worker].lock().await;
                        let rows: Result<Vec<Row>, _> = select.fetch_all(&mut *connection).await;
                        rows.is_ok_and(|rows| rows.len() == size)
                    }
                })
                .await
            }
            Connections::Sqlite(connections) => {
                let connections = Arc::clone(connections);
                rate(connections.len(), length, move |worker, number| {
                    let (connections, before) = (Arc::clone(&connections), before(worker, number));
                    async move {
                        let select = sqlx::query_as(SQLITE).bind(log_id).bind(before).bind(limit);
                        let mut connection = connections[worker].lock().await;
                        let rows: Result<Vec<Row>, _> = select.fetch_all(&mut *connection).await;
                        rows.is_ok_and(|rows| rows.len() == size)
                    }
                })
                .await
            }
        }
    }

    /// The CPU time of each process of Postgres that serves the suite's database, in
    /// microseconds; none when embedded.
    pub(crate) async fn backends(&self) -> BTreeMap<i32, f64> {
        let Connections::Postgres(connections) = &self.connections else { return BTreeMap::new() };
        let select = "SELECT pid FROM pg_stat_activity WHERE datname = current_database()";
        let mut connection = connections[0].lock().await;
        let select = sqlx::query_scalar(select).fetch_all(&mut *connection);
        let processes: Vec<i32> = select.await.expect("processes");
        let time = |process: i32| (process, cpu(process.unsigned_abs()));
        processes.into_iter().map(time).collect()
    }

    pub(crate) async fn close(self) {
        match self.connections {
            Connections::Postgres(connections) => {
                for connection in Arc::into_inner(connections).into_iter().flatten() {
                    connection.into_inner().close().await.ok();
                }
            }
            Connections::Sqlite(connections) => {
                for connection in Arc::into_inner(connections).into_iter().flatten() {
                    connection.into_inner().close().await.ok();
                }
            }
        }
    }
}
