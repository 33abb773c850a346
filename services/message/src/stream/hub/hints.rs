//! What nodes tell each other over the bus: its own small encoding, kept
//! compatible between adjacent versions as protobuf is.

use std::collections::BTreeMap;
use std::time::Duration;

use bytes::Bytes;
use parlance_bus::SHARDS;
use parlance_types::{LogId, Seq, TenantId, UserId};
use prost::Message as _;
use tokio::time::Instant;
use uuid::Uuid;

use crate::domain::{Appended, EpochId, StoredEvent};
use crate::stream::{Receipt, Typing};

/// Events above so many bytes are left out of a payload; their numbers are in it.
const MAX_BYTES: usize = 32 * 1024;

/// One payload of the bus.
#[derive(Clone, PartialEq, prost::Message)]
pub(super) struct Hints {
    /// The node that published it.
    #[prost(fixed64, tag = "1")]
    pub(super) node: u64,
    #[prost(message, repeated, tag = "2")]
    pub(super) logs: Vec<LogHint>,
    #[prost(message, repeated, tag = "3")]
    pub(super) receipts: Vec<ReceiptHint>,
    #[prost(message, repeated, tag = "4")]
    pub(super) typing: Vec<TypingHint>,
}

/// A log went on.
#[derive(Clone, PartialEq, prost::Message)]
pub(super) struct LogHint {
    #[prost(bytes = "bytes", tag = "1")]
    log_id: Bytes,
    #[prost(string, tag = "2")]
    epoch: String,
    /// The last event that was stored.
    #[prost(int64, tag = "3")]
    pub(super) last: i64,
    /// The events up to `last`; none if they are too large.
    #[prost(message, repeated, tag = "4")]
    events: Vec<EventHint>,
    #[prost(string, tag = "5")]
    tenant_id: String,
    /// Users whose access changed.
    #[prost(string, repeated, tag = "6")]
    users: Vec<String>,
}

#[derive(Clone, PartialEq, prost::Message)]
struct EventHint {
    #[prost(int64, tag = "1")]
    time: i64,
    #[prost(bytes = "bytes", tag = "2")]
    payload: Bytes,
}

/// A member read or received messages.
#[derive(Clone, PartialEq, prost::Message)]
pub(super) struct ReceiptHint {
    #[prost(bytes = "bytes", tag = "1")]
    log_id: Bytes,
    #[prost(string, tag = "2")]
    user_id: String,
    #[prost(int64, tag = "3")]
    read: i64,
    #[prost(int64, tag = "4")]
    delivered: i64,
}

/// A member is typing, or stopped.
#[derive(Clone, PartialEq, prost::Message)]
pub(super) struct TypingHint {
    #[prost(bytes = "bytes", tag = "1")]
    log_id: Bytes,
    #[prost(string, tag = "2")]
    user_id: String,
    /// For how long, in milliseconds; 0: stopped.
    #[prost(uint32, tag = "3")]
    lasts: u32,
}

/// The payloads that tell other nodes of a batch, one per shard.
pub(super) fn of_batch(node: u64, batch: &[Appended]) -> Vec<(u16, Bytes)> {
    let mut shards: BTreeMap<u16, Vec<LogHint>> = BTreeMap::new();
    for appended in batch {
        shards.entry(shard(appended.log_id)).or_default().push(LogHint::new(appended));
    }
    let payload = |(shard, mut logs): (u16, Vec<LogHint>)| {
        let mut size = 0;
        for hint in &mut logs {
            let len = hint.encoded_len();
            if size + len > MAX_BYTES {
                hint.events.clear();
            }
            size += hint.encoded_len();
        }
        (shard, Hints { node, logs, ..Hints::default() }.encode_to_vec().into())
    };
    shards.into_iter().map(payload).collect()
}

/// The payloads that tell other nodes of notices, one per shard.
pub(super) fn of_notices(
    node: u64,
    receipts: Vec<(LogId, Receipt)>,
    typing: Vec<(LogId, Typing)>,
) -> impl Iterator<Item = (u16, Bytes)> {
    let mut shards: BTreeMap<u16, Hints> = BTreeMap::new();
    for (log_id, receipt) in receipts {
        let hint = ReceiptHint {
            log_id: id_bytes(log_id),
            user_id: receipt.user_id.into_string(),
            read: receipt.read,
            delivered: receipt.delivered,
        };
        shards.entry(shard(log_id)).or_default().receipts.push(hint);
    }
    let now = Instant::now();
    for (log_id, typing) in typing {
        // 0 if it is over by now.
        let left =
            typing.until.map_or(Duration::ZERO, |until| until.saturating_duration_since(now));
        let lasts = u32::try_from(left.as_millis()).unwrap_or(u32::MAX);
        let (log, user_id) = (id_bytes(log_id), typing.user_id.into_string());
        let hint = TypingHint { log_id: log, user_id, lasts };
        shards.entry(shard(log_id)).or_default().typing.push(hint);
    }
    let payload = move |(shard, hints)| (shard, Hints { node, ..hints }.encode_to_vec().into());
    shards.into_iter().map(payload)
}

/// Whether a node published the payload; without decoding it.
pub(super) fn is_from(node: u64, payload: &[u8]) -> bool {
    // `Hints` begins with the node: tag 1, eight bytes.
    payload.strip_prefix(&[9]).is_some_and(|rest| rest.starts_with(&node.to_le_bytes()))
}

