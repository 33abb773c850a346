//! `BlockService`.

use parlance_proto::membership::v1 as pb;
use parlance_proto::membership::v1::block_service_server::BlockService;
use parlance_rpc::{Caller, Deadline, Violation, fields};
use parlance_types::{Query, UserId, cut};
use tonic::{Request, Response, Status};

use super::Blocking;
use crate::Error;
use crate::codec::timestamp;
use crate::handler::Handler;
use crate::wire::{open, position};

/// Whom users have blocked.
#[derive(Clone, Debug)]
pub struct BlockGrpc(pub(crate) Handler);

#[tonic::async_trait]
impl BlockService for BlockGrpc {
    async fn block_user(
        &self,
        request: Request<pb::BlockUserRequest>,
    ) -> Result<Response<pb::BlockUserResponse>, Status> {
        let (caller, deadline, request) = open(request)?;
        let user_id = caller.require_user()?;
        let other = fields::user_id("user_id", request.user_id)?;
        if other == *user_id {
            return Err(Violation::new("user_id", "must not be the caller").into());
        }
        self.set(deadline, &caller, user_id.clone(), other, true).await?;
        Ok(Response::new(pb::BlockUserResponse {}))
    }

    async fn unblock_user(
        &self,
        request: Request<pb::UnblockUserRequest>,
    ) -> Result<Response<pb::UnblockUserResponse>, Status> {
        let (caller, deadline, request) = open(request)?;
        let user_id = caller.require_user()?.clone();
        let other = fields::user_id("user_id", request.user_id)?;
        self.set(deadline, &caller, user_id, other, false).await?;
        Ok(Response::new(pb::UnblockUserResponse {}))
    }

    async fn list_blocked_users(
        &self,
        request: Request<pb::ListBlockedUsersRequest>,
    ) -> Result<Response<pb::ListBlockedUsersResponse>, Status> {
        let (caller, deadline, request) = open(request)?;
        let user_id = caller.require_user()?;
        let size = fields::page_size(request.page_size)?.get();
        let tenant_id = &caller.tenant_id;
        let query = Query::new(&["ListBlockedUsers", tenant_id.as_str(), user_id.as_str()]);
        let after = position(query, &request.page_token, UserId::parse)?;
        self.0.actor(deadline, &caller).await?;
        let found = self.0.store.blocked(tenant_id, user_id, after.as_ref(), size + 1);
        let mut found = deadline.bound(found).await?;
        let last = cut(&mut found, size);
        let next_page_token = last.map(|user| query.token(user.user_id.as_str()));
        let user = |blocked: super::Blocked| pb::BlockedUser {
            user_id: blocked.user_id,
            create_time: Some(timestamp(blocked.since)),
        };
        Ok(Response::new(pb::ListBlockedUsersResponse {
            users: found.into_iter().map(user).collect(),
            next_page_token: next_page_token.unwrap_or_default(),
        }))
    }
}

impl BlockGrpc {
    /// Blocks a user, or unblocks them: the direct room of the two is told first.
    async fn set(
        &self,
        deadline: Deadline,
        caller: &Caller,
        user_id: UserId,
        other: UserId,
        blocked: bool,
    ) -> Result<(), Error> {
        self.0.actor(deadline, caller).await?;
        let blocking = Blocking { tenant_id: caller.tenant_id.clone(), user_id, other, blocked };
        let store = self.0.store.clone();
        let change = async move { Ok((store.block(&blocking).await?, ())) };
        self.0.settle_all(deadline, 2, change).await
    }
}
