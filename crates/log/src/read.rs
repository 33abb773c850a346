//! What a log holds, and where logs stand.

use std::collections::HashMap;

use parlance_db::{AssertSqlSafe, Db, rows};
use parlance_types::{LogId, Micros, RoomId, Seq, TenantId, UserId};
use uuid::Uuid;

use crate::kind::PRUNED;
use crate::person::OWN;
use crate::{EpochId, Error, RequestKey, StoredEvent};

/// How many keys one statement asks for.
const CHUNK: usize = 500;

/// Where a log stands: what the periodic head check reads.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Head {
    pub log_id: LogId,
    pub head: Seq,
    /// The first event that is left.
    pub first: Seq,
    /// The present epoch.
    pub epoch: EpochId,
}

/// Events in order.
pub(crate) async fn events(
    db: &Db,
    log_id: LogId,
    from: Seq,
    to: Seq,
) -> Result<Vec<StoredEvent>, Error> {
    let select = "SELECT seq, time, payload FROM events
                  WHERE log_id = $1 AND seq >= $2 AND seq <= $3 AND kind <> $4 ORDER BY seq";
    let select = db.read(select).bind(log_id.0).bind(from).bind(to).bind(PRUNED);
    let rows: Vec<(Seq, Micros, Vec<u8>)> = select.fetch_all().await?;
    let event =
        |(seq, time, payload): (_, _, Vec<u8>)| StoredEvent { seq, time, payload: payload.into() };
    Ok(rows.into_iter().map(event).collect())
}

/// Whether a request of a sender is stored.
pub(crate) async fn has_request(
    db: &Db,
    log_id: LogId,
    sender: Option<&UserId>,
    request: &RequestKey,
) -> Result<bool, Error> {
    let select = "SELECT seq FROM events WHERE log_id = $1 AND sender_id = $2 AND request_id = $3";
    let select = db.read(select).bind(log_id.0).bind(sender.map_or("", UserId::as_str));
    let found: Option<(Seq,)> = select.bind(request.as_str()).fetch_optional().await?;
    Ok(found.is_some())
}

/// Where logs stand.
pub(crate) async fn heads(db: &Db, log_ids: &[LogId]) -> Result<Vec<Head>, Error> {
    let mut heads = Vec::with_capacity(log_ids.len());
    for log_ids in log_ids.chunks(CHUNK) {
        let select = "SELECT log_id, head, first_seq,
                             (SELECT epoch_id FROM epochs ORDER BY number DESC LIMIT 1)
                        FROM heads WHERE log_id IN ($1..)";
        let log_ids = log_ids.iter().map(|log_id| log_id.0);
        let rows: Vec<(Uuid, Seq, Seq, String)> =
            db.read(select).bind_list(log_ids).fetch_all().await?;
        heads.extend(rows.into_iter().map(|(log_id, head, first, epoch)| Head {
            log_id: LogId(log_id),
            head,
            first,
            epoch: EpochId(epoch),
        }));
    }
    Ok(heads)
}

/// How many facts of each source a log has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LogFacts {
    pub log_id: LogId,
    pub membership: i64,
    pub room: i64,
    /// Whether it is a room's: else it is a user's own.
    pub is_room: bool,
}

/// Up to `limit` logs by id, those after `after`. Of one that was purged it is known that it
/// has all.
pub(crate) async fn facts(db: &Db, after: LogId, limit: i64) -> Result<Vec<LogFacts>, Error> {
    let select = "SELECT log_id, applied_membership, applied_room, kind <> $3 FROM heads
                   WHERE log_id > $1
                  UNION ALL
                  SELECT log_id, applied_membership, applied_room, TRUE FROM purged
                   WHERE log_id > $1
                  ORDER BY log_id LIMIT $2";
    let select = db.read(select).bind(after.0).bind(limit).bind(OWN);
    let rows: Vec<(Uuid, i64, i64, bool)> = select.fetch_all().await?;
    let facts = |(log_id, membership, room, is_room)| LogFacts {
        log_id: LogId(log_id),
        membership,
        room,
        is_room,
    };
    Ok(rows.into_iter().map(facts).collect())
}

/// How often each user's access changed, in the order asked.
pub(crate) async fn user_heads(db: &Db, users: &[(TenantId, UserId)]) -> Result<Vec<i64>, Error> {
    let mut found = HashMap::new();
    for users in users.chunks(CHUNK) {
        let wanted = rows(1, users.len(), "($+, $+)");
        let select = format!(
            "WITH wanted (tenant_id, user_id) AS (VALUES {wanted})
             SELECT u.tenant_id, u.user_id, u.version
               FROM wanted w JOIN user_heads u
                 ON u.tenant_id = w.tenant_id AND u.user_id = w.user_id"
        );
        let mut select = db.read(AssertSqlSafe(select)).once();
        for (tenant_id, user_id) in users {
            select = select.bind(tenant_id.as_str()).bind(user_id.as_str());
        }
        let rows: Vec<(String, String, i64)> = select.fetch_all().await?;
        found.extend(rows.into_iter().map(|(tenant, user, version)| ((tenant, user), version)));
    }
    let version = |(tenant_id, user_id): &(TenantId, UserId)| {
        let key = (tenant_id.to_string(), user_id.to_string());
        found.get(&key).copied().unwrap_or(0)
    };
    Ok(users.iter().map(version).collect())
}

/// The open logs of a user.
pub(crate) async fn logs_of(
    db: &Db,
    tenant_id: &TenantId,
    user_id: &UserId,
) -> Result<Vec<(LogId, RoomId, Seq)>, Error> {
    let select = "SELECT h.log_id, h.room_id, m.joined_seq
                    FROM members m JOIN heads h ON h.log_id = m.log_id
                   WHERE m.tenant_id = $1 AND m.user_id = $2 AND h.closed_seq IS NULL
                   ORDER BY h.log_id";
    let rows: Vec<(Uuid, String, Seq)> =
        db.read(select).bind(tenant_id.as_str()).bind(user_id.as_str()).fetch_all().await?;
    let log =
        |(log_id, room_id, joined): (_, String, _)| (LogId(log_id), RoomId::new(room_id), joined);
    Ok(rows.into_iter().map(log).collect())
}
