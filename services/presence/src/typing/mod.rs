//! Who is typing: a notice to the streams of a room, kept nowhere.

mod grpc;

use std::time::Duration;

pub(crate) use grpc::TypingGrpc;

use crate::clients::Notices;

/// Tells the other members of a room that a user is typing.
#[derive(Clone, Debug)]
pub(crate) struct Typing {
    pub(crate) notices: Notices,
    /// How long somebody types who does not say so again.
    pub(crate) lasts: Duration,
}
