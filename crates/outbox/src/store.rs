//! The outbox in SQL.

use parlance_db::{Db, WritePool as _, read_db, write_db};
use parlance_proto::message::v1::{Event, Fact, RoomKind};
use parlance_types::{LogId, RoomId, TenantId};
use prost::Message as _;
use sqlx::{Postgres, Sqlite, Transaction};
use uuid::Uuid;

/// Facts that are read at once.
const ROWS: i64 = 64;

/// A log and what it is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OutboxLog {
    pub log_id: LogId,
    pub tenant_id: TenantId,
    pub room_id: RoomId,
    pub kind: RoomKind,
}

/// Databases that an outbox can live in.
pub trait OutboxDb: sqlx::Database {
    #[doc(hidden)]
    fn insert_log(
        connection: &mut Self::Connection,
        log: &OutboxLog,
    ) -> impl Future<Output = Result<(), sqlx::Error>> + Send;

    #[doc(hidden)]
    fn next_version(
        connection: &mut Self::Connection,
        log_id: LogId,
    ) -> impl Future<Output = Result<i64, sqlx::Error>> + Send;

    #[doc(hidden)]
    fn insert_fact(
        connection: &mut Self::Connection,
        log_id: LogId,
        version: i64,
        fact: Vec<u8>,
    ) -> impl Future<Output = Result<(), sqlx::Error>> + Send;
}

/// One text for both drivers.
macro_rules! outbox_db {
    ($($driver:ty),+) => {$(
        impl OutboxDb for $driver {
            async fn insert_log(
                connection: &mut Self::Connection,
                log: &OutboxLog,
            ) -> Result<(), sqlx::Error> {
                sqlx::query(
                    "INSERT INTO outbox_logs (log_id, tenant_id, room_id, kind, version, applied)
                     VALUES ($1, $2, $3, $4, 0, 0) ON CONFLICT (log_id) DO NOTHING",
                )
                .bind(log.log_id.0)
                .bind(log.tenant_id.as_str())
                .bind(log.room_id.as_str())
                .bind(i32::from(log.kind))
                .execute(connection)
                .await
                .map(drop)
            }

            async fn next_version(
                connection: &mut Self::Connection,
                log_id: LogId,
            ) -> Result<i64, sqlx::Error> {
                sqlx::query_scalar(
                    "UPDATE outbox_logs SET version = version + 1 WHERE log_id = $1
                     RETURNING version",
                )
                .bind(log_id.0)
                .fetch_one(connection)
                .await
            }

            async fn insert_fact(
                connection: &mut Self::Connection,
                log_id: LogId,
                version: i64,
                fact: Vec<u8>,
            ) -> Result<(), sqlx::Error> {
                sqlx::query("INSERT INTO outbox (log_id, version, fact) VALUES ($1, $2, $3)")
                    .bind(log_id.0)
                    .bind(version)
                    .bind(fact)
                    .execute(connection)
                    .await
                    .map(drop)
            }
        }
    )+};
}

outbox_db!(Sqlite, Postgres);

/// Makes the caller a source of a log, with no facts yet. Part of the caller's
/// transaction; registering again has no effect.
pub async fn register<DB: OutboxDb>(
    tx: &mut Transaction<'_, DB>,
    log: &OutboxLog,
) -> Result<(), sqlx::Error> {
    DB::insert_log(tx, log).await
}

/// Stores the next fact of a log and returns its version, 1 for the first. Part of
/// the transaction of the change that it tells of; the log's row stays locked until
/// that ends. The events carry no seq, time or id: the log gives those.
///
/// Fails with `RowNotFound` if the log was not registered.
pub async fn enqueue<DB: OutboxDb>(
    tx: &mut Transaction<'_, DB>,
    log_id: LogId,
    events: &[Event],
) -> Result<i64, sqlx::Error> {
    let version = DB::next_version(tx, log_id).await?;
    let events = events.iter().map(prost::Message::encode_to_vec).collect();
    DB::insert_fact(tx, log_id, version, Fact { version, events }.encode_to_vec()).await?;
    Ok(version)
}

/// Where a log stands.
pub(crate) struct Standing {
    pub(crate) tenant_id: TenantId,
    pub(crate) room_id: String,
    pub(crate) kind: i32,
    pub(crate) version: i64,
    pub(crate) applied: i64,
}

