//! Events and rooms for tests.

use bytes::Bytes;
use parlance_proto::message::v1 as pb;
use parlance_types::{MessageId, UserId};

use crate::{Body, codec};

fn content(text: &str) -> pb::MessageContent {
    pb::MessageContent { text: text.to_owned(), ..pb::MessageContent::default() }
}

/// The payload of a message; `None`: of the system.
pub fn sent(sender: Option<&UserId>, text: &str) -> Bytes {
    let sent = pb::MessageSent { content: Some(content(text)), ..pb::MessageSent::default() };
    codec::event(sender, Body::MessageSent(sent))
}

/// The payload of an edit by the system.
pub fn edited(target: MessageId, text: &str) -> Bytes {
    let (message_id, message_seq) = (target.to_string(), target.seq);
    let content = Some(content(text));
    let edited =
        pb::MessageEdited { message_id, message_seq, content, ..pb::MessageEdited::default() };
    codec::event(None, Body::MessageEdited(edited))
}

/// The payload of a deletion by the system.
pub fn deleted(target: MessageId) -> Bytes {
    let (message_id, message_seq) = (target.to_string(), target.seq);
    let deleted = pb::MessageDeleted { message_id, message_seq, expired: false };
    codec::event(None, Body::MessageDeleted(deleted))
}
