//! The encoding of stored events: protobuf, made once at append.
//!
//! A payload is an encoded `Event` without seq, time and id. Those are put in
//! front when it is read: encoded protobuf messages concatenate. So what is
//! stored, published and streamed are the same bytes, also of kinds of events
//! that this version does not know.

pub mod frames;

use bytes::{BufMut, Bytes, BytesMut};
use parlance_proto::frame::Frame;
use parlance_proto::message::v1 as pb;
use parlance_proto::message::v1::event::Body as PbBody;
use parlance_types::{LogId, MessageId, Micros, RoomId, Seq, UserId};
use prost::Message as _;
use prost::encoding::{WireType, encode_key, encode_varint, encoded_len_varint};
use sha2::{Digest, Sha256};

use crate::domain::{Content, Effects, History, PostRule, Role, RoomKind, Rules, StoredEvent};

/// What a payload says to those who keep the log, whatever else it says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Envelope {
    pub actor: Option<UserId>,
    pub effects: Effects,
    pub body: Body,
}

/// What the log itself must know of an event's kind.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Body {
    Message,
    Edit {
        target: Seq,
    },
    Delete {
        target: Seq,
    },
    /// Any other kind, known or not.
    Other,
}

/// The payload of a new message.
pub fn message_sent(sender: Option<&UserId>, content: &Content, uncounted: bool) -> Bytes {
    let content = Some(to_pb(content));
    payload(sender, PbBody::MessageSent(pb::MessageSent { content, uncounted, deleted: false }))
}

/// The payload of an edit.
pub fn message_edited(editor: Option<&UserId>, target: MessageId, content: &Content) -> Bytes {
    let edited = pb::MessageEdited {
        message_id: target.to_string(),
        message_seq: target.seq,
        content: Some(to_pb(content)),
        deleted: false,
    };
    payload(editor, PbBody::MessageEdited(edited))
}

/// The payload of a deletion.
pub fn message_deleted(actor: Option<&UserId>, target: MessageId) -> Bytes {
    let deleted = pb::MessageDeleted { message_id: target.to_string(), message_seq: target.seq };
    payload(actor, PbBody::MessageDeleted(deleted))
}

/// What two payloads of one request id are compared by. Equal drafts have equal
/// payloads: maps are sorted and defaults left out.
pub fn digest(payload: &[u8]) -> [u8; 32] {
    Sha256::digest(payload).into()
}

/// Reads what the log must know of a payload.
pub fn envelope(payload: &[u8]) -> Result<Envelope, prost::DecodeError> {
    let event = pb::Event::decode(payload)?;
    let body = match event.body {
        Some(PbBody::MessageSent(_)) => Body::Message,
        Some(PbBody::MessageEdited(edited)) => Body::Edit { target: edited.message_seq },
        Some(PbBody::MessageDeleted(deleted)) => Body::Delete { target: deleted.message_seq },
        _ => Body::Other,
    };
    let effects = event.effects.map(effects).unwrap_or_default();
    Ok(Envelope { actor: user(event.actor_id), effects, body })
}

/// The content that a message or an edit carries; `None` once it was deleted.
pub fn content(payload: &[u8]) -> Result<Option<Content>, prost::DecodeError> {
    let content = match pb::Event::decode(payload)?.body {
        Some(PbBody::MessageSent(sent)) => sent.content,
        Some(PbBody::MessageEdited(edited)) => edited.content,
        _ => None,
    };
    Ok(content.map(|content| {
        let reply_to = content.reply_to_message_id.parse().ok();
        Content::stored(content.r#type, content.text, content.properties, reply_to)
    }))
}

/// The payload with its content taken out: what stays of a deleted message or edit.
pub fn tombstone(payload: &[u8]) -> Result<Bytes, prost::DecodeError> {
    let mut event = pb::Event::decode(payload)?;
    match &mut event.body {
        Some(PbBody::MessageSent(sent)) => (sent.content, sent.deleted) = (None, true),
        Some(PbBody::MessageEdited(edited)) => (edited.content, edited.deleted) = (None, true),
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

/// A point in time on the wire.
pub fn timestamp(time: Micros) -> prost_types::Timestamp {
    let nanos = i32::try_from(time.rem_euclid(1_000_000) * 1000).expect("below 10^9");
    prost_types::Timestamp { seconds: time.div_euclid(1_000_000), nanos }
}

/// A content on the wire.
pub fn to_pb(content: &Content) -> pb::MessageContent {
    pb::MessageContent {
        r#type: content.kind().to_owned(),
        text: content.text().to_owned(),
        properties: content.properties().clone(),
        reply_to_message_id: content.reply_to().map(|id| id.to_string()).unwrap_or_default(),
    }
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

fn payload(actor: Option<&UserId>, body: PbBody) -> Bytes {
    let actor_id = actor.map(ToString::to_string).unwrap_or_default();
    pb::Event { actor_id, body: Some(body), ..pb::Event::default() }.encode_to_vec().into()
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
        rules: effects.rules.map(rules),
        closed: effects.closed,
    }
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
            Ok(pb::PostRule::Members | pb::PostRule::Unspecified) => PostRule::Members,
            Ok(pb::PostRule::Admins) | Err(_) => PostRule::Admins,
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
    use std::collections::BTreeMap;

    use uuid::Uuid;

    use super::*;

    fn hello() -> Content {
        let properties =
            BTreeMap::from([("b".to_owned(), "2".to_owned()), ("a".to_owned(), "1".to_owned())]);
        Content::parse(String::new(), "hello".to_owned(), properties, None).expect("a content")
    }

    fn log() -> LogId {
        LogId(Uuid::from_u128(9))
    }

    #[test]
    fn a_frame_is_the_event_with_its_place_in_front() {
        let ann = UserId::new("ann");
        let payload = message_sent(Some(&ann), &hello(), true);
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
            let Some(PbBody::MessageSent(sent)) = event.body else { panic!("a message") };
            assert!(sent.uncounted);
            assert_eq!(sent.content, Some(to_pb(&hello())));
        }
    }

    #[test]
    fn a_tombstone_keeps_the_envelope_and_loses_the_content() {
        let ann = UserId::new("ann");
        let target = MessageId { log_id: log(), seq: 3 };
        for payload in
            [message_sent(Some(&ann), &hello(), true), message_edited(Some(&ann), target, &hello())]
        {
            let tombstone = tombstone(&payload).expect("a tombstone");
            assert_eq!(envelope(&tombstone), envelope(&payload));
            assert_eq!(content(&payload), Ok(Some(hello())));
            assert_eq!(content(&tombstone), Ok(None));
            let contains =
                |needle: &[u8]| tombstone.windows(needle.len()).any(|bytes| bytes == needle);
            assert!(!contains(b"hello"));
        }
    }

    #[test]
    fn rules_of_a_later_version_count_as_the_strictest() {
        for (post, history, expected) in [
            (0, 0, (PostRule::Members, History::All)),
            (1, 1, (PostRule::Members, History::All)),
            (2, 2, (PostRule::Admins, History::SinceJoin)),
            (77, 77, (PostRule::Admins, History::SinceJoin)),
        ] {
            let got = rules(pb::LogRules { post, allow_preview: false, history });
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
        assert_eq!(envelope.body, Body::Other);
        assert_eq!(envelope.effects.lost, [UserId::new("bob")]);
        assert!(envelope.effects.closed);
    }
}
