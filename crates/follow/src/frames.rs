//! The frames of a stream that are made for one receiver.

use std::time::Duration;

pub use parlance_proto::message::v1::{ClosedReason, ResetReason};

use parlance_log::codec::timestamp;
use parlance_log::{EpochId, Stands};
use parlance_proto::frame::Frame;
use parlance_proto::message::v1 as pb;
use parlance_proto::message::v1::subscribe_response::Frame as Kind;
use parlance_types::{LogId, Micros, RoomId, Seq, fitting};
use prost::Message;

/// The epoch of a log as clients hold it. It names the log too, so that a cursor
/// of a room's earlier life is never taken for one of its present life.
pub fn epoch_token(log_id: LogId, epoch: &EpochId) -> String {
    format!("{epoch}.{log_id}")
}

/// The epoch that a client gave, if it can be one of this log.
pub fn parse_epoch(log_id: LogId, token: &str) -> Option<EpochId> {
    let (epoch, log) = token.rsplit_once('.')?;
    (log == log_id.to_string()).then(|| EpochId(epoch.to_owned()))
}

pub fn attached(room_id: &RoomId, epoch: String, resume_from: Seq, head: Seq) -> Frame {
    let room_id = room_id.to_string();
    encode(Kind::Attached(pb::Attached { room_id, epoch, resume_from, head }))
}

pub fn caught_up(room_id: &RoomId, seq: Seq) -> Frame {
    encode(Kind::CaughtUp(pb::CaughtUp { room_id: room_id.to_string(), seq }))
}

/// Heartbeats with these positions: one if there are none.
pub fn heartbeats(positions: impl Iterator<Item = (RoomId, Seq)>) -> Vec<Frame> {
    let position =
        |(room_id, seq): (RoomId, Seq)| pb::RoomPosition { room_id: room_id.into_string(), seq };
    let mut heads: Vec<_> = positions.map(position).collect();
    let mut frames = Vec::new();
    loop {
        let rest =
            heads.split_off(fitting(heads.iter().map(Message::encoded_len)).min(heads.len()));
        frames.push(encode(Kind::Heartbeat(pb::Heartbeat { heads })));
        if rest.is_empty() {
            return frames;
        }
        heads = rest;
    }
}

pub fn skipped(room_id: &RoomId, from_seq: Seq, to_seq: Seq) -> Frame {
    let room_id = room_id.to_string();
    encode(Kind::Skipped(pb::Skipped { room_id, from_seq, to_seq }))
}

/// A reset after which the stream goes on from `keep_through`.
pub fn reset(room_id: &RoomId, epoch: String, keep_through: Seq, reason: ResetReason) -> Frame {
    encode(Kind::Reset(pb::Reset {
        room_id: room_id.to_string(),
        epoch,
        keep_through,
        resume_from: keep_through,
        reason: reason.into(),
    }))
}

pub fn closed(room_id: &RoomId, seq: Seq, reason: ClosedReason) -> Frame {
    let room_id = room_id.to_string();
    encode(Kind::Closed(pb::Closed { room_id, seq, reason: reason.into() }))
}

/// A position as clients hold it, with the time of the event there, if that is known.
pub fn cursor(log_id: LogId, epoch: &EpochId, seq: Seq, time: Option<Micros>) -> pb::Cursor {
    pb::Cursor { epoch: epoch_token(log_id, epoch), seq, time: time.map(timestamp) }
}

/// Where a log stands, as clients hold it.
pub fn stands(stands: &Stands) -> pb::Cursor {
    cursor(stands.log_id, &stands.epoch, stands.seq, Some(stands.time))
}

/// `cursors`: where each room stands, if it does yet; as many as fit.
pub fn go_away(
    after: Duration,
    cursors: impl Iterator<Item = (RoomId, Option<pb::Cursor>)>,
) -> Frame {
    let cursor =
        |(room_id, cursor): (RoomId, _)| pb::RoomCursor { room_id: room_id.into_string(), cursor };
    let after = prost_types::Duration::try_from(after).ok();
    let mut cursors: Vec<_> = cursors.map(cursor).collect();
    cursors.truncate(fitting(cursors.iter().map(Message::encoded_len)));
    encode(Kind::GoAway(pb::GoAway { after, cursors }))
}

/// Something that passes in a room. The number of its kind is that of its field.
pub fn notice(room_id: &RoomId, notice: pb::notice::Notice) -> Frame {
    encode(Kind::Notice(pb::Notice { room_id: room_id.to_string(), notice: Some(notice) }))
}

fn encode(frame: Kind) -> Frame {
    Frame::encode(&pb::SubscribeResponse { frame: Some(frame) })
}

#[cfg(test)]
mod tests {
    use parlance_types::MAX_ANSWER;
    use uuid::Uuid;

    use super::*;

    /// Rooms with the longest ids, and where they stand.
    fn rooms(count: usize) -> impl Iterator<Item = (RoomId, Seq)> {
        (0..count).map(|at| (RoomId::new(format!("{at:0>128}")), Seq::MAX))
    }

    fn decoded(frame: &Frame) -> Kind {
        let response = pb::SubscribeResponse::decode(frame.bytes().clone()).expect("a frame");
        response.frame.expect("a frame")
    }

    #[test]
    fn heartbeats_hold_every_position_and_none_is_larger_than_clients_take() {
        for (count, frames) in [(0, 1), (1, 1), (50_000, 3)] {
            let beats = heartbeats(rooms(count));
            assert_eq!(beats.len(), frames);
            assert!(beats.iter().all(|beat| beat.bytes().len() <= MAX_ANSWER));
            let heads = beats.iter().flat_map(|beat| match decoded(beat) {
                Kind::Heartbeat(beat) => beat.heads,
                other => panic!("{other:?}"),
            });
            assert!(
                heads.map(|head| head.room_id).eq(rooms(count).map(|(id, _)| id.into_string()))
            );
        }
    }

    #[test]
    fn a_goodbye_holds_as_many_cursors_as_clients_take() {
        let log_id = LogId(Uuid::from_u128(1));
        let held = cursor(log_id, &EpochId("e".repeat(16)), Seq::MAX, Some(1_000_000_000_000_000));
        for (count, whole) in [(10_000, true), (50_000, false)] {
            let cursors = rooms(count).map(|(id, _)| (id, Some(held.clone())));
            let goodbye = go_away(Duration::from_secs(1), cursors);
            assert!(goodbye.bytes().len() <= MAX_ANSWER);
            let Kind::GoAway(goodbye) = decoded(&goodbye) else { panic!("not a goodbye") };
            assert_eq!(goodbye.cursors.len() == count, whole, "{}", goodbye.cursors.len());
        }
    }

    #[test]
    fn an_epoch_token_is_good_for_its_own_log_only() {
        let (log, other) = (LogId(Uuid::from_u128(1)), LogId(Uuid::from_u128(2)));
        let epoch = EpochId("e.1".to_owned());
        let token = epoch_token(log, &epoch);
        assert_eq!(parse_epoch(log, &token), Some(epoch));
        assert_eq!(parse_epoch(other, &token), None);
        assert_eq!(parse_epoch(log, "e"), None);
    }
}
