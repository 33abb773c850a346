//! Epochs: stretches of history that were not rewound.

use std::fmt;

use parlance_bus::HighWater;
use parlance_db::{Conn, Db};
use parlance_types::{LogId, Micros, Seq};

use crate::Error;
use crate::head::PRESENT_EPOCH;

/// Names an epoch: one stretch of history that was not rewound. Opaque to clients.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct EpochId(pub String);

impl fmt::Display for EpochId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// What a log says of a cursor.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum CursorCheck {
    /// It holds.
    Holds,
    /// History was rewound after it was given: only what is up to here still holds.
    Rewound { keep_through: Seq },
    /// Its epoch is not known here.
    UnknownEpoch,
}

/// The timeline of the WAL position being written, not of the last checkpoint: a
/// standby that was promoted a moment ago differs already.
const WITNESS: &str = "
    SELECT system_identifier::text || '/' || left(pg_walfile_name(pg_current_wal_insert_lsn()), 8)
      FROM pg_control_system()";

/// What names a database outside of it, and every copy of it: its first epoch.
const DATABASE: &str = "SELECT epoch_id FROM epochs ORDER BY number LIMIT 1";

/// Why an epoch begins.
enum Because {
    Asked(String),
    /// If this epoch is still the present one.
    Rewound(EpochId, String),
    /// If the witness is another than the one seen last.
    Witness(String),
    /// If the database still has not counted beyond this, as it did once.
    Behind(i64),
}

/// The present epoch.
pub(crate) async fn present(db: &Db) -> Result<EpochId, Error> {
    let (_, id): (i64, String) = db.read(PRESENT_EPOCH).fetch_one().await?;
    Ok(EpochId(id))
}

parlance_db::row! {
    /// Where a cursor's epoch ends in a log.
    pub(crate) struct CursorRow {
        pub(crate) head: Seq,
        pub(crate) epoch: i64,
        pub(crate) present: i64,
        /// The first event of the epoch, and of a later one.
        pub(crate) first: Option<Seq>,
        pub(crate) next: Option<Seq>,
    }
}

/// What a log says of an epoch; `None` if either is not known.
pub(crate) async fn cursor(
    db: &Db,
    log_id: LogId,
    epoch: &EpochId,
) -> Result<Option<CursorRow>, Error> {
    let select = "
        SELECT h.head, e.number AS epoch,
               (SELECT number FROM epochs ORDER BY number DESC LIMIT 1) AS present,
               (SELECT l.first_seq FROM log_epochs l
                 WHERE l.log_id = $1 AND l.epoch = e.number) AS first,
               (SELECT MIN(l.first_seq) FROM log_epochs l
                 WHERE l.log_id = $1 AND l.epoch > e.number) AS next
          FROM heads h, epochs e
         WHERE h.log_id = $1 AND e.epoch_id = $2";
    Ok(db.read(select).bind(log_id.0).bind(&epoch.0).fetch_optional().await?)
}

/// Begins a new epoch.
pub(crate) async fn bump(db: &Db, now: Micros, reason: &str) -> Result<EpochId, Error> {
    Ok(begin(db, now, Because::Asked(reason.to_owned())).await?.unwrap_or_default())
}

/// Begins a new epoch if `epoch` is still the present one: of several who find the same
/// rewind one begins it.
pub(crate) async fn leave(
    db: &Db,
    now: Micros,
    epoch: &EpochId,
    reason: &str,
) -> Result<(), Error> {
    let because = Because::Rewound(epoch.clone(), reason.to_owned());
    if begin(db, now, because).await?.is_some() {
        tracing::warn!(reason, "history was rewound: a new epoch begins");
    }
    Ok(())
}

/// Begins a new epoch if the server behind `conn` is not the one written last: there, and
/// not where another connection may still lead.
async fn check_witness(conn: &mut Conn, now: Micros) -> Result<(), Error> {
    let (witness,): (String,) = conn.query(WITNESS).fetch_one().await?;
    let (seen,): (String,) = conn.query("SELECT seen FROM witness").fetch_one().await?;
    if seen != witness && begin_on(conn, now, Because::Witness(witness)).await?.is_some() {
        tracing::warn!("another database server than the one written last: a new epoch begins");
    }
    Ok(())
}

