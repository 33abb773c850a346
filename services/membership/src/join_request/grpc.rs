//! `JoinRequestService`.

use parlance_proto::membership::v1 as pb;
use parlance_proto::membership::v1::join_request_service_server::JoinRequestService;
use parlance_requests::RequestKey;
use parlance_rpc::fields;
use parlance_types::UserId;
use tonic::{Request, Response, Status};

use super::{Change, codec};
use crate::handler::{Handler, MAX_LIST};
use crate::roster::Pending;
use crate::wire::{change, open, pending, text};

/// Who asks to be let into which room.
#[derive(Clone, Debug)]
pub struct JoinRequestGrpc(pub(crate) Handler);

#[tonic::async_trait]
impl JoinRequestService for JoinRequestGrpc {
    async fn request_to_join(
        &self,
        request: Request<pb::RequestToJoinRequest>,
    ) -> Result<Response<pb::RequestToJoinResponse>, Status> {
        let (caller, deadline, request) = open(request)?;
        let room_id = fields::room_id("room_id", request.room_id)?;
        let text = text(request.text)?;
        caller.require_user()?;
        change(&self.0, deadline, &caller, room_id, Change::Ask { text }, None).await
    }

    async fn withdraw_join_request(
        &self,
        request: Request<pb::WithdrawJoinRequestRequest>,
    ) -> Result<Response<pb::WithdrawJoinRequestResponse>, Status> {
        let (caller, deadline, request) = open(request)?;
        let room_id = fields::room_id("room_id", request.room_id)?;
        caller.require_user()?;
        change(&self.0, deadline, &caller, room_id, Change::Withdraw, None).await
    }

    async fn approve_join_requests(
        &self,
        request: Request<pb::ApproveJoinRequestsRequest>,
    ) -> Result<Response<pb::ApproveJoinRequestsResponse>, Status> {
        let (caller, deadline, request) = open(request)?;
        let key = RequestKey::of(&caller, "ApproveJoinRequests", &request.request_id, &request)?;
        let room_id = fields::room_id("room_id", request.room_id)?;
        let user_ids = fields::ids("user_ids", request.user_ids, 1..=MAX_LIST, UserId::parse)?;
        change(&self.0, deadline, &caller, room_id, Change::Approve { user_ids }, key).await
    }

    async fn deny_join_requests(
        &self,
        request: Request<pb::DenyJoinRequestsRequest>,
    ) -> Result<Response<pb::DenyJoinRequestsResponse>, Status> {
        let (caller, deadline, request) = open(request)?;
        let key = RequestKey::of(&caller, "DenyJoinRequests", &request.request_id, &request)?;
        let room_id = fields::room_id("room_id", request.room_id)?;
        let user_ids = fields::ids("user_ids", request.user_ids, 1..=MAX_LIST, UserId::parse)?;
        change(&self.0, deadline, &caller, room_id, Change::Deny { user_ids }, key).await
    }

    async fn list_join_requests(
        &self,
        request: Request<pb::ListJoinRequestsRequest>,
    ) -> Result<Response<pb::ListJoinRequestsResponse>, Status> {
        let (caller, deadline, request) = open(request)?;
        let page = (request.room_id, request.page_size, request.page_token);
        let (found, next_page_token) =
            pending(&self.0, deadline, &caller, Pending::Request, page).await?;
        let join_requests = found.into_iter().map(codec::join_request).collect();
        Ok(Response::new(pb::ListJoinRequestsResponse { join_requests, next_page_token }))
    }
}
