//! `MarkService`, and receipts: what a mark that moved tells the streams of its room.

use std::sync::Arc;

use bytes::Bytes;
use futures::future::BoxFuture;
use parlance_follow::{Hub, Key, Merge, Notice, Present, Presents, Span, frames};
use parlance_log::{EpochId, Error, Store};
use parlance_proto::message::v1 as pb;
use parlance_proto::message::v1::mark_service_server::MarkService;
use parlance_rpc::{Caller, Deadline, caller, fields};
use parlance_types::{LogId, RoomKind, Seq, UserId};
use tonic::{Request, Response, Status};

use super::{Mark, Marker, Marks, MemberMarks, Moved, Receipts, shows_receipts, store};

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

    async fn list_receipts(
        &self,
        request: Request<pb::ListReceiptsRequest>,
    ) -> Result<Response<pb::ListReceiptsResponse>, Status> {
        let (caller, deadline) = (caller(&request)?, Deadline::of(&request));
        let request = request.into_inner();
        let room_id = fields::room_id("room_id", request.room_id)?;
        let size = fields::page_size(request.page_size)?;
        let actor = caller.into();
        let list = self.marker.list(&actor, &room_id, size, &request.page_token);
        let (members, next_page_token) = deadline.bound(list).await?;
        let receipts = members.into_iter().map(receipt).collect();
        Ok(Response::new(pb::ListReceiptsResponse { receipts, next_page_token }))
    }
}

/// The number of the kind of notice that is a receipt.
const RECEIPT: u32 = 2;

/// Tells the streams of a room how far its members have come.
pub(crate) fn receipts(hub: Hub) -> Receipts {
    Arc::new(move |moved| hub.tell(moved.log_id, receipt_notice(moved)))
}

fn receipt_notice(moved: &Moved<'_>) -> Notice {
    let Moved { room_id, user_id, read, delivered, epoch, .. } = *moved;
    let receipt = receipt(MemberMarks { user_id: user_id.clone(), read, delivered });
    Notice {
        key: Key { kind: RECEIPT, about: about(user_id) },
        frame: frames::notice(room_id, pb::notice::Notice::Receipt(receipt)),
        merge: Merge::Greatest(rank(read, delivered)),
        span: Span::Moment,
        by: None,
        to: None,
        epoch: Some(epoch.clone()),
    }
}

fn receipt(MemberMarks { user_id, read, delivered }: MemberMarks) -> pb::Receipt {
    pb::Receipt { user_id: user_id.into_string(), read_seq: read, delivered_seq: delivered }
}

fn about(user_id: &UserId) -> Bytes {
    Bytes::copy_from_slice(user_id.as_str().as_bytes())
}

/// Both marks only rise, so of two states of a member the later one has the greater sum.
const fn rank(read: Seq, delivered: Seq) -> i64 {
    read.saturating_add(delivered)
}

/// The marks of small rooms, for streams that begin there.
#[derive(Debug)]
pub(crate) struct PresentMarks(pub(crate) Store);

impl Presents for PresentMarks {
    fn has(&self, kind: RoomKind) -> bool {
        shows_receipts(kind)
    }

    fn read<'a>(&'a self, log_ids: &'a [LogId]) -> BoxFuture<'a, Result<Vec<Present>, Error>> {
        Box::pin(async move {
            let marks = store::of_small(self.0.db(), log_ids).await?;
            let of_logs = marks.chunk_by(|a, b| a.0 == b.0);
            Ok(of_logs.map(present).collect())
        })
    }
}

fn present(marks: &[(LogId, EpochId, MemberMarks)]) -> Present {
    let (log_id, epoch) = (marks[0].0, marks[0].1.clone());
    let members: Vec<_> = marks.iter().map(|(_, _, member)| member.clone()).collect();
    let value =
        |member: &MemberMarks| (about(&member.user_id), rank(member.read, member.delivered));
    Present {
        log_id,
        epoch,
        kind: RECEIPT,
        values: members.iter().map(value).collect(),
        frame: Box::new(move |room_id, shown| {
            let shown = members.into_iter().zip(shown).filter(|(_, shown)| **shown);
            let receipts = shown.map(|(member, _)| receipt(member)).collect();
            frames::notice(room_id, pb::notice::Notice::Receipts(pb::Receipts { receipts }))
        }),
    }
}
