//! A database per cluster, and the logs that are stored in it.

use parlance_proto::message::v1::Event;
use prost::Message as _;
use sqlx::{AssertSqlSafe, Connection as _, PgConnection, Row as _};
use uuid::Uuid;

use crate::history::{Entry, StoredLog};

/// A database on the server that `TEST_POSTGRES_URL` names.
#[derive(Debug, Default)]
pub struct Database {
    server: String,
    name: String,
}

/// A device in a live room.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Seat {
    pub room: String,
    pub user: String,
    pub resource: String,
}

/// A locked head.
#[derive(Debug)]
pub struct Held(PgConnection);

impl Held {
    /// Lets appends go on.
    pub async fn release(mut self) {
        sqlx::query("COMMIT").execute(&mut self.0).await.expect("released");
    }
}

impl Database {
    pub(crate) async fn create() -> Self {
        let server = std::env::var("TEST_POSTGRES_URL")
            .expect("TEST_POSTGRES_URL is not set; scripts/with-postgres sets it");
        Self::on(server).await
    }

    /// A database on the server of this URL.
    pub(crate) async fn on(server: String) -> Self {
        let database = Self { server, name: format!("cluster_{}", Uuid::new_v4().simple()) };
        database.on_server(&format!("CREATE DATABASE {}", database.name)).await;
        database
    }

    pub(crate) async fn drop(self) {
        self.on_server(&format!("DROP DATABASE {} WITH (FORCE)", self.name)).await;
    }

    /// Where services find it.
    pub fn url(&self) -> String {
        let (server, _) = self.server.rsplit_once('/').expect("a database in the URL");
        format!("{server}/{}", self.name)
    }

    async fn on_server(&self, statement: &str) {
        let mut connection = PgConnection::connect(&self.server).await.expect("Postgres");
        let statement = sqlx::raw_sql(AssertSqlSafe(statement.to_owned()));
        statement.execute(&mut connection).await.expect("done");
        connection.close().await.expect("closed");
    }

    /// Runs a statement in the database.
    pub async fn run(&self, statement: &str) {
        let mut connection = PgConnection::connect(&self.url()).await.expect("Postgres");
        let statement = sqlx::raw_sql(AssertSqlSafe(statement.to_owned()));
        statement.execute(&mut connection).await.expect("done");
        connection.close().await.expect("closed");
    }

    /// Cuts every connection to the database, as a crash of its server would.
    pub async fn cut_connections(&self) -> i64 {
        let mut connection = PgConnection::connect(&self.server).await.expect("Postgres");
        sqlx::query_scalar(
            "SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity WHERE datname = $1",
        )
        .bind(&self.name)
        .fetch_one(&mut connection)
        .await
        .expect("cut")
    }

    /// Locks the head of a room's log: every append to it waits until the lock is dropped.
    pub async fn hold(&self, room: &str) -> Held {
        let mut connection = PgConnection::connect(&self.url()).await.expect("Postgres");
        sqlx::query("BEGIN").execute(&mut connection).await.expect("begun");
        sqlx::query(
            "SELECT 1 FROM parlance_message.heads h
             JOIN parlance_message.room_logs r ON r.log_id = h.log_id
             WHERE r.room_id = $1 FOR UPDATE OF h",
        )
        .bind(room)
        .execute(&mut connection)
        .await
        .expect("locked");
        Held(connection)
    }

    /// How many of the services' statements wait for a lock.
    pub async fn waiting(&self) -> i64 {
        let mut connection = PgConnection::connect(&self.server).await.expect("Postgres");
        sqlx::query_scalar(
            "SELECT count(*) FROM pg_stat_activity
             WHERE datname = $1 AND wait_event_type = 'Lock'",
        )
        .bind(&self.name)
        .fetch_one(&mut connection)
        .await
        .expect("a count")
    }

