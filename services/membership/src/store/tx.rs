//! A transaction of whichever database is open.

use parlance_db::{Db, WritePool};
use sqlx::{Postgres, Sqlite, Transaction};

/// A write transaction. Dropping it rolls it back.
pub(crate) enum Tx {
    Sqlite(Transaction<'static, Sqlite>),
    Postgres(Transaction<'static, Postgres>),
}

/// Runs one body in the transaction of whichever database is open. Its SQL keeps to
/// what SQLite and Postgres share.
macro_rules! in_tx {
    ($self:expr, |$tx:ident| $body:expr) => {
        match $self {
            $crate::store::tx::Tx::Sqlite($tx) => $body,
            $crate::store::tx::Tx::Postgres($tx) => $body,
        }
    };
}
pub(crate) use in_tx;

impl Tx {
    pub(crate) async fn begin(db: &Db) -> Result<Self, sqlx::Error> {
        Ok(match db {
            Db::Sqlite(db) => Self::Sqlite(db.write.begin_write().await?),
            Db::Postgres(db) => Self::Postgres(db.pool.begin_write().await?),
        })
    }

    pub(crate) async fn commit(self) -> Result<(), sqlx::Error> {
        in_tx!(self, |tx| tx.commit().await)
    }
}

/// `$first, $first+1, …`: placeholders for `count` values.
///
/// The count is rounded up to a power of two, so that few statements are prepared:
/// bind with [`padded`].
pub(crate) fn placeholders(first: usize, count: usize) -> String {
    let numbers = first..first + count.next_power_of_two();
    numbers.map(|number| format!("${number}")).collect::<Vec<_>>().join(", ")
}

/// The values for [`placeholders`]: the last one is repeated.
pub(crate) fn padded<T>(values: &[T]) -> impl Iterator<Item = &T> {
    let missing = values.len().next_power_of_two() - values.len();
    values.iter().chain(values.last().into_iter().cycle().take(missing))
}
