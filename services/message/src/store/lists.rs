//! What the logs of one user come to: unread counts, and the list by activity.

use parlance_db::{Db, lend, read_db};
use parlance_types::{LogId, MessageId, Micros, RoomId, Seq, TenantId, UserId};
use uuid::Uuid;

use super::read::{bounded, message, role};
use super::{Recount, Unread, UserLog, Walk};
use crate::Error;

/// On Postgres an append may commit after one that was given a later time: by another
/// replica, whose clock is ahead. The way up begins so much earlier; what differs by more
/// (clocks, or a commit that takes longer) may be missed by a walk that is under way. Not
/// more than this, since whatever moved within it before the walk is listed twice.
const IN_FLIGHT: Micros = 250_000;

/// Unread by the counters that the log carries: `ord` of the head and of the mark.
macro_rules! counted {
    () => {
        "h.ord - CASE WHEN m.read_ord > h.first_ord - 1 THEN m.read_ord ELSE h.first_ord - 1 END
         - (SELECT COUNT(*) FROM gone g WHERE g.log_id = h.log_id
              AND g.ord > CASE WHEN m.read_ord > h.first_ord - 1
                               THEN m.read_ord ELSE h.first_ord - 1 END)"
    };
}

/// Unread by its definition.
macro_rules! recounted {
    () => {
        "(SELECT COUNT(*) FROM events e
           WHERE e.log_id = h.log_id AND e.seq > m.read_seq AND e.kind = 1 AND e.counted
             AND e.deleted_seq IS NULL AND e.sender_id <> m.user_id)"
    };
}

macro_rules! unread {
    ($columns:expr) => {
        concat!(
            "SELECT h.log_id, h.room_id, ",
            $columns,
            " FROM members m JOIN heads h ON h.log_id = m.log_id
              WHERE m.tenant_id = $1 AND m.user_id = $2 AND m.removed_seq IS NULL
                AND h.closed_seq IS NULL
              ORDER BY h.log_id"
        )
    };
}

/// Unread counts of every open log of a user.
pub(super) async fn unread(
    db: &Db,
    tenant_id: &TenantId,
    user_id: &UserId,
) -> Result<Vec<Unread>, Error> {
    let select = unread!(concat!("m.marked_unread, m.read_seq, ", counted!(), " AS unread"));
    let rows: Vec<(Uuid, String, bool, Seq, i64)> = bounded(async {
        read_db!(db, |pool| sqlx::query_as(select)
            .bind(tenant_id.as_str())
            .bind(user_id.as_str())
            .fetch_all(&mut *lend(pool).await?)
            .await)
    })
    .await?;
    let unread = |(log_id, room_id, marked_unread, read, unread): (_, String, _, _, _)| Unread {
        log_id: LogId(log_id),
        room_id: RoomId::new(room_id),
        unread,
        marked_unread,
        read,
    };
    Ok(rows.into_iter().map(unread).collect())
}

/// The same counts beside those of the events. One statement, so one snapshot: what
/// happens meanwhile makes no difference.
pub(super) async fn recount(
    db: &Db,
    tenant_id: &TenantId,
    user_id: &UserId,
) -> Result<Vec<Recount>, Error> {
    let select = unread!(concat!(counted!(), " AS reported, ", recounted!(), " AS counted"));
    let rows: Vec<(Uuid, String, i64, i64)> = bounded(async {
        read_db!(db, |pool| sqlx::query_as(select)
            .bind(tenant_id.as_str())
            .bind(user_id.as_str())
            .fetch_all(&mut *lend(pool).await?)
            .await)
    })
    .await?;
    let recount = |(log_id, room_id, reported, counted): (_, String, _, _)| Recount {
        log_id: LogId(log_id),
        room_id: RoomId::new(room_id),
        reported,
        counted,
    };
    Ok(rows.into_iter().map(recount).collect())
}

