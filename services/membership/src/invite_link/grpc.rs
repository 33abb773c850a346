//! `InviteLinkService`.

use parlance_proto::membership::v1 as pb;
use parlance_proto::membership::v1::invite_link_service_server::InviteLinkService;
use parlance_rpc::{Violation, fields};
use parlance_types::{InvalidPageToken, Query, cut};
use tonic::{Request, Response, Status};

use super::{Change, LinkId, MAX_USES, Token, codec, may_link};
use crate::codec::membership;
use crate::handler::Handler;
use crate::roster::FOR_EVER;
use crate::wire::{change, name, open, until};

/// The links into rooms.
#[derive(Clone, Debug)]
pub struct InviteLinkGrpc(pub(crate) Handler);

#[tonic::async_trait]
impl InviteLinkService for InviteLinkGrpc {
    async fn create_invite_link(
        &self,
        request: Request<pb::CreateInviteLinkRequest>,
    ) -> Result<Response<pb::CreateInviteLinkResponse>, Status> {
        let (caller, deadline, request) = open(request)?;
        let room_id = fields::room_id("room_id", request.room_id)?;
        let expires = until("expire_time", request.expire_time)?.unwrap_or(FOR_EVER);
        let max_uses = request.max_uses;
        if !(0..=MAX_USES).contains(&max_uses) {
            return Err(Violation::new("max_uses", "must be 0 to 100000").into());
        }
        let create = Change::Create { secret: rand::random(), expires, max_uses };
        change(&self.0, deadline, &caller, room_id, create, None).await
    }

    async fn revoke_invite_link(
        &self,
        request: Request<pb::RevokeInviteLinkRequest>,
    ) -> Result<Response<pb::RevokeInviteLinkResponse>, Status> {
        let (caller, deadline, request) = open(request)?;
        let room_id = fields::room_id("room_id", request.room_id)?;
        let link_id = LinkId::parse(&request.link_id);
        let link_id = link_id.ok_or_else(|| Violation::new("link_id", "must be a link's id"))?;
        change(&self.0, deadline, &caller, room_id, Change::Revoke { link_id }, None).await
    }

    async fn list_invite_links(
        &self,
        request: Request<pb::ListInviteLinksRequest>,
    ) -> Result<Response<pb::ListInviteLinksResponse>, Status> {
        let (caller, deadline, request) = open(request)?;
        let room_id = fields::room_id("room_id", request.room_id)?;
        let size = fields::page_size(request.page_size)?.get();
        let actor = self.0.actor(deadline, &caller).await?;
        let roster = self.0.roster_seen(deadline, &actor, &room_id, may_link).await?;
        let (tenant, log_id) = (caller.tenant_id.as_str(), roster.log_id.to_string());
        let query = Query::new(&["invite links", tenant, name(&caller), &log_id]);
        let after: Option<String> = fields::page_token(query.position(&request.page_token))?;
        // What is in a token may be forged.
        let after = after.map(|id| LinkId::parse(&id).ok_or(InvalidPageToken)).transpose();
        let after = fields::page_token(after)?.map_or(String::new(), |LinkId(id)| id);
        let found = self.0.store.links(roster.log_id, &after, size + 1);
        let mut found = deadline.bound(found).await?;
        let last = cut(&mut found, size);
        let next_page_token = last.map(|link| query.token(&link.id)).unwrap_or_default();
        let links = found.into_iter().map(|link| codec::link(&roster, link)).collect();
        Ok(Response::new(pb::ListInviteLinksResponse { links, next_page_token }))
    }

    async fn join_by_link(
        &self,
        request: Request<pb::JoinByLinkRequest>,
    ) -> Result<Response<pb::JoinByLinkResponse>, Status> {
        let (caller, deadline, request) = open(request)?;
        let token = Token::parse(request.token);
        let token = token.ok_or_else(|| Violation::new("token", "must be a link's token"))?;
        let user_id = caller.require_user()?.clone();
        let actor = self.0.actor(deadline, &caller).await?;
        let store = self.0.store.clone();
        let join = async move { store.join_by_link(&actor.tenant_id, &user_id, &token).await };
        let (joined, already_member) = self.0.settle(deadline, join).await?;
        let membership = Some(membership(&joined));
        Ok(Response::new(pb::JoinByLinkResponse { membership, already_member }))
    }
}