    /// The devices that are in live rooms, as the membership service knows them.
    pub async fn seats(&self) -> Vec<Seat> {
        let mut connection = PgConnection::connect(&self.url()).await.expect("Postgres");
        let rows: Vec<(String, String, String)> = sqlx::query_as(
            "SELECT l.room_id, s.user_id, s.resource FROM parlance_membership.seats s
             JOIN parlance_membership.outbox_logs l ON l.log_id = s.log_id ORDER BY 1, 2, 3",
        )
        .fetch_all(&mut connection)
        .await
        .expect("seats");
        let seat = |(room, user, resource)| Seat { room, user, resource };
        rows.into_iter().map(seat).collect()
    }

    /// Lets the time of all live rooms be over that wait for somebody.
    pub async fn end_live_rooms(&self) {
        let mut connection = PgConnection::connect(&self.url()).await.expect("Postgres");
        sqlx::query(
            "UPDATE parlance_membership.rosters SET destroy_time = 1
             WHERE destroy_time IS NOT NULL",
        )
        .execute(&mut connection)
        .await
        .expect("over");
    }

    /// How many live rooms are to end whose time is over, and how many logs are to be told.
    pub async fn ending_live_rooms(&self) -> i64 {
        let mut connection = PgConnection::connect(&self.url()).await.expect("Postgres");
        sqlx::query_scalar(
            "SELECT (SELECT count(*) FROM parlance_membership.rosters WHERE destroy_time = 1)
                  + (SELECT count(*) FROM parlance_membership.outbox_logs WHERE applied < version)",
        )
        .fetch_one(&mut connection)
        .await
        .expect("a count")
    }

    /// How many epochs the logs have had.
    pub async fn epochs(&self) -> i64 {
        let mut connection = PgConnection::connect(&self.url()).await.expect("Postgres");
        let count = sqlx::query_scalar("SELECT count(*) FROM parlance_message.epochs");
        count.fetch_one(&mut connection).await.expect("a count")
    }

    /// The event that removed a user from a room.
    pub async fn removal(&self, room: &str, user: &str) -> i64 {
        let log = self.log(room).await;
        let removal = |entry: &&Entry| entry.lost.iter().any(|lost| lost == user);
        log.entries.iter().rev().find(removal).expect("a removal").seq
    }

    /// The log of a room as the membership service knows it, and its last version there.
    pub async fn outbox(&self, room: &str) -> (String, i64) {
        let mut connection = PgConnection::connect(&self.url()).await.expect("Postgres");
        let row: (Uuid, i64) = sqlx::query_as(
            "SELECT log_id, version FROM parlance_membership.outbox_logs WHERE room_id = $1",
        )
        .bind(room)
        .fetch_one(&mut connection)
        .await
        .expect("a log");
        (row.0.to_string(), row.1)
    }

    /// The log of a room, straight from the tables.
    pub async fn log(&self, room: &str) -> StoredLog {
        let mut connection = PgConnection::connect(&self.url()).await.expect("Postgres");
        let rows = sqlx::query(
            "SELECT e.seq, e.payload, e.counted
             FROM parlance_message.events e
             JOIN parlance_message.room_logs r ON r.log_id = e.log_id
             WHERE r.room_id = $1 ORDER BY e.seq",
        )
        .bind(room)
        .fetch_all(&mut connection)
        .await
        .expect("events");
        let head = sqlx::query_scalar(
            "SELECT h.head FROM parlance_message.heads h
             JOIN parlance_message.room_logs r ON r.log_id = h.log_id WHERE r.room_id = $1",
        );
        let head: i64 = head.bind(room).fetch_one(&mut connection).await.expect("a head");
        let entries = rows.iter().map(|row| {
            let event = Event::decode(row.get::<&[u8], _>("payload")).expect("an event");
            Entry::of(row.get("seq"), row.get("counted"), event)
        });
        StoredLog { room: room.to_owned(), head, entries: entries.collect() }
    }
}
