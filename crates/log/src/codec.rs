//! The encoding of stored events: protobuf, made once at append.
//!
//! A payload is an encoded `Event` without seq, time and id. Those are put in
//! front when it is read: encoded protobuf messages concatenate. So what is
//! stored, published and streamed are the same bytes, also of kinds of events
//! that this version does not know.

use bytes::{BufMut, Bytes, BytesMut};
use parlance_proto::frame::Frame;
use parlance_proto::message::v1 as pb;
use parlance_rpc::fields;
use parlance_types::{
    History, LogId, MemberRule, MessageId, Micros, Role, RoomId, RoomKind, Seq, UserId,
};
use prost::Message as _;
use prost::encoding::{WireType, encode_key, encode_varint, encoded_len_varint};
use sha2::{Digest, Sha256};

use crate::{Body, Effects, FOR_EVER, Kind, Projection, RequestKey, Rules, StoredEvent, Windows};

/// What a payload says to those who keep the log, whatever else it says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Envelope {
    pub actor: Option<UserId>,
    pub effects: Effects,
    pub kind: Kind,
    /// The message that an edit or a deletion is about.
    pub target: Option<Seq>,
    /// Of a message that expires, and of its edits.
    pub expiry: Option<Expiry>,
}

/// When a content expires.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Expiry {
    /// So long after the event's time.
    After(Micros),
    At(Micros),
}

impl Expiry {
    /// The time, for an event of this time.
    pub const fn of(self, time: Micros) -> Micros {
        match self {
            Self::After(after) => time.saturating_add(after),
            Self::At(at) => at,
        }
    }
}

/// The payload of an event.
pub fn event(actor: Option<&UserId>, body: Body) -> Bytes {
    let actor_id = actor.map(ToString::to_string).unwrap_or_default();
    pb::Event { actor_id, body: Some(body), ..pb::Event::default() }.encode_to_vec().into()
}

/// The payload of an event before which nothing is left but what stands from `first` on.
pub fn clearing(actor: Option<&UserId>, body: Body, first: Seq) -> Bytes {
    let actor_id = actor.map(ToString::to_string).unwrap_or_default();
    let effects = Some(pb::Effects { first_seq: first, ..pb::Effects::default() });
    pb::Event { actor_id, effects, body: Some(body), ..pb::Event::default() }.encode_to_vec().into()
}

/// A payload that shows the id that the caller gave to its request.
pub fn echoing(payload: Bytes, request: &RequestKey) -> Bytes {
    let Some(request_id) = request.given() else { return payload };
    let mut echoing = BytesMut::with_capacity(payload.len() + field_len(request_id.len()));
    echoing.put_slice(&payload);
    put_field(6, request_id.len(), &mut echoing);
    echoing.put_slice(request_id.as_bytes());
    echoing.freeze()
}

/// What two payloads of one request id are compared by, before they show that id. Equal
/// drafts have equal payloads: maps are sorted and defaults left out.
pub fn digest(payload: &[u8]) -> [u8; 32] {
    Sha256::digest(payload).into()
}

/// Reads what the log must know of a payload.
pub fn envelope(payload: &[u8]) -> Result<Envelope, prost::DecodeError> {
    let event = pb::Event::decode(payload)?;
    let kind = Kind::of(event.body.as_ref());
    let target = match &event.body {
        Some(Body::MessageEdited(edited)) => Some(edited.message_seq),
        Some(Body::MessageDeleted(deleted)) => Some(deleted.message_seq),
        _ => None,
    };
    let expiry = match &event.body {
        Some(Body::MessageSent(sent)) => {
            Some(length(sent.expire_after)).filter(|after| *after > 0).map(Expiry::After)
        }
        Some(Body::MessageEdited(edited)) => {
            edited.expire_time.as_ref().and_then(fields::micros).map(Expiry::At)
        }
        _ => None,
    };
    let effects = event.effects.map(effects).unwrap_or_default();
    Ok(Envelope { actor: user(event.actor_id), effects, kind, target, expiry })
}

