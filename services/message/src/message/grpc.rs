//! `MessageService`.

mod sending;

use std::ops::RangeInclusive;
use std::time::Duration;

use parlance_follow::frames::{epoch_token, stands};
use parlance_log::codec::timestamp;
use parlance_log::{Mentions, Priority, Sent};
use parlance_proto::message::v1 as pb;
use parlance_proto::message::v1::attachment::Source as PbSource;
use parlance_proto::message::v1::list_messages_request::Position as PbPosition;
use parlance_proto::stored;
use parlance_proto::stored::message_service_server::MessageService;
use parlance_rpc::{Caller, Deadline, Reason, caller, fields};
use parlance_types::{MessageId, Micros, RoomId, UserId};
use tokio_util::sync::CancellationToken;
use tonic::{Request, Response, Status, Streaming};

use self::sending::{Answers, Sending};
use super::attached::MAX_ATTACHED;
use super::codec::count_to_pb;
use super::{Attached, Content, Draft, Edit, Listing, Message, Messages, Origin, Position, Source};
use crate::Error;

/// How many users a message may call on by name.
const MAX_MENTIONS: usize = 50;

/// How long a message may be there that expires.
const EXPIRE_AFTER: RangeInclusive<Duration> =
    Duration::from_secs(1)..=Duration::from_hours(30 * 24);

/// Serves [`Messages`] to the callers of the suite.
#[derive(Clone, Debug)]
pub struct MessageGrpc {
    messages: Messages,
    pace: Pace,
    draining: CancellationToken,
}

/// How long streams live, and how they show it.
#[derive(Clone, Debug)]
pub struct Pace {
    pub heartbeat: RangeInclusive<Duration>,
    pub life: RangeInclusive<Duration>,
}

impl MessageGrpc {
    /// `draining` sends streams away.
    pub const fn new(messages: Messages, pace: Pace, draining: CancellationToken) -> Self {
        Self { messages, pace, draining }
    }
}

#[tonic::async_trait]
impl MessageService for MessageGrpc {
    async fn send_message(
        &self,
        request: Request<pb::SendMessageRequest>,
    ) -> Result<Response<pb::SendMessageResponse>, Status> {
        let (caller, deadline) = (caller(&request)?, Deadline::of(&request));
        let now = self.messages.now();
        let (room_id, draft) = draft(&caller, request.into_inner(), now)?;
        let actor = caller.into();
        let sent = deadline.bound(self.messages.send(&actor, &room_id, &draft)).await?;
        Ok(Response::new(accepted(&sent)))
    }

    type SendMessagesStream = Answers;

    async fn send_messages(
        &self,
        request: Request<Streaming<pb::SendMessagesRequest>>,
    ) -> Result<Response<Answers>, Status> {
        let caller = caller(&request)?;
        if self.draining.is_cancelled() {
            return Err(Error::draining().into());
        }
        Ok(Response::new(Sending::new(self, caller, request).answers()))
    }

    async fn edit_message(
        &self,
        request: Request<pb::EditMessageRequest>,
    ) -> Result<Response<pb::EditMessageResponse>, Status> {
        let (caller, deadline) = (caller(&request)?, Deadline::of(&request));
        let request = request.into_inner();
        let edit = Edit {
            request: fields::request_id(&caller, request.request_id)?.into(),
            actor: caller.into(),
            message_id: fields::message_id("message_id", &request.message_id)?,
            content: new_content(request.content)?,
            instead: None,
        };
        let edited = deadline.bound(self.messages.edit(edit)).await?;
        let edit_time = Some(timestamp(edited.time));
        Ok(Response::new(pb::EditMessageResponse { seq: edited.seq, edit_time }))
    }

    async fn delete_message(
        &self,
        request: Request<pb::DeleteMessageRequest>,
    ) -> Result<Response<pb::DeleteMessageResponse>, Status> {
        let (caller, deadline) = (caller(&request)?, Deadline::of(&request));
        let message_id = fields::message_id("message_id", &request.get_ref().message_id)?;
        let seq = deadline.bound(self.messages.delete(caller.into(), message_id)).await?;
        Ok(Response::new(pb::DeleteMessageResponse { seq }))
    }

