//! What the logs of one user come to: unread counts, and the list by activity.

use parlance_db::{Db, Stored};
use parlance_log::{Error, Kind};
use parlance_types::{History, LogId, Micros, Role, RoomId, Seq, TenantId, UserId};
use sqlx::{ColumnIndex, Decode, FromRow, Type};
use uuid::Uuid;

use super::{Recount, Unread, UserLog, Walk};
use crate::message::store::{MessageRow, message_columns};

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
           WHERE e.log_id = h.log_id AND e.seq > m.read_seq AND e.kind = $3 AND e.counted
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
pub async fn unread(db: &Db, tenant_id: &TenantId, user_id: &UserId) -> Result<Vec<Unread>, Error> {
    let select = unread!(concat!("m.marked_unread, m.read_seq, ", counted!(), " AS unread"));
    let rows: Vec<(Uuid, String, bool, Seq, i64)> =
        db.read(select).bind(tenant_id.as_str()).bind(user_id.as_str()).fetch_all().await?;
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
pub async fn recount(
    db: &Db,
    tenant_id: &TenantId,
    user_id: &UserId,
) -> Result<Vec<Recount>, Error> {
    let select = unread!(concat!(counted!(), " AS reported, ", recounted!(), " AS counted"));
    let select = db.read(select).bind(tenant_id.as_str()).bind(user_id.as_str());
    let rows: Vec<(Uuid, String, i64, i64)> =
        select.bind(Kind::Message.number()).fetch_all().await?;
    let recount = |(log_id, room_id, reported, counted): (_, String, _, _)| Recount {
        log_id: LogId(log_id),
        room_id: RoomId::new(room_id),
        reported,
        counted,
    };
    Ok(rows.into_iter().map(recount).collect())
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
    }
}

/// A log in a user's list, and its last message if there is one to show.
struct Listed(Row, Option<MessageRow>);

impl<'r, R> FromRow<'r, R> for Listed
where
    R: sqlx::Row,
    Row: FromRow<'r, R>,
    MessageRow: FromRow<'r, R>,
    &'static str: ColumnIndex<R>,
    Option<Seq>: Decode<'r, R::Database> + Type<R::Database>,
{
    fn from_row(row: &'r R) -> Result<Self, sqlx::Error> {
        let seq: Option<Seq> = row.try_get("seq")?;
        let last = seq.map(|_| MessageRow::from_row(row)).transpose()?;
        Ok(Self(Row::from_row(row)?, last))
    }
}

/// One part of the walk. The last message is the newest that is not deleted and that
/// the member may see; `last_message` of the head spares the way past joins and edits.
macro_rules! walk {
    ($from:literal, $order:literal) => {
        concat!(
            "SELECT w.log_id, w.room_id, w.head, w.head_time, w.role, w.read_seq,
                    w.marked_unread, w.unread, ",
            message_columns!(),
            "  FROM (
                 SELECT h.log_id, h.room_id, h.head, h.head_time, m.role, m.read_seq,
                        m.marked_unread, ",
            counted!(),
            " AS unread,
                        (SELECT s.seq FROM events s
                          WHERE s.log_id = h.log_id AND s.seq <= h.last_message
                            AND s.seq >= CASE WHEN h.history = $5 THEN 1 ELSE m.joined_seq END
                            AND s.kind = $6 AND s.deleted_seq IS NULL
                          ORDER BY s.seq DESC LIMIT 1) AS last_seq
                   FROM members m JOIN heads h ON h.log_id = m.log_id
                  WHERE m.tenant_id = $1 AND m.user_id = $2 AND m.removed_seq IS NULL
                    AND h.closed_seq IS NULL",
            $from,
            "  ) w
               LEFT JOIN events m ON m.log_id = w.log_id AND m.seq = w.last_seq
               LEFT JOIN events e ON e.log_id = m.log_id AND e.seq = m.content_seq
              WHERE $3 OR w.last_seq IS NOT NULL
              ORDER BY w.head_time ",
            $order,
            ", w.log_id ",
            $order,
            " LIMIT $4"
        )
    };
}

const FROM_TOP: &str = walk!("", "DESC");
const DOWN: &str = walk!(" AND (h.head_time < $7 OR (h.head_time = $7 AND h.log_id < $8))", "DESC");
const UP: &str = walk!(" AND (h.head_time > $7 OR (h.head_time = $7 AND h.log_id > $8))", "ASC");

/// One page of a walk.
pub async fn user_logs(
    db: &Db,
    tenant_id: &TenantId,
    user_id: &UserId,
    walk: Option<Walk>,
    skip_empty: bool,
    limit: usize,
) -> Result<(Vec<UserLog>, Option<Walk>), Error> {
    let page =
        |select, from, limit| self::page(db, select, tenant_id, user_id, skip_empty, from, limit);
    let Some(walk) = walk else {
        let logs = page(FROM_TOP, None, limit).await?;
        let next = logs.first().filter(|_| logs.len() == limit).map(|first| first.activity);
        let next = next.and_then(|began| step(&logs, began, false));
        return Ok((logs, next));
    };
    let log_id = walk.at.1.parse::<Uuid>();
    let log_id = log_id.map_err(|_| Error::invalid("page_token", "was not made for this query"))?;
    let began = walk.began;
    let mut logs = Vec::new();
    let mut up_from = (walk.at.0, log_id);
    if !walk.ascending {
        logs = page(DOWN, Some((walk.at.0, log_id)), limit).await?;
        if logs.len() == limit {
            let next = step(&logs, began, false);
            return Ok((logs, next));
        }
        // The bottom is reached; what moved meanwhile is above where the walk began.
        let slack = if matches!(db, Db::Postgres(_)) { IN_FLIGHT } else { 0 };
        up_from = (began.saturating_sub(slack), Uuid::max());
    }
    let rest = limit - logs.len();
    let up = page(UP, Some(up_from), rest).await?;
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
    from: Option<(Micros, Uuid)>,
    limit: usize,
) -> Result<Vec<UserLog>, Error> {
    let limit = i64::try_from(limit).unwrap_or(i64::MAX);
    let mut select = db.read(select).bind(tenant_id.as_str()).bind(user_id.as_str());
    select = select.bind(!skip_empty).bind(limit);
    select = select.bind(History::All as i16).bind(Kind::Message.number());
    if let Some((time, log_id)) = from {
        select = select.bind(time).bind(log_id);
    }
    let rows: Vec<Listed> = select.fetch_all().await?;
    rows.into_iter().map(user_log).collect()
}

fn user_log(Listed(row, last): Listed) -> Result<UserLog, Error> {
    let log_id = LogId(row.log_id);
    Ok(UserLog {
        unread: Unread {
            log_id,
            room_id: RoomId::new(row.room_id),
            unread: row.unread,
            marked_unread: row.marked_unread,
            read: row.read_seq,
        },
        role: Stored { table: "members", row: log_id }.value("role", Role::from_i16(row.role))?,
        last_message: last.map(|last| last.message(log_id)).transpose()?,
        activity: row.head_time,
        head: row.head,
    })
}