/// The open logs of a user.
pub(super) async fn logs_of(
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

parlance_db::row! {
    /// A log in a user's list.
    struct Row {
        log_id: Uuid,
        room_id: String,
        head: Seq,
        head_time: Micros,
        role: i16,
        read_seq: Seq,
        marked_unread: bool,
        unread: i64,
        message_seq: Option<Seq>,
        sender_id: Option<String>,
        time: Option<Micros>,
        counted: Option<bool>,
        payload: Option<Vec<u8>>,
        edit_seq: Option<Seq>,
        edit_time: Option<Micros>,
        edit_payload: Option<Vec<u8>>,
    }
}

/// One part of the walk. The last message is the newest that is not deleted and that
/// the member may see; `last_message` of the head spares the way past joins and edits.
macro_rules! walk {
    ($from:literal, $order:literal) => {
        concat!(
            "SELECT w.log_id, w.room_id, w.head, w.head_time, w.role, w.read_seq,
                    w.marked_unread, w.unread, l.seq AS message_seq, l.sender_id, l.time,
                    l.counted, l.payload, e.seq AS edit_seq, e.time AS edit_time,
                    e.payload AS edit_payload
               FROM (
                 SELECT h.log_id, h.room_id, h.head, h.head_time, m.role, m.read_seq,
                        m.marked_unread, ",
            counted!(),
            " AS unread,
                        (SELECT s.seq FROM events s
                          WHERE s.log_id = h.log_id AND s.seq <= h.last_message
                            AND s.seq >= CASE WHEN h.history = 1 THEN 1 ELSE m.joined_seq END
                            AND s.kind = 1 AND s.deleted_seq IS NULL
                          ORDER BY s.seq DESC LIMIT 1) AS last_seq
                   FROM members m JOIN heads h ON h.log_id = m.log_id
                  WHERE m.tenant_id = $1 AND m.user_id = $2 AND m.removed_seq IS NULL
                    AND h.closed_seq IS NULL AND ",
            $from,
            "  ) w
               LEFT JOIN events l ON l.log_id = w.log_id AND l.seq = w.last_seq
               LEFT JOIN events e ON e.log_id = l.log_id AND e.seq = l.content_seq
              WHERE $3 OR w.last_seq IS NOT NULL
              ORDER BY w.head_time ",
            $order,
            ", w.log_id ",
            $order,
            " LIMIT $4"
        )
    };
}

const DOWN_FROM_TOP: &str = walk!("$5 = $5 AND $6 = $6", "DESC");
const DOWN: &str = walk!("(h.head_time < $5 OR (h.head_time = $5 AND h.log_id < $6))", "DESC");
const UP: &str = walk!("(h.head_time > $5 OR (h.head_time = $5 AND h.log_id > $6))", "ASC");

/// One page of a walk.
pub(super) async fn user_logs(
    db: &Db,
    tenant_id: &TenantId,
    user_id: &UserId,
    walk: Option<Walk>,
    skip_empty: bool,
    limit: usize,
) -> Result<(Vec<UserLog>, Option<Walk>), Error> {
    let page =
        |select, at, limit| self::page(db, select, tenant_id, user_id, skip_empty, at, limit);
    let Some(walk) = walk else {
        let logs = page(DOWN_FROM_TOP, (0, Uuid::nil()), limit).await?;
        let next = logs.first().filter(|_| logs.len() == limit).map(|first| first.activity);
        let next = next.and_then(|began| step(&logs, began, false));
        return Ok((logs, next));
    };
    let log_id = walk.at.1.parse::<Uuid>().map_err(|_| Error::Invalid {
        field: "page_token".to_owned(),
        rule: "was not made for this query".to_owned(),
    })?;
    let began = walk.began;
    let mut logs = Vec::new();
    let mut up_from = (walk.at.0, log_id);
    if !walk.ascending {
        logs = page(DOWN, (walk.at.0, log_id), limit).await?;
        if logs.len() == limit {
            let next = step(&logs, began, false);
            return Ok((logs, next));
        }
        // The bottom is reached; what moved meanwhile is above where the walk began.
        let slack = if matches!(db, Db::Postgres(_)) { IN_FLIGHT } else { 0 };
        up_from = (began.saturating_sub(slack), Uuid::max());
    }
    let rest = limit - logs.len();
    let up = page(UP, up_from, rest).await?;
    let next = if up.len() == rest { step(&up, began, true) } else { None };
    logs.extend(up);
    Ok((logs, next))
}

fn step(logs: &[UserLog], began: Micros, ascending: bool) -> Option<Walk> {
    let last = logs.last()?;
    let at = (last.activity, last.unread.log_id.to_string());
    Some(Walk { began, ascending, at })
}

async fn page(
    db: &Db,
    select: &'static str,
    tenant_id: &TenantId,
    user_id: &UserId,
    skip_empty: bool,
    (time, log_id): (Micros, Uuid),
    limit: usize,
) -> Result<Vec<UserLog>, Error> {
    let rows: Vec<Row> = bounded(async {
        read_db!(db, |pool| sqlx::query_as(select)
            .bind(tenant_id.as_str())
            .bind(user_id.as_str())
            .bind(!skip_empty)
            .bind(i64::try_from(limit).unwrap_or(i64::MAX))
            .bind(time)
            .bind(log_id)
            .fetch_all(&mut *lend(pool).await?)
            .await)
    })
    .await?;
    rows.into_iter().map(user_log).collect()
}

fn user_log(row: Row) -> Result<UserLog, Error> {
    let log_id = LogId(row.log_id);
    let last_message = match (row.message_seq, row.sender_id, row.time, row.payload) {
        (Some(seq), Some(sender_id), Some(time), Some(payload)) => Some(message(
            MessageId { log_id, seq },
            sender_id,
            time,
            row.counted == Some(false),
            row.edit_seq.zip(row.edit_time),
            None,
            &row.edit_payload.unwrap_or(payload),
        )?),
        _ => None,
    };
    Ok(UserLog {
        unread: Unread {
            log_id,
            room_id: RoomId::new(row.room_id),
            unread: row.unread,
            marked_unread: row.marked_unread,
            read: row.read_seq,
        },
        role: role(row.role)?,
        last_message,
        activity: row.head_time,
        head: row.head,
    })
}
