//! How much is measured.

use std::fmt;
use std::time::Duration;

/// How many rounds there are, and how long they are.
#[derive(Debug)]
pub(crate) struct Plan {
    /// Rounds of each figure.
    pub rounds: usize,
    /// The length of a round of sends or inserts.
    pub sends: Duration,
    /// The length of a round of single sends whose way is timed.
    pub latency: Duration,
    /// Events of a round of deliveries, one at a time.
    pub singles: usize,
    /// Bursts of a round of deliveries.
    pub bursts: usize,
    /// Rounds of memory: it varies little.
    pub memory: usize,
    /// Rounds of live rooms that end, all of them made before.
    pub endings: usize,
    /// The figures to measure; empty: all.
    only: Vec<String>,
}

impl Plan {
    pub(crate) fn new(quick: bool, only: Vec<String>) -> Self {
        let millis = Duration::from_millis;
        if quick {
            Self {
                rounds: 3,
                sends: millis(500),
                latency: millis(1000),
                singles: 60,
                bursts: 15,
                memory: 1,
                endings: 1,
                only,
            }
        } else {
            Self {
                rounds: 8,
                sends: millis(1500),
                latency: millis(2500),
                singles: 250,
                bursts: 60,
                memory: 3,
                endings: 2,
                only,
            }
        }
    }

    /// Whether any of these figures is to be measured.
    pub(crate) fn has(&self, ids: &[&str]) -> bool {
        self.only.is_empty() || self.only.iter().any(|only| ids.contains(&only.as_str()))
    }
}

impl fmt::Display for Plan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{} rounds of each figure, in turns with its limit; median (least to most)",
            self.rounds
        )
    }
}
