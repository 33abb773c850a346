//! Contents in the payloads of events, and on the wire.

use bytes::Bytes;
use parlance_log::{Body, Error, Mentions, codec};
use parlance_proto::message::v1 as pb;
use parlance_proto::message::v1::attachment::Source as PbSource;
use parlance_proto::stored;
use parlance_rpc::fields;
use parlance_types::{MessageId, Micros, UserId};
use prost::{DecodeError, Message as _};

use super::{Attached, Content, Draft, ReactionCount, Source};

/// The payload of a new message; `root` is what the thread of a reply began with.
pub fn sent(sender: Option<&UserId>, draft: &Draft, root: Option<MessageId>) -> Bytes {
    let sent = pb::MessageSent {
        content: Some(to_pb(&draft.content)),
        uncounted: !draft.is_counted(),
        deleted: false,
        thread_root_id: root.map(|root| root.to_string()).unwrap_or_default(),
        expire_after: draft.expire_after.map(codec::duration),
        origin_time: draft.origin.as_ref().map(|origin| codec::timestamp(origin.time)),
    };
    codec::event(sender, Body::MessageSent(sent))
}

/// An edit of `target`, which expires at a time or does not.
pub fn edited(target: MessageId, content: &Content, expires: Option<Micros>) -> Body {
    Body::MessageEdited(pb::MessageEdited {
        message_id: target.to_string(),
        message_seq: target.seq,
        content: Some(to_pb(content)),
        deleted: false,
        expire_time: expires.map(codec::timestamp),
    })
}

/// The deletion of `target`, by somebody or because it had expired.
pub fn deleted(target: MessageId, expired: bool) -> Body {
    let message_id = target.to_string();
    Body::MessageDeleted(pb::MessageDeleted { message_id, message_seq: target.seq, expired })
}

/// What a payload says of a message or an edit to those who read it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Stored {
    pub actor: Option<UserId>,
    /// Encoded: as it is stored, it is passed on. `None` once it was deleted.
    pub content: Option<Bytes>,
    pub uncounted: bool,
    /// When it was sent where it was brought in from.
    pub origin: Option<Micros>,
}

/// Reads a payload all but for the content, which is taken as it is.
pub fn stored(event: MessageId, payload: Vec<u8>) -> Result<Stored, Error> {
    let event = readable(event, stored::Event::decode(Bytes::from(payload)))?;
    let (content, uncounted, origin) = match event.body {
        Some(stored::event::Body::MessageSent(sent)) => {
            (sent.content, sent.uncounted, sent.origin_time.as_ref().and_then(fields::micros))
        }
        Some(stored::event::Body::MessageEdited(edited)) => (edited.content, false, None),
        _ => (None, false, None),
    };
    let actor = (!event.actor_id.is_empty()).then(|| UserId::new(event.actor_id));
    Ok(Stored { actor, content, uncounted, origin })
}

/// A content as it is stored.
pub fn encoded(content: &Content) -> Bytes {
    to_pb(content).encode_to_vec().into()
}