impl LogHint {
    fn new(appended: &Appended) -> Self {
        let event =
            |event: &StoredEvent| EventHint { time: event.time, payload: event.payload.clone() };
        Self {
            log_id: id_bytes(appended.log_id),
            epoch: appended.epoch.0.clone(),
            last: appended.events.last().map_or(0, |event| event.seq),
            events: appended.events.iter().map(event).collect(),
            tenant_id: appended.tenant_id.to_string(),
            users: appended.users.iter().map(ToString::to_string).collect(),
        }
    }

    pub(super) fn log_id(&self) -> Option<LogId> {
        id(&self.log_id)
    }

    pub(super) fn epoch(&self) -> EpochId {
        EpochId(self.epoch.clone())
    }

    pub(super) fn events(&self) -> Vec<StoredEvent> {
        let len = Seq::try_from(self.events.len()).unwrap_or_default();
        let first = self.last.saturating_sub(len).saturating_add(1);
        let event = |(seq, event): (Seq, &EventHint)| {
            let (time, payload) = (event.time, event.payload.clone());
            StoredEvent { seq, time, payload }
        };
        (first..).zip(&self.events).map(event).collect()
    }

    pub(super) fn users(&self) -> impl Iterator<Item = (TenantId, UserId)> {
        let tenant_id = TenantId::new(&self.tenant_id);
        self.users.iter().map(move |user| (tenant_id.clone(), UserId::new(user)))
    }
}

impl ReceiptHint {
    pub(super) fn receipt(&self) -> Option<(LogId, Receipt)> {
        let user_id = UserId::new(&self.user_id);
        let receipt = Receipt { user_id, read: self.read, delivered: self.delivered };
        Some((id(&self.log_id)?, receipt))
    }
}

impl TypingHint {
    pub(super) fn typing(&self) -> Option<(LogId, Typing)> {
        let lasts = Duration::from_millis(self.lasts.into());
        let until = (self.lasts > 0).then(|| Instant::now() + lasts);
        Some((id(&self.log_id)?, Typing { user_id: UserId::new(&self.user_id), until }))
    }
}

fn shard(log_id: LogId) -> u16 {
    // The low bits of a UUID v7 are random.
    u16::try_from(log_id.0.as_u128() % u128::from(SHARDS)).unwrap_or_default()
}

fn id(bytes: &[u8]) -> Option<LogId> {
    Uuid::from_slice(bytes).ok().map(LogId)
}

fn id_bytes(log_id: LogId) -> Bytes {
    Bytes::copy_from_slice(log_id.0.as_bytes())
}

#[cfg(test)]
mod tests {
    use parlance_types::RoomId;

    use super::*;

    fn appended(log: u128, size: usize) -> Appended {
        let event = |seq| StoredEvent { seq, time: 5, payload: vec![7; size].into() };
        Appended {
            tenant_id: TenantId::new("t"),
            log_id: LogId(Uuid::from_u128(log)),
            room_id: RoomId::new("r"),
            epoch: EpochId("e".to_owned()),
            events: (3..=5).map(event).collect(),
            users: vec![UserId::new("ann")],
        }
    }

    #[test]
    fn a_batch_makes_one_payload_per_shard_and_reads_back() {
        let payloads = of_batch(1, &[appended(1, 10), appended(2, 10), appended(257, 10)]);
        assert_eq!(payloads.iter().map(|(shard, _)| *shard).collect::<Vec<_>>(), [1, 2]);
        let hints = Hints::decode(payloads[0].1.clone()).expect("hints");
        assert_eq!((hints.node, hints.logs.len()), (1, 2));
        assert!(is_from(1, &payloads[0].1) && !is_from(2, &payloads[0].1));
        let hint = &hints.logs[0];
        assert_eq!(hint.log_id(), Some(LogId(Uuid::from_u128(1))));
        assert_eq!(hint.events(), appended(1, 10).events);
        assert_eq!(hint.users().next(), Some((TenantId::new("t"), UserId::new("ann"))));
    }

    #[test]
    fn notices_of_a_shard_share_a_payload() {
        let log = |n| LogId(Uuid::from_u128(n));
        let receipt = |user| Receipt { user_id: UserId::new(user), read: 1, delivered: 2 };
        let typing = Typing { user_id: UserId::new("bob"), until: None };
        let receipts =
            vec![(log(1), receipt("ann")), (log(1), receipt("bob")), (log(257), receipt("ann"))];
        let payloads: Vec<_> = of_notices(7, receipts, vec![(log(1), typing.clone())]).collect();
        assert_eq!(payloads.len(), 1);
        assert!(is_from(7, &payloads[0].1));
        let hints = Hints::decode(payloads[0].1.clone()).expect("hints");
        assert_eq!((hints.node, hints.receipts.len()), (7, 3));
        assert_eq!(hints.receipts[1].receipt(), Some((log(1), receipt("bob"))));
        assert_eq!(hints.typing[0].typing(), Some((log(1), typing)));
    }

    #[test]
    fn events_above_32_kb_are_told_by_number_only() {
        let payloads = of_batch(1, &[appended(1, 20_000), appended(257, 10)]);
        let hints = Hints::decode(payloads[0].1.clone()).expect("hints");
        assert_eq!((hints.logs[0].last, hints.logs[0].events().len()), (5, 0));
        assert_eq!((hints.logs[1].last, hints.logs[1].events().len()), (5, 3));
    }
}
