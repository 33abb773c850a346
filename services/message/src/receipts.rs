//! Receipts: what a mark that moved tells the streams of its room.

use std::sync::Arc;

use bytes::Bytes;
use parlance_proto::message::v1 as pb;
use parlance_types::{RoomId, UserId};

use crate::codec::frames;
use crate::domain::{Marks, Receipts};
use crate::stream::Hub;
use crate::stream::notice::{Key, Merge, Notice, Span};

/// The number of the kind.
const RECEIPT: u32 = 2;

/// Tells the streams of a room how far its members have come.
pub(crate) fn receipts(hub: Hub) -> Receipts {
    Arc::new(move |log_id, room_id, user_id, marks| {
        hub.tell(log_id, receipt(room_id, user_id, marks));
    })
}

fn receipt(room_id: &RoomId, user_id: &UserId, marks: Marks) -> Notice {
    let receipt = pb::Receipt {
        user_id: user_id.to_string(),
        read_seq: marks.read,
        delivered_seq: marks.delivered,
    };
    Notice {
        key: Key { kind: RECEIPT, about: Bytes::copy_from_slice(user_id.as_str().as_bytes()) },
        frame: frames::notice(room_id, pb::notice::Notice::Receipt(receipt)),
        // Both marks only rise, so of two states of a member the later one has the greater sum.
        merge: Merge::Greatest(marks.read.saturating_add(marks.delivered)),
        span: Span::Moment,
        not_for: None,
    }
}
