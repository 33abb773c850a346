//! The list of a user's logs.

use parlance_db::{Db, Joined, Query, Stored};
use parlance_log::{Error, Kind};
use parlance_types::{History, LogId, Micros, Role, TenantId, UserId};
use uuid::Uuid;

use super::UnreadRow;
use crate::inbox::walk::{IN_FLIGHT, Place, Walk};
use crate::inbox::{Filter, Listing, UserLog};
use crate::message::store::{MessageRow, message_columns};

parlance_db::row! {
    /// What a user's list shows of a log beside what is unread.
    struct Row {
        activity: Micros,
        role: i16,
        /// How many logs there are in all, on a first page; else 0.
        total: i64,
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
        concat!("CASE ", parlance_log::shown!("$5"), " END")
    };
}

/// Those of some logs that a filter lets pass. Kinds and roles are bits by their numbers. A
/// filter that needs the count counts once: what is materialized is not worked out again.
macro_rules! passing {
    ($logs:expr) => {
        concat!(
            "(WITH w AS (SELECT h.log_id, h.room_id, h.head, h.head_time, h.ord, h.deleted, m.role, m.read_seq,
                     m.marked_unread, FALSE AS hidden, ",
            since!(),
            " AS since, ",
            visible!(),
            " AS visible, ",
            activity!(),
            " AS activity FROM ",
            $logs,
            " AND NOT (",
            hidden!(),
            ") AND ($7 & (CAST(1 AS BIGINT) << h.kind)) <> 0
              AND ($8 & (CAST(1 AS BIGINT) << m.role)) <> 0 AND ",
            activity!(),
            " >= $9 AND ($3 OR ",
            last_message!("h.log_id", visible!(), "h.head"),
            " IS NOT NULL)), counted AS MATERIALIZED
               (SELECT w.*, CASE WHEN $10 THEN ",
            counted!(),
            " END AS counted FROM w) SELECT * FROM counted) w
              WHERE (NOT $10 OR w.marked_unread OR w.counted > 0)"
        )
    };
}

/// One page. What is told of a log is found for those of the page alone.
macro_rules! page {
    ($logs:expr, $total:literal, $from:literal, $order:literal) => {
        concat!(
            "SELECT w.log_id, w.room_id, ",
            unread_columns!(concat!("COALESCE(w.counted, ", counted!(), ")")),
            ", w.activity, w.role, w.total, ",
            message_columns!("w.log_id"),
            "  FROM (SELECT w.*, ",
            $total,
            " AS total FROM ",
            passing!($logs),
            $from,
            "     ORDER BY ",
            $order,
            "     LIMIT $4) w
               LEFT JOIN events m ON m.log_id = w.log_id AND m.seq = ",
            last_message!("w.log_id", "w.visible", "w.head"),
            " ORDER BY ",
            $order
        )
    };
}

const FROM_TOP: &str = page!(of_user!(), "COUNT(*) OVER ()", "", "w.activity DESC, w.log_id DESC");
const DOWN: &str = page!(
    of_user!(),
    "CAST(0 AS BIGINT)",
    " AND (w.activity, w.log_id) < ($11, $12)",
    "w.activity DESC, w.log_id DESC"
);
const UP: &str = page!(
    of_user!(),
    "CAST(0 AS BIGINT)",
    " AND (w.activity, w.log_id) > ($11, $12)",
    "w.activity, w.log_id"
);

/// An id of a log tells when it was made.
const NEWEST: &str = page!(of_user!(), "COUNT(*) OVER ()", "", "w.log_id DESC");
const OLDER: &str = page!(of_user!(), "CAST(0 AS BIGINT)", " AND w.log_id < $11", "w.log_id DESC");

const NAMED: &str = page!(
    "(VALUES ($2, $11..)) a
       JOIN heads h ON h.log_id = a.column2
       JOIN members m ON m.log_id = a.column2 AND m.user_id = a.column1
      WHERE h.tenant_id = $1 AND h.closed_seq IS NULL",
    "CAST(0 AS BIGINT)",
    "",
    "w.log_id"
);

const IDS: &str =
    concat!("SELECT w.log_id FROM ", passing!(of_user!()), " ORDER BY w.log_id DESC LIMIT $4");

/// One page of a walk by activity.
pub async fn user_logs(
    db: &Db,
    tenant_id: &TenantId,
    user_id: &UserId,
    walk: Option<Walk>,
    filter: &Filter,
    limit: usize,
) -> Result<Listing<Walk>, Error> {
    let page = async |sql, from: Option<Place>, limit| {
        let mut select = select(db, sql, tenant_id, user_id, filter, limit);
        if let Some((time, log_id)) = from {
            select = select.bind(time).bind(Uuid::from_u128(log_id));
        }
        listed(select).await
    };
    let Some(walk) = walk else {
        let slack = if matches!(db, Db::Postgres(_)) { IN_FLIGHT } else { 0 };
        let (logs, total) = page(FROM_TOP, None, limit).await?;
        let next = if logs.len() == limit { Walk::begin(&logs, slack) } else { None };
        return Ok(Listing { logs, next, total: Some(total) });
    };
    let (mut logs, mut walk) = (Vec::new(), walk);
    if !walk.ascending {
        (logs, _) = page(DOWN, Some(walk.at), limit).await?;
        walk = walk.went_down(&logs);
        if logs.len() == limit {
            return Ok(Listing { logs, next: Some(walk), total: None });
        }
        walk = walk.turned();
    }
    let rest = limit - logs.len();
    let (read, _) = page(UP, Some(walk.at), walk.to_read(rest)).await?;
    let (up, next) = walk.went_up(read, rest);
    logs.extend(up);
    Ok(Listing { logs, next, total: None })
}

/// One page of the logs by when they were made, the newest first, below `after`.
pub async fn by_creation(
    db: &Db,
    tenant_id: &TenantId,
    user_id: &UserId,
    after: Option<LogId>,
    filter: &Filter,
    limit: usize,
) -> Result<Listing<LogId>, Error> {
    let sql = if after.is_some() { OLDER } else { NEWEST };
    let mut select = select(db, sql, tenant_id, user_id, filter, limit);
    if let Some(after) = after {
        select = select.bind(after.0);
    }
    let (logs, total) = listed(select).await?;
    let last = logs.last().filter(|_| logs.len() == limit).map(|log| log.unread.log_id);
    Ok(Listing { logs, next: last, total: after.is_none().then_some(total) })
}

/// Those of the logs that the user is in, in order of their ids.
pub async fn named(
    db: &Db,
    tenant_id: &TenantId,
    user_id: &UserId,
    logs: &[LogId],
) -> Result<Vec<UserLog>, Error> {
    let select = select(db, NAMED, tenant_id, user_id, &Filter::default(), logs.len());
    Ok(listed(select.bind_list(logs.iter().map(|log_id| log_id.0))).await?.0)
}

/// The ids of a user's logs, of more than `limit` those that were made last.
pub async fn ids(
    db: &Db,
    tenant_id: &TenantId,
    user_id: &UserId,
    filter: &Filter,
    limit: usize,
) -> Result<Vec<LogId>, Error> {
    let found: Vec<(Uuid,)> =
        select(db, IDS, tenant_id, user_id, filter, limit).fetch_all().await?;
    Ok(found.into_iter().map(|(log_id,)| LogId(log_id)).collect())
}

/// A statement with all that every list has in common.
fn select<'q>(
    db: &'q Db,
    sql: &'static str,
    tenant_id: &TenantId,
    user_id: &UserId,
    filter: &Filter,
    limit: usize,
) -> Query<'q> {
    let select = db.read(sql).bind(tenant_id.as_str()).bind(user_id.as_str());
    let select = select.bind(!filter.skip_empty).bind(i64::try_from(limit).unwrap_or(i64::MAX));
    let select = select.bind(History::All as i16).bind(Kind::Message.number());
    let select = select.bind(filter.kinds).bind(filter.roles);
    select.bind(filter.since).bind(filter.unread_only)
}

async fn listed(select: Query<'_>) -> Result<(Vec<UserLog>, i64), Error> {
    let rows: Vec<Listed> = select.fetch_all().await?;
    let total = rows.first().map_or(0, |Joined(_, Joined(row, _))| row.total);
    Ok((rows.into_iter().map(user_log).collect::<Result<_, Error>>()?, total))
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
