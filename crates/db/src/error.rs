//! What a failed call to a database means.

use std::fmt::Display;
use std::io;
use std::time::Duration;

/// Why a call to a database failed.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// The database is not there, or does not work for reasons of its own: a later call may
    /// find it well.
    #[error("could not reach the store")]
    Away(#[source] sqlx::Error),

    #[error("the store did not answer in time")]
    Late(#[source] sqlx::Error),

    /// The database is damaged, or not one that this service can use: it stays so until an
    /// operator mends it.
    #[error("the store cannot be used until it is mended")]
    Broken(#[source] sqlx::Error),

    /// The statement, or what it was asked to write, is wrong; or its answer is of another
    /// shape than this program reads.
    #[error("the store could not do what it was asked")]
    Bug(#[source] sqlx::Error),

    /// A row that no code of ours could have written.
    #[error("impossible value in {table}.{column} of {row}")]
    Impossible { table: &'static str, column: &'static str, row: String },
}

/// What a failed run means to a writer that may run it again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Trouble {
    /// The connection is gone: whether the run was committed is not known.
    Lost,
    /// Rolled back, because what is behind the connection takes no writes: a later one may lead
    /// to what does.
    ReadOnly,
    /// Rolled back for reasons that pass.
    Busy,
    /// Rolled back after waiting too long: for a lock, perhaps of one log among several.
    Stuck,
    /// Rolled back because of what was asked.
    Refused,
    /// Rolled back, as anything else would be: the server is at its end.
    Failed,
    /// Rolled back, as anything else would be until somebody mends the database.
    Broken,
}

/// One row that was read, and where it stands.
#[derive(Clone, Copy, Debug)]
pub struct Stored<K> {
    pub table: &'static str,
    /// The key of the row.
    pub row: K,
}

impl<K: Display> Stored<K> {
    /// The value of a column, `None` if it cannot be one.
    pub fn value<T>(&self, column: &'static str, value: Option<T>) -> Result<T, StoreError> {
        let Self { table, row } = self;
        value.ok_or_else(|| StoreError::Impossible { table, column, row: row.to_string() })
    }
}

impl StoreError {
    /// The failure of a database that was not asked, and why.
    pub fn away(why: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> Self {
        Self::Away(sqlx::Error::Io(io::Error::other(why)))
    }

    /// The failure of a database that must be mended, and how.
    pub fn broken(how: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> Self {
        Self::Broken(sqlx::Error::Io(io::Error::other(how)))
    }

    /// The same failure, for another who waited for the same run.
    #[must_use]
    pub fn shared(&self) -> Self {
        let text = match self {
            Self::Away(error) | Self::Late(error) | Self::Broken(error) | Self::Bug(error) => {
                error.to_string()
            }
            Self::Impossible { .. } => self.to_string(),
        };
        let error = sqlx::Error::Io(io::Error::other(text));
        match self {
            Self::Away(_) => Self::Away(error),
            Self::Late(_) => Self::Late(error),
            Self::Broken(_) => Self::Broken(error),
            Self::Bug(_) | Self::Impossible { .. } => Self::Bug(error),
        }
    }

    /// The failure of a database that has not answered within `limit`.
    pub fn late(limit: Duration) -> Self {
        let text = format!("no answer within {} ms", limit.as_millis());
        Self::Late(sqlx::Error::Io(io::Error::new(io::ErrorKind::TimedOut, text)))
    }

    /// What it means to a writer.
    pub fn trouble(&self) -> Trouble {
        match self {
            Self::Away(error) | Self::Late(error) | Self::Bug(error) => trouble(error),
            Self::Broken(_) => Trouble::Broken,
            Self::Impossible { .. } => Trouble::Refused,
        }
    }

    /// Whether the connection that it came over leads nowhere any more, or not where it should.
    pub fn ends_connection(&self) -> bool {
        matches!(self.trouble(), Trouble::Lost | Trouble::ReadOnly)
    }

    /// Whether a later call may go well though nobody mends anything.
    pub const fn heals(&self) -> bool {
        matches!(self, Self::Away(_) | Self::Late(_))
    }
}

impl From<sqlx::Error> for StoreError {
    fn from(error: sqlx::Error) -> Self {
        match trouble(&error) {
            Trouble::Lost | Trouble::ReadOnly | Trouble::Busy | Trouble::Failed => {
                Self::Away(error)
            }
            Trouble::Stuck => Self::Late(error),
            Trouble::Broken => Self::Broken(error),
            Trouble::Refused => Self::Bug(error),
        }
    }
}

pub(crate) fn trouble(error: &sqlx::Error) -> Trouble {
    use sqlx::Error as E;
    match error {
        E::Database(error) => of_code(error.code().as_deref().unwrap_or_default()),
        E::Io(_)
        | E::Tls(_)
        | E::Protocol(_)
        | E::PoolTimedOut
        | E::PoolClosed
        | E::WorkerCrashed => Trouble::Lost,
        _ => Trouble::Refused,
    }
}

/// Of Postgres: five characters. Of SQLite: a number.
fn of_code(code: &str) -> Trouble {
    match code.parse() {
        Ok(code_of_sqlite) if code.len() < 5 => of_sqlite(code_of_sqlite),
        _ => of_postgres(code),
    }
}

/// The low byte is the error itself.
fn of_sqlite(code: u32) -> Trouble {
    match (code & 0xff, code) {
        // Busy, locked.
        (5 | 6, _) => Trouble::Busy,
        // Too big, constraint, mismatch.
        (18..=20, _) => Trouble::Refused,
        // No such table, internal, permission, read-only, corrupt, misuse, not authorized,
        // format, range, not a database; of what the disk cannot do: wrong sums, a damaged
        // file system.
        (1 | 2 | 3 | 8 | 11 | 21 | 23..=26, _) | (_, 8202 | 8458) => Trouble::Broken,
        _ => Trouble::Failed,
    }
}

fn of_postgres(code: &str) -> Trouble {
    match code {
        "40003" | "25P02" | "25P03" => Trouble::Lost,
        // Also of a server that became a standby: another one is written now.
        "25006" => Trouble::ReadOnly,
        // Serialization, deadlock.
        "40001" | "40P01" => Trouble::Busy,
        // Statement timeout, lock timeout.
        "57014" | "55P03" => Trouble::Stuck,
        // A page that is corrupt, a file that is gone: of one log, perhaps.
        "XX001" | "XX002" | "58P01" => Trouble::Refused,
        _ => match code.get(..2).unwrap_or_default() {
            "08" => Trouble::Lost,
            "57" if code.starts_with("57P") => Trouble::Lost,
            // Data, constraints, limits of the program, what a function raises.
            "21" | "22" | "23" | "54" | "P0" => Trouble::Refused,
            // Authorization, no such database or schema, syntax, missing tables and rights.
            "28" | "3D" | "3F" | "42" => Trouble::Broken,
            _ => Trouble::Failed,
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_one_entry_can_cause_is_about_what_was_asked() {
        for (codes, trouble) in [
            (&["57P01", "08006", "40003"][..], Trouble::Lost),
            (&["25006"], Trouble::ReadOnly),
            (&["40001", "40P01", "5", "517"], Trouble::Busy),
            (&["57014", "55P03"], Trouble::Stuck),
            (&["22021", "22P05", "23505", "54000", "P0001", "19", "2067", "18"], Trouble::Refused),
            (&["53100", "53300", "XX000", "58030", "10", "778", "13", "14", ""], Trouble::Failed),
            (&["42P01", "42883", "42501", "28P01", "3D000"], Trouble::Broken),
            // No such table, read-only, moved, corrupt, not a database.
            (&["1", "8", "1032", "11", "267", "26"], Trouble::Broken),
        ] {
            for code in codes {
                assert_eq!(of_code(code), trouble, "{code}");
            }
        }
    }

    #[test]
    fn an_outage_is_away_and_an_answer_of_another_shape_is_a_bug() {
        let decode = sqlx::Error::ColumnDecode { index: "role".into(), source: "no".into() };
        assert!(matches!(StoreError::from(sqlx::Error::PoolTimedOut), StoreError::Away(_)));
        assert!(!StoreError::from(decode).heals());
        assert!(!StoreError::from(sqlx::Error::RowNotFound).heals());
        // Whether a commit whose answer is late was done is not known.
        assert_eq!(StoreError::late(Duration::from_secs(1)).trouble(), Trouble::Lost);
    }

    #[test]
    fn a_column_that_cannot_be_read_is_named_with_its_row() {
        let row = Stored { table: "members", row: 7 };
        assert_eq!(row.value("role", Some(1)).expect("a value"), 1);
        let error = row.value::<i16>("role", None).expect_err("nothing");
        assert_eq!(error.to_string(), "impossible value in members.role of 7");
        assert!(!error.heals());
    }

    #[test]
    fn who_waited_for_the_same_run_is_told_the_same() {
        let damaged = StoreError::broken("the file is gone").shared();
        assert!(
            matches!(&damaged, StoreError::Broken(error) if error.to_string().ends_with("the file is gone"))
        );
        assert_eq!((damaged.heals(), damaged.trouble()), (false, Trouble::Broken));
        assert!(StoreError::away("it restarts").shared().heals());
        assert!(StoreError::late(Duration::from_secs(1)).shared().heals());
        let impossible = Stored { table: "members", row: 7 }.value::<i16>("role", None);
        assert!(!impossible.expect_err("nothing").shared().heals());
    }
}
