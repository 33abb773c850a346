//! The outbox in SQL.

use std::time::Duration;

use parlance_db::{Conn, Db, StoreError};
use parlance_proto::message::v1::{Event, Fact, Hiding, LogIdentity, Projection, RoomKind};
use parlance_rpc::trace_parent;
use parlance_types::{LogId, RoomId, TenantId, UserId};
use prost::Message as _;
use uuid::Uuid;

/// Facts that are read at once.
const ROWS: i64 = 64;

/// How long a look for pending logs may take: it comes every second, and on a connection
/// that fell silent it should not wait for long.
const LOOK_TIMEOUT: Duration = Duration::from_secs(2);

/// A log and what it is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OutboxLog {
    pub log_id: LogId,
    pub tenant_id: TenantId,
    pub room_id: RoomId,
    pub kind: RoomKind,
}

/// The kind of a log that is of no room: a user's own. Its id of a room is the user's.
const OWN: RoomKind = RoomKind::Unspecified;

impl OutboxLog {
    /// The own log of a user, which has silent facts alone.
    pub fn own(log_id: LogId, tenant_id: TenantId, user_id: &UserId) -> Self {
        Self { log_id, tenant_id, room_id: RoomId::new(user_id.as_str()), kind: OWN }
    }
}

/// Makes the caller a source of a log, with no facts yet. Part of the caller's
/// transaction; registering again has no effect.
pub async fn register(tx: &mut Conn, log: &OutboxLog) -> Result<(), StoreError> {
    tx.query(
        "INSERT INTO outbox_logs (log_id, tenant_id, room_id, kind, version, applied)
         VALUES ($1, $2, $3, $4, 0, 0) ON CONFLICT (log_id) DO NOTHING",
    )
    .bind(log.log_id.0)
    .bind(log.tenant_id.as_str())
    .bind(log.room_id.as_str())
    .bind(i32::from(log.kind))
    .execute()
    .await
    .map(drop)
}

/// Stores the next fact of a log and returns its version, 1 for the first. Part of
/// the transaction of the change that it tells of; the log's row stays locked until
/// that ends. The events carry no seq, time or id: the log gives those.
///
/// A log that was not registered is a bug.
pub async fn enqueue(tx: &mut Conn, log_id: LogId, events: &[Event]) -> Result<i64, StoreError> {
    let events = events.iter().map(prost::Message::encode_to_vec).collect();
    put(tx, log_id, Fact { events, ..Fact::default() }).await
}

/// What a silent fact says: no event tells of it.
#[derive(Clone, Debug, PartialEq)]
pub enum Silent {
    Projection(Projection),
    Hiding(Hiding),
}

/// Stores the next fact of a log likewise, a silent one.
pub async fn enqueue_silent(
    tx: &mut Conn,
    log_id: LogId,
    silent: Silent,
) -> Result<i64, StoreError> {
    let fact = match silent {
        Silent::Projection(said) => Fact { silent: Some(said), ..Fact::default() },
        Silent::Hiding(hiding) => Fact { hiding: Some(hiding), ..Fact::default() },
    };
    put(tx, log_id, fact).await
}

/// Locks the row of a log until the transaction ends: whoever else makes a fact of it does so before
/// or after this.
pub async fn lock(tx: &mut Conn, log_id: LogId) -> Result<(), StoreError> {
    let lock = "UPDATE outbox_logs SET version = version WHERE log_id = $1";
    tx.query(lock).bind(log_id.0).execute().await.map(drop)
}

async fn put(tx: &mut Conn, log_id: LogId, fact: Fact) -> Result<i64, StoreError> {
    let next = "UPDATE outbox_logs SET version = version + 1 WHERE log_id = $1 RETURNING version";
    let (version,): (i64,) = tx.query(next).bind(log_id.0).fetch_one().await?;
    let insert = tx.query("INSERT INTO outbox (log_id, version, fact) VALUES ($1, $2, $3)");
    let insert = insert.bind(log_id.0).bind(version);
    let fact = Fact { version, trace_parent: trace_parent(), ..fact };
    insert.bind(fact.encode_to_vec()).execute().await?;
    Ok(version)
}

/// Where a log stands.
pub(crate) struct Standing {
    pub(crate) tenant_id: TenantId,
    pub(crate) identity: LogIdentity,
    pub(crate) version: i64,
    pub(crate) applied: i64,
}

pub(crate) async fn standing(db: &Db, log_id: LogId) -> Result<Option<Standing>, StoreError> {
    let select = "SELECT tenant_id, room_id, kind, version, applied FROM outbox_logs
                  WHERE log_id = $1";
    let row: Option<(String, String, i32, i64, i64)> =
        db.read(select).bind(log_id.0).fetch_optional().await?;
    Ok(row.map(|(tenant_id, room_id, kind, version, applied)| {
        let tenant_id = TenantId::new(tenant_id);
        let identity = if kind == i32::from(OWN) {
            LogIdentity { user_id: room_id, ..LogIdentity::default() }
        } else {
            LogIdentity { room_id, kind, ..LogIdentity::default() }
        };
        Standing { tenant_id, identity, version, applied }
    }))
}

