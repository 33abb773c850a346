//! The list of a user's logs.

use parlance_db::{Db, Joined, Query, Stored};
use parlance_log::{Blocked, Error, Kind};
use parlance_types::{History, LogId, Micros, Role, TenantId, UserId};
use uuid::Uuid;

use super::{UnreadRow, whom};
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
    ($log_id:literal, $from:expr, $to:literal, $kept:expr) => {
        concat!(
            "(SELECT s.seq FROM events s
               WHERE s.log_id = ",
            $log_id,
            " AND s.deleted_seq IS NULL AND (s.kind, s.seq) >= ($6, ",
            $from,
            ") AND (s.kind, s.seq) <= ($6, ",
            $to,
            ")",
            $kept,
            " ORDER BY s.kind DESC, s.seq DESC LIMIT 1)"
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
    ($counted:expr, $kept:expr, $logs:expr) => {
        concat!(
            "(WITH w AS (SELECT h.log_id, h.room_id, h.head, h.head_time, h.ord, h.deleted, h.first_seq,
                     h.mention_seq, m.role, m.read_seq, m.cleared_seq, m.suspended_until, m.has_blocks,
                     m.marked_unread, FALSE AS hidden, m.has_hidden, m.joined_seq, ",
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
            last_message!("h.log_id", visible!(), "h.head", $kept),
            " IS NOT NULL)), counted AS MATERIALIZED
               (SELECT w.*, CASE WHEN $10 THEN ",
            $counted,
            " END AS counted FROM w) SELECT * FROM counted) w
              WHERE (NOT $10 OR w.marked_unread OR w.counted > 0)"
        )
    };
}

/// One page. What is told of a log is found for those of the page alone.
macro_rules! page {
    ($blocked:expr, $counted:expr, $mentions:expr, ($kept_m:expr, $kept_w:expr),
     $logs:expr, $total:literal, $from:literal, $order:literal) => {
        concat!(
            $blocked,
            "SELECT w.log_id, w.room_id, ",
            unread_columns!(concat!("COALESCE(w.counted, ", $counted, ")"), $mentions),
            ", w.activity, w.role, w.total, ",
            message_columns!("w.log_id"),
            "  FROM (SELECT w.*, ",
            $total,
            " AS total FROM ",
            passing!($counted, $kept_m, $logs),
            $from,
            "     ORDER BY ",
            $order,
            "     LIMIT $4) w
               LEFT JOIN events m ON m.log_id = w.log_id AND m.seq = ",
            last_message!("w.log_id", "w.visible", "w.head", $kept_w),
            " ORDER BY ",
            $order
        )
    };
}

/// A statement, and the same for those who have blocked somebody, with the list of whom.
#[derive(Clone, Copy)]
struct Sql {
    all: &'static str,
    without: &'static str,
}

/// What a last message is not, of a member whose row it is: by somebody blocked, or hidden.
macro_rules! kept {
    ($row:literal) => {
        concat!(
            unhidden!($row, "s.log_id", "s.seq"),
            " AND NOT (",
            $row,
            ".has_blocks AND s.sender_id IN (SELECT b.id FROM b))"
        )
    };
}

/// The same of a member who has blocked nobody: one that they hid.
macro_rules! kept_of_all {
    ($row:literal) => {
        unhidden!($row, "s.log_id", "s.seq")
    };
}

macro_rules! without {
    ($list:literal, $logs:expr, $total:literal, $from:literal, $order:literal) => {
        page!(
            blocked!($list),
            counted_without!("$6"),
            mentions_without!(),
            (kept!("m"), kept!("w")),
            $logs,
            $total,
            $from,
            $order
        )
    };
}

macro_rules! pages {
    ($list:literal, $logs:expr, $total:literal, $from:literal, $order:literal $(,)?) => {
        Sql {
            all: page!(
                "",
                counted!(),
                mentions!(""),
                (kept_of_all!("m"), kept_of_all!("w")),
                $logs,
                $total,
                $from,
                $order
            ),
            without: without!($list, $logs, $total, $from, $order),
        }
    };
}

const FROM_TOP: Sql =
    pages!("$11..", of_user!(), "COUNT(*) OVER ()", "", "w.activity DESC, w.log_id DESC");
const DOWN: Sql = pages!(
    "$13..",
    of_user!(),
    "CAST(0 AS BIGINT)",
    " AND (w.activity, w.log_id) < ($11, $12)",
    "w.activity DESC, w.log_id DESC"
);
const UP: Sql = pages!(
    "$13..",
    of_user!(),
    "CAST(0 AS BIGINT)",
    " AND (w.activity, w.log_id) > ($11, $12)",
    "w.activity, w.log_id"
);

/// An id of a log tells when it was made.
const NEWEST: Sql = pages!("$11..", of_user!(), "COUNT(*) OVER ()", "", "w.log_id DESC");
const OLDER: Sql =
    pages!("$12..", of_user!(), "CAST(0 AS BIGINT)", " AND w.log_id < $11", "w.log_id DESC");

const NAMED: &str = page!(
    "",
    counted!(),
    mentions!(""),
    (kept_of_all!("m"), kept_of_all!("w")),
    "(VALUES ($2, $11..)) a
       JOIN heads h ON h.log_id = a.column2
       JOIN members m ON m.log_id = a.column2 AND m.user_id = a.column1
      WHERE h.tenant_id = $1 AND h.closed_seq IS NULL",
    "CAST(0 AS BIGINT)",
    "",
    "w.log_id"
);

const NAMED_ONE: &str = without!(
    "$12..",
    concat!(of_user!(), " AND m.log_id = $11"),
    "CAST(0 AS BIGINT)",
    "",
    "w.log_id"
);

macro_rules! ids {
    ($blocked:expr, $counted:expr, $kept:expr) => {
        concat!(
            $blocked,
            "SELECT w.log_id, w.suspended_until, w.has_blocks FROM ",
            passing!($counted, $kept, of_user!()),
            " ORDER BY w.log_id DESC LIMIT $4"
        )
    };
}

const IDS: Sql = Sql {
    all: ids!("", counted!(), kept_of_all!("m")),
    without: ids!(blocked!("$11.."), counted_without!("$6"), kept!("m")),
};

/// A user whose lists are read.
#[derive(Clone, Copy)]
struct Of<'a> {
    db: &'a Db,
    now: Micros,
    tenant_id: &'a TenantId,
    user_id: &'a UserId,
    filter: &'a Filter,
    limit: usize,
}

impl<'a> Of<'a> {
    /// A statement with all that every list has in common.
    fn select(self, sql: &'static str) -> Query<'a> {
        let Self { db, tenant_id, user_id, filter, limit, .. } = self;
        let select = db.read(sql).bind(tenant_id.as_str()).bind(user_id.as_str());
        let limit = i64::try_from(limit).unwrap_or(i64::MAX);
        let select = select.bind(!filter.skip_empty).bind(limit);
        let select = select.bind(History::All as i16).bind(Kind::Message.number());
        let select = select.bind(filter.kinds).bind(filter.roles);
        select.bind(filter.since).bind(filter.unread_only)
    }

    /// A page, and how many logs there are in all. `bind` gives the statement what it binds
    /// itself.
    async fn page(
        self,
        sql: Sql,
        bind: impl Fn(Query<'a>) -> Query<'a>,
    ) -> Result<(Vec<UserLog>, i64), Error> {
        let mut rows: Vec<Listed> = bind(self.select(sql.all)).fetch_all().await?;
        if let Some(blocked) = self.whom(rows.iter().any(has_blocks)).await? {
            let select = bind(self.select(sql.without)).once();
            rows = select.bind_list(blocked.iter()).fetch_all().await?;
        }
        let total = rows.first().map_or(0, |Joined(_, Joined(row, _))| row.total);
        let logs = rows.into_iter().map(|row| user_log(row, self.now));
        Ok((logs.collect::<Result<_, Error>>()?, total))
    }

    async fn whom(self, any: bool) -> Result<Option<Blocked>, Error> {
        whom(self.db, self.tenant_id, self.user_id, any).await
    }
}

const fn has_blocks(Joined(unread, _): &Listed) -> bool {
    unread.has_blocks
}

/// One page of a walk by activity.
pub async fn user_logs(
    (db, now): (&Db, Micros),
    tenant_id: &TenantId,
    user_id: &UserId,
    walk: Option<Walk>,
    filter: &Filter,
    limit: usize,
) -> Result<Listing<Walk>, Error> {
    let page = async |sql, (time, log_id): Place, limit| {
        let of = Of { db, now, tenant_id, user_id, filter, limit };
        of.page(sql, |select| select.bind(time).bind(Uuid::from_u128(log_id))).await
    };
    let Some(walk) = walk else {
        let slack = if matches!(db, Db::Postgres(_)) { IN_FLIGHT } else { 0 };
        let of = Of { db, now, tenant_id, user_id, filter, limit };
        let (logs, total) = of.page(FROM_TOP, |select| select).await?;
        let next = if logs.len() == limit { Walk::begin(&logs, slack) } else { None };
        return Ok(Listing { logs, next, total: Some(total) });
    };
    let (mut logs, mut walk) = (Vec::new(), walk);
    if !walk.ascending {
        (logs, _) = page(DOWN, walk.at, limit).await?;
        walk = walk.went_down(&logs);
        if logs.len() == limit {
            return Ok(Listing { logs, next: Some(walk), total: None });
        }
        walk = walk.turned();
    }
    let rest = limit - logs.len();
    let (read, _) = page(UP, walk.at, walk.to_read(rest)).await?;
    let (up, next) = walk.went_up(read, rest);
    logs.extend(up);
    Ok(Listing { logs, next, total: None })
}

/// One page of the logs by when they were made, the newest first, below `after`.
pub async fn by_creation(
    (db, now): (&Db, Micros),
    tenant_id: &TenantId,
    user_id: &UserId,
    after: Option<LogId>,
    filter: &Filter,
    limit: usize,
) -> Result<Listing<LogId>, Error> {
    let of = Of { db, now, tenant_id, user_id, filter, limit };
    let (logs, total) = match after {
        Some(after) => of.page(OLDER, |select| select.bind(after.0)).await?,
        None => of.page(NEWEST, |select| select).await?,
    };
    let last = logs.last().filter(|_| logs.len() == limit).map(|log| log.unread.log_id);
    Ok(Listing { logs, next: last, total: after.is_none().then_some(total) })
}

/// Those of the logs that the user is in, in order of their ids.
pub async fn named(
    (db, now): (&Db, Micros),
    tenant_id: &TenantId,
    user_id: &UserId,
    logs: &[LogId],
) -> Result<Vec<UserLog>, Error> {
    let filter = &Filter::default();
    let of = Of { db, now, tenant_id, user_id, filter, limit: logs.len() };
    let select = of.select(NAMED).bind_list(logs.iter().map(|log_id| log_id.0));
    let mut rows: Vec<Listed> = select.fetch_all().await?;
    if let Some(blocked) = of.whom(rows.iter().any(has_blocks)).await? {
        for row in rows.iter_mut().filter(|row| has_blocks(row)) {
            let select = of.select(NAMED_ONE).once().bind(row.0.log_id);
            // One that was left meanwhile is as it was.
            if let Some(found) = select.bind_list(blocked.iter()).fetch_optional().await? {
                *row = found;
            }
        }
    }
    rows.into_iter().map(|row| user_log(row, now)).collect()
}

/// The ids of a user's logs, of more than `limit` those that were made last; and until when each
/// row says that the user is suspended.
pub async fn ids(
    (db, now): (&Db, Micros),
    tenant_id: &TenantId,
    user_id: &UserId,
    filter: &Filter,
    limit: usize,
) -> Result<(Vec<LogId>, Vec<Micros>), Error> {
    let of = Of { db, now, tenant_id, user_id, filter, limit };
    let mut found: Vec<(Uuid, Micros, bool)> = of.select(IDS.all).fetch_all().await?;
    if let Some(blocked) = of.whom(found.iter().any(|(.., has_blocks)| *has_blocks)).await? {
        let select = of.select(IDS.without).once();
        found = select.bind_list(blocked.iter()).fetch_all().await?;
    }
    Ok(found.into_iter().map(|(log_id, until, _)| (LogId(log_id), until)).unzip())
}

fn user_log(Joined(unread, Joined(row, last)): Listed, now: Micros) -> Result<UserLog, Error> {
    let unread = unread.unread();
    let stored = Stored { table: "members", row: unread.log_id };
    Ok(UserLog {
        role: stored.value("role", Role::from_i16(row.role))?,
        last_message: last.map(|last| last.message(unread.log_id, now)).transpose()?,
        activity: row.activity,
        unread,
    })
}
