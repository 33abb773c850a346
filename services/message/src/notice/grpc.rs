//! `NoticeService`: what callers tell the streams of a room; `NoticeRelayService`: what other
//! services of the suite do.

use std::time::Duration;

use bytes::Bytes;
use parlance_follow::{By, Hub, Key, Merge, Notice, Span, frames};
use parlance_log::{Actor, RoomKind, Store, View};
use parlance_proto::message::v1 as pb;
use parlance_proto::message::v1::notice_relay_service_server::NoticeRelayService;
use parlance_proto::message::v1::notice_service_server::NoticeService;
use parlance_proto::message::v1::publish_notice_request::Notice as PbNotice;
use parlance_rpc::{Deadline, caller, fields, internal};
use parlance_types::{Resource, UserId};
use tokio::time::Instant;
use tonic::{Request, Response, Status};

use super::{MAX_USERS, Notices};
use crate::Error;
use crate::message::grpc::content as message_content;
use crate::message::{Content, codec};

/// The longest that a member types without being told again.
const MAX_TYPING: Duration = Duration::from_mins(5);

/// The number of the kind of notice that says who is typing.
const TYPING: u32 = 3;

/// The number of the kind of notice that says that a device is no longer in.
const SEAT_ENDED: u32 = 5;

/// The number of the kind of notice that callers send.
const CUSTOM: u32 = 6;

/// What is said of a member.
enum Said {
    /// For how long they type; `None`: they stopped.
    Typing(Option<Duration>),
    SeatEnded(pb::SeatEnded),
}

/// Serves [`Notices`] to the callers of the suite.
#[derive(Clone, Debug)]
pub struct NoticeGrpc {
    notices: Notices,
}

impl NoticeGrpc {
    pub const fn new(notices: Notices) -> Self {
        Self { notices }
    }
}

#[tonic::async_trait]
impl NoticeService for NoticeGrpc {
    async fn send_notice(
        &self,
        request: Request<pb::SendNoticeRequest>,
    ) -> Result<Response<pb::SendNoticeResponse>, Status> {
        let (caller, deadline) = (caller(&request)?, Deadline::of(&request));
        let pb::SendNoticeRequest { room_id, user_ids, content } = request.into_inner();
        let room_id = fields::room_id("room_id", room_id)?;
        let to = fields::ids("user_ids", user_ids, 0..=MAX_USERS, UserId::parse)?;
        if content.as_ref().is_some_and(|content| !content.reply_to_message_id.is_empty()) {
            let rule = "must be empty: a notice answers no message";
            return Err(Error::invalid("content.reply_to_message_id", rule).into());
        }
        let content = message_content(content)?;
        self.notices.admit(&caller)?;
        let actor = caller.into();
        let room = deadline.bound(self.notices.room(&actor, &room_id)).await?;
        self.notices.hub.tell(room.log_id, custom(&room, actor.user, to, &content));
        Ok(Response::new(pb::SendNoticeResponse {}))
    }
}

/// What somebody tells those who follow a room, or some of them.
fn custom(room: &View, sender: Option<UserId>, to: Vec<UserId>, content: &Content) -> Notice {
    let said = pb::CustomNotice {
        sender_id: sender.as_ref().map(ToString::to_string).unwrap_or_default(),
        content: Some(codec::to_pb(content)),
    };
    Notice {
        key: Key { kind: CUSTOM, about: Bytes::new() },
        frame: frames::notice(&room.room_id, pb::notice::Notice::Custom(said)),
        merge: Merge::Each,
        span: Span::Moment,
        by: sender.map(|user| By { user, as_of: room.head, echo: true }),
        to: (!to.is_empty()).then(|| to.into()),
        epoch: None,
    }
}

/// Hands notices of other services to the streams of their room.
#[derive(Clone, Debug)]
pub struct NoticeRelayGrpc {
    store: Store,
    hub: Hub,
}

impl NoticeRelayGrpc {
    pub const fn new(store: Store, hub: Hub) -> Self {
        Self { store, hub }
    }
}

