//! What an error of a database means for the run it ended.

use crate::Error;

/// What to do about an error.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Trouble {
    /// The connection is gone: whether the run was committed is not known.
    Lost,
    /// Rolled back for reasons that pass.
    Busy,
    /// Rolled back after waiting too long: for a lock, perhaps of one log among several.
    Stuck,
    /// Rolled back because of what was asked.
    Refused,
    /// Rolled back, as anything else would be: the server is at its end, or not the one
    /// that this service needs.
    Failed,
}

pub(super) fn trouble(error: &sqlx::Error) -> Trouble {
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

/// Of Postgres: five characters. Of SQLite: a number whose low byte is the error itself.
fn of_code(code: &str) -> Trouble {
    if let (false, Ok(code)) = (code.len() == 5, code.parse::<u32>()) {
        return match code & 0xff {
            // Busy, locked.
            5 | 6 => Trouble::Busy,
            // Too big, constraint, mismatch.
            18..=20 => Trouble::Refused,
            _ => Trouble::Failed,
        };
    }
    match code {
        // Also of a server that became a standby: another one is written now.
        "40003" | "25006" | "25P02" | "25P03" => Trouble::Lost,
        // Serialization, deadlock.
        "40001" | "40P01" => Trouble::Busy,
        // Statement timeout, lock timeout.
        "57014" | "55P03" => Trouble::Stuck,
        // A page that is corrupt: of one log, perhaps.
        "XX001" | "XX002" => Trouble::Refused,
        _ => match code.get(..2).unwrap_or_default() {
            "08" => Trouble::Lost,
            "57" if code.starts_with("57P") => Trouble::Lost,
            // Data, constraints, limits of the program, what a function raises.
            "21" | "22" | "23" | "54" | "P0" => Trouble::Refused,
            _ => Trouble::Failed,
        },
    }
}

/// The error of a change that the database was not asked for, and why.
pub(super) fn unreachable(why: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> Error {
    Error::Store(sqlx::Error::Io(std::io::Error::other(why)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_one_entry_can_cause_is_about_what_was_asked() {
        for (codes, trouble) in [
            (&["57P01", "08006", "40003", "25006"][..], Trouble::Lost),
            (&["40001", "40P01", "5", "517"], Trouble::Busy),
            (&["57014", "55P03"], Trouble::Stuck),
            (&["22021", "23505", "54000", "P0001", "19", "2067", "18"], Trouble::Refused),
            (
                &["53100", "53300", "42883", "42501", "XX000", "10", "778", "13", ""],
                Trouble::Failed,
            ),
        ] {
            for code in codes {
                assert_eq!(of_code(code), trouble, "{code}");
            }
        }
    }
}
