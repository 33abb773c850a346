//! How many files the process may have, and how many of them are for connections.

use parlance_rpc::ConnectionLimits;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

use crate::Failure;

/// Files beside those of databases and clients: logs, the bus, keys, calls below.
const OTHERS: u64 = 128;

/// The most connections of clients at once: as many files as the process may have, less what
/// its databases need. `pool` is the size of each pool of connections to Postgres; databases in
/// files need less.
pub(crate) fn connections(pool: u32) -> Result<usize, Failure> {
    let reserve = OTHERS + 4 * u64::from(pool);
    let most = ConnectionLimits::default().all;
    let files = raise();
    let left = files
        .map_or(most, |files| usize::try_from(files.saturating_sub(reserve)).unwrap_or(usize::MAX));
    if left == 0 {
        return Err(Failure::Fatal(format!(
            "{} files are too few: {reserve} are kept for databases (ulimit -n)",
            files.unwrap_or_default(),
        )));
    }
    Ok(left.min(most))
}

/// Lets the process have as many files as it may allow itself, and says how many; `None`: as
/// many as it likes.
fn raise() -> Option<u64> {
    let Rlimit { current, maximum } = getrlimit(Resource::Nofile);
    // The soft limit is for programs that number files in few bits.
    match setrlimit(Resource::Nofile, Rlimit { current: maximum, maximum }) {
        Ok(()) => maximum,
        Err(error) => {
            tracing::warn!(%error, "cannot raise the limit of files");
            current
        }
    }
}
