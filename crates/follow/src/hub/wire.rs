//! The payloads of the bus between nodes: eight bytes that name the node, then its own
//! small encoding, kept compatible between adjacent versions as protobuf is.

use std::collections::BTreeMap;
use std::time::Duration;

use bytes::{BufMut, Bytes, BytesMut};
use parlance_bus::SHARDS;
use parlance_log::{Appended, EpochId, StoredEvent};
use parlance_proto::frame::Frame;
use parlance_types::{LogId, Seq, TenantId, UserId};
use prost::Message as _;
use tokio::time::Instant;
use uuid::Uuid;

use crate::notice::{By, Key, Merge, Notice, Span};

/// Events above so many bytes are left out of a payload; their numbers are in it.
const MAX_BYTES: usize = 32 * 1024;

/// The node that published a payload.
const HEADER: usize = size_of::<u64>();

/// One payload of the bus, behind its header.
#[derive(Clone, PartialEq, prost::Message)]
pub(super) struct Hints {
    #[prost(message, repeated, tag = "1")]
    pub(super) logs: Vec<LogHint>,
    #[prost(message, repeated, tag = "2")]
    notices: Vec<NoticeHint>,
    /// Those for the streams of one member: a node that does not know of them tells nobody.
    #[prost(message, repeated, tag = "3")]
    personal: Vec<NoticeHint>,
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

/// Something passes in a room.
#[derive(Clone, PartialEq, prost::Message)]
struct NoticeHint {
    #[prost(bytes = "bytes", tag = "1")]
    log_id: Bytes,
    #[prost(uint32, tag = "2")]
    kind: u32,
    #[prost(bytes = "bytes", tag = "3")]
    about: Bytes,
    #[prost(bytes = "bytes", tag = "4")]
    frame: Bytes,
    /// Present where the greatest is told; otherwise each is.
    #[prost(int64, optional, tag = "5")]
    rank: Option<i64>,
    /// The member who makes it.
    #[prost(string, optional, tag = "6")]
    by: Option<String>,
    /// For how long it goes on, in milliseconds; 0: it is over. Absent for a moment.
    #[prost(uint32, optional, tag = "7")]
    lasts: Option<u32>,
    /// The frame for its end, where it goes on.
    #[prost(bytes = "bytes", tag = "8")]
    end: Bytes,
    /// Where they were a member; nodes before this do not say it.
    #[prost(int64, optional, tag = "9")]
    as_of: Option<i64>,
    /// The epoch that it holds in; empty: any.
    #[prost(string, tag = "10")]
    epoch: String,
    /// The members who are told.
    #[prost(string, repeated, tag = "11")]
    to: Vec<String>,
    /// Whether the member who makes it is told, too.
    #[prost(bool, tag = "12")]
    echo: bool,
}

/// The payloads that tell other nodes of a batch, one per shard.
pub(super) fn of_batch(node: u64, batch: &[Appended]) -> Vec<(u16, Bytes)> {
    let mut shards: BTreeMap<u16, Vec<LogHint>> = BTreeMap::new();
    for appended in batch {
        shards.entry(shard(appended.log_id)).or_default().push(LogHint::new(appended));
    }
    let of_shard = |(shard, mut logs): (u16, Vec<LogHint>)| {
        let mut size = 0;
        for hint in &mut logs {
            let len = hint.encoded_len();
            if size + len > MAX_BYTES {
                hint.events.clear();
            }
            size += hint.encoded_len();
        }
        (shard, payload(node, &Hints { logs, ..Hints::default() }))
    };
    shards.into_iter().map(of_shard).collect()
}

/// The payloads that tell other nodes of notices, one per shard.
pub(super) fn of_notices(
    node: u64,
    notices: &[(LogId, Notice)],
) -> impl Iterator<Item = (u16, Bytes)> {
    let mut shards: BTreeMap<u16, Hints> = BTreeMap::new();
    for (log_id, notice) in notices {
        let hints = shards.entry(shard(*log_id)).or_default();
        let to = if notice.to.is_some() { &mut hints.personal } else { &mut hints.notices };
        to.push(NoticeHint::new(*log_id, notice));
    }
    shards.into_iter().map(move |(shard, hints)| (shard, payload(node, &hints)))
}

/// Reads a payload; `None` if `node` itself published it.
pub(super) fn of_others(node: u64, payload: &Bytes) -> Option<Result<Hints, prost::DecodeError>> {
    let own = payload.starts_with(&node.to_be_bytes());
    (!own).then(|| Hints::decode(payload.slice(HEADER.min(payload.len())..)))
}

fn payload(node: u64, hints: &Hints) -> Bytes {
    let mut payload = BytesMut::with_capacity(HEADER + hints.encoded_len());
    payload.put_u64(node);
    hints.encode_raw(&mut payload);
    payload.freeze()
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

impl Hints {
    pub(super) fn notices(&self) -> impl Iterator<Item = (LogId, Notice)> {
        // Without a name it would be for all.
        let personal = self.personal.iter().filter(|hint| !hint.to.is_empty());
        let all = self.notices.iter().chain(personal);
        all.filter_map(|hint| Some((id(&hint.log_id)?, hint.notice())))
    }
}

impl NoticeHint {
    fn new(log_id: LogId, notice: &Notice) -> Self {
        let (frame, lasts, end) = match &notice.span {
            Span::Moment => (&notice.frame, None, None),
            Span::Over => (&notice.frame, Some(0), None),
            Span::Until(until, end) => {
                let left = until.saturating_duration_since(Instant::now());
                match u32::try_from(left.as_millis()).unwrap_or(u32::MAX) {
                    0 => (end, Some(0), None),
                    lasts => (&notice.frame, Some(lasts), Some(end)),
                }
            }
        };
        Self {
            log_id: id_bytes(log_id),
            kind: notice.key.kind,
            about: notice.key.about.clone(),
            frame: frame.bytes().clone(),
            rank: match notice.merge {
                Merge::Greatest(rank) => Some(rank),
                Merge::Latest | Merge::Each => None,
            },
            by: notice.by.as_ref().map(|by| by.user.to_string()),
            lasts,
            end: end.map(|end| end.bytes().clone()).unwrap_or_default(),
            as_of: notice.by.as_ref().map(|by| by.as_of),
            epoch: notice.epoch.as_ref().map(|epoch| epoch.0.clone()).unwrap_or_default(),
            to: notice.to.iter().flat_map(|to| to.iter()).map(ToString::to_string).collect(),
            echo: notice.by.as_ref().is_some_and(|by| by.echo),
        }
    }

    fn notice(&self) -> Notice {
        let frame = |bytes: &Bytes| Frame::from_encoded(bytes.clone());
        Notice {
            key: Key { kind: self.kind, about: self.about.clone() },
            frame: frame(&self.frame),
            merge: self.rank.map_or(Merge::Each, Merge::Greatest),
            span: match self.lasts {
                None => Span::Moment,
                Some(0) => Span::Over,
                Some(lasts) => {
                    let until = Instant::now() + Duration::from_millis(lasts.into());
                    Span::Until(until, frame(&self.end))
                }
            },
            by: self.by.as_ref().map(|user| By {
                user: UserId::new(user),
                as_of: self.as_of.unwrap_or(Seq::MAX),
                echo: self.echo,
            }),
            to: (!self.to.is_empty()).then(|| self.to.iter().map(UserId::new).collect()),
            epoch: (!self.epoch.is_empty()).then(|| EpochId(self.epoch.clone())),
        }
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

    fn heard(payload: &Bytes) -> Hints {
        of_others(0, payload).expect("of another node").expect("hints")
    }

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
        assert_eq!(of_others(1, &payloads[0].1), None);
        let hints = heard(&payloads[0].1);
        assert_eq!(hints.logs.len(), 2);
        let hint = &hints.logs[0];
        assert_eq!(hint.log_id(), Some(LogId(Uuid::from_u128(1))));
        assert_eq!(hint.events(), appended(1, 10).events);
        assert_eq!(hint.users().next(), Some((TenantId::new("t"), UserId::new("ann"))));
    }

    #[test]
    fn notices_of_a_shard_share_a_payload() {
        let log = |n| LogId(Uuid::from_u128(n));
        let frame = |frame: &'static str| Frame::from_encoded(frame.into());
        let notice = |merge, span, by| Notice {
            key: Key { kind: 3, about: "ann".into() },
            frame: frame("begin"),
            merge,
            span,
            by,
            to: None,
            epoch: Some(EpochId("e".to_owned())),
        };
        let receipt = notice(Merge::Greatest(7), Span::Moment, None);
        let ann = By { user: UserId::new("ann"), as_of: 5, echo: false };
        let stopped = notice(Merge::Greatest(8), Span::Over, Some(ann));
        let until = Instant::now() + Duration::from_mins(1);
        let typing = notice(Merge::Each, Span::Until(until, frame("end")), None);
        let eve = By { user: UserId::new("eve"), as_of: 7, echo: true };
        let to = Some(["bob", "cleo"].map(UserId::new).into());
        let personal = Notice { to, ..notice(Merge::Each, Span::Moment, Some(eve)) };
        let told = [(log(1), receipt), (log(1), stopped), (log(257), typing), (log(257), personal)];
        let payloads: Vec<_> = of_notices(7, &told).collect();
        assert_eq!(payloads.len(), 1);
        assert_eq!(of_others(7, &payloads[0].1), None);
        let mut heard: Vec<_> = heard(&payloads[0].1).notices().collect();
        // The time left is told, and that in milliseconds.
        let Span::Until(heard_until, _) = &mut heard[2].1.span else { panic!("goes on") };
        assert!(until.saturating_duration_since(*heard_until) < Duration::from_millis(2));
        *heard_until = until;
        assert_eq!(heard, told);
    }

    #[test]
    fn what_is_over_by_now_is_told_by_its_end() {
        let (begin, end) = (Frame::from_encoded("a".into()), Frame::from_encoded("b".into()));
        let key = Key { kind: 3, about: "ann".into() };
        let span = Span::Until(Instant::now(), end.clone());
        let merge = Merge::Greatest(1);
        let notice = Notice { key, frame: begin, merge, span, by: None, to: None, epoch: None };
        let hint = NoticeHint::new(LogId(Uuid::from_u128(1)), &notice).notice();
        assert_eq!((hint.frame, hint.span), (end, Span::Over));
    }

    #[test]
    fn events_above_32_kb_are_told_by_number_only() {
        let payloads = of_batch(1, &[appended(1, 20_000), appended(257, 10)]);
        let hints = heard(&payloads[0].1);
        assert_eq!((hints.logs[0].last, hints.logs[0].events().len()), (5, 0));
        assert_eq!((hints.logs[1].last, hints.logs[1].events().len()), (5, 3));
    }
}
