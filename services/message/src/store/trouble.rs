//! What an error of a database means for the run it ended.

use crate::Error;

/// What to do about an error.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Trouble {
    /// The connection is gone: whether the run was committed is not known.
    Lost,
    /// Rolled back for reasons that pass.
    Busy,
    /// Rolled back because of what was asked.
    Refused,
}

pub(super) fn trouble(error: &sqlx::Error) -> Trouble {
    use sqlx::Error as E;
    match error {
        E::Database(error) => match error.code().as_deref() {
            Some(code) if code.starts_with("57P") || code.starts_with("08") => Trouble::Lost,
            // Also of a server that became a standby: another one is written now.
            Some("25006" | "25P02" | "25P03") => Trouble::Lost,
            // Postgres: serialization, deadlock, statement timeout. SQLite: busy, locked.
            Some("40001" | "40P01" | "57014" | "5" | "6" | "261" | "517") => Trouble::Busy,
            _ => Trouble::Refused,
        },
        E::Io(_)
        | E::Tls(_)
        | E::Protocol(_)
        | E::PoolTimedOut
        | E::PoolClosed
        | E::WorkerCrashed => Trouble::Lost,
        _ => Trouble::Refused,
    }
}

/// The error of a change that the database was not asked for, and why.
pub(super) fn unreachable(why: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> Error {
    Error::Store(sqlx::Error::Io(std::io::Error::other(why)))
}