/// The payload with its content taken out: what stays of a deleted message or edit. The id
/// of its request goes, too: edits that are gone are all the same.
pub fn tombstone(payload: &[u8]) -> Result<Bytes, prost::DecodeError> {
    let mut event = pb::Event::decode(payload)?;
    event.request_id.clear();
    match &mut event.body {
        Some(Body::MessageSent(sent)) => (sent.content, sent.deleted) = (None, true),
        Some(Body::MessageEdited(edited)) => {
            (edited.content, edited.deleted, edited.expire_time) = (None, true, None);
        }
        _ => {}
    }
    Ok(event.encode_to_vec().into())
}

/// The frame that carries an event to every subscriber of its room.
pub fn frame(log_id: LogId, room_id: &RoomId, event: &StoredEvent) -> Frame {
    let place = place(log_id, event).encode_to_vec();
    let event_len = place.len() + event.payload.len();
    let room_id = room_id.as_str().as_bytes();
    let room_event_len = field_len(room_id.len()) + field_len(event_len);

    let mut frame = BytesMut::with_capacity(field_len(room_event_len));
    // SubscribeResponse.event, RoomEvent.room_id, RoomEvent.event
    put_field(2, room_event_len, &mut frame);
    put_field(1, room_id.len(), &mut frame);
    frame.put_slice(room_id);
    put_field(2, event_len, &mut frame);
    frame.put_slice(&place);
    frame.put_slice(&event.payload);
    Frame::from_encoded(frame.freeze())
}

/// A length of time on the wire.
pub fn duration(length: Micros) -> prost_types::Duration {
    let nanos = i32::try_from(length.rem_euclid(1_000_000) * 1000).expect("below 10^9");
    prost_types::Duration { seconds: length.div_euclid(1_000_000), nanos }
}

/// A point in time on the wire.
pub fn timestamp(time: Micros) -> prost_types::Timestamp {
    let nanos = i32::try_from(time.rem_euclid(1_000_000) * 1000).expect("below 10^9");
    prost_types::Timestamp { seconds: time.div_euclid(1_000_000), nanos }
}

/// The part of an event that is known only once it has its place.
fn place(log_id: LogId, event: &StoredEvent) -> pb::Event {
    pb::Event {
        seq: event.seq,
        time: Some(timestamp(event.time)),
        event_id: MessageId { log_id, seq: event.seq }.to_string(),
        ..pb::Event::default()
    }
}

fn user(id: String) -> Option<UserId> {
    (!id.is_empty()).then(|| UserId::new(id))
}

fn effects(effects: pb::Effects) -> Effects {
    let grants = |grants: Vec<pb::MemberGrant>| {
        grants.into_iter().map(|grant| (UserId::new(&grant.user_id), role(grant.role()))).collect()
    };
    Effects {
        gained: grants(effects.gained),
        lost: effects.lost_user_ids.into_iter().map(UserId::new).collect(),
        roles: grants(effects.roles),
        retention: effects.rules.as_ref().map(|rules| length(rules.retention)),
        windows: effects.rules.as_ref().map(windows),
        rules: effects.rules.map(rules),
        closed: effects.closed,
        first: effects.first_seq,
        mutes: effects.mutes.into_iter().map(mute).collect(),
    }
}

/// A length of time; 0 if nothing is said, or nothing that makes sense.
fn length(length: Option<prost_types::Duration>) -> Micros {
    let length = length.unwrap_or_default();
    let micros = length.seconds.checked_mul(1_000_000);
    micros.and_then(|micros| micros.checked_add(i64::from(length.nanos / 1000))).unwrap_or(0).max(0)
}

fn windows(rules: &pb::LogRules) -> Windows {
    Windows {
        slow_mode: length(rules.slow_mode),
        edit: length(rules.edit_window),
        delete: length(rules.delete_window),
    }
}