/// The content that a message or an edit carries; `None` once it was deleted.
pub fn content(event: MessageId, payload: &[u8]) -> Result<Option<Content>, Error> {
    let event = readable(event, pb::Event::decode(payload))?;
    let content = match event.body {
        Some(Body::MessageSent(sent)) => sent.content,
        Some(Body::MessageEdited(edited)) => edited.content,
        _ => None,
    };
    Ok(content.map(|content| {
        let reply_to = content.reply_to_message_id.parse().ok();
        let mentions = content.mentions.unwrap_or_default();
        let users = mentions.user_ids.into_iter().map(UserId::new).collect();
        let mentions = Mentions { users, everyone: mentions.everyone };
        let attached = content.attachments.into_iter().filter_map(attached).collect();
        Content::stored(content.r#type, content.text, content.properties, reply_to)
            .mentioning(mentions)
            .holding(attached)
    }))
}

/// The payload with its content taken out: what stays of a deleted message or edit.
pub fn tombstone(event: MessageId, payload: &[u8]) -> Result<Bytes, Error> {
    readable(event, codec::tombstone(payload))
}

/// What stays of an edit of a deleted message.
pub fn blank_edit(editor: Option<&UserId>, target: MessageId) -> Bytes {
    let (message_id, message_seq) = (target.to_string(), target.seq);
    let edited = pb::MessageEdited {
        message_id,
        message_seq,
        deleted: true,
        ..pb::MessageEdited::default()
    };
    codec::event(editor, Body::MessageEdited(edited))
}

/// The counts of a message's reactions, encoded: a message that has nothing else.
pub(crate) fn counts(counts: &[ReactionCount]) -> Vec<u8> {
    let reactions = counts.iter().cloned().map(count_to_pb).collect();
    pb::Message { reactions, ..pb::Message::default() }.encode_to_vec()
}

/// Reads them, with nobody's own marked.
pub(crate) fn stored_counts(
    message_id: MessageId,
    counts: &[u8],
) -> Result<Vec<ReactionCount>, Error> {
    let message = readable(message_id, pb::Message::decode(counts))?;
    let count = |counted: pb::ReactionCount| {
        let pb::ReactionCount { kind, count, own } = counted;
        ReactionCount { kind, count, own }
    };
    Ok(message.reactions.into_iter().map(count).collect())
}

/// A count of reactions on the wire.
pub(crate) fn count_to_pb(ReactionCount { kind, count, own }: ReactionCount) -> pb::ReactionCount {
    pb::ReactionCount { kind, count, own }
}

fn readable<T>(event: MessageId, payload: Result<T, DecodeError>) -> Result<T, Error> {
    payload.map_err(|_| Error::unreadable(event))
}

/// A content on the wire.
pub fn to_pb(content: &Content) -> pb::MessageContent {
    let mentions = content.mentions();
    pb::MessageContent {
        r#type: content.kind().to_owned(),
        text: content.text().to_owned(),
        properties: content.properties().clone(),
        reply_to_message_id: content.reply_to().map(|id| id.to_string()).unwrap_or_default(),
        mentions: (!mentions.is_empty()).then(|| pb::Mentions {
            user_ids: mentions.users.iter().map(ToString::to_string).collect(),
            everyone: mentions.everyone,
        }),
        attachments: content.attached().iter().map(attached_to_pb).collect(),
    }
}

fn attached_to_pb(attached: &Attached) -> pb::Attachment {
    let source = match &attached.source {
        Source::Stored(id) => PbSource::AttachmentId(id.to_string()),
        Source::Url(url) => PbSource::Url(url.clone()),
        Source::Inline(data) => PbSource::InlineData(data.to_vec()),
    };
    pb::Attachment {
        source: Some(source),
        name: attached.name.clone(),
        content_type: attached.content_type.clone(),
        size: attached.size,
        width: attached.width,
        height: attached.height,
        duration: attached.duration.and_then(|duration| duration.try_into().ok()),
    }
}

/// What is stored, so is known to be good; `None`: of a kind that a later version wrote.
fn attached(attached: pb::Attachment) -> Option<Attached> {
    let source = match attached.source? {
        PbSource::AttachmentId(id) => Source::Stored(id.parse().ok()?),
        PbSource::Url(url) => Source::Url(url),
        PbSource::InlineData(data) => Source::Inline(data.into()),
    };
    Some(Attached {
        source,
        name: attached.name,
        content_type: attached.content_type,
        size: attached.size,
        width: attached.width,
        height: attached.height,
        duration: attached.duration.and_then(|duration| duration.try_into().ok()),
    })
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use parlance_log::Priority;
    use parlance_types::LogId;
    use uuid::Uuid;

    use super::*;

    const TARGET: MessageId = MessageId { log_id: LogId(Uuid::from_u128(9)), seq: 3 };

    fn draft(content: &Content, uncounted: bool) -> Draft {
        Draft {
            content: content.clone(),
            request_id: None,
            uncounted,
            expire_after: Some(60_000_000),
            origin: None,
            priority: Priority::Normal,
        }
    }

    #[test]
    fn a_content_that_is_passed_on_is_what_encoding_it_anew_would_give() {
        let properties = BTreeMap::from([("k".to_owned(), "v".to_owned()), Default::default()]);
        let ann = UserId::new("ann");
        for (sender, text, properties, reply_to, uncounted) in [
            (Some(&ann), "", BTreeMap::new(), None, false),
            (Some(&ann), "hello", properties.clone(), Some(TARGET), true),
            (None, &*"long ".repeat(500), properties, None, false),
        ] {
            let content = Content::stored("poll".to_owned(), text.to_owned(), properties, reply_to);
            let sent = sent(sender, &draft(&content, uncounted), Some(TARGET));
            let sent = stored(TARGET, sent.into()).expect("sent");
            let edit = codec::event(sender, edited(TARGET, &content, Some(7_000_000)));
            let edit = stored(TARGET, edit.into()).expect("an edit");
            for stored in [&sent, &edit] {
                let passed = stored.content.clone().expect("a content");
                assert_eq!(passed, encoded(&content));
                assert_eq!(pb::MessageContent::decode(passed), Ok(to_pb(&content)));
                assert_eq!(stored.actor.as_ref(), sender);
            }
            assert_eq!(sent.uncounted, uncounted);
            // Within a message, too.
            let new = pb::Message { content: Some(to_pb(&content)), seq: 3, ..Default::default() };
            let passed = stored::Message { content: sent.content, seq: 3, ..Default::default() };
            assert_eq!(passed.encode_to_vec(), new.encode_to_vec());
        }
    }

    #[test]
    fn a_payload_that_is_cut_off_is_not_read() {
        let payload = sent(None, &draft(&hello(), false), None);
        let cut = payload.slice(..payload.len() - 1);
        assert!(stored(TARGET, cut.into()).is_err());
    }

    #[test]
    fn counts_are_stored_as_they_stand_in_a_message() {
        let count = |kind: &str, count| ReactionCount { kind: kind.to_owned(), count, own: false };
        let all = vec![count("👍", 2), count("tea", 100_000)];
        let stored = counts(&all);
        assert_eq!(stored_counts(TARGET, &stored).expect("counts"), all);
        // Before or behind the rest of an encoded message they are a part of it.
        let mut message = pb::Message { seq: 3, ..Default::default() }.encode_to_vec();
        message.extend(&stored);
        let message = pb::Message::decode(&*message).expect("a message");
        assert_eq!((message.seq, message.reactions.len()), (3, 2));
        assert!(stored_counts(TARGET, &stored[1..]).is_err());
    }

    fn hello() -> Content {
        let hello = Content::parse(String::new(), "hello".to_owned(), BTreeMap::new(), None);
        hello.expect("a content")
    }

    #[test]
    fn a_tombstone_has_no_content() {
        let (hello, target) = (hello(), TARGET);
        let edit = codec::event(None, edited(target, &hello, Some(7_000_000)));
        assert_eq!(tombstone(target, &edit).expect("a tombstone"), blank_edit(None, target));
        for payload in [sent(None, &draft(&hello, true), None), edit] {
            assert_eq!(content(target, &payload).expect("an event"), Some(hello.clone()));
            let tombstone = tombstone(target, &payload).expect("a tombstone");
            assert_eq!(content(target, &tombstone).expect("an event"), None);
            assert_eq!(stored(target, tombstone.into()).expect("an event").content, None);
        }
    }
}
