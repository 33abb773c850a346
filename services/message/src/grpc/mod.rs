//! The gRPC face of the service: decode, call the domain, encode.

mod fact;
mod inbox;
mod mark;
mod message;
mod notice_relay;
mod operator;
mod parse;
mod refusal;
pub mod stream;
mod user_log;

pub use fact::FactGrpc;
pub use inbox::InboxGrpc;
pub use mark::MarkGrpc;
pub use message::MessageGrpc;
pub use notice_relay::NoticeRelayGrpc;
pub use operator::OperatorGrpc;
pub use user_log::UserLogGrpc;

use std::time::Duration;

use parlance_proto::message::v1 as pb;
use parlance_rpc::{Caller, Reason, Refusal};
use parlance_types::RoomId;
use tonic::{Response, Status};

use crate::domain::{Actor, Message};
use crate::{Error, codec};

impl From<Caller> for Actor {
    fn from(caller: Caller) -> Self {
        let user = caller.user().cloned();
        Self { tenant_id: caller.tenant_id, user }
    }
}

/// Waits for a call of the domain as long as its request may take; one that is
/// late already is not begun.
async fn within<T>(
    deadline: Duration,
    call: impl Future<Output = Result<T, Error>>,
) -> Result<T, Status> {
    if !deadline.is_zero()
        && let Ok(answer) = tokio::time::timeout(deadline, call).await
    {
        return Ok(answer?);
    }
    Err(Refusal::new(Reason::DeadlineExceeded, "the deadline passed before the answer was there")
        .into())
}

/// A message on the wire.
fn message(room_id: &RoomId, message: Message) -> pb::Message {
    pb::Message {
        message_id: message.message_id.to_string(),
        room_id: room_id.to_string(),
        seq: message.message_id.seq,
        sender_id: message.sender.map(|sender| sender.to_string()).unwrap_or_default(),
        content: message.content.as_ref().map(codec::to_pb),
        send_time: Some(codec::timestamp(message.time)),
        uncounted: message.uncounted,
        edit_seq: message.edit.map_or(0, |(seq, _)| seq),
        edit_time: message.edit.map(|(_, time)| codec::timestamp(time)),
        delete_seq: message.deleted.unwrap_or(0),
    }
}

#[expect(clippy::unnecessary_wraps, reason = "what a handler returns")]
fn reply<T>(reply: T) -> Result<Response<T>, Status> {
    Ok(Response::new(reply))
}
