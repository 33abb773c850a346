//! Events on their way into a log, and as they are stored.

use std::sync::Arc;

use bytes::Bytes;
use parlance_types::{LogId, Micros, RequestId, RoomId, Seq, TenantId, UserId};

use crate::{Body, EpochId, Kind, codec};

/// An event in its place. `payload` is the encoded `Event` without seq, time and id.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StoredEvent {
    pub seq: Seq,
    pub time: Micros,
    pub payload: Bytes,
}

/// Events that one commit added to one log, contiguous and in order.
#[derive(Clone, Debug)]
pub struct Appended {
    pub tenant_id: TenantId,
    pub log_id: LogId,
    pub room_id: RoomId,
    pub epoch: EpochId,
    pub events: Vec<StoredEvent>,
    /// Users whose access the events change: their list of rooms is out of date.
    pub users: Vec<UserId>,
}

/// Hears of everything that was stored, in log order per log, right after the commit.
/// Must not block.
pub type Publish = Arc<dyn Fn(Vec<Appended>) + Send + Sync>;

/// What a request is stored under, so that it can be run again without being stored twice:
/// the caller's id, or one that no caller can send.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct RequestKey(String);

impl RequestKey {
    pub(crate) fn as_str(&self) -> &str {
        &self.0
    }

    /// The id as the caller gave it; `None` if the server made it.
    pub fn given(&self) -> Option<&str> {
        if self.0.starts_with(MADE) {
            return None;
        }
        // What a backend's own ids begin with is not the caller's.
        self.0.rsplit(char::is_control).next()
    }
}

/// What ids begin with that the server makes: no caller can send it.
const MADE: char = '\u{1}';

impl From<Option<RequestId>> for RequestKey {
    fn from(request_id: Option<RequestId>) -> Self {
        let made = || format!("{MADE}{:032x}", rand::random::<u128>());
        Self(request_id.map_or_else(made, RequestId::into_string))
    }
}

/// An event that has no place yet.
#[derive(Clone, Debug)]
pub struct NewEvent<'a> {
    pub(crate) kind: Kind,
    /// Empty: the system.
    pub(crate) sender: &'a str,
    pub(crate) request: Option<(&'a RequestKey, [u8; 32])>,
    pub(crate) target: Option<Seq>,
    pub(crate) counted: bool,
    /// Of a reply: what its thread began with.
    pub(crate) root: Option<Seq>,
    /// Of a message: how long it is there; `None`: for ever.
    pub(crate) expires: Option<Micros>,
    pub(crate) payload: Bytes,
}

impl<'a> NewEvent<'a> {
    /// An event that `actor`, or the system, brings about.
    pub fn new(actor: Option<&'a UserId>, body: Body) -> Self {
        let kind = Kind::of(Some(&body));
        Self::encoded(kind, actor, codec::event(actor, body))
    }

    /// An event before which nothing is left but what stands from `first` on.
    pub(crate) fn clearing(actor: Option<&'a UserId>, body: Body, first: Seq) -> Self {
        let kind = Kind::of(Some(&body));
        Self::encoded(kind, actor, codec::clearing(actor, body, first))
    }

    pub(crate) fn encoded(kind: Kind, actor: Option<&'a UserId>, payload: Bytes) -> Self {
        let sender = actor.map_or("", UserId::as_str);
        let (request, target, counted, root, expires) = (None, None, false, None, None);
        Self { kind, sender, request, target, counted, root, expires, payload }
    }

    /// The same event, about a message.
    #[must_use]
    pub fn about(mut self, message: Seq) -> Self {
        self.target = Some(message);
        self
    }

    /// The same event, which shows the id that its caller gave to the request.
    #[must_use]
    pub fn echoing(mut self, request: &RequestKey) -> Self {
        self.payload = codec::echoing(self.payload, request);
        self
    }

    /// The same event, found by a repeat of its request; see [`crate::Locked::repeat`].
    #[must_use]
    pub fn requested(mut self, request: &'a RequestKey, digest: [u8; 32]) -> Self {
        self.request = Some((request, digest));
        self
    }
}
