//! `ModerationService`.

use parlance_db::Stored;
use parlance_proto::membership::v1 as pb;
use parlance_proto::membership::v1::moderation_service_server::ModerationService;
use parlance_requests::RequestKey;
use parlance_rpc::{Caller, Deadline, Violation, fields};
use parlance_types::{Query, RoomId, UserId, cut};
use prost::Message;
use tonic::{Request, Response, Status};

use super::store::suspensions::Asked;
use super::suspension::{Suspension, may_suspend};
use super::{Change, Laid, codec, entitled};
use crate::Error;
use crate::handler::{Handler, MAX_LIST};
use crate::roster::{FOR_EVER, Roster, Sanction, Viewer};
use crate::wire::{change, name, open, position, reason, until};

/// Who is kept out of which room, or silent there.
#[derive(Clone, Debug)]
pub struct ModerationGrpc(pub(crate) Handler);

#[tonic::async_trait]
impl ModerationService for ModerationGrpc {
    async fn ban_users(
        &self,
        request: Request<pb::BanUsersRequest>,
    ) -> Result<Response<pb::BanUsersResponse>, Status> {
        let (caller, deadline, request) = open(request)?;
        let key = RequestKey::of(&caller, "BanUsers", &request.request_id, &request)?;
        let room_id = fields::room_id("room_id", request.room_id)?;
        let user_ids = others(&caller, request.user_ids)?;
        let until = until("until", request.until)?.unwrap_or(FOR_EVER);
        let reason = reason(request.reason)?;
        let ban = Change::Ban { user_ids, until, reason };
        change(&self.0, deadline, &caller, room_id, ban, key).await
    }

    async fn unban_users(
        &self,
        request: Request<pb::UnbanUsersRequest>,
    ) -> Result<Response<pb::UnbanUsersResponse>, Status> {
        let (caller, deadline, request) = open(request)?;
        let key = RequestKey::of(&caller, "UnbanUsers", &request.request_id, &request)?;
        let room_id = fields::room_id("room_id", request.room_id)?;
        let user_ids = fields::ids("user_ids", request.user_ids, 1..=MAX_LIST, UserId::parse)?;
        let unban = Change::Unban { user_ids };
        change(&self.0, deadline, &caller, room_id, unban, key).await
    }

    async fn list_bans(
        &self,
        request: Request<pb::ListBansRequest>,
    ) -> Result<Response<pb::ListBansResponse>, Status> {
        let (caller, deadline, request) = open(request)?;
        let room_id = fields::room_id("room_id", request.room_id)?;
        let page = Page { size: request.page_size, token: &request.page_token };
        let (bans, next_page_token) =
            self.list(deadline, &caller, &room_id, Sanction::Ban, page).await?;
        let bans = bans.into_iter().map(codec::ban).collect();
        Ok(Response::new(pb::ListBansResponse { bans, next_page_token }))
    }

    async fn mute_members(
        &self,
        request: Request<pb::MuteMembersRequest>,
    ) -> Result<Response<pb::MuteMembersResponse>, Status> {
        let (caller, deadline, request) = open(request)?;
        let key = RequestKey::of(&caller, "MuteMembers", &request.request_id, &request)?;
        let room_id = fields::room_id("room_id", request.room_id)?;
        let user_ids = others(&caller, request.user_ids)?;
        let until = until("until", request.until)?.unwrap_or(FOR_EVER);
        let reason = reason(request.reason)?;
        let mute = Change::Mute { user_ids, until, reason };
        change(&self.0, deadline, &caller, room_id, mute, key).await
    }

    async fn unmute_members(
        &self,
        request: Request<pb::UnmuteMembersRequest>,
    ) -> Result<Response<pb::UnmuteMembersResponse>, Status> {
        let (caller, deadline, request) = open(request)?;
        let key = RequestKey::of(&caller, "UnmuteMembers", &request.request_id, &request)?;
        let room_id = fields::room_id("room_id", request.room_id)?;
        let user_ids = fields::ids("user_ids", request.user_ids, 1..=MAX_LIST, UserId::parse)?;
        let unmute = Change::Unmute { user_ids };
        change(&self.0, deadline, &caller, room_id, unmute, key).await
    }

    async fn list_mutes(
        &self,
        request: Request<pb::ListMutesRequest>,
    ) -> Result<Response<pb::ListMutesResponse>, Status> {
        let (caller, deadline, request) = open(request)?;
        let room_id = fields::room_id("room_id", request.room_id)?;
        let page = Page { size: request.page_size, token: &request.page_token };
        let (mutes, next_page_token) =
            self.list(deadline, &caller, &room_id, Sanction::Mute, page).await?;
        let mutes = mutes.into_iter().map(codec::mute).collect();
        Ok(Response::new(pb::ListMutesResponse { mutes, next_page_token }))
    }

