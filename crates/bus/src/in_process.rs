//! The bus of a single process.

use bytes::Bytes;
use tokio::sync::{mpsc, watch};

use crate::fanout::Fanout;
use crate::{Bus, Heard, State};

/// The bus of a single process: always up.
#[derive(Clone, Debug)]
pub struct InProcessBus {
    fanout: Fanout,
    state: watch::Sender<State>,
}

impl Default for InProcessBus {
    fn default() -> Self {
        Self { fanout: Fanout::default(), state: watch::Sender::new(State::Up) }
    }
}

impl Bus for InProcessBus {
    fn publish(&self, _shard: u16, payload: Bytes) {
        self.fanout.tell(Heard::Payload(payload));
    }

    fn publish_notice(&self, shard: u16, payload: Bytes) {
        self.publish(shard, payload);
    }

    fn reaches_others(&self) -> bool {
        self.fanout.subscribers() > 1
    }

    fn subscribe(&self) -> mpsc::Receiver<Heard> {
        self.fanout.subscribe()
    }

    fn state(&self) -> watch::Receiver<State> {
        self.state.subscribe()
    }

    fn dropped(&self) -> u64 {
        0
    }
}
