//! Hands what is heard to the subscribers of this process.

use tokio::sync::{broadcast, mpsc};

use crate::Heard;

/// How many payloads a subscriber may lag behind before it loses some.
pub(crate) const QUEUE: usize = 1024;

/// Payloads that are on their way to one subscriber, beyond the queue.
const HAND: usize = 16;

/// A bounded queue that all subscribers read. Handing over never waits; one who
/// lags too far loses the oldest and is told so.
#[derive(Clone, Debug)]
pub(crate) struct Fanout(broadcast::Sender<Heard>);

impl Default for Fanout {
    fn default() -> Self {
        Self(broadcast::Sender::new(QUEUE))
    }
}

impl Fanout {
    pub(crate) fn tell(&self, heard: Heard) {
        if self.0.send(heard).is_err() {
            tracing::trace!("no one is subscribed");
        }
    }

    pub(crate) fn subscribers(&self) -> usize {
        self.0.receiver_count()
    }

    pub(crate) fn subscribe(&self) -> mpsc::Receiver<Heard> {
        let mut queue = self.0.subscribe();
        let (sender, receiver) = mpsc::channel(HAND);
        tokio::spawn(async move {
            loop {
                let heard = tokio::select! {
                    heard = queue.recv() => match heard {
                        Ok(heard) => heard,
                        Err(broadcast::error::RecvError::Lagged(_)) => Heard::Lagged,
                        Err(broadcast::error::RecvError::Closed) => return,
                    },
                    () = sender.closed() => return,
                };
                if sender.send(heard).await.is_err() {
                    return;
                }
            }
        });
        receiver
    }
}
