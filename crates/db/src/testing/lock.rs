//! A table that takes no writes for a while.

use sqlx::{AssertSqlSafe, ConnectOptions as _, PgConnection};

use crate::Db;

/// A table of a Postgres that is locked as `CREATE INDEX` locks it: it can be read, and who
/// writes to it waits. Free again when this is dropped.
#[derive(Debug)]
pub struct TableLock {
    conn: PgConnection,
    /// Writes that wait for it at once at most.
    pub writers: usize,
}

impl TableLock {
    pub async fn take(db: &Db, table: &str) -> Self {
        let Db::Postgres(db) = db else { panic!("a Postgres") };
        let forever = [("idle_in_transaction_session_timeout", "0")];
        let conn = db.options.clone().options(forever).connect().await;
        let mut conn = conn.expect("connect to Postgres");
        let lock = AssertSqlSafe(format!("BEGIN; LOCK TABLE {table} IN SHARE MODE"));
        sqlx::raw_sql(lock).execute(&mut conn).await.expect("locked");
        Self { conn, writers: db.write.most() }
    }

    /// Whether as many statements wait for the table as can.
    pub async fn holds_up_every_writer(&mut self) -> bool {
        let held = "SELECT relation FROM pg_locks
                    WHERE pid = pg_backend_pid() AND mode = 'ShareLock'";
        let waiting =
            format!("SELECT COUNT(*) FROM pg_locks WHERE NOT granted AND relation IN ({held})");
        let waiting = sqlx::query_scalar::<_, i64>(AssertSqlSafe(waiting));
        let waiting = waiting.fetch_one(&mut self.conn).await.expect("a count");
        usize::try_from(waiting).is_ok_and(|waiting| waiting >= self.writers)
    }
}
