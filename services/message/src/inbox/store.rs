//! What the logs of one user come to: unread counts, and the list of them.

use parlance_db::Db;
use parlance_log::{EpochId, Error, Kind, Stands};
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
    ($counted:expr) => {
        concat!(
            "w.head, w.head_time, w.hidden, w.marked_unread, w.read_seq, ",
            $counted,
            " AS unread, (SELECT epoch_id FROM epochs ORDER BY number DESC LIMIT 1) AS epoch_id"
        )
    };
}

mod list;

pub use list::{by_creation, ids, named, user_logs};

const UNREAD: &str = unread!(unread_columns!(counted!()), of_user!());
const UNREAD_IN: &str = unread!(
    unread_columns!(counted!()),
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
