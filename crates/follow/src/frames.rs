//! The frames of a stream that are made for one receiver.

use std::time::Duration;

pub use parlance_proto::message::v1::{ClosedReason, ResetReason};

use parlance_log::codec::timestamp;
use parlance_log::{EpochId, Stands};
use parlance_proto::frame::Frame;
use parlance_proto::message::v1 as pb;
use parlance_proto::message::v1::subscribe_response::Frame as Kind;
use parlance_types::{LogId, Micros, RoomId, Seq};

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

pub fn heartbeat(positions: impl Iterator<Item = (RoomId, Seq)>) -> Frame {
    let position =
        |(room_id, seq): (RoomId, Seq)| pb::RoomPosition { room_id: room_id.into_string(), seq };
    encode(Kind::Heartbeat(pb::Heartbeat { heads: positions.map(position).collect() }))
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

/// `cursors`: where each room stands, if it does yet.
pub fn go_away(
    after: Duration,
    cursors: impl Iterator<Item = (RoomId, Option<pb::Cursor>)>,
) -> Frame {
    let cursor =
        |(room_id, cursor): (RoomId, _)| pb::RoomCursor { room_id: room_id.into_string(), cursor };
    let after = prost_types::Duration::try_from(after).ok();
    encode(Kind::GoAway(pb::GoAway { after, cursors: cursors.map(cursor).collect() }))
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
    use uuid::Uuid;

    use super::*;

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
