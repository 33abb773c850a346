//! Contents in the payloads of events, and on the wire.

use bytes::Bytes;
use parlance_log::{Body, Error, codec};
use parlance_proto::message::v1 as pb;
use parlance_types::{MessageId, UserId};
use prost::{DecodeError, Message as _};

use super::Content;

/// The payload of a new message.
pub fn sent(sender: Option<&UserId>, content: &Content, uncounted: bool) -> Bytes {
    let content = Some(to_pb(content));
    let sent = pb::MessageSent { content, uncounted, deleted: false };
    codec::event(sender, Body::MessageSent(sent))
}

/// An edit of `target`.
pub fn edited(target: MessageId, content: &Content) -> Body {
    Body::MessageEdited(pb::MessageEdited {
        message_id: target.to_string(),
        message_seq: target.seq,
        content: Some(to_pb(content)),
        deleted: false,
    })
}

/// The deletion of `target`.
pub fn deleted(target: MessageId) -> Body {
    let message_id = target.to_string();
    Body::MessageDeleted(pb::MessageDeleted { message_id, message_seq: target.seq })
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
        Content::stored(content.r#type, content.text, content.properties, reply_to)
    }))
}

/// The payload with its content taken out: what stays of a deleted message or edit.
pub fn tombstone(event: MessageId, payload: &[u8]) -> Result<Bytes, Error> {
    readable(event, codec::tombstone(payload))
}

/// What stays of an edit of a deleted message.
pub fn blank_edit(editor: Option<&UserId>, target: MessageId) -> Bytes {
    let (message_id, message_seq) = (target.to_string(), target.seq);
    let edited = pb::MessageEdited { message_id, message_seq, content: None, deleted: true };
    codec::event(editor, Body::MessageEdited(edited))
}

fn readable<T>(event: MessageId, payload: Result<T, DecodeError>) -> Result<T, Error> {
    payload.map_err(|_| Error::unreadable(event))
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

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use parlance_types::LogId;
    use uuid::Uuid;

    use super::*;

    #[test]
    fn a_tombstone_has_no_content() {
        let hello = Content::parse(String::new(), "hello".to_owned(), BTreeMap::new(), None);
        let hello = hello.expect("a content");
        let target = MessageId { log_id: LogId(Uuid::from_u128(9)), seq: 3 };
        let edit = codec::event(None, edited(target, &hello));
        assert_eq!(tombstone(target, &edit).expect("a tombstone"), blank_edit(None, target));
        for payload in [sent(None, &hello, true), edit] {
            assert_eq!(content(target, &payload).expect("an event"), Some(hello.clone()));
            let tombstone = tombstone(target, &payload).expect("a tombstone");
            assert_eq!(content(target, &tombstone).expect("an event"), None);
        }
    }
}
