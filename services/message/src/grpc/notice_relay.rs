//! `NoticeRelayService`: what other services of the suite tell the streams of a room.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use parlance_proto::message::v1 as pb;
use parlance_proto::message::v1::notice_relay_service_server::NoticeRelayService;
use parlance_rpc::{internal, remaining};
use parlance_types::{RoomId, UserId};
use tokio::time::Instant;
use tonic::{Request, Response, Status};

use super::{parse, reply, within};
use crate::codec::frames;
use crate::domain::{Actor, Logs, RoomKind};
use crate::stream::Hub;
use crate::stream::notice::{Key, Merge, Notice, Span};

/// The number of the kind of notice that says who is typing.
const TYPING: u32 = 3;

/// Hands notices of other services to the streams of their room.
#[derive(Clone, Debug)]
pub struct NoticeRelayGrpc {
    logs: Arc<Logs>,
    hub: Hub,
}

impl NoticeRelayGrpc {
    pub const fn new(logs: Arc<Logs>, hub: Hub) -> Self {
        Self { logs, hub }
    }
}

#[tonic::async_trait]
impl NoticeRelayService for NoticeRelayGrpc {
    async fn publish_notice(
        &self,
        request: Request<pb::PublishNoticeRequest>,
    ) -> Result<Response<pb::PublishNoticeResponse>, Status> {
        let (caller, deadline) = (internal(&request)?, remaining(&request));
        let request = request.into_inner();
        let room_id = parse::room_id(request.room_id)?;
        let user_id = parse::user_id(request.user_id)?;
        let lasts = parse::typing(request.notice)?;
        let actor = Actor { tenant_id: caller.tenant_id, user: Some(user_id.clone()) };
        let room = within(deadline, self.logs.of_member(&actor, &room_id)).await?;
        // Too many watch a channel to tell them who types.
        if room.kind != RoomKind::Channel {
            self.hub.tell(room.log_id, typing(&room_id, user_id, lasts));
        }
        reply(pb::PublishNoticeResponse {})
    }
}

/// A member is typing for so long; `None`: has stopped.
fn typing(room_id: &RoomId, user_id: UserId, lasts: Option<Duration>) -> Notice {
    let frame = |typing| {
        let typing = pb::Typing { user_id: user_id.to_string(), typing };
        frames::notice(room_id, pb::notice::Notice::Typing(typing))
    };
    Notice {
        key: Key { kind: TYPING, about: Bytes::copy_from_slice(user_id.as_str().as_bytes()) },
        frame: frame(lasts.is_some()),
        merge: Merge::Latest,
        span: lasts.map_or(Span::Over, |lasts| Span::Until(Instant::now() + lasts, frame(false))),
        not_for: Some(user_id),
    }
}