pub(crate) async fn standing(db: &Db, log_id: LogId) -> Result<Option<Standing>, sqlx::Error> {
    let row: Option<(String, String, i32, i64, i64)> = read_db!(db, |pool| {
        sqlx::query_as(
            "SELECT tenant_id, room_id, kind, version, applied FROM outbox_logs
             WHERE log_id = $1",
        )
        .bind(log_id.0)
        .fetch_optional(pool)
        .await
    })?;
    Ok(row.map(|(tenant_id, room_id, kind, version, applied)| {
        let tenant_id = TenantId::new(tenant_id);
        Standing { tenant_id, room_id, kind, version, applied }
    }))
}

/// The first facts above `after`, encoded, by version. The version is the row's: what
/// the fact says of it may be older (see [`overtake`]).
pub(crate) async fn facts(
    db: &Db,
    log_id: LogId,
    after: i64,
) -> Result<Vec<(i64, Vec<u8>)>, sqlx::Error> {
    read_db!(db, |pool| {
        sqlx::query_as(
            "SELECT version, fact FROM outbox WHERE log_id = $1 AND version > $2
             ORDER BY version LIMIT $3",
        )
        .bind(log_id.0)
        .bind(after)
        .bind(ROWS)
        .fetch_all(pool)
        .await
    })
}

/// Puts the pending facts of a log behind `applied`, which the log has and this source
/// never made: its own database was restored to before that. False if the source has
/// come that far by itself.
pub(crate) async fn overtake(db: &Db, log_id: LogId, applied: i64) -> Result<bool, sqlx::Error> {
    write_db!(db, |pool| {
        let mut tx = pool.begin_write().await?;
        // Takes the lock of the log's row: no fact is made meanwhile.
        let (version, had): (i64, i64) = sqlx::query_as(
            "UPDATE outbox_logs SET applied = applied WHERE log_id = $1
             RETURNING version, applied",
        )
        .bind(log_id.0)
        .fetch_one(&mut *tx)
        .await?;
        if version >= applied {
            return Ok(false);
        }
        // All of the new versions lie above all of the old ones.
        sqlx::query("UPDATE outbox SET version = version + $3 WHERE log_id = $1 AND version > $2")
            .bind(log_id.0)
            .bind(had)
            .bind(applied - had)
            .execute(&mut *tx)
            .await?;
        sqlx::query("UPDATE outbox_logs SET version = $2, applied = $3 WHERE log_id = $1")
            .bind(log_id.0)
            .bind(version + applied - had)
            .bind(applied)
            .execute(&mut *tx)
            .await?;
        tx.commit().await?;
        Ok(true)
    })
}

/// Logs with pending facts, and these facts, counted.
pub(crate) async fn backlog(db: &Db) -> Result<(i64, i64), sqlx::Error> {
    read_db!(db, |pool| {
        sqlx::query_as(
            "SELECT COUNT(*), CAST(COALESCE(SUM(version - applied), 0) AS BIGINT)
             FROM outbox_logs WHERE version > applied",
        )
        .fetch_one(pool)
        .await
    })
}

/// Notes that the log has the facts up to `applied`. Never lowers it: answers cross.
pub(crate) async fn raise(db: &Db, log_id: LogId, applied: i64) -> Result<(), sqlx::Error> {
    write_db!(db, |pool| {
        sqlx::query("UPDATE outbox_logs SET applied = $2 WHERE log_id = $1 AND applied < $2")
            .bind(log_id.0)
            .bind(applied)
            .execute(pool)
            .await
            .map(drop)
    })
}

/// Notes that the log has lost the facts above `applied`.
pub(crate) async fn lower(db: &Db, log_id: LogId, applied: i64) -> Result<(), sqlx::Error> {
    write_db!(db, |pool| {
        sqlx::query("UPDATE outbox_logs SET applied = $2 WHERE log_id = $1 AND applied > $2")
            .bind(log_id.0)
            .bind(applied)
            .execute(pool)
            .await
            .map(drop)
    })
}

/// Up to `limit` logs with pending facts, by id, above `after`.
pub(crate) async fn pending(db: &Db, after: LogId, limit: i64) -> Result<Vec<LogId>, sqlx::Error> {
    let ids: Vec<Uuid> = read_db!(db, |pool| {
        sqlx::query_scalar(
            "SELECT log_id FROM outbox_logs WHERE version > applied AND log_id > $1
             ORDER BY log_id LIMIT $2",
        )
        .bind(after.0)
        .bind(limit)
        .fetch_all(pool)
        .await
    })?;
    Ok(ids.into_iter().map(LogId).collect())
}