    async fn suspend_user(
        &self,
        request: Request<pb::SuspendUserRequest>,
    ) -> Result<Response<pb::SuspendUserResponse>, Status> {
        let (caller, deadline, request) = open(request)?;
        let key = RequestKey::of(&caller, "SuspendUser", &request.request_id, &request)?;
        let user_id = fields::user_id("user_id", request.user_id)?;
        let until = until("until", request.until)?.unwrap_or(FOR_EVER);
        let reason = reason(request.reason)?;
        self.suspend(deadline, &caller, user_id, Some(Suspension { until, reason }), key).await
    }

    async fn reinstate_user(
        &self,
        request: Request<pb::ReinstateUserRequest>,
    ) -> Result<Response<pb::ReinstateUserResponse>, Status> {
        let (caller, deadline, request) = open(request)?;
        let key = RequestKey::of(&caller, "ReinstateUser", &request.request_id, &request)?;
        let user_id = fields::user_id("user_id", request.user_id)?;
        self.suspend(deadline, &caller, user_id, None, key).await
    }

    async fn list_suspended_users(
        &self,
        request: Request<pb::ListSuspendedUsersRequest>,
    ) -> Result<Response<pb::ListSuspendedUsersResponse>, Status> {
        let (caller, deadline, request) = open(request)?;
        let size = fields::page_size(request.page_size)?.get();
        let tenant_id = &caller.tenant_id;
        let query = Query::new(&["ListSuspendedUsers", tenant_id.as_str()]);
        let after = position(query, &request.page_token, UserId::parse)?;
        may_suspend(&caller).map_err(Error::from)?;
        let store = &self.0.store;
        let found = store.suspended_users(tenant_id, after.as_ref(), size + 1);
        let mut found = deadline.bound(found).await?;
        let last = cut(&mut found, size);
        let next_page_token = last.map(|user| query.token(user.user_id.as_str()));
        let now = store.clock.now();
        found.retain(|user| user.suspension.until > now);
        Ok(Response::new(pb::ListSuspendedUsersResponse {
            users: found.into_iter().map(codec::suspended_user).collect(),
            next_page_token: next_page_token.unwrap_or_default(),
        }))
    }
}

/// Which part of a list is asked for.
struct Page<'a> {
    size: i32,
    token: &'a str,
}

impl ModerationGrpc {
    /// Suspends a user, or reinstates them.
    async fn suspend<R: Message + Default>(
        &self,
        deadline: Deadline,
        caller: &Caller,
        user_id: UserId,
        suspension: Option<Suspension>,
        request: Option<RequestKey>,
    ) -> Result<Response<R>, Status> {
        may_suspend(caller).map_err(Error::from)?;
        let stored = Stored { table: "requests", row: user_id.clone() };
        let asked = Asked { tenant_id: caller.tenant_id.clone(), user_id, suspension, request };
        let store = self.0.store.clone();
        let change = async move { store.suspend(&asked).await };
        let reply = self.0.settle_all(deadline, 1, change).await?;
        let reply = stored.value("reply", R::decode(reply.as_slice()).ok());
        Ok(Response::new(reply.map_err(Error::from)?))
    }

    /// What is laid on users in a room, and the token of the page after it.
    async fn list(
        &self,
        deadline: Deadline,
        caller: &Caller,
        room_id: &RoomId,
        kind: Sanction,
        page: Page<'_>,
    ) -> Result<(Vec<Laid>, String), Status> {
        let size = fields::page_size(page.size)?.get();
        let roster = self.look(deadline, caller, room_id).await?;
        let (log_id, listed) = (roster.log_id.to_string(), format!("{kind:?}"));
        let tenant = caller.tenant_id.as_str();
        let query = Query::new(&["sanctions", tenant, name(caller), &log_id, &listed]);
        let after = position(query, page.token, UserId::parse)?;
        let store = &self.0.store;
        let found = store.laid(&roster, kind, after.as_ref(), size + 1);
        let mut found = deadline.bound(found).await?;
        let last = cut(&mut found, size);
        let token = last.map(|laid| query.token(laid.user_id.as_str())).unwrap_or_default();
        let now = store.clock.now();
        found.retain(|laid| laid.until > now);
        Ok((found, token))
    }

    /// The roster of a room that the caller may moderate.
    async fn look(
        &self,
        deadline: Deadline,
        caller: &Caller,
        room_id: &RoomId,
    ) -> Result<Roster, Error> {
        let actor = self.0.actor(deadline, caller).await?;
        let may = |roster: &Roster, viewer: Viewer<'_>| entitled(roster, viewer).map(drop);
        self.0.roster_seen(deadline, &actor, room_id, may).await
    }
}

/// 1 to 100 users, each once, who are not the caller.
fn others(caller: &Caller, ids: Vec<String>) -> Result<Vec<UserId>, Violation> {
    let user_ids = fields::ids("user_ids", ids, 1..=MAX_LIST, UserId::parse)?;
    match user_ids.iter().position(|user_id| caller.user() == Some(user_id)) {
        Some(at) => Err(Violation::new(format!("user_ids[{at}]"), "must not be the caller")),
        None => Ok(user_ids),
    }
}