    async fn get_message(
        &self,
        request: Request<pb::GetMessageRequest>,
    ) -> Result<Response<stored::GetMessageResponse>, Status> {
        let (caller, deadline) = (caller(&request)?, Deadline::of(&request));
        let message_id = fields::message_id("message_id", &request.get_ref().message_id)?;
        let (view, found) = deadline.bound(self.messages.get(&caller.into(), message_id)).await?;
        let (message, cursor) = (message(&view.room_id, found), stands(&view.stands()));
        let (message, cursor) = (Some(message), Some(cursor));
        Ok(Response::new(stored::GetMessageResponse { message, cursor }))
    }

    async fn list_messages(
        &self,
        request: Request<pb::ListMessagesRequest>,
    ) -> Result<Response<stored::ListMessagesResponse>, Status> {
        let (caller, deadline) = (caller(&request)?, Deadline::of(&request));
        let listing = listing(request.into_inner())?;
        if listing.mark_read {
            caller.require_user()?;
        }
        let page = deadline.bound(self.messages.list(&caller.into(), &listing)).await?;
        let messages = page.messages.into_iter().map(|found| message(&listing.room_id, found));
        let (messages, next_page_token) = (messages.collect(), page.next_page_token);
        let cursor = page.stands.as_ref().map(stands);
        Ok(Response::new(stored::ListMessagesResponse { messages, next_page_token, cursor }))
    }
}

/// A message to send, and where.
fn draft(
    caller: &Caller,
    request: pb::SendMessageRequest,
    now: Micros,
) -> Result<(RoomId, Draft), Error> {
    let room_id = fields::room_id("room_id", request.room_id)?;
    let draft = Draft {
        content: content(request.content)?,
        request_id: fields::request_id(caller, request.request_id)?,
        uncounted: request.uncounted,
        expire_after: expire_after(request.expire_after)?,
        origin: request.origin.map(|origin| origin_of(caller, origin, now)).transpose()?,
        priority: priority(request.priority)?,
    };
    Ok((room_id, draft))
}

/// Where a message was sent that is brought in: by a caller who acts for nobody.
fn origin_of(caller: &Caller, origin: pb::Origin, now: Micros) -> Result<Origin, Error> {
    if caller.user().is_some() {
        let rule = "only callers who act for no user bring in messages of elsewhere";
        return Err(Error::Refused(Reason::NotAllowed, rule));
    }
    let time = origin.time.as_ref().and_then(fields::micros);
    let time = time.ok_or_else(|| Error::invalid("origin.time", "must be a time"))?;
    if time > now {
        return Err(Error::invalid("origin.time", "must not be in the future"));
    }
    let sender = fields::given(origin.sender_id);
    let sender = sender.map(|id| fields::user_id("origin.sender_id", id)).transpose()?;
    Ok(Origin { time, sender, counted: origin.counted })
}

fn priority(priority: i32) -> Result<Priority, Error> {
    match pb::SendPriority::try_from(priority) {
        Ok(pb::SendPriority::Low) => Ok(Priority::Low),
        Ok(pb::SendPriority::Normal | pb::SendPriority::Unspecified) => Ok(Priority::Normal),
        Ok(pb::SendPriority::High) => Ok(Priority::High),
        Err(_) => Err(Error::invalid("priority", "must be a priority")),
    }
}

/// How long a message is there, if not for ever.
fn expire_after(after: Option<prost_types::Duration>) -> Result<Option<Micros>, Error> {
    let Some(after) = fields::duration("expire_after", after)? else { return Ok(None) };
    if !EXPIRE_AFTER.contains(&after) {
        return Err(Error::invalid("expire_after", "must be 1 second to 30 days"));
    }
    Ok(Micros::try_from(after.as_micros()).ok())
}

fn accepted(sent: &Sent) -> pb::SendMessageResponse {
    pb::SendMessageResponse {
        message_id: sent.message_id.to_string(),
        seq: sent.message_id.seq,
        send_time: Some(timestamp(sent.time)),
        epoch: epoch_token(sent.message_id.log_id, &sent.epoch),
    }
}

/// A message on the wire.
pub(crate) fn message(room_id: &RoomId, message: Message) -> stored::Message {
    let of_log = |seq| MessageId { seq, ..message.message_id };
    stored::Message {
        message_id: message.message_id.to_string(),
        room_id: room_id.to_string(),
        seq: message.message_id.seq,
        sender_id: message.sender.map(UserId::into_string).unwrap_or_default(),
        content: message.content,
        send_time: Some(timestamp(message.time)),
        uncounted: message.uncounted,
        edit_seq: message.edit.map_or(0, |(seq, _)| seq),
        edit_time: message.edit.map(|(_, time)| timestamp(time)),
        delete_seq: message.deleted.unwrap_or(0),
        expire_time: message.expires.map(timestamp),
        origin_time: message.origin.map(timestamp),
        thread_root_id: message.root.map(|seq| of_log(seq).to_string()).unwrap_or_default(),
        reply_count: message.replies,
        last_reply_time: message.reply_time.map(timestamp),
        reactions: message.reactions.into_iter().map(count_to_pb).collect(),
    }
}