fn mute(mute: pb::MemberMute) -> (UserId, Micros) {
    (UserId::new(mute.user_id), until(mute.until))
}

/// Until when somebody is kept from something; a time that is none counts as the latest.
fn until(until: Option<prost_types::Timestamp>) -> Micros {
    until.map_or(0, |until| fields::micros(&until).unwrap_or(FOR_EVER)).min(FOR_EVER)
}

/// Reads what a silent fact says.
pub fn projection(projection: pb::Projection) -> Projection {
    Projection {
        peer_blocks: changes(projection.peer_blocks),
        suspended_until: projection.suspension.map(|suspension| until(suspension.until)),
        blocks: changes(projection.blocks),
        ..Projection::default()
    }
}

/// Reads what a silent fact says of users who are told nothing of their being blocked.
pub fn hiding(hiding: pb::Hiding) -> Projection {
    Projection {
        hidden_peers: changes(hiding.peers),
        hidden: changes(hiding.blocks),
        ..Projection::default()
    }
}

fn changes(changes: Vec<pb::BlockChange>) -> Vec<(UserId, bool)> {
    changes.into_iter().map(|change| (UserId::new(change.user_id), change.blocked)).collect()
}

/// A role; one that this version does not know counts as the least.
fn role(role: pb::MemberRole) -> Role {
    match role {
        pb::MemberRole::Owner => Role::Owner,
        pb::MemberRole::Admin => Role::Admin,
        pb::MemberRole::Member | pb::MemberRole::Unspecified => Role::Member,
    }
}

/// Rules; one that this version does not know counts as the strictest.
fn rules(rules: pb::LogRules) -> Rules {
    Rules {
        post: match pb::PostRule::try_from(rules.post) {
            Ok(pb::PostRule::Members | pb::PostRule::Unspecified) => MemberRule::Members,
            Ok(pb::PostRule::Admins) | Err(_) => MemberRule::Admins,
        },
        allow_preview: rules.allow_preview,
        history: match pb::HistoryVisibility::try_from(rules.history) {
            Ok(pb::HistoryVisibility::All | pb::HistoryVisibility::Unspecified) => History::All,
            Ok(pb::HistoryVisibility::SinceJoin) | Err(_) => History::SinceJoin,
        },
    }
}

/// A kind of room from the wire.
pub fn room_kind(kind: pb::RoomKind) -> Option<RoomKind> {
    match kind {
        pb::RoomKind::Direct => Some(RoomKind::Direct),
        pb::RoomKind::Group => Some(RoomKind::Group),
        pb::RoomKind::Channel => Some(RoomKind::Channel),
        pb::RoomKind::Broadcast => Some(RoomKind::Broadcast),
        pb::RoomKind::Live => Some(RoomKind::Live),
        pb::RoomKind::Unspecified => None,
    }
}

/// A role on the wire.
pub const fn role_to_pb(role: Role) -> pb::MemberRole {
    match role {
        Role::Owner => pb::MemberRole::Owner,
        Role::Admin => pb::MemberRole::Admin,
        Role::Member => pb::MemberRole::Member,
    }
}

/// How long a length-delimited field of a tag below 16 is.
fn field_len(len: usize) -> usize {
    1 + encoded_len_varint(len as u64) + len
}

fn put_field(tag: u32, len: usize, buf: &mut BytesMut) {
    encode_key(tag, WireType::LengthDelimited, buf);
    encode_varint(len as u64, buf);
}

#[cfg(test)]
mod tests {
    use parlance_types::RequestId;
    use uuid::Uuid;

    use super::*;

    fn hello() -> pb::MessageContent {
        pb::MessageContent { text: "hello".to_owned(), ..pb::MessageContent::default() }
    }

    fn sent() -> Bytes {
        let ann = UserId::new("ann");
        let sent =
            pb::MessageSent { content: Some(hello()), uncounted: true, ..Default::default() };
        event(Some(&ann), Body::MessageSent(sent))
    }

