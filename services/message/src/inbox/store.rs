//! What the logs of one user come to: unread counts, and the list of them.

use parlance_db::Db;
use parlance_log::{Blocked, EpochId, Error, Kind, Stands, blocked};
use parlance_types::{LogId, Micros, RoomId, Seq, TenantId, UserId};
use uuid::Uuid;

use super::{Recount, Unread};

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
macro_rules! all_counted {
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

/// What is counted of what a member hid from themselves: few rows, each looked up. Deleted ones
/// are not counted any more, nor are those that `kept` leaves out. What others hid, and
/// what lies between, is not to be read for it, which the sums keep the planners from.
macro_rules! hidden_of_those {
    ($kept:literal) => {
        concat!(
            " - CASE WHEN w.has_hidden THEN
                  (SELECT CAST(COALESCE(SUM(
                     (SELECT COUNT(*) FROM events e
                       WHERE e.log_id = w.log_id AND e.seq = x.seq AND e.counted
                         AND COALESCE(e.deleted_seq, 0) = 0 AND e.sender_id <> $2",
            $kept,
            ")), 0) AS BIGINT)
                     FROM hidden_messages x
                    WHERE x.log_id = w.log_id AND x.user_id = $2 AND x.joined_seq = w.joined_seq
                      AND x.seq + 0 > w.read_seq AND x.seq + 0 > w.cleared_seq
                      AND x.seq + 0 >= w.first_seq)
                ELSE 0 END"
        )
    };
}

/// Without what the member hid.
macro_rules! counted {
    () => {
        concat!(all_counted!(), hidden_of_those!(""))
    };
}

/// That an event is not one that the member hid whose row it is read with. Who hid nothing pays
/// nothing for it.
macro_rules! unhidden {
    ($row:literal, $log_id:literal, $seq:literal) => {
        concat!(
            " AND NOT (",
            $row,
            ".has_hidden AND (SELECT 1 FROM hidden_messages x WHERE x.log_id = ",
            $log_id,
            " AND x.user_id = $2 AND x.joined_seq = ",
            $row,
            ".joined_seq AND x.seq = ",
            $seq,
            ") IS NOT NULL)"
        )
    };
}

/// Unread by its definition.
macro_rules! recounted {
    ($kept:literal) => {
        concat!(
            "(SELECT COUNT(*) FROM events e
               WHERE e.log_id = w.log_id AND e.seq > w.read_seq AND e.seq > w.cleared_seq
                 AND e.seq >= w.first_seq AND e.kind = $3 AND e.counted
                 AND e.deleted_seq IS NULL AND e.sender_id <> $2",
            unhidden!("w", "w.log_id", "e.seq"),
            $kept,
            ")"
        )
    };
}

/// Whom the viewer has blocked, as a statement's list `b`: the statements of those who have
/// blocked nobody know nothing of it. A list may be longer than what is in it: nothing is not in
/// what has a NULL.
macro_rules! blocked {
    ($list:literal) => {
        concat!(
            "WITH b (id) AS (SELECT v.column1 FROM (VALUES (",
            $list,
            ")) v WHERE v.column1 IS NOT NULL) "
        )
    };
}

/// The same as `counted`, without what was written by those in `b`. Nothing counts on with each
/// message of theirs, so it is counted by their events. Every message has an id of its request,
/// and so is found by its sender: what others wrote is not to be read for it, which the sums
/// keep the planners from.
macro_rules! counted_without {
    ($kind:literal) => {
        concat!(
            all_counted!(),
            hidden_of_those!(" AND NOT (w.has_blocks AND e.sender_id IN (SELECT b.id FROM b))"),
            " - CASE WHEN w.has_blocks THEN
                  (SELECT CAST(COALESCE(SUM(
                     (SELECT COUNT(*) FROM events e
                       WHERE e.log_id = w.log_id AND e.request_id IS NOT NULL
                         AND e.sender_id = b.id
                         AND e.seq + 0 > w.read_seq AND e.seq + 0 > w.cleared_seq
                         AND e.seq + 0 >= w.first_seq AND e.kind + 0 = ",
            $kind,
            " AND e.counted AND COALESCE(e.deleted_seq, 0) = 0)), 0) AS BIGINT) FROM b) ELSE 0 END"
        )
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

/// Mentions that a member has not read, of a log `w` in which there may be any.
macro_rules! mentions {
    ($kept:literal) => {
        concat!(
            "CASE WHEN w.mention_seq > w.read_seq THEN
               (SELECT COUNT(*) FROM
                  (SELECT 1 FROM mentions n
                    WHERE n.log_id = w.log_id AND n.user_id IN ('', $2) AND n.sender_id <> $2
                      AND n.seq > w.read_seq AND n.seq > w.cleared_seq AND n.seq >= w.first_seq",
            unhidden!("w", "w.log_id", "n.seq"),
            $kept,
            " LIMIT 100) n) ELSE 0 END"
        )
    };
}

/// What no mention is by, of a member who has blocked somebody.
macro_rules! mentions_without {
    () => {
        mentions!(" AND NOT (w.has_blocks AND n.sender_id IN (SELECT b.id FROM b))")
    };
}

macro_rules! unread {
    ($blocked:expr, $columns:expr, $logs:expr) => {
        concat!(
            $blocked,
            "SELECT w.log_id, w.room_id, ",
            $columns,
            " FROM (SELECT h.log_id, h.room_id, h.head, h.head_time, h.ord, h.deleted, h.first_seq,
                           h.mention_seq,
                           m.marked_unread, m.read_seq, m.cleared_seq, m.suspended_until,
                           m.has_blocks, m.has_hidden, m.joined_seq, ",
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
    ($counted:expr, $mentions:expr) => {
        concat!(
            "w.head, w.head_time, w.hidden, w.marked_unread, w.read_seq, w.suspended_until,
             w.has_blocks, ",
            $counted,
            " AS unread, ",
            $mentions,
            " AS mentions, (SELECT epoch_id FROM epochs ORDER BY number DESC LIMIT 1) AS epoch_id"
        )
    };
}

mod list;

pub use list::{by_creation, ids, named, user_logs};

/// The count of a row that is read once more, without those who are blocked, can wait.
macro_rules! counted_once {
    () => {
        concat!("CASE WHEN w.has_blocks THEN 0 ELSE ", counted!(), " END")
    };
}

const UNREAD: &str = unread!("", unread_columns!(counted_once!(), mentions!("")), of_user!());
const UNREAD_WITHOUT: &str = unread!(
    blocked!("$4.."),
    unread_columns!(counted_without!("$3"), mentions_without!()),
    of_user!()
);
const UNREAD_OF_ONE: &str = unread!(
    blocked!("$5.."),
    unread_columns!(counted_without!("$3"), mentions_without!()),
    concat!(of_user!(), " AND m.log_id = $4")
);
const UNREAD_IN: &str = unread!(
    "",
    unread_columns!(counted_once!(), mentions!("")),
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
        suspended_until: Micros,
        has_blocks: bool,
        unread: i64,
        mentions: i64,
        epoch_id: String,
    }
}

macro_rules! recount {
    ($blocked:expr, $counted:expr, $recounted:expr) => {
        unread!(
            $blocked,
            concat!(
                "w.hidden, w.suspended_until, w.has_blocks, ",
                $counted,
                " AS reported, ",
                $recounted,
                " AS counted"
            ),
            of_user!()
        )
    };
}

const RECOUNT: &str = recount!("", counted!(), recounted!(""));
const RECOUNT_WITHOUT: &str = recount!(
    blocked!("$4.."),
    counted_without!("$3"),
    recounted!(" AND NOT (w.has_blocks AND e.sender_id IN (SELECT b.id FROM b))")
);

parlance_db::row! {
    /// What a member has not read of a log, twice.
    struct RecountRow {
        log_id: Uuid,
        room_id: String,
        hidden: bool,
        suspended_until: Micros,
        has_blocks: bool,
        reported: i64,
        counted: i64,
    }
}

impl UnreadRow {
    fn unread(self) -> Unread {
        let log_id = LogId(self.log_id);
        Unread {
            log_id,
            room_id: RoomId::new(self.room_id),
            unread: self.unread,
            mentions: self.mentions,
            hidden: self.hidden,
            marked_unread: self.marked_unread,
            read: self.read_seq,
            suspended_until: self.suspended_until,
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
    let mut rows: Vec<UnreadRow> = select.fetch_all().await?;
    if let Some(blocked) =
        whom(db, tenant_id, user_id, rows.iter().any(|row| row.has_blocks)).await?
    {
        let without = |sql| {
            let select = db.read(sql).once().bind(tenant_id.as_str()).bind(user_id.as_str());
            select.bind(Kind::Message.number())
        };
        if only.is_some() {
            for row in rows.iter_mut().filter(|row| row.has_blocks) {
                let select = without(UNREAD_OF_ONE).bind(row.log_id).bind_list(blocked.iter());
                // In one that was left meanwhile nothing is unread.
                if let Some(found) = select.fetch_optional().await? {
                    *row = found;
                }
            }
        } else {
            rows = without(UNREAD_WITHOUT).bind_list(blocked.iter()).fetch_all().await?;
        }
    }
    Ok(rows.into_iter().map(UnreadRow::unread).collect())
}

/// Whom the user has blocked, if there is a row that tells that they have. Then what was read
/// without is read once more.
async fn whom(
    db: &Db,
    tenant_id: &TenantId,
    user_id: &UserId,
    any: bool,
) -> Result<Option<Blocked>, Error> {
    if any { Ok(Some(blocked(db, tenant_id, user_id).await?)) } else { Ok(None) }
}

/// The same counts beside those of the events. One statement, so one snapshot: what
/// happens meanwhile makes no difference.
pub async fn recount(
    db: &Db,
    tenant_id: &TenantId,
    user_id: &UserId,
) -> Result<Vec<Recount>, Error> {
    let select = |sql| {
        let select = db.read(sql).bind(tenant_id.as_str()).bind(user_id.as_str());
        select.bind(Kind::Message.number())
    };
    let mut rows: Vec<RecountRow> = select(RECOUNT).fetch_all().await?;
    let any = rows.iter().any(|row| row.has_blocks);
    if let Some(blocked) = whom(db, tenant_id, user_id, any).await? {
        rows = select(RECOUNT_WITHOUT).once().bind_list(blocked.iter()).fetch_all().await?;
    }
    let recount = |row: RecountRow| Recount {
        log_id: LogId(row.log_id),
        room_id: RoomId::new(row.room_id),
        hidden: row.hidden,
        suspended_until: row.suspended_until,
        reported: row.reported,
        counted: row.counted,
    };
    Ok(rows.into_iter().map(recount).collect())
}