/// Counts the database on, and begins a new epoch if it is behind its mark: an older copy was
/// put back, which `check_witness` cannot tell from the server. Whoever is to write on `conn`
/// has not yet.
///
/// No other replica that counts at the same time makes it look behind. What a mark says was
/// committed before it was told; the mark is read before the count is moved; and the count
/// that is moved is the one committed last, whoever did. So it is at least the mark, and one
/// more when it is moved, unless the database lost what it had committed:
///
/// ```text
/// A    mark 7            count 8 -> 9     mark 9
/// B          mark 7   count 7 -> 8   mark 8          9 stays
///      the copy of 5 is put back
/// A    mark 9            count 5 -> 6     behind: a new epoch, and count 10
/// B          mark 9   count 6 -> 7   behind; A's epoch is there: nothing, and mark 10
/// ```
///
/// Of a mark that is lost, or cannot be read, nothing follows: then the database is not
/// counted on either, so that a copy does not come up to its mark unseen.
pub(crate) async fn beat(conn: &mut Conn, marks: &HighWater, now: Micros) -> Result<(), Error> {
    let (database,): (String,) = conn.query(DATABASE).fetch_one().await?;
    let mark = marks.of(&database).await?.unwrap_or_default();
    let count = "UPDATE witness SET beats = beats + 1 RETURNING beats";
    let (mut beats,): (i64,) = conn.query(count).fetch_one().await?;
    if beats <= mark {
        if begin_on(conn, now, Because::Behind(mark)).await?.is_some() {
            tracing::warn!("an older copy of the database was put back: a new epoch begins");
        }
        beats = mark + 1;
    }
    Ok(marks.raise(&database, beats).await?)
}

/// Begins a new epoch when a store is opened, if the database is another or an older one.
/// SQLite, whose file can be put back unseen, gets one at every start.
pub(crate) async fn check_at_start(
    db: &Db,
    marks: Option<&HighWater>,
    now: Micros,
) -> Result<(), Error> {
    if matches!(db, Db::Sqlite(_)) {
        return bump(db, now, "start").await.map(drop);
    }
    check(&mut db.writer().await?, marks, now).await
}

/// Both checks of a connection that is new. Without Redis the second one is left out.
pub(crate) async fn check(
    conn: &mut Conn,
    marks: Option<&HighWater>,
    now: Micros,
) -> Result<(), Error> {
    check_witness(conn, now).await?;
    let Some(marks) = marks else { return Ok(()) };
    match beat(conn, marks, now).await {
        Err(Error::HighWater(error)) => {
            // That is told by the task that goes on asking.
            tracing::debug!(
                error = &error as &dyn std::error::Error,
                "an old copy would not be noticed"
            );
            Ok(())
        }
        counted => counted,
    }
}

async fn begin(db: &Db, now: Micros, because: Because) -> Result<Option<EpochId>, Error> {
    begin_on(&mut db.writer().await?, now, because).await
}

/// Begins it in a transaction on `conn`; not if there is no reason for it any more.
async fn begin_on(
    conn: &mut Conn,
    now: Micros,
    because: Because,
) -> Result<Option<EpochId>, Error> {
    conn.begin().await?;
    // One at a time: the row is the lock.
    let lock = "UPDATE witness SET seen = seen RETURNING seen, beats";
    let (seen, beats): (String, i64) = conn.query(lock).fetch_one().await?;
    let reason = match because {
        Because::Asked(reason) => Some(reason),
        Because::Rewound(epoch, reason) => {
            let (_, present): (i64, String) = conn.query(PRESENT_EPOCH).fetch_one().await?;
            (present == epoch.0).then_some(reason)
        }
        Because::Behind(mark) if beats > mark => None,
        Because::Behind(mark) => {
            conn.query("UPDATE witness SET beats = $1").bind(mark + 1).execute().await?;
            Some("an older copy of the database".to_owned())
        }
        Because::Witness(witness) if witness == seen => None,
        Because::Witness(witness) => {
            conn.query("UPDATE witness SET seen = $1").bind(witness).execute().await?;
            Some("another server or timeline".to_owned())
        }
    };
    let Some(reason) = reason else {
        conn.rollback().await?;
        return Ok(None);
    };
    let id = format!("{:016x}", rand::random::<u64>());
    let insert = "INSERT INTO epochs (number, epoch_id, started_at, reason)
                  SELECT COALESCE(MAX(number), 0) + 1, $1, $2, $3 FROM epochs";
    conn.query(insert).bind(&id).bind(now).bind(reason).execute().await?;
    conn.commit().await?;
    Ok(Some(EpochId(id)))
}