/// How far the facts of a log have come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LogVersion {
    pub log_id: LogId,
    /// The last fact that was made.
    pub version: i64,
    /// The last one that the log is known to have.
    pub applied: i64,
    /// Whether it is a room's: else it is a user's own.
    pub is_room: bool,
}

/// Up to `limit` logs by id, those after `after`.
pub(crate) async fn versions(
    db: &Db,
    after: LogId,
    limit: i64,
) -> Result<Vec<LogVersion>, StoreError> {
    let select = "SELECT log_id, version, applied, kind FROM outbox_logs
                  WHERE log_id > $1 ORDER BY log_id LIMIT $2";
    let rows: Vec<(Uuid, i64, i64, i32)> =
        db.read(select).bind(after.0).bind(limit).fetch_all().await?;
    let version = |(log_id, version, applied, kind)| LogVersion {
        log_id: LogId(log_id),
        version,
        applied,
        is_room: kind != i32::from(OWN),
    };
    Ok(rows.into_iter().map(version).collect())
}

/// The first facts above `after`, encoded, by version. The version is the row's: what
/// the fact says of it may be older (see [`overtake`]).
pub(crate) async fn facts(
    db: &Db,
    log_id: LogId,
    after: i64,
) -> Result<Vec<(i64, Vec<u8>)>, StoreError> {
    let select = "SELECT version, fact FROM outbox WHERE log_id = $1 AND version > $2
                  ORDER BY version LIMIT $3";
    db.read(select).bind(log_id.0).bind(after).bind(ROWS).fetch_all().await
}

/// Puts the pending facts of a log behind `applied`, which the log has and this source
/// never made: its own database was restored to before that. False if the source has
/// come that far by itself.
pub(crate) async fn overtake(db: &Db, log_id: LogId, applied: i64) -> Result<bool, StoreError> {
    let mut tx = db.begin().await?;
    // Takes the lock of the log's row: no fact is made meanwhile.
    let lock = "UPDATE outbox_logs SET applied = applied WHERE log_id = $1
                RETURNING version, applied";
    let (version, had): (i64, i64) = tx.query(lock).bind(log_id.0).fetch_one().await?;
    if version >= applied {
        return Ok(false);
    }
    // All of the new versions lie above all of the old ones.
    tx.query("UPDATE outbox SET version = version + $3 WHERE log_id = $1 AND version > $2")
        .bind(log_id.0)
        .bind(had)
        .bind(applied - had)
        .execute()
        .await?;
    tx.query("UPDATE outbox_logs SET version = $2, applied = $3 WHERE log_id = $1")
        .bind(log_id.0)
        .bind(version + applied - had)
        .bind(applied)
        .execute()
        .await?;
    tx.commit().await?;
    Ok(true)
}

/// Logs with pending facts, and these facts, counted.
pub(crate) async fn backlog(db: &Db) -> Result<(i64, i64), StoreError> {
    let count = "SELECT COUNT(*), CAST(COALESCE(SUM(version - applied), 0) AS BIGINT)
                 FROM outbox_logs WHERE version > applied";
    db.read(count).fetch_one().await
}

/// How old the oldest pending fact is, in milliseconds, by the clock of the database; `None` if
/// there is none.
pub(crate) async fn oldest(db: &Db) -> Result<Option<i64>, StoreError> {
    let (oldest,): (Option<i64>,) =
        db.read("SELECT MAX(age) FROM outbox_age").within(LOOK_TIMEOUT).fetch_one().await?;
    Ok(oldest)
}

/// Notes that the log has the facts up to `applied`. Never lowers it: answers cross.
pub(crate) async fn raise(db: &Db, log_id: LogId, applied: i64) -> Result<(), StoreError> {
    let raise = "UPDATE outbox_logs SET applied = $2 WHERE log_id = $1 AND applied < $2";
    db.write(raise).bind(log_id.0).bind(applied).execute().await.map(drop)
}

/// Notes that the log has lost the facts above `applied`.
pub(crate) async fn lower(db: &Db, log_id: LogId, applied: i64) -> Result<(), StoreError> {
    let lower = "UPDATE outbox_logs SET applied = $2 WHERE log_id = $1 AND applied > $2";
    db.write(lower).bind(log_id.0).bind(applied).execute().await.map(drop)
}

/// Up to `limit` logs with pending facts, by id, above `after`.
pub(crate) async fn pending(db: &Db, after: LogId, limit: i64) -> Result<Vec<LogId>, StoreError> {
    let select = "SELECT log_id FROM outbox_logs WHERE version > applied AND log_id > $1
                  ORDER BY log_id LIMIT $2";
    let select = db.read(select).within(LOOK_TIMEOUT).bind(after.0).bind(limit);
    let rows: Vec<(Uuid,)> = select.fetch_all().await?;
    Ok(rows.into_iter().map(|(log_id,)| LogId(log_id)).collect())
}
