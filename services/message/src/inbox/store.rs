//! What the logs of one user come to: unread counts, and the list by activity.

use parlance_db::{Db, Joined, Stored};
use parlance_log::{EpochId, Error, Kind, Stands};
use parlance_types::{History, LogId, Micros, Role, RoomId, Seq, TenantId, UserId};
use uuid::Uuid;

use super::walk::{IN_FLIGHT, Place, Walk};
use super::{Recount, Unread, UserLog};
use crate::message::store::{MessageRow, message_columns};

/// The place in the count up to which a member `m` of a log `h` has read what is stored, or
/// cleared it for themselves.
macro_rules! since {
    () => {
        "CASE WHEN m.read_ord >= h.first_ord AND m.read_ord >= m.cleared_ord THEN m.read_ord
              WHEN m.cleared_ord >= h.first_ord THEN m.cleared_ord
              ELSE h.first_ord - 1 END"
    };
}

/// Unread by the counters that a log `w` carries: what was counted since, but for what was
/// deleted of it. That is the sum, on each level, of the buckets behind the one of `since`
/// and within that one's own bucket of the level above.
macro_rules! counted {
    () => {
        "w.ord - w.since - CASE WHEN w.deleted = 0 OR w.since >= w.ord THEN 0 ELSE
         (SELECT CAST(COALESCE(SUM(g.count), 0) AS BIGINT)
            FROM (SELECT 0 AS n UNION ALL SELECT 1 UNION ALL SELECT 2 UNION ALL SELECT 3
                  UNION ALL SELECT 4) l
            JOIN gone g ON g.log_id = w.log_id AND g.level = l.n
             AND g.bucket > (w.since >> (5 * l.n))
             AND g.bucket < CASE WHEN l.n = 4 THEN 9223372036854775807
                                 ELSE ((w.since >> (5 * l.n + 5)) + 1) << 5 END) END"
    };
}

/// Unread by its definition.
macro_rules! recounted {
    () => {
        "(SELECT COUNT(*) FROM events e
           WHERE e.log_id = w.log_id AND e.seq > w.read_seq AND e.seq > w.cleared_seq
             AND e.seq >= w.first_seq AND e.kind = $3 AND e.counted
             AND e.deleted_seq IS NULL AND e.sender_id <> $2)"
    };
}

/// The open logs of a user.
macro_rules! of_user {
    () => {
        "members m JOIN heads h ON h.log_id = m.log_id
          WHERE m.tenant_id = $1 AND m.user_id = $2 AND h.closed_seq IS NULL"
    };
}

/// Whether a member `m` hid a log `h`: no message that counts was sent since.
macro_rules! hidden {
    () => {
        "h.ord <= m.hidden_ord"
    };
}

macro_rules! unread {
    ($columns:expr, $logs:expr) => {
        concat!(
            "SELECT w.log_id, w.room_id, ",
            $columns,
            " FROM (SELECT h.log_id, h.room_id, h.head, h.head_time, h.ord, h.deleted, h.first_seq,
                           m.marked_unread, m.read_seq, m.cleared_seq, ",
            hidden!(),
            " AS hidden, ",
            since!(),
            " AS since FROM ",
            $logs,
            ") w ORDER BY w.log_id"
        )
    };
}

macro_rules! unread_columns {
    () => {
        concat!(
            "w.head, w.head_time, w.hidden, w.marked_unread, w.read_seq, ",
            counted!(),
            " AS unread, (SELECT epoch_id FROM epochs ORDER BY number DESC LIMIT 1) AS epoch_id"
        )
    };
}

const UNREAD: &str = unread!(unread_columns!(), of_user!());
const UNREAD_IN: &str = unread!(
    unread_columns!(),
    "(VALUES ($2, $3..)) a
       JOIN heads h ON h.log_id = a.column2
       JOIN members m ON m.log_id = a.column2 AND m.user_id = a.column1
      WHERE h.tenant_id = $1 AND h.closed_seq IS NULL"
);

parlance_db::row! {
    /// What a member has not read of a log.
    struct UnreadRow {
        log_id: Uuid,
        room_id: String,
        head: Seq,
        head_time: Micros,
        hidden: bool,
        marked_unread: bool,
        read_seq: Seq,
        unread: i64,
        epoch_id: String,
    }
}

impl UnreadRow {
    fn unread(self) -> Unread {
        let log_id = LogId(self.log_id);
        Unread {
            log_id,
            room_id: RoomId::new(self.room_id),
            unread: self.unread,
            hidden: self.hidden,
            marked_unread: self.marked_unread,
            read: self.read_seq,
            stands: Stands {
                log_id,
                epoch: EpochId(self.epoch_id),
                seq: self.head,
                time: self.head_time,
            },
        }
    }
}

/// Unread counts of a user's open logs: of those in `only`, or of all.
pub async fn unread(
    db: &Db,
    tenant_id: &TenantId,
    user_id: &UserId,
    only: Option<&[LogId]>,
) -> Result<Vec<Unread>, Error> {
    let select = db.read(if only.is_some() { UNREAD_IN } else { UNREAD });
    let mut select = select.bind(tenant_id.as_str()).bind(user_id.as_str());
    if let Some(only) = only {
        select = select.bind_list(only.iter().map(|log_id| log_id.0));
    }
    let rows: Vec<UnreadRow> = select.fetch_all().await?;
    Ok(rows.into_iter().map(UnreadRow::unread).collect())
}