/// The content of a new message.
pub(crate) fn content(content: Option<pb::MessageContent>) -> Result<Content, Error> {
    let content = content.ok_or_else(|| Error::invalid("content", "is required"))?;
    let reply_to = match content.reply_to_message_id.as_str() {
        "" => None,
        id => Some(fields::message_id("content.reply_to_message_id", id)?),
    };
    let mentions = mentions(content.mentions.unwrap_or_default())?;
    let attached = attached(content.attachments)?;
    Content::parse_holding(content.r#type, content.text, content.properties, reply_to, attached)
        .map(|content| content.mentioning(mentions))
        .map_err(|invalid| Error::invalid(format!("content.{}", invalid.field), invalid.rule))
}

fn mentions(mentions: pb::Mentions) -> Result<Mentions, Error> {
    let field = "content.mentions.user_ids";
    let users = fields::ids(field, mentions.user_ids, 0..=MAX_MENTIONS, UserId::parse)?;
    Ok(Mentions { users: users.into_iter().collect(), everyone: mentions.everyone })
}

fn attached(attachments: Vec<pb::Attachment>) -> Result<Vec<Attached>, Error> {
    fields::length("content.attachments", attachments.len(), 0..=MAX_ATTACHED)?;
    let mut all: Vec<Attached> = Vec::with_capacity(attachments.len());
    for (at, attachment) in attachments.into_iter().enumerate() {
        let field = |name: &str| format!("content.attachments[{at}].{name}");
        let source = match attachment.source {
            None => return Err(Error::invalid(field("source"), "is required")),
            Some(PbSource::AttachmentId(id)) => {
                Source::Stored(fields::attachment_id(field("attachment_id"), &id)?)
            }
            Some(PbSource::Url(url)) => Source::Url(url),
            Some(PbSource::InlineData(data)) => Source::Inline(data.into()),
        };
        let twice =
            |before: &Attached| matches!(source, Source::Stored(_)) && before.source == source;
        if all.iter().any(twice) {
            return Err(Error::invalid(field("attachment_id"), "must be named once"));
        }
        let size = match &source {
            Source::Inline(data) => i64::try_from(data.len()).unwrap_or(i64::MAX),
            Source::Stored(_) | Source::Url(_) => attachment.size,
        };
        let attached = Attached {
            source,
            name: attachment.name,
            content_type: attachment.content_type,
            size,
            width: attachment.width,
            height: attachment.height,
            duration: fields::duration(&field("duration"), attachment.duration)?,
        };
        attached.check().map_err(|invalid| Error::invalid(field(invalid.field), invalid.rule))?;
        all.push(attached);
    }
    Ok(all)
}

/// The content of an edit, which keeps what the message answers.
fn new_content(new: Option<pb::MessageContent>) -> Result<Content, Error> {
    if new.as_ref().is_some_and(|content| !content.reply_to_message_id.is_empty()) {
        return Err(Error::invalid(
            "content.reply_to_message_id",
            "must be empty: an edit keeps what the message answers",
        ));
    }
    content(new)
}

fn listing(request: pb::ListMessagesRequest) -> Result<Listing, Error> {
    let room_id = fields::room_id("room_id", request.room_id)?;
    let size = fields::page_size(request.page_size)?;
    let position = match request.position {
        None => Position::Latest,
        Some(PbPosition::BeforeSeq(seq)) => {
            Position::Before(fields::at_least("before_seq", seq, 1)?)
        }
        Some(PbPosition::AfterSeq(seq)) => Position::After(fields::at_least("after_seq", seq, 0)?),
        Some(PbPosition::AroundSeq(seq)) => {
            if !request.page_token.is_empty() {
                return Err(Error::invalid("page_token", "must be empty with around_seq"));
            }
            Position::Around(fields::at_least("around_seq", seq, 1)?)
        }
    };
    Ok(Listing {
        room_id,
        position,
        size,
        page_token: request.page_token,
        preview: request.preview,
        mark_read: request.mark_read,
    })
}
