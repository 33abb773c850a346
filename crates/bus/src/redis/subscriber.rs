//! Hears for a session what Redis pushes. Never waits: the connection calls it.

use std::collections::HashSet;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use bytes::Bytes;
use redis::{PushInfo, PushKind, Value};
use tokio::sync::Notify;

use super::Shared;
use crate::Heard;

/// The channels of a deployment.
#[derive(Clone, Debug)]
pub(super) struct Channels {
    prefix: String,
    /// Tells the canaries of this session from those of others.
    session: u64,
}

impl Channels {
    pub(super) fn new(tag: &str) -> Self {
        Self { prefix: format!("parlance:{tag}"), session: rand::random() }
    }

    pub(super) fn shard(&self, shard: u16) -> String {
        format!("{}:hints:{shard}", self.prefix)
    }

    /// Where a node says that it dropped payloads, or that it has just come: everybody
    /// looks for what was missed, and says again what was not heard.
    pub(super) fn lost(&self) -> String {
        format!("{}:lost", self.prefix)
    }

    pub(super) fn canary(&self, number: u64) -> String {
        format!("{}:canary:{:016x}:{number}", self.prefix, self.session)
    }
}

/// Hears for one session.
#[derive(Debug)]
pub(super) struct Subscriber {
    shared: Arc<Shared>,
    canaries: Vec<(String, AtomicU64)>,
    lost: String,
    acknowledged: Mutex<HashSet<Vec<u8>>>,
    changed: Notify,
    ended: AtomicBool,
}

impl Subscriber {
    pub(super) fn new(shared: Arc<Shared>, channels: &Channels, canaries: &[String]) -> Self {
        let canaries = canaries.iter().map(|channel| (channel.clone(), AtomicU64::new(0)));
        Self {
            shared,
            canaries: canaries.collect(),
            lost: channels.lost(),
            acknowledged: Mutex::default(),
            changed: Notify::new(),
            ended: AtomicBool::new(false),
        }
    }

    /// Takes what Redis pushed. Anything but messages and acknowledgements ends the
    /// session.
    pub(super) fn hear(&self, push: PushInfo) {
        if self.ended.load(Ordering::Acquire) {
            return;
        }
        match (push.kind, <[Value; 2]>::try_from(push.data)) {
            (
                PushKind::Message | PushKind::SMessage,
                Ok([Value::BulkString(channel), Value::BulkString(payload)]),
            ) => self.message(&channel, payload),
            (PushKind::Subscribe | PushKind::SSubscribe, Ok([Value::BulkString(channel), _])) => {
                self.acknowledged.lock().unwrap_or_else(PoisonError::into_inner).insert(channel);
                self.changed.notify_one();
            }
            (kind, _) => {
                tracing::debug!(%kind, "redis ended a subscription");
                self.end();
            }
        }
    }

    fn message(&self, channel: &[u8], payload: Vec<u8>) {
        if let Some((_, heard)) =
            self.canaries.iter().find(|(canary, _)| canary.as_bytes() == channel)
        {
            let beat = <[u8; 8]>::try_from(payload.as_slice()).map_or(0, u64::from_be_bytes);
            heard.store(beat, Ordering::Release);
        } else if channel == self.lost.as_bytes() {
            self.shared.fanout.tell(Heard::Disturbed);
        } else {
            self.shared.fanout.tell(Heard::Payload(Bytes::from(payload)));
        }
    }

    /// Hears nothing any more.
    pub(super) fn end(&self) {
        self.ended.store(true, Ordering::Release);
        self.changed.notify_one();
    }

    /// Says if the last canary is back from every server.
    pub(super) fn heard_canaries(&self, beat: u64) -> bool {
        self.canaries.iter().all(|(_, heard)| heard.load(Ordering::Acquire) == beat)
    }

    /// Waits until so many subscriptions are acknowledged; no if the session ended.
    pub(super) async fn acknowledged(&self, channels: usize) -> bool {
        loop {
            if self.ended.load(Ordering::Acquire) {
                return false;
            }
            let count = self.acknowledged.lock().unwrap_or_else(PoisonError::into_inner).len();
            if count >= channels {
                return true;
            }
            self.changed.notified().await;
        }
    }

    /// Waits until the session has ended.
    pub(super) async fn ended(&self) {
        while !self.ended.load(Ordering::Acquire) {
            self.changed.notified().await;
        }
    }
}

#[cfg(test)]
mod tests {
    use tokio::sync::watch;

    use super::*;
    use crate::State;
    use crate::fanout::Fanout;

    fn text(text: &str) -> Value {
        Value::BulkString(text.into())
    }

    fn subscriber(canaries: u64) -> (Subscriber, Channels, Arc<Shared>) {
        let shared = Arc::new(Shared {
            fanout: Fanout::default(),
            state: watch::Sender::new(State::Up),
            dropped: AtomicU64::new(0),
        });
        let channels = Channels::new("test");
        let canaries: Vec<_> = (0..canaries).map(|number| channels.canary(number)).collect();
        (Subscriber::new(Arc::clone(&shared), &channels, &canaries), channels, shared)
    }

    fn message(channel: String, payload: &[u8]) -> PushInfo {
        let data = vec![Value::BulkString(channel.into()), Value::BulkString(payload.to_vec())];
        PushInfo { kind: PushKind::Message, data }
    }

    #[test]
    fn a_canary_is_missed_unless_it_is_back_from_every_server() {
        let (subscriber, channels, _) = subscriber(2);
        subscriber.hear(message(channels.canary(0), &1_u64.to_be_bytes()));
        assert!(!subscriber.heard_canaries(1));
        subscriber.hear(message(channels.canary(1), &1_u64.to_be_bytes()));
        assert!(subscriber.heard_canaries(1));
        assert!(!subscriber.heard_canaries(2));
    }

    #[tokio::test]
    async fn whatever_is_not_a_message_or_an_acknowledgement_ends_the_session() {
        for (kind, data) in [
            (PushKind::Disconnection, vec![]),
            (PushKind::SUnsubscribe, vec![text("a"), Value::Int(0)]),
            (PushKind::Message, vec![text("malformed")]),
        ] {
            let (subscriber, _, _) = subscriber(1);
            subscriber
                .hear(PushInfo { kind: PushKind::Subscribe, data: vec![text("a"), Value::Int(1)] });
            assert!(subscriber.acknowledged(1).await);
            subscriber.hear(PushInfo { kind, data });
            subscriber.ended().await;
            assert!(!subscriber.acknowledged(1).await);
        }
    }

    #[tokio::test]
    async fn a_node_that_dropped_payloads_disturbs_all() {
        let (subscriber, channels, shared) = subscriber(1);
        let mut heard = shared.fanout.subscribe();
        subscriber.hear(message(channels.shard(7), b"a"));
        subscriber.hear(message(channels.lost(), b""));
        assert_eq!(heard.recv().await, Some(Heard::Payload("a".into())));
        assert_eq!(heard.recv().await, Some(Heard::Disturbed));
    }
}
