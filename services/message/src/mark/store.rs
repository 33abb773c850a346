//! What members have read and received. Each change is one statement on one row,
//! beside the appends and without the lock of the head.

use parlance_db::{Db, Stored};
use parlance_log::{EpochId, Error, stranger};
use parlance_types::{LogId, Micros, RoomKind, Seq, UserId};
use uuid::Uuid;

use super::{MAX_SHOWN, Marks, MemberMarks};

/// Raises the mark to $3, or to the head without it. Whoever waited for the row sees it
/// as it is then, so no mark is lowered.
const READ: &str = "
    UPDATE members
       SET read_seq = CASE WHEN read_seq < COALESCE($3, h.head)
                           THEN COALESCE($3, h.head) ELSE read_seq END,
           read_ord = CASE WHEN read_seq >= COALESCE($3, h.head) THEN read_ord
                           WHEN COALESCE($3, h.head) = h.head THEN h.ord
                           ELSE (SELECT e.ord FROM events e
                                  WHERE e.log_id = $1 AND e.seq = COALESCE($3, h.head)) END,
           delivered_seq = CASE WHEN delivered_seq < COALESCE($3, h.head)
                                THEN COALESCE($3, h.head) ELSE delivered_seq END,
           marked_unread = FALSE
      FROM heads h
     WHERE h.log_id = $1 AND h.closed_seq IS NULL AND COALESCE($3, h.head) <= h.head
       AND (COALESCE($3, h.head) >= h.first_seq OR COALESCE($3, h.head) = h.head
            OR members.read_seq >= COALESCE($3, h.head))
       AND members.log_id = $1 AND members.user_id = $2
       AND (members.marked_unread OR members.read_seq < COALESCE($3, h.head))
       AND members.suspended_until <= $4
    RETURNING members.read_seq, members.delivered_seq,
              (SELECT epoch_id FROM epochs ORDER BY number DESC LIMIT 1)";

const DELIVERED: &str = "
    UPDATE members SET delivered_seq = $3
      FROM heads h
     WHERE h.log_id = $1 AND h.closed_seq IS NULL AND $3 <= h.head
       AND ($3 >= h.first_seq OR $3 = h.head)
       AND members.log_id = $1 AND members.user_id = $2
       AND members.delivered_seq < $3 AND members.suspended_until <= $4
    RETURNING members.read_seq, members.delivered_seq,
              (SELECT epoch_id FROM epochs ORDER BY number DESC LIMIT 1)";

const FLAG: &str = "
    UPDATE members SET marked_unread = TRUE
     WHERE log_id = $1 AND user_id = $2 AND suspended_until <= $3
       AND EXISTS (SELECT 1 FROM heads h WHERE h.log_id = $1 AND h.closed_seq IS NULL)";

parlance_db::row! {
    /// Where a member stands, and why a mark may not be moved.
    struct Standing {
        kind: i16,
        head: Seq,
        first_seq: Seq,
        closed_seq: Option<Seq>,
        read_seq: Option<Seq>,
        delivered_seq: Option<Seq>,
        suspended_until: Option<Micros>,
    }
}

const STANDING: &str = "
    SELECT h.kind, h.head, h.first_seq, h.closed_seq, m.read_seq, m.delivered_seq,
           m.suspended_until
      FROM heads h LEFT JOIN members m
        ON m.log_id = $1 AND m.user_id = $2
     WHERE h.log_id = $1";

/// Members in order of user.
const PAGE: &str = "
    SELECT user_id, read_seq, delivered_seq FROM members
     WHERE log_id = $1 AND user_id > $2
     ORDER BY user_id LIMIT $3";

const ONE: &str = "
    SELECT user_id, read_seq, delivered_seq FROM members
     WHERE log_id = $1 AND user_id = $2";

/// The members of open logs of fewer than $2, where a log is of the kind $1 or $3.
const SMALL: &str = "
    SELECT h.log_id, m.user_id, m.read_seq, m.delivered_seq,
           (SELECT epoch_id FROM epochs ORDER BY number DESC LIMIT 1)
      FROM heads h JOIN members m ON m.log_id = h.log_id
     WHERE h.log_id IN ($4..) AND (h.kind = $1 OR h.kind = $3) AND h.closed_seq IS NULL
       AND (SELECT COUNT(*)
              FROM (SELECT 1 FROM members c
                     WHERE c.log_id = h.log_id LIMIT $2) few) < $2
     ORDER BY h.log_id, m.user_id";

/// The marks of some members after `after`, by user id.
pub(super) async fn page(
    db: &Db,
    log_id: LogId,
    after: &str,
    limit: usize,
) -> Result<Vec<MemberMarks>, Error> {
    let limit = i64::try_from(limit).unwrap_or(i64::MAX);
    let page = db.read(PAGE).bind(log_id.0).bind(after).bind(limit);
    let rows: Vec<(String, Seq, Seq)> = page.fetch_all().await?;
    Ok(rows.into_iter().map(member).collect())
}