    fn edited() -> Bytes {
        let edited = pb::MessageEdited {
            message_seq: 3,
            content: Some(hello()),
            ..pb::MessageEdited::default()
        };
        event(None, Body::MessageEdited(edited))
    }

    fn log() -> LogId {
        LogId(Uuid::from_u128(9))
    }

    #[test]
    fn a_frame_is_the_event_with_its_place_in_front() {
        let payload = sent();
        for len in [1, 120, 127, 128, 20_000] {
            let room_id = RoomId::new("r".repeat(len));
            let stored = StoredEvent { seq: 7, time: 1_500_000, payload: payload.clone() };
            let bytes = frame(log(), &room_id, &stored).bytes().clone();
            let decoded = pb::SubscribeResponse::decode(bytes).expect("a frame");
            let Some(pb::subscribe_response::Frame::Event(got)) = decoded.frame else {
                panic!("an event")
            };
            let event = got.event.expect("an event");
            assert_eq!((got.room_id.as_str(), event.seq), (room_id.as_str(), 7));
            assert_eq!(event.event_id, MessageId { log_id: log(), seq: 7 }.to_string());
            assert_eq!(event.time, Some(prost_types::Timestamp { seconds: 1, nanos: 500_000_000 }));
            assert_eq!(event.actor_id, "ann");
            let Some(Body::MessageSent(sent)) = event.body else { panic!("a message") };
            assert!(sent.uncounted);
            assert_eq!(sent.content, Some(hello()));
        }
    }

    #[test]
    fn a_payload_shows_the_id_of_its_caller_and_none_that_the_server_made() {
        let shown = |request: RequestKey| {
            let event = pb::Event::decode(echoing(sent(), &request)).expect("an event");
            let others = pb::Event { request_id: String::new(), ..event.clone() };
            assert_eq!(others.encode_to_vec(), sent());
            event.request_id
        };
        let own = || RequestId::new("r1");
        assert_eq!(shown(Some(own()).into()), "r1");
        assert_eq!(shown(Some(own().of_backend("a backend")).into()), "r1");
        assert_eq!(shown(None.into()), "");
    }

    #[test]
    fn a_tombstone_keeps_the_envelope_and_loses_the_content() {
        let asked = RequestKey::from(Some(RequestId::new("hello")));
        for payload in [sent(), edited(), echoing(sent(), &asked)] {
            let tombstone = tombstone(&payload).expect("a tombstone");
            assert_eq!(envelope(&tombstone), envelope(&payload));
            let contains =
                |needle: &[u8]| tombstone.windows(needle.len()).any(|bytes| bytes == needle);
            assert!(!contains(b"hello"));
        }
    }

    #[test]
    fn rules_of_a_later_version_count_as_the_strictest() {
        for (post, history, expected) in [
            (0, 0, (MemberRule::Members, History::All)),
            (1, 1, (MemberRule::Members, History::All)),
            (2, 2, (MemberRule::Admins, History::SinceJoin)),
            (77, 77, (MemberRule::Admins, History::SinceJoin)),
        ] {
            let got = rules(pb::LogRules { post, history, ..pb::LogRules::default() });
            assert_eq!((got.post, got.history), expected);
        }
    }

    #[test]
    fn effects_are_read_from_events_of_a_kind_that_is_not_known() {
        let effects = pb::Effects {
            lost_user_ids: vec!["bob".to_owned()],
            closed: true,
            ..pb::Effects::default()
        };
        let mut payload =
            pb::Event { effects: Some(effects), ..pb::Event::default() }.encode_to_vec();
        // A body of a later version: field 999, two bytes.
        encode_key(999, WireType::LengthDelimited, &mut payload);
        payload.extend([2, 8, 1]);
        let envelope = envelope(&payload).expect("an envelope");
        assert_eq!(envelope.kind, Kind::Fact);
        assert_eq!(envelope.effects.lost, [UserId::new("bob")]);
        assert!(envelope.effects.closed);
    }
}
