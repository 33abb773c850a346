//! What handlers of all nouns share.

use parlance_rpc::Caller;
use parlance_types::{InvalidId, MessageId, PageSize, RequestId, RoomId, Seq, UserId};
use tonic::{Response, Status};

use crate::Error;

pub(crate) type Parsed<T> = Result<T, Error>;

const ID_RULE: &str = "must have 1 to 128 bytes and no control characters";

pub(crate) fn id<T>(field: &str, parsed: Result<T, InvalidId>) -> Parsed<T> {
    parsed.map_err(|InvalidId| Error::invalid(field, ID_RULE))
}

pub(crate) fn room_id(room_id: String) -> Parsed<RoomId> {
    id("room_id", RoomId::parse(room_id))
}

pub(crate) fn user_id(user_id: String) -> Parsed<UserId> {
    id("user_id", UserId::parse(user_id))
}

/// The request id among those of its caller. An empty one is none.
pub(crate) fn request_id(caller: &Caller, request_id: String) -> Parsed<Option<RequestId>> {
    if request_id.is_empty() {
        return Ok(None);
    }
    let request_id = id("request_id", RequestId::parse(request_id))?;
    Ok(Some(caller.own(request_id)))
}

pub(crate) fn message_id(field: &str, message_id: &str) -> Parsed<MessageId> {
    message_id.parse().map_err(|InvalidId| Error::invalid(field, "must be a message id"))
}

pub(crate) fn page_size(page_size: i32) -> Parsed<PageSize> {
    PageSize::parse(page_size).ok_or_else(|| Error::invalid("page_size", "must not be negative"))
}

/// A position that was read or delivered.
pub(crate) fn seq(field: &str, seq: Seq) -> Parsed<Seq> {
    at_least(field, seq, 1)
}

pub(crate) fn at_least(field: &str, seq: Seq, least: Seq) -> Parsed<Seq> {
    if seq >= least {
        Ok(seq)
    } else {
        Err(Error::invalid(field, format!("must be at least {least}")))
    }
}

#[expect(clippy::unnecessary_wraps, reason = "what a handler returns")]
pub(crate) fn reply<T>(reply: T) -> Result<Response<T>, Status> {
    Ok(Response::new(reply))
}
