//! The duties of every bus, and Redis servers to show it on.

mod proxy;
mod server;
mod suite;

pub use self::proxy::Proxy;
pub use self::server::{RedisCluster, RedisServer, redis_url};
pub use self::suite::*;

use std::time::Duration;

use tokio::sync::{mpsc, watch};

use crate::{Bus, Heard, State};

/// How long a test waits for what must come.
pub const PATIENCE: Duration = Duration::from_secs(20);

/// Waits for a state of the bus.
pub async fn until_state(bus: &dyn Bus, state: State) {
    let mut states: watch::Receiver<State> = bus.state();
    let wait = states.wait_for(|now| *now == state);
    tokio::time::timeout(PATIENCE, wait).await.expect("the state in time").expect("a bus");
}

/// The next thing heard.
pub async fn next(heard: &mut mpsc::Receiver<Heard>) -> Heard {
    tokio::time::timeout(PATIENCE, heard.recv()).await.expect("in time").expect("no end")
}

/// Waits for a disturbance, whatever comes before it.
pub async fn until_disturbed(heard: &mut mpsc::Receiver<Heard>) {
    while next(heard).await != Heard::Disturbed {}
}

/// The next payload, whatever disturbance comes before it.
pub async fn payload(heard: &mut mpsc::Receiver<Heard>) -> bytes::Bytes {
    loop {
        if let Heard::Payload(payload) = next(heard).await {
            return payload;
        }
    }
}
