//! `HideService`.

use bytes::Bytes;
use parlance_follow::{Hub, Key, Merge, Notice, Span, frames};
use parlance_log::{Error, View};
use parlance_proto::message::v1 as pb;
use parlance_proto::message::v1::hide_service_server::HideService;
use parlance_rpc::{Deadline, caller, fields};
use parlance_types::{LogId, Seq, UserId};
use tonic::{Request, Response, Status};

use super::Hider;

/// How many messages one call may hide.
const MAX_MESSAGES: usize = 100;

/// The number of the kind of notice that says what its user hid.
const MESSAGES_HIDDEN: u32 = 7;

/// Serves [`Hider`] to the users whose lists and pages they are.
#[derive(Clone, Debug)]
pub struct HideGrpc {
    hider: Hider,
    hub: Hub,
}

impl HideGrpc {
    pub const fn new(hider: Hider, hub: Hub) -> Self {
        Self { hider, hub }
    }
}

#[tonic::async_trait]
impl HideService for HideGrpc {
    async fn hide_room(
        &self,
        request: Request<pb::HideRoomRequest>,
    ) -> Result<Response<pb::HideRoomResponse>, Status> {
        let (caller, deadline) = (caller(&request)?, Deadline::of(&request));
        let user = caller.require_user()?.clone();
        let room_id = fields::room_id("room_id", request.into_inner().room_id)?;
        deadline.bound(self.hider.hide_room(&caller.into(), &user, &room_id)).await?;
        Ok(Response::new(pb::HideRoomResponse {}))
    }

    async fn hide_messages(
        &self,
        request: Request<pb::HideMessagesRequest>,
    ) -> Result<Response<pb::HideMessagesResponse>, Status> {
        let (caller, deadline) = (caller(&request)?, Deadline::of(&request));
        let user = caller.require_user()?.clone();
        let (log_id, messages) = messages(request.into_inner().message_ids)?;
        let actor = caller.into();
        let hide = self.hider.hide_messages(&actor, &user, log_id, messages);
        let (room, new) = deadline.bound(hide).await?;
        if !new.is_empty() {
            self.hub.tell(log_id, hidden(&room, user, new));
        }
        Ok(Response::new(pb::HideMessagesResponse {}))
    }
}

/// Messages of one room, each once, and its log.
fn messages(ids: Vec<String>) -> Result<(LogId, Vec<Seq>), Error> {
    let field = "message_ids";
    let messages =
        fields::each(field, ids, 1..=MAX_MESSAGES, |entry, id| fields::message_id(&entry, &id))?;
    let entry = |at: usize| format!("{field}[{at}]");
    fields::once(messages.iter().map(|message| message.seq), entry)?;
    let log_id = messages[0].log_id;
    if let Some(at) = messages.iter().position(|message| message.log_id != log_id) {
        return Err(Error::invalid(entry(at), "must be of the same room as the others"));
    }
    Ok((log_id, messages.into_iter().map(|message| message.seq).collect()))
}

/// What the streams of a user are told of what they hid.
fn hidden(room: &View, user: UserId, seqs: Vec<Seq>) -> Notice {
    let told = pb::MessagesHidden { seqs };
    Notice {
        key: Key { kind: MESSAGES_HIDDEN, about: Bytes::new() },
        frame: frames::notice(&room.room_id, pb::notice::Notice::MessagesHidden(told)),
        merge: Merge::Each,
        span: Span::Moment,
        by: None,
        to: Some([user].into()),
        epoch: None,
    }
}
