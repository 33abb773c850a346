//! What a log holds.

use std::time::Duration;

use parlance_db::{Db, lend, read_db};
use parlance_types::{LogId, MessageId, Micros, RoomId, Seq, TenantId, UserId};
use sqlx::QueryBuilder;
use uuid::Uuid;

use super::{Head, Range};
use crate::Error;
use crate::codec;
use crate::domain::{
    EpochId, History, Membership, Message, PostRule, Role, RoomKind, Rules, StoredEvent, View,
};

/// How long a read may take.
const READ_TIMEOUT: Duration = Duration::from_secs(5);

/// How many keys one statement asks for.
const CHUNK: usize = 500;

/// Bounds a statement, on a connection that is lent: given up half-way it costs the pool
/// nothing.
pub(super) async fn bounded<T>(
    statement: impl Future<Output = Result<T, sqlx::Error>>,
) -> Result<T, Error> {
    match tokio::time::timeout(READ_TIMEOUT, statement).await {
        Ok(result) => Ok(result?),
        Err(_) => Err(Error::StoreTimeout),
    }
}

parlance_db::row! {
    struct ViewRow {
        tenant_id: String,
        room_id: String,
        kind: i16,
        head: Seq,
        first_seq: Seq,
        closed_seq: Option<Seq>,
        post_rule: i16,
        allow_preview: bool,
        history: i16,
        epoch_id: String,
        role: Option<i16>,
        joined_seq: Option<Seq>,
    }
}

const VIEW: &str = "
    SELECT h.tenant_id, h.room_id, h.kind, h.head, h.first_seq, h.closed_seq, h.post_rule,
           h.allow_preview, h.history, m.role, m.joined_seq,
           (SELECT epoch_id FROM epochs ORDER BY number DESC LIMIT 1) AS epoch_id
      FROM heads h LEFT JOIN members m
        ON m.log_id = h.log_id AND m.user_id = $2 AND m.removed_seq IS NULL
     WHERE h.log_id = $1";

/// What a viewer may see of a log.
pub(super) async fn view(
    db: &Db,
    log_id: LogId,
    viewer: Option<&UserId>,
) -> Result<Option<View>, Error> {
    // No user has an empty id.
    let viewer = viewer.map_or("", UserId::as_str);
    let row: Option<ViewRow> = bounded(async {
        read_db!(db, |pool| sqlx::query_as(VIEW)
            .bind(log_id.0)
            .bind(viewer)
            .fetch_optional(&mut *lend(pool).await?)
            .await)
    })
    .await?;
    let Some(row) = row else { return Ok(None) };
    let impossible = |column| Error::Impossible { table: "heads", column };
    let kind = RoomKind::from_i16(row.kind).ok_or(impossible("kind"))?;
    let member = match row.role.zip(row.joined_seq) {
        Some((role_, joined)) => Some(Membership { role: role(role_)?, joined }),
        None => None,
    };
    let rules = Rules {
        post: PostRule::from_i16(row.post_rule).ok_or(impossible("post_rule"))?,
        allow_preview: row.allow_preview,
        history: History::from_i16(row.history).ok_or(impossible("history"))?,
    };
    Ok(Some(View {
        tenant_id: TenantId::new(row.tenant_id),
        log_id,
        room_id: RoomId::new(row.room_id),
        kind,
        rules,
        head: row.head,
        epoch: EpochId(row.epoch_id),
        first_seq: row.first_seq,
        closed: row.closed_seq,
        member,
    }))
}

pub(super) fn role(role: i16) -> Result<Role, Error> {
    Role::from_i16(role).ok_or(Error::Impossible { table: "members", column: "role" })
}

parlance_db::row! {
    /// A message with the edit that holds its content.
    pub(super) struct MessageRow {
        seq: Seq,
        sender_id: String,
        time: Micros,
        counted: bool,
        deleted_seq: Option<Seq>,
        payload: Vec<u8>,
        edit_seq: Option<Seq>,
        edit_time: Option<Micros>,
        edit_payload: Option<Vec<u8>>,
    }
}