/// The same counts beside those of the events. One statement, so one snapshot: what
/// happens meanwhile makes no difference.
pub async fn recount(
    db: &Db,
    tenant_id: &TenantId,
    user_id: &UserId,
) -> Result<Vec<Recount>, Error> {
    let select = unread!(
        concat!("w.hidden, ", counted!(), " AS reported, ", recounted!(), " AS counted"),
        of_user!()
    );
    let select = db.read(select).bind(tenant_id.as_str()).bind(user_id.as_str());
    let rows: Vec<(Uuid, String, bool, i64, i64)> =
        select.bind(Kind::Message.number()).fetch_all().await?;
    let recount = |(log_id, room_id, hidden, reported, counted): (_, String, _, _, _)| Recount {
        log_id: LogId(log_id),
        room_id: RoomId::new(room_id),
        hidden,
        reported,
        counted,
    };
    Ok(rows.into_iter().map(recount).collect())
}

parlance_db::row! {
    /// What a user's list shows of a log beside what is unread.
    struct Row {
        activity: Micros,
        role: i16,
    }
}

/// A log in a user's list, and its last message if there is one to show.
type Listed = Joined<UnreadRow, Joined<Row, Option<MessageRow>>>;

/// When a member last had a reason to look into a room: the latest message, or the join.
macro_rules! activity {
    () => {
        "CASE WHEN h.message_time > m.joined_time THEN h.message_time ELSE m.joined_time END"
    };
}

/// The newest message of a log within the two places that is not deleted.
macro_rules! last_message {
    ($log_id:literal, $from:expr, $to:literal) => {
        concat!(
            "(SELECT s.seq FROM events s
               WHERE s.log_id = ",
            $log_id,
            " AND s.deleted_seq IS NULL AND (s.kind, s.seq) >= ($6, ",
            $from,
            ") AND (s.kind, s.seq) <= ($6, ",
            $to,
            ") ORDER BY s.kind DESC, s.seq DESC LIMIT 1)"
        )
    };
}

/// From where on a member `m` of a log `h` sees it.
macro_rules! visible {
    () => {
        "CASE WHEN m.cleared_seq >= h.first_seq
               AND (h.history = $5 OR m.cleared_seq >= m.joined_seq) THEN m.cleared_seq + 1
              WHEN h.history = $5 OR m.joined_seq < h.first_seq THEN h.first_seq
              ELSE m.joined_seq END"
    };
}

/// One part of the walk. What is told of a log is found for those of the page alone.
macro_rules! walk {
    ($from:expr, $order:literal) => {
        concat!(
            "SELECT w.log_id, w.room_id, ",
            unread_columns!(),
            ", w.activity, w.role, ",
            message_columns!("w.log_id"),
            "  FROM (
                 SELECT h.log_id, h.room_id, h.head, h.head_time, h.ord, h.deleted, m.role, m.read_seq,
                        m.marked_unread, FALSE AS hidden, ",
            since!(),
            " AS since, ",
            visible!(),
            " AS visible, ",
            activity!(),
            " AS activity FROM ",
            of_user!(),
            " AND NOT (",
            hidden!(),
            ") AND ($3 OR ",
            last_message!("h.log_id", visible!(), "h.head"),
            " IS NOT NULL)",
            $from,
            "     ORDER BY activity ",
            $order,
            ", h.log_id ",
            $order,
            "     LIMIT $4) w
               LEFT JOIN events m ON m.log_id = w.log_id AND m.seq = ",
            last_message!("w.log_id", "w.visible", "w.head"),
            " ORDER BY w.activity ",
            $order,
            ", w.log_id ",
            $order
        )
    };
}

const FROM_TOP: &str = walk!("", "DESC");
const DOWN: &str = walk!(concat!(" AND (", activity!(), ", h.log_id) < ($7, $8)"), "DESC");
const UP: &str = walk!(concat!(" AND (", activity!(), ", h.log_id) > ($7, $8)"), "ASC");

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
        let slack = if matches!(db, Db::Postgres(_)) { IN_FLIGHT } else { 0 };
        let logs = page(FROM_TOP, None, limit).await?;
        let next = if logs.len() == limit { Walk::begin(&logs, slack) } else { None };
        return Ok((logs, next));
    };
    let (mut logs, mut walk) = (Vec::new(), walk);
    if !walk.ascending {
        logs = page(DOWN, Some(walk.at), limit).await?;
        walk = walk.went_down(&logs);
        if logs.len() == limit {
            return Ok((logs, Some(walk)));
        }
        walk = walk.turned();
    }
    let rest = limit - logs.len();
    let read = page(UP, Some(walk.at), walk.to_read(rest)).await?;
    let (up, next) = walk.went_up(read, rest);
    logs.extend(up);
    Ok((logs, next))
}

async fn page(
    db: &Db,
    select: &'static str,
    tenant_id: &TenantId,
    user_id: &UserId,
    skip_empty: bool,
    from: Option<Place>,
    limit: usize,
) -> Result<Vec<UserLog>, Error> {
    let limit = i64::try_from(limit).unwrap_or(i64::MAX);
    let mut select = db.read(select).bind(tenant_id.as_str()).bind(user_id.as_str());
    select = select.bind(!skip_empty).bind(limit);
    select = select.bind(History::All as i16).bind(Kind::Message.number());
    if let Some((time, log_id)) = from {
        select = select.bind(time).bind(Uuid::from_u128(log_id));
    }
    let rows: Vec<Listed> = select.fetch_all().await?;
    rows.into_iter().map(user_log).collect()
}

fn user_log(Joined(unread, Joined(row, last)): Listed) -> Result<UserLog, Error> {
    let unread = unread.unread();
    let stored = Stored { table: "members", row: unread.log_id };
    Ok(UserLog {
        role: stored.value("role", Role::from_i16(row.role))?,
        last_message: last.map(|last| last.message(unread.log_id)).transpose()?,
        activity: row.activity,
        unread,
    })
}
