//! Epochs: stretches of history that were not rewound.

use parlance_db::{Db, STATEMENT_TIMEOUT, WritePool, lend, read_db, write_db};
use parlance_types::Micros;
use sqlx::PgConnection;

use super::read::bounded;
use super::sql::PRESENT_EPOCH;
use crate::Error;
use crate::domain::EpochId;

/// The timeline of the WAL position being written, not of the last checkpoint: a
/// standby that was promoted a moment ago differs already.
const WITNESS: &str = "
    SELECT system_identifier::text || '/' || left(pg_walfile_name(pg_current_wal_insert_lsn()), 8)
      FROM pg_control_system()";

/// Why an epoch begins.
enum Because {
    Asked(String),
    /// If this epoch is still the present one.
    Rewound(EpochId, String),
    /// If the witness is another than the one seen last.
    Witness(String),
}

/// The present epoch.
pub(super) async fn present(db: &Db) -> Result<EpochId, Error> {
    let (_, id): (i64, String) = bounded(async {
        read_db!(db, |pool| sqlx::query_as(PRESENT_EPOCH).fetch_one(&mut *lend(pool).await?).await)
    })
    .await?;
    Ok(EpochId(id))
}

/// Begins a new epoch.
pub(super) async fn bump(db: &Db, now: Micros, reason: &str) -> Result<EpochId, Error> {
    Ok(begin(db, now, Because::Asked(reason.to_owned())).await?.unwrap_or_default())
}

/// Begins a new epoch if `epoch` is still the present one: of several who find the same
/// rewind one begins it.
pub(super) async fn leave(
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

/// Begins a new epoch if the server behind `conn` is not the one written last.
pub(super) async fn check_witness(
    db: &Db,
    conn: &mut PgConnection,
    now: Micros,
) -> Result<(), Error> {
    let witness: String = sqlx::query_scalar(WITNESS).fetch_one(&mut *conn).await?;
    let seen: String = sqlx::query_scalar("SELECT seen FROM witness").fetch_one(conn).await?;
    if seen != witness && begin(db, now, Because::Witness(witness)).await?.is_some() {
        tracing::warn!("another database server than the one written last: a new epoch begins");
    }
    Ok(())
}

/// The same when a store is opened; SQLite, whose file can be put back unseen, gets
/// a new epoch at every start.
pub(super) async fn check_at_start(db: &Db, now: Micros) -> Result<(), Error> {
    match db {
        Db::Sqlite(_) => bump(db, now, "start").await.map(drop),
        Db::Postgres(postgres) => {
            let mut conn = postgres.pool.acquire().await?;
            check_witness(db, &mut conn, now).await
        }
    }
}

/// In a task of its own: a request that is cancelled must not leave a transaction open.
async fn begin(db: &Db, now: Micros, because: Because) -> Result<Option<EpochId>, Error> {
    let task = tokio::spawn(begin_in_task(db.clone(), now, because));
    match tokio::time::timeout(STATEMENT_TIMEOUT, task).await {
        Ok(Ok(begun)) => Ok(begun?),
        Ok(Err(_)) | Err(_) => Err(Error::StoreTimeout),
    }
}

async fn begin_in_task(
    db: Db,
    now: Micros,
    because: Because,
) -> Result<Option<EpochId>, sqlx::Error> {
    let id = format!("{:016x}", rand::random::<u64>());
    write_db!(&db, |pool| {
        let mut tx = pool.begin_write().await?;
        // One at a time: the row is the lock.
        let seen: String = sqlx::query_scalar("UPDATE witness SET seen = seen RETURNING seen")
            .fetch_one(&mut *tx)
            .await?;
        let reason = match because {
            Because::Asked(reason) => reason,
            Because::Rewound(epoch, reason) => {
                let (_, present): (i64, String) =
                    sqlx::query_as(PRESENT_EPOCH).fetch_one(&mut *tx).await?;
                if present != epoch.0 {
                    return Ok(None);
                }
                reason
            }
            Because::Witness(witness) if witness == seen => return Ok(None),
            Because::Witness(witness) => {
                let update = "UPDATE witness SET seen = $1";
                sqlx::query(update).bind(witness).execute(&mut *tx).await?;
                "another server or timeline".to_owned()
            }
        };
        let insert = "INSERT INTO epochs (number, epoch_id, started_at, reason)
                      SELECT COALESCE(MAX(number), 0) + 1, $1, $2, $3 FROM epochs";
        sqlx::query(insert).bind(&id).bind(now).bind(reason).execute(&mut *tx).await?;
        tx.commit().await?;
    });
    Ok(Some(EpochId(id)))
}