/// Messages within $2..=$3 as they read at $5: an edit above is not there yet. The two `+`
/// keep SQLite from walking the log backwards for the greatest number instead of reading
/// the message's edits by the index of targets.
macro_rules! messages {
    ($order:literal) => {
        concat!(
            "SELECT m.seq, m.sender_id, m.time, m.counted, m.deleted_seq, m.payload,
                    e.seq AS edit_seq, e.time AS edit_time, e.payload AS edit_payload
               FROM events m LEFT JOIN events e
                 ON e.log_id = m.log_id
                AND e.seq = CASE WHEN m.content_seq IS NULL THEN NULL
                                 WHEN m.content_seq <= $5 THEN m.content_seq
                                 ELSE (SELECT MAX(+o.seq) FROM events o
                                        WHERE o.log_id = $1 AND o.target_seq = m.seq
                                          AND o.kind = 2 AND +o.seq <= $5) END
              WHERE m.log_id = $1 AND m.kind = 1 AND m.seq >= $2 AND m.seq <= $3
              ORDER BY m.seq ",
            $order,
            " LIMIT $4"
        )
    };
}

/// Messages in ascending order.
pub(super) async fn messages(
    db: &Db,
    log_id: LogId,
    range: Range,
    visible: (Seq, Seq),
    limit: usize,
) -> Result<Vec<Message>, Error> {
    let (first, last) = visible;
    let (select, first, last, newest_first) = match range {
        Range::Before(seq) => (messages!("DESC"), first, last.min(seq.saturating_sub(1)), true),
        Range::After(seq) => (messages!("ASC"), first.max(seq.saturating_add(1)), last, false),
    };
    let mut rows: Vec<MessageRow> = bounded(async {
        read_db!(db, |pool| sqlx::query_as(select)
            .bind(log_id.0)
            .bind(first)
            .bind(last)
            .bind(i64::try_from(limit).unwrap_or(i64::MAX))
            .bind(visible.1)
            .fetch_all(&mut *lend(pool).await?)
            .await)
    })
    .await?;
    if newest_first {
        rows.reverse();
    }
    rows.into_iter().map(|row| row.message(log_id)).collect()
}

impl MessageRow {
    fn message(self, log_id: LogId) -> Result<Message, Error> {
        let edit = self.edit_seq.zip(self.edit_time);
        let payload = self.edit_payload.unwrap_or(self.payload);
        message(
            MessageId { log_id, seq: self.seq },
            self.sender_id,
            self.time,
            !self.counted,
            edit,
            self.deleted_seq,
            &payload,
        )
    }
}

/// A message from its row and the payload that holds its content.
pub(super) fn message(
    message_id: MessageId,
    sender_id: String,
    time: Micros,
    uncounted: bool,
    edit: Option<(Seq, Micros)>,
    deleted: Option<Seq>,
    payload: &[u8],
) -> Result<Message, Error> {
    let content = codec::content(payload)
        .map_err(|_| Error::Impossible { table: "events", column: "payload" })?;
    Ok(Message {
        message_id,
        sender: (!sender_id.is_empty()).then(|| UserId::new(sender_id)),
        content,
        time,
        uncounted,
        edit,
        deleted,
    })
}

/// Events in order.
pub(super) async fn events(
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
pub(super) async fn heads(db: &Db, log_ids: &[LogId]) -> Result<Vec<Head>, Error> {
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
pub(super) async fn user_heads(db: &Db, users: &[(TenantId, UserId)]) -> Result<Vec<i64>, Error> {
    let mut found = std::collections::HashMap::new();
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

parlance_db::row! {
    /// Where a cursor's epoch ends in a log.
    pub(super) struct CursorRow {
        pub(super) head: Seq,
        pub(super) epoch: i64,
        pub(super) present: i64,
        /// The first event of a later epoch.
        pub(super) next: Option<Seq>,
    }
}

/// What a log says of an epoch; `None` if either is not known.
pub(super) async fn cursor(
    db: &Db,
    log_id: LogId,
    epoch: &EpochId,
) -> Result<Option<CursorRow>, Error> {
    let select = "
        SELECT h.head, e.number AS epoch,
               (SELECT number FROM epochs ORDER BY number DESC LIMIT 1) AS present,
               (SELECT MIN(l.first_seq) FROM log_epochs l
                 WHERE l.log_id = h.log_id AND l.epoch > e.number) AS next
          FROM heads h, epochs e
         WHERE h.log_id = $1 AND e.epoch_id = $2";
    bounded(async {
        read_db!(db, |pool| sqlx::query_as(select)
            .bind(log_id.0)
            .bind(&epoch.0)
            .fetch_optional(&mut *lend(pool).await?)
            .await)
    })
    .await
}
