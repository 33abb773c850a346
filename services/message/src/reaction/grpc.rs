//! `ReactionService`.

use parlance_log::codec::timestamp;
use parlance_log::{Body, Error};
use parlance_proto::message::v1 as pb;
use parlance_proto::message::v1::reaction_service_server::ReactionService;
use parlance_rpc::{Deadline, caller, fields};
use parlance_types::MessageId;
use tonic::{Request, Response, Status};

use super::{Add, Listing, Reaction, ReactionKind, Reactions, Remove};

/// The event that adds a reaction in the place of others of the same user.
pub(super) fn added_event(
    message: MessageId,
    kind: &ReactionKind,
    replaced_kinds: Vec<String>,
) -> Body {
    let (message_id, kind) = (message.to_string(), kind.as_str().to_owned());
    let message_seq = message.seq;
    Body::ReactionAdded(pb::ReactionAdded { message_id, message_seq, kind, replaced_kinds })
}

/// The event that takes a reaction back.
pub(super) fn removed_event(message: MessageId, kind: &ReactionKind) -> Body {
    let (message_id, kind) = (message.to_string(), kind.as_str().to_owned());
    Body::ReactionRemoved(pb::ReactionRemoved { message_id, message_seq: message.seq, kind })
}

/// Serves [`Reactions`] to the callers of the suite.
#[derive(Clone, Debug)]
pub struct ReactionGrpc {
    reactions: Reactions,
}

impl ReactionGrpc {
    pub const fn new(reactions: Reactions) -> Self {
        Self { reactions }
    }
}

#[tonic::async_trait]
impl ReactionService for ReactionGrpc {
    async fn add_reaction(
        &self,
        request: Request<pb::AddReactionRequest>,
    ) -> Result<Response<pb::AddReactionResponse>, Status> {
        let (caller, deadline) = (caller(&request)?, Deadline::of(&request));
        let user = caller.require_user()?.clone();
        let request = request.into_inner();
        let add = Add {
            message_id: fields::message_id("message_id", &request.message_id)?,
            kind: kind(request.kind)?,
            replace: request.replace,
            user,
            actor: caller.into(),
        };
        let reaction_seq = deadline.bound(self.reactions.add(add)).await?;
        Ok(Response::new(pb::AddReactionResponse { reaction_seq }))
    }

    async fn remove_reaction(
        &self,
        request: Request<pb::RemoveReactionRequest>,
    ) -> Result<Response<pb::RemoveReactionResponse>, Status> {
        let (caller, deadline) = (caller(&request)?, Deadline::of(&request));
        let user = caller.require_user()?.clone();
        let request = request.into_inner();
        let remove = Remove {
            message_id: fields::message_id("message_id", &request.message_id)?,
            kind: kind(request.kind)?,
            user,
            actor: caller.into(),
        };
        deadline.bound(self.reactions.remove(remove)).await?;
        Ok(Response::new(pb::RemoveReactionResponse {}))
    }

    async fn list_reactions(
        &self,
        request: Request<pb::ListReactionsRequest>,
    ) -> Result<Response<pb::ListReactionsResponse>, Status> {
        let deadline = Deadline::of(&request);
        let actor = caller(&request)?.into();
        let request = request.into_inner();
        let listing = Listing {
            message_id: fields::message_id("message_id", &request.message_id)?,
            kind: fields::given(request.kind).map(kind).transpose()?,
            size: fields::page_size(request.page_size)?,
            page_token: request.page_token,
        };
        let list = self.reactions.list(&actor, &listing);
        let (reactions, next_page_token) = deadline.bound(list).await?;
        let reactions = reactions.into_iter().map(reaction).collect();
        Ok(Response::new(pb::ListReactionsResponse { reactions, next_page_token }))
    }
}

fn kind(kind: String) -> Result<ReactionKind, Error> {
    let rule = "must have 1 to 64 bytes and no control characters";
    ReactionKind::parse(kind).ok_or_else(|| Error::invalid("kind", rule))
}

fn reaction(reaction: Reaction) -> pb::Reaction {
    pb::Reaction {
        user_id: reaction.user.into_string(),
        kind: reaction.kind,
        reaction_seq: reaction.seq,
        reaction_time: Some(timestamp(reaction.time)),
    }
}
