//! An event in memory, encoded once for every stream of its node.

use std::sync::Arc;

use parlance_log::{Effects, Kind, StoredEvent, codec};
use parlance_proto::frame::Frame;
use parlance_types::{LogId, Micros, RoomId, Seq, UserId};

/// Memory that an event takes beside its bytes: a short message takes less than this.
const OVERHEAD: usize = 160;

/// A log and the room whose log it is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Place {
    pub log_id: LogId,
    pub room_id: RoomId,
}

/// An encoded event, and what every reader must obey of it. Cheap to clone.
#[derive(Clone, Debug)]
pub(crate) struct Entry {
    pub seq: Seq,
    pub frame: Frame,
    pub kind: Kind,
    /// The message that an edit or a deletion is about.
    pub target: Option<Seq>,
    /// Its meaning for access; `None` if it has none.
    pub effects: Option<Arc<Effects>>,
    pub time: Micros,
    /// When its content expires, if it does.
    pub expires: Option<Micros>,
    /// The payload is the last so many bytes of the frame.
    payload_len: usize,
}

impl Entry {
    /// Encodes a stored event. Fails on bytes that no version of ours wrote.
    pub(crate) fn encode(place: &Place, event: &StoredEvent) -> Result<Self, prost::DecodeError> {
        let envelope = codec::envelope(&event.payload)?;
        let effects = (envelope.effects != Effects::default()).then(|| Arc::new(envelope.effects));
        Ok(Self {
            seq: event.seq,
            frame: codec::frame(place.log_id, &place.room_id, event),
            kind: envelope.kind,
            target: envelope.target,
            effects,
            time: event.time,
            expires: envelope.expiry.map(|expiry| expiry.of(event.time)),
            payload_len: event.payload.len(),
        })
    }

    /// How many bytes it takes.
    pub(crate) fn bytes(&self) -> usize {
        self.frame.bytes().len() + OVERHEAD
    }

    /// Says if it carries content that the deletion of the message `target` takes away.
    pub(crate) fn belongs_to(&self, target: Seq) -> bool {
        match self.kind {
            Kind::Message => self.seq == target,
            Kind::Edit => self.target == Some(target),
            _ => false,
        }
    }

    /// Who brought it about.
    pub(crate) fn actor(&self) -> Option<UserId> {
        codec::envelope(self.payload()).ok()?.actor
    }

    fn payload(&self) -> &[u8] {
        let bytes = self.frame.bytes();
        &bytes[bytes.len() - self.payload_len..]
    }

    /// The same event without its content.
    pub(crate) fn tombstone(&self, place: &Place) -> Result<Self, prost::DecodeError> {
        let payload = codec::tombstone(self.payload())?;
        let payload_len = payload.len();
        let event = StoredEvent { seq: self.seq, time: self.time, payload };
        let frame = codec::frame(place.log_id, &place.room_id, &event);
        Ok(Self { frame, payload_len, ..self.clone() })
    }
}
