//! The part of a room that a stream puts out at once.

use std::sync::Arc;

use parlance_log::Effects;
use parlance_types::{Micros, Seq};

use super::cursor::{Cursor, End, Out};
use super::entry::{Entry, Place};

/// How much a batch, and so a chunk of a stream, holds.
#[derive(Clone, Copy, Debug)]
pub struct BatchLimits {
    pub frames: usize,
    /// Bytes of events; one event may exceed it.
    pub bytes: usize,
}

/// The next things for a stream in one room, bounded.
#[derive(Debug)]
pub(crate) struct Batch {
    pub outs: Vec<Out>,
    /// The events in it that took somebody's access.
    pub lost: Vec<(Arc<Effects>, Seq)>,
    /// How many events the stream lacked before it was given these.
    pub behind: Seq,
    bytes: usize,
    limits: BatchLimits,
    /// The time: what has expired by then loses its content.
    now: Micros,
}

impl Batch {
    pub(crate) const fn new(limits: BatchLimits, now: Micros) -> Self {
        Self { outs: Vec::new(), lost: Vec::new(), behind: 0, bytes: 0, limits, now }
    }

    pub(crate) const fn is_full(&self) -> bool {
        self.outs.len() >= self.limits.frames || self.bytes >= self.limits.bytes
    }

    /// Passes events of a log that begins at `first` to a cursor, up to its head, while the
    /// batch has room.
    pub(crate) fn fill<'a>(
        &mut self,
        cursor: &mut Cursor,
        place: &Place,
        (first, head): (Seq, Seq),
        entries: impl Iterator<Item = &'a Entry>,
    ) -> Option<End> {
        for entry in entries.take_while(|entry| entry.seq <= head) {
            if self.is_full() {
                return None;
            }
            let (out, end) = cursor.pass(place, first, entry, self.now);
            self.note(entry);
            self.extend([out]);
            self.extend(cursor.catch_up());
            if end.is_some() {
                return end;
            }
        }
        None
    }

    /// Notes what an event that is put in means for others.
    pub(crate) fn note(&mut self, entry: &Entry) {
        let effects = entry.effects.as_ref().filter(|effects| !effects.lost.is_empty());
        self.lost.extend(effects.map(|effects| (Arc::clone(effects), entry.seq)));
    }

    pub(crate) fn extend(&mut self, outs: impl IntoIterator<Item = Out>) {
        for out in outs {
            match (&out, self.outs.last_mut()) {
                (Out::Event(frame), _) => self.bytes += frame.bytes().len(),
                (Out::Skipped { from, to }, Some(Out::Skipped { to: last, .. }))
                    if *last + 1 == *from =>
                {
                    *last = *to;
                    continue;
                }
                _ => {}
            }
            self.outs.push(out);
        }
    }
}

#[cfg(test)]
mod tests {
    use parlance_log::{
        Blocked, Body, EpochId, Hidden, RoomKind, Rules, StoredEvent, View, codec, testing,
    };
    use parlance_proto::message::v1 as pb;
    use parlance_types::{LogId, MessageId, RoomId, TenantId};
    use uuid::Uuid;

    use super::*;

    fn place() -> Place {
        Place { log_id: LogId(Uuid::from_u128(1)), room_id: RoomId::new("r") }
    }

    fn view() -> View {
        View {
            tenant_id: TenantId::new("t"),
            log_id: place().log_id,
            room_id: place().room_id,
            kind: RoomKind::Group,
            rules: Rules::default(),
            head: 3,
            head_time: 0,
            epoch: EpochId::default(),
            first_seq: 1,
            closed: None,
            member: None,
            suspended: None,
            blocked: Blocked::default(),
            hidden: Hidden::default(),
        }
    }

    /// A message of second 5 that is there for 10 seconds, one that is there for ever, and an
    /// edit of the first.
    fn entries() -> Vec<Entry> {
        let content = Some(pb::MessageContent { text: "secret".to_owned(), ..Default::default() });
        let sent = pb::MessageSent {
            content: content.clone(),
            expire_after: Some(codec::duration(10_000_000)),
            ..pb::MessageSent::default()
        };
        let edited = pb::MessageEdited {
            message_id: MessageId { log_id: place().log_id, seq: 1 }.to_string(),
            message_seq: 1,
            content,
            expire_time: Some(codec::timestamp(15_000_000)),
            ..pb::MessageEdited::default()
        };
        let payloads = [
            codec::event(None, Body::MessageSent(sent)),
            testing::sent(None, "stays"),
            codec::event(None, Body::MessageEdited(edited)),
        ];
        let entry = |(payload, seq)| {
            let event = StoredEvent { seq, time: 5_000_000, payload };
            Entry::encode(&place(), &event).expect("an entry")
        };
        payloads.into_iter().zip(1..).map(entry).collect()
    }

    /// Which of the events are put out as they are at a time, of those with this word in them.
    fn holding(word: &str, now: Micros) -> Vec<usize> {
        let limits = BatchLimits { frames: 10, bytes: 10_000 };
        let mut batch = Batch::new(limits, now);
        let mut cursor = Cursor::new(&view(), None, 0, 0);
        assert!(batch.fill(&mut cursor, &place(), (1, 3), entries().iter()).is_none());
        let frames = batch.outs.iter().filter_map(|out| match out {
            Out::Event(frame) => Some(frame.bytes().clone()),
            _ => None,
        });
        let holds = |bytes: &[u8]| bytes.windows(word.len()).any(|part| part == word.as_bytes());
        let frames: Vec<_> = frames.collect();
        assert_eq!(frames.len(), 3);
        (0..3).filter(|at| holds(&frames[*at])).collect()
    }

    #[test]
    fn what_has_expired_is_passed_on_without_its_content() {
        for (now, secrets) in [(0, vec![0, 2]), (14_999_999, vec![0, 2]), (15_000_000, vec![])] {
            assert_eq!(holding("secret", now), secrets);
            assert_eq!(holding("stays", now), [1]);
        }
    }
}
