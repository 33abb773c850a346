//! `MarkService`, and receipts: what a mark that moved tells the streams of its room.

use std::sync::Arc;

use bytes::Bytes;
use parlance_follow::{Hub, Key, Merge, Notice, Span, frames};
use parlance_proto::message::v1 as pb;
use parlance_proto::message::v1::mark_service_server::MarkService;
use parlance_rpc::{Caller, Deadline, caller, fields};
use parlance_types::{RoomId, UserId};
use tonic::{Request, Response, Status};

use super::{Mark, Marker, Marks, Receipts};

/// Serves the marks of logs to the users whose they are.
#[derive(Clone, Debug)]
pub struct MarkGrpc {
    marker: Arc<Marker>,
}

impl MarkGrpc {
    pub const fn new(marker: Arc<Marker>) -> Self {
        Self { marker }
    }

    /// Moves the marks of the caller, who must be a user.
    async fn mark(
        &self,
        caller: Caller,
        deadline: Deadline,
        room_id: String,
        mark: Mark,
    ) -> Result<Marks, Status> {
        let user = caller.require_user()?.clone();
        let room_id = fields::room_id("room_id", room_id)?;
        Ok(deadline.bound(self.marker.mark(&caller.into(), &user, &room_id, mark)).await?)
    }
}

#[tonic::async_trait]
impl MarkService for MarkGrpc {
    async fn mark_read(
        &self,
        request: Request<pb::MarkReadRequest>,
    ) -> Result<Response<pb::MarkReadResponse>, Status> {
        let (caller, deadline) = (caller(&request)?, Deadline::of(&request));
        let request = request.into_inner();
        let mark = Mark::Read(fields::at_least("seq", request.seq, 1)?);
        let marks = self.mark(caller, deadline, request.room_id, mark).await?;
        Ok(Response::new(pb::MarkReadResponse { read_seq: marks.read }))
    }

    async fn mark_delivered(
        &self,
        request: Request<pb::MarkDeliveredRequest>,
    ) -> Result<Response<pb::MarkDeliveredResponse>, Status> {
        let (caller, deadline) = (caller(&request)?, Deadline::of(&request));
        let request = request.into_inner();
        let mark = Mark::Delivered(fields::at_least("seq", request.seq, 1)?);
        let marks = self.mark(caller, deadline, request.room_id, mark).await?;
        Ok(Response::new(pb::MarkDeliveredResponse { delivered_seq: marks.delivered }))
    }

    async fn mark_all_read(
        &self,
        request: Request<pb::MarkAllReadRequest>,
    ) -> Result<Response<pb::MarkAllReadResponse>, Status> {
        let (caller, deadline) = (caller(&request)?, Deadline::of(&request));
        let room_id = request.into_inner().room_id;
        let marks = self.mark(caller, deadline, room_id, Mark::AllRead).await?;
        Ok(Response::new(pb::MarkAllReadResponse { read_seq: marks.read }))
    }

    async fn mark_unread(
        &self,
        request: Request<pb::MarkUnreadRequest>,
    ) -> Result<Response<pb::MarkUnreadResponse>, Status> {
        let (caller, deadline) = (caller(&request)?, Deadline::of(&request));
        let user = caller.require_user()?.clone();
        let room_id = fields::room_id("room_id", request.into_inner().room_id)?;
        deadline.bound(self.marker.flag_unread(&caller.into(), &user, &room_id)).await?;
        Ok(Response::new(pb::MarkUnreadResponse {}))
    }
}

/// The number of the kind of notice that is a receipt.
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