/// The marks of one member.
pub(super) async fn one(
    db: &Db,
    log_id: LogId,
    user_id: &UserId,
) -> Result<Option<MemberMarks>, Error> {
    let one = db.read(ONE).bind(log_id.0).bind(user_id.as_str());
    let row: Option<(String, Seq, Seq)> = one.fetch_optional().await?;
    Ok(row.map(member))
}

/// The marks of all members of those logs that show receipts and are small; and the epoch.
pub(super) async fn of_small(
    db: &Db,
    log_ids: &[LogId],
) -> Result<Vec<(LogId, EpochId, MemberMarks)>, Error> {
    let small = db.read(SMALL).bind(RoomKind::Direct as i16).bind(MAX_SHOWN + 1);
    let small = small.bind(RoomKind::Group as i16);
    let small = small.bind_list(log_ids.iter().map(|log_id| log_id.0));
    let rows: Vec<(Uuid, String, Seq, Seq, String)> = small.fetch_all().await?;
    let of = |(log_id, user_id, read, delivered, epoch_id)| {
        (LogId(log_id), EpochId(epoch_id), member((user_id, read, delivered)))
    };
    Ok(rows.into_iter().map(of).collect())
}

fn member((user_id, read, delivered): (String, Seq, Seq)) -> MemberMarks {
    MemberMarks { user_id: UserId::new(user_id), read, delivered }
}

/// Raises the read mark to `seq`, or to the head. Gives the epoch if anything moved.
pub async fn read(
    db: &Db,
    log_id: LogId,
    user_id: &UserId,
    seq: Option<Seq>,
    now: Micros,
) -> Result<(Marks, Option<EpochId>), Error> {
    // Without a position: a member whom the statement did not move stood at the head.
    let there = |marks: &Marks| seq.is_none_or(|seq| marks.read >= seq);
    Raise { db, update: READ, log_id, user_id, now }.to(seq, there).await
}

/// Raises the delivered mark. Gives the epoch if it moved.
pub async fn delivered(
    db: &Db,
    log_id: LogId,
    user_id: &UserId,
    seq: Seq,
    now: Micros,
) -> Result<(Marks, Option<EpochId>), Error> {
    let there = |marks: &Marks| marks.delivered >= seq;
    Raise { db, update: DELIVERED, log_id, user_id, now }.to(Some(seq), there).await
}

/// Flags the room as unread.
pub async fn flag(db: &Db, log_id: LogId, user_id: &UserId, now: Micros) -> Result<(), Error> {
    let flag = db.write(FLAG).bind(log_id.0).bind(user_id.as_str()).bind(now);
    if flag.execute().await? == 0 {
        standing(db, log_id, user_id, None, now).await?;
    }
    Ok(())
}

/// A mark of a member that is to be moved.
struct Raise<'a> {
    db: &'a Db,
    update: &'static str,
    log_id: LogId,
    user_id: &'a UserId,
    now: Micros,
}

impl Raise<'_> {
    /// Moves the mark, or finds out why it does not move.
    async fn to(
        self,
        seq: Option<Seq>,
        there: impl Fn(&Marks) -> bool,
    ) -> Result<(Marks, Option<EpochId>), Error> {
        let Self { db, update, log_id, user_id, now } = self;
        // What the second statement sees may be newer than what the first one saw.
        for _ in 0..3 {
            let update = db.write(update).bind(log_id.0).bind(user_id.as_str()).bind(seq);
            if let Some((read, delivered, epoch_id)) = update.bind(now).fetch_optional().await? {
                return Ok((Marks { read, delivered, moved: true }, Some(EpochId(epoch_id))));
            }
            let (marks, first) = standing(db, log_id, user_id, seq, now).await?;
            if there(&marks) {
                return Ok((marks, None));
            }
            if seq.is_some_and(|seq| seq < first) {
                return Err(Error::Pruned { first });
            }
        }
        Err(Error::restless())
    }
}

/// Where a member stands, and the first event that a mark may be moved to.
async fn standing(
    db: &Db,
    log_id: LogId,
    user_id: &UserId,
    seq: Option<Seq>,
    now: Micros,
) -> Result<(Marks, Seq), Error> {
    let standing = db.read(STANDING).bind(log_id.0).bind(user_id.as_str());
    let standing: Option<Standing> = standing.fetch_optional().await?;
    let standing = standing.filter(|row| row.closed_seq.is_none()).ok_or(Error::room_not_found())?;
    let (Some(read), Some(delivered)) = (standing.read_seq, standing.delivered_seq) else {
        let stored = Stored { table: "heads", row: log_id };
        return Err(stranger(stored.value("kind", RoomKind::from_i16(standing.kind))?));
    };
    if let Some(until) = standing.suspended_until.filter(|until| *until > now) {
        return Err(Error::Suspended { until });
    }
    if seq.is_some_and(|seq| seq > standing.head) {
        let rule = format!("must not be beyond the head, which is {}", standing.head);
        return Err(Error::invalid("seq", rule));
    }
    let first = standing.first_seq.min(standing.head);
    Ok((Marks { read, delivered, moved: false }, first))
}
