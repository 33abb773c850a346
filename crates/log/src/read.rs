//! What a log holds, and where logs stand.

use std::collections::HashMap;
use std::time::Duration;

use parlance_db::{Db, lend, read_db};
use parlance_types::{LogId, Micros, RoomId, Seq, TenantId, UserId};
use sqlx::QueryBuilder;
use uuid::Uuid;

use crate::{EpochId, Error, StoredEvent};

/// How long a read may take.
const READ_TIMEOUT: Duration = Duration::from_secs(5);

/// How many keys one statement asks for.
const CHUNK: usize = 500;

/// Where a log stands: what the periodic head check reads.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Head {
    pub log_id: LogId,
    pub head: Seq,
    /// The present epoch.
    pub epoch: EpochId,
}

/// Bounds a statement, on a connection that is lent: given up half-way it costs the pool
/// nothing.
pub async fn bounded<T>(
    statement: impl Future<Output = Result<T, sqlx::Error>>,
) -> Result<T, Error> {
    match tokio::time::timeout(READ_TIMEOUT, statement).await {
        Ok(result) => Ok(result?),
        Err(_) => Err(Error::StoreTimeout),
    }
}

/// Events in order.
pub(crate) async fn events(
    db: &Db,
    log_id: LogId,
    from: Seq,
    to: Seq,
) -> Result<Vec<StoredEvent>, Error> {
    let select = "SELECT seq, time, payload FROM events
                  WHERE log_id = $1 AND seq >= $2 AND seq <= $3 ORDER BY seq";
    let rows: Vec<(Seq, Micros, Vec<u8>)> = bounded(async {
        read_db!(db, |pool| sqlx::query_as(select)
            .bind(log_id.0)
            .bind(from)
            .bind(to)
            .fetch_all(&mut *lend(pool).await?)
            .await)
    })
    .await?;
    let event =
        |(seq, time, payload): (_, _, Vec<u8>)| StoredEvent { seq, time, payload: payload.into() };
    Ok(rows.into_iter().map(event).collect())
}

/// Where logs stand.
pub(crate) async fn heads(db: &Db, log_ids: &[LogId]) -> Result<Vec<Head>, Error> {
    let mut heads = Vec::with_capacity(log_ids.len());
    for log_ids in log_ids.chunks(CHUNK) {
        let rows: Vec<(Uuid, Seq, String)> = bounded(async {
            read_db!(db, |pool| {
                let mut select = QueryBuilder::new(
                    "SELECT log_id, head,
                            (SELECT epoch_id FROM epochs ORDER BY number DESC LIMIT 1)
                       FROM heads WHERE log_id IN (",
                );
                let mut list = select.separated(", ");
                for log_id in log_ids {
                    list.push_bind(log_id.0);
                }
                select.push(")");
                select.build_query_as().persistent(false).fetch_all(&mut *lend(pool).await?).await
            })
        })
        .await?;
        heads.extend(rows.into_iter().map(|(log_id, head, epoch)| Head {
            log_id: LogId(log_id),
            head,
            epoch: EpochId(epoch),
        }));
    }
    Ok(heads)
}

/// How often each user's access changed, in the order asked.
pub(crate) async fn user_heads(db: &Db, users: &[(TenantId, UserId)]) -> Result<Vec<i64>, Error> {
    let mut found = HashMap::new();
    for users in users.chunks(CHUNK) {
        let rows: Vec<(String, String, i64)> = bounded(async {
            read_db!(db, |pool| {
                let mut select = QueryBuilder::new("WITH wanted (tenant_id, user_id) AS (");
                select.push_values(users, |mut row, (tenant_id, user_id)| {
                    row.push_bind(tenant_id.as_str()).push_bind(user_id.as_str());
                });
                select.push(
                    ") SELECT u.tenant_id, u.user_id, u.version
                         FROM wanted w JOIN user_heads u
                           ON u.tenant_id = w.tenant_id AND u.user_id = w.user_id",
                );
                select.build_query_as().persistent(false).fetch_all(&mut *lend(pool).await?).await
            })
        })
        .await?;
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
                   WHERE m.tenant_id = $1 AND m.user_id = $2 AND m.removed_seq IS NULL
                     AND h.closed_seq IS NULL
                   ORDER BY h.log_id";
    let rows: Vec<(Uuid, String, Seq)> = bounded(async {
        read_db!(db, |pool| sqlx::query_as(select)
            .bind(tenant_id.as_str())
            .bind(user_id.as_str())
            .fetch_all(&mut *lend(pool).await?)
            .await)
    })
    .await?;
    let log =
        |(log_id, room_id, joined): (_, String, _)| (LogId(log_id), RoomId::new(room_id), joined);
    Ok(rows.into_iter().map(log).collect())
}