#[tonic::async_trait]
impl NoticeRelayService for NoticeRelayGrpc {
    async fn publish_notice(
        &self,
        request: Request<pb::PublishNoticeRequest>,
    ) -> Result<Response<pb::PublishNoticeResponse>, Status> {
        let (caller, deadline) = (internal(&request)?, Deadline::of(&request));
        let request = request.into_inner();
        let room_id = fields::room_id("room_id", request.room_id)?;
        let user_id = fields::user_id("user_id", request.user_id)?;
        let said = said(request.notice)?;
        let actor = Actor { tenant_id: caller.tenant_id, user: Some(user_id.clone()) };
        let room = deadline.bound(self.store.view_of_room(&actor, &room_id)).await?;
        room.visible_to(Some(&user_id))?;
        match said {
            Said::Typing(lasts) => self.typing(&room, user_id, lasts)?,
            Said::SeatEnded(seat) => self.hub.tell(room.log_id, seat_ended(&room, user_id, seat)),
        }
        Ok(Response::new(pb::PublishNoticeResponse {}))
    }
}

impl NoticeRelayGrpc {
    /// A member is typing for so long; `None`: has stopped, as who is muted still may.
    fn typing(&self, room: &View, user_id: UserId, lasts: Option<Duration>) -> Result<(), Error> {
        if lasts.is_some() {
            room.may_write(self.store.now())?;
        }
        // Too many watch a channel to tell them who types, and in a broadcast nobody does.
        if !matches!(room.kind, RoomKind::Channel | RoomKind::Broadcast) {
            self.hub.tell(room.log_id, typing(room, user_id, lasts));
        }
        Ok(())
    }
}

/// A member of a room, as it was looked at, is typing for so long; `None`: has stopped.
fn typing(room: &View, user_id: UserId, lasts: Option<Duration>) -> Notice {
    let frame = |typing| {
        let typing = pb::Typing { user_id: user_id.to_string(), typing };
        frames::notice(&room.room_id, pb::notice::Notice::Typing(typing))
    };
    Notice {
        key: Key { kind: TYPING, about: Bytes::copy_from_slice(user_id.as_str().as_bytes()) },
        frame: frame(lasts.is_some()),
        merge: Merge::Latest,
        span: lasts.map_or(Span::Over, |lasts| Span::Until(Instant::now() + lasts, frame(false))),
        by: Some(By { user: user_id, as_of: room.head, echo: false }),
        to: None,
        epoch: Some(room.epoch.clone()),
    }
}

/// A device of a member is no longer in: nobody else's affair.
fn seat_ended(room: &View, user_id: UserId, seat: pb::SeatEnded) -> Notice {
    Notice {
        key: Key { kind: SEAT_ENDED, about: Bytes::new() },
        frame: frames::notice(&room.room_id, pb::notice::Notice::SeatEnded(seat)),
        merge: Merge::Each,
        span: Span::Moment,
        by: None,
        to: Some([user_id].into()),
        epoch: None,
    }
}

fn said(notice: Option<PbNotice>) -> Result<Said, Error> {
    match notice {
        Some(PbNotice::Typing(typing)) => lasts(typing).map(Said::Typing),
        Some(PbNotice::SeatEnded(pb::SeatEndedNotice { resource, cause })) => {
            let resource = fields::id("seat_ended.resource", Resource::parse(resource))?;
            if pb::SeatEndCause::try_from(cause).unwrap_or_default()
                == pb::SeatEndCause::Unspecified
            {
                return Err(Error::invalid("seat_ended.cause", "must be a cause"));
            }
            Ok(Said::SeatEnded(pb::SeatEnded { resource: resource.into_string(), cause }))
        }
        None => Err(Error::invalid("notice", "must be set")),
    }
}

/// How long a member goes on typing; `None`: has stopped.
fn lasts(typing: pb::TypingNotice) -> Result<Option<Duration>, Error> {
    let lasts = typing.lasts.unwrap_or_default().try_into();
    let lasts = lasts.ok().filter(|lasts| *lasts <= MAX_TYPING);
    let rule = || Error::invalid("typing.lasts", "must be at most 5 minutes");
    Ok(Some(lasts.ok_or_else(rule)?).filter(|lasts: &Duration| !lasts.is_zero()))
}
