//! `InvitationService`.

use parlance_proto::membership::v1 as pb;
use parlance_proto::membership::v1::invitation_service_server::InvitationService;
use parlance_requests::RequestKey;
use parlance_rpc::fields;
use parlance_types::UserId;
use tonic::{Request, Response, Status};

use super::{Change, codec};
use crate::handler::{Handler, MAX_LIST};
use crate::roster::Pending;
use crate::wire::{change, open, pending, text};

/// Who is asked into which room.
#[derive(Clone, Debug)]
pub struct InvitationGrpc(pub(crate) Handler);

#[tonic::async_trait]
impl InvitationService for InvitationGrpc {
    async fn invite_users(
        &self,
        request: Request<pb::InviteUsersRequest>,
    ) -> Result<Response<pb::InviteUsersResponse>, Status> {
        let (caller, deadline, request) = open(request)?;
        let key = RequestKey::of(&caller, "InviteUsers", &request.request_id, &request)?;
        let room_id = fields::room_id("room_id", request.room_id)?;
        let user_ids = fields::ids("user_ids", request.user_ids, 1..=MAX_LIST, UserId::parse)?;
        let text = text(request.text)?;
        let invite = Change::Invite { user_ids, text };
        change(&self.0, deadline, &caller, room_id, invite, key).await
    }

    async fn accept_invitation(
        &self,
        request: Request<pb::AcceptInvitationRequest>,
    ) -> Result<Response<pb::AcceptInvitationResponse>, Status> {
        let (caller, deadline, request) = open(request)?;
        let room_id = fields::room_id("room_id", request.room_id)?;
        caller.require_user()?;
        change(&self.0, deadline, &caller, room_id, Change::Accept, None).await
    }

    async fn decline_invitation(
        &self,
        request: Request<pb::DeclineInvitationRequest>,
    ) -> Result<Response<pb::DeclineInvitationResponse>, Status> {
        let (caller, deadline, request) = open(request)?;
        let room_id = fields::room_id("room_id", request.room_id)?;
        caller.require_user()?;
        change(&self.0, deadline, &caller, room_id, Change::Decline, None).await
    }

    async fn revoke_invitations(
        &self,
        request: Request<pb::RevokeInvitationsRequest>,
    ) -> Result<Response<pb::RevokeInvitationsResponse>, Status> {
        let (caller, deadline, request) = open(request)?;
        let key = RequestKey::of(&caller, "RevokeInvitations", &request.request_id, &request)?;
        let room_id = fields::room_id("room_id", request.room_id)?;
        let user_ids = fields::ids("user_ids", request.user_ids, 1..=MAX_LIST, UserId::parse)?;
        change(&self.0, deadline, &caller, room_id, Change::Revoke { user_ids }, key).await
    }

    async fn list_invitations(
        &self,
        request: Request<pb::ListInvitationsRequest>,
    ) -> Result<Response<pb::ListInvitationsResponse>, Status> {
        let (caller, deadline, request) = open(request)?;
        let page = (request.room_id, request.page_size, request.page_token);
        let (found, next_page_token) =
            pending(&self.0, deadline, &caller, Pending::Invitation, page).await?;
        let invitations = found.into_iter().map(codec::invitation).collect();
        Ok(Response::new(pb::ListInvitationsResponse { invitations, next_page_token }))
    }
}
