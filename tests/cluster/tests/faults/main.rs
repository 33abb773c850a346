//! Two replicas of each service under traffic and faults, judged against the
//! stored logs.

mod facts;
mod kills;
mod kinds;
mod pauses;
mod postgres;
mod presence;
mod readiness;
mod redis;
mod removal;
mod restores;
mod rooms;
mod seats;
mod sends;
mod streams;
mod switches;

/// Whether to take the time of `make soak`: more rounds of the same.
fn rounds(usual: usize) -> usize {
    let soak = std::env::var("PARLANCE_SOAK").ok().and_then(|rounds| rounds.parse().ok());
    usual * soak.unwrap_or(1)
}
