//! `MembershipService`.

use parlance_proto::membership::v1 as pb;
use parlance_proto::membership::v1::member_edit_service_server::MemberEditService;
use parlance_proto::membership::v1::membership_service_server::MembershipService;
use parlance_requests::RequestKey;
use parlance_rpc::{Caller, Deadline, Violation, fields};
use parlance_types::{Query, RoomId, UserId, cut};
use tonic::{Request, Response, Status};

use super::Change;
use crate::handler::{Handler, MAX_LIST};
use crate::roster::{MemberFilter, Refused, Roster};
use crate::wire::{change, name, open, position, reason};
use crate::{Error, codec};

/// With how many others rooms in common are looked for.
const MAX_OTHERS: usize = 10;

/// Who is in which room.
#[derive(Clone, Debug)]
pub struct MembershipGrpc(pub(crate) Handler);

#[tonic::async_trait]
impl MembershipService for MembershipGrpc {
    async fn join_room(
        &self,
        request: Request<pb::JoinRoomRequest>,
    ) -> Result<Response<pb::JoinRoomResponse>, Status> {
        let (caller, deadline, request) = open(request)?;
        let room_id = fields::room_id("room_id", request.room_id)?;
        caller.require_user()?;
        change(&self.0, deadline, &caller, room_id, Change::Join, None).await
    }

    async fn leave_room(
        &self,
        request: Request<pb::LeaveRoomRequest>,
    ) -> Result<Response<pb::LeaveRoomResponse>, Status> {
        let (caller, deadline, request) = open(request)?;
        let key = RequestKey::of(&caller, "LeaveRoom", &request.request_id, &request)?;
        let room_id = fields::room_id("room_id", request.room_id)?;
        let successor = optional_user_id("successor_user_id", request.successor_user_id)?;
        differ(successor.as_ref(), caller.require_user()?)?;
        change(&self.0, deadline, &caller, room_id, Change::Leave { successor }, key).await
    }

    async fn add_members(
        &self,
        request: Request<pb::AddMembersRequest>,
    ) -> Result<Response<pb::AddMembersResponse>, Status> {
        let (caller, deadline, request) = open(request)?;
        let key = RequestKey::of(&caller, "AddMembers", &request.request_id, &request)?;
        let room_id = fields::room_id("room_id", request.room_id)?;
        let user_ids = fields::ids("user_ids", request.user_ids, 1..=MAX_LIST, UserId::parse)?;
        change(&self.0, deadline, &caller, room_id, Change::Add { user_ids }, key).await
    }

    async fn remove_members(
        &self,
        request: Request<pb::RemoveMembersRequest>,
    ) -> Result<Response<pb::RemoveMembersResponse>, Status> {
        let (caller, deadline, request) = open(request)?;
        let key = RequestKey::of(&caller, "RemoveMembers", &request.request_id, &request)?;
        let room_id = fields::room_id("room_id", request.room_id)?;
        let user_ids = fields::ids("user_ids", request.user_ids, 1..=MAX_LIST, UserId::parse)?;
        if let Some(index) = user_ids.iter().position(|user_id| caller.user() == Some(user_id)) {
            let rule = "must not be the caller, who leaves instead";
            return Err(Violation::new(format!("user_ids[{index}]"), rule).into());
        }
        let reason = reason(request.reason)?;
        change(&self.0, deadline, &caller, room_id, Change::Remove { user_ids, reason }, key).await
    }

    async fn change_role(
        &self,
        request: Request<pb::ChangeRoleRequest>,
    ) -> Result<Response<pb::ChangeRoleResponse>, Status> {
        let (caller, deadline, request) = open(request)?;
        let key = RequestKey::of(&caller, "ChangeRole", &request.request_id, &request)?;
        let room_id = fields::room_id("room_id", request.room_id)?;
        let user_id = fields::user_id("user_id", request.user_id)?;
        let role = codec::parse_role("role", request.role)?;
        let successor = optional_user_id("successor_user_id", request.successor_user_id)?;
        differ(successor.as_ref(), &user_id)?;
        let set = Change::SetRole { user_id, role, successor };
        change(&self.0, deadline, &caller, room_id, set, key).await
    }

    async fn get_membership(
        &self,
        request: Request<pb::GetMembershipRequest>,
    ) -> Result<Response<pb::GetMembershipResponse>, Status> {
        let (caller, deadline, request) = open(request)?;
        let room_id = fields::room_id("room_id", request.room_id)?;
        let user_id = match optional_user_id("user_id", request.user_id)? {
            Some(user_id) => user_id,
            None => caller.require_user()?.clone(),
        };
        let roster = self.look(deadline, &caller, &room_id).await?;
        let membership = self.0.store.membership(&roster, &user_id);
        let membership = deadline.bound(membership).await?;
        let membership = membership.ok_or_else(|| Error::from(Refused::no_member(&user_id)))?;
        let membership = Some(codec::membership(&membership));
        Ok(Response::new(pb::GetMembershipResponse { membership }))
    }

    async fn list_room_members(
        &self,
        request: Request<pb::ListRoomMembersRequest>,
    ) -> Result<Response<pb::ListRoomMembersResponse>, Status> {
        let (caller, deadline, request) = open(request)?;
        let room_id = fields::room_id("room_id", request.room_id.clone())?;
        let user_ids =
            fields::ids("user_ids", request.user_ids.clone(), 0..=MAX_LIST, UserId::parse)?;
        fields::length("roles", request.roles.len(), 0..=3)?;
        let roles = (request.roles.iter().enumerate())
            .map(|(index, role)| codec::parse_role(format!("roles[{index}]"), *role))
            .collect::<Result<_, _>>()?;
        let size = fields::page_size(request.page_size)?.get();
        let roster = self.look(deadline, &caller, &room_id).await?;
        let query = members_query(&caller, &roster, &request);
        let after = position(query, &request.page_token, UserId::parse)?;
        let filter = MemberFilter { user_ids, roles };
        let page = self.0.store.members(&roster, &filter, after.as_ref(), size + 1);
        let mut page = deadline.bound(page).await?;
        let last = cut(&mut page, size);
        Ok(Response::new(pb::ListRoomMembersResponse {
            next_page_token: last.map(|m| query.token(m.user_id.as_str())).unwrap_or_default(),
            members: page.iter().map(codec::membership).collect(),
            total_size: roster.member_count,
        }))
    }

    async fn list_user_memberships(
        &self,
        request: Request<pb::ListUserMembershipsRequest>,
    ) -> Result<Response<pb::ListUserMembershipsResponse>, Status> {
        let (caller, deadline, request) = open(request)?;
        let user_id = match optional_user_id("user_id", request.user_id)? {
            Some(user_id) => user_id,
            None => caller.require_user()?.clone(),
        };
        let size = fields::page_size(request.page_size)?.get();
        let others =
            fields::ids("with_user_ids", request.with_user_ids, 0..=MAX_OTHERS, UserId::parse)?;
        if let Some(at) = others.iter().position(|other| *other == user_id) {
            let rule = "must be another than the user";
            return Err(Violation::new(format!("with_user_ids[{at}]"), rule).into());
        }
        let mut parts =
            vec!["ListUserMemberships", caller.tenant_id.as_str(), name(&caller), user_id.as_str()];
        parts.extend(others.iter().map(UserId::as_str));
        let query = Query::new(&parts);
        let after = position(query, &request.page_token, RoomId::parse)?;
        if caller.user().is_some_and(|caller| *caller != user_id) {
            let refused = Refused::NotAllowed("users see their own memberships only");
            return Err(Error::from(refused).into());
        }
        let actor = self.0.actor(deadline, &caller).await?;
        if !others.is_empty() {
            let (tenant_id, after) = (&actor.tenant_id, after.as_ref());
            let page = self.0.store.common_memberships(tenant_id, &user_id, &others, after, size);
            let (page, next) = deadline.bound(page).await?;
            return Ok(Response::new(pb::ListUserMembershipsResponse {
                memberships: page.iter().map(codec::membership).collect(),
                next_page_token: next.map(|next| query.token(next.as_str())).unwrap_or_default(),
            }));
        }
        let page = self.0.store.memberships(&actor.tenant_id, &user_id, after.as_ref(), size + 1);
        let mut page = deadline.bound(page).await?;
        let last = cut(&mut page, size);
        Ok(Response::new(pb::ListUserMembershipsResponse {
            next_page_token: last.map(|m| query.token(m.room_id.as_str())).unwrap_or_default(),
            memberships: page.iter().map(codec::membership).collect(),
        }))
    }
}

/// Changes who is in a room for the room service.
#[derive(Clone, Debug)]
pub struct MemberEditGrpc(pub(crate) Handler);

#[tonic::async_trait]
impl MemberEditService for MemberEditGrpc {
    async fn edit_members(
        &self,
        request: Request<pb::EditMembersRequest>,
    ) -> Result<Response<pb::EditMembersResponse>, Status> {
        let caller = parlance_rpc::internal(&request)?;
        let deadline = Deadline::of(&request).reserve();
        let request = request.into_inner();
        let room_id = fields::room_id("room_id", request.room_id)?;
        let log_id = fields::log_id("log_id", &request.log_id)?;
        let users = |field, ids| fields::ids(field, ids, 0..=MAX_LIST, UserId::parse);
        let add = users("add_user_ids", request.add_user_ids)?;
        let remove = users("remove_user_ids", request.remove_user_ids)?;
        let both = |user_id| add.contains(user_id) || caller.user() == Some(user_id);
        if let Some(at) = remove.iter().position(both) {
            let rule = "must be neither the actor nor to be added";
            return Err(Violation::new(format!("remove_user_ids[{at}]"), rule).into());
        }
        let edit = Change::Edit { log_id, add, remove };
        change(&self.0, deadline, &caller, room_id, edit, None).await
    }
}

impl MembershipGrpc {
    /// The roster of a room, if the caller may see its members.
    async fn look(
        &self,
        deadline: Deadline,
        caller: &Caller,
        room_id: &RoomId,
    ) -> Result<Roster, Status> {
        let actor = self.0.actor(deadline, caller).await?;
        Ok(self.0.readable_roster(deadline, &actor, room_id).await?)
    }
}

/// A successor is somebody else than who steps down.
fn differ(successor: Option<&UserId>, user_id: &UserId) -> Result<(), Violation> {
    if successor == Some(user_id) {
        return Err(Violation::new("successor_user_id", "must be somebody else"));
    }
    Ok(())
}

/// The list of a room's members, bound to this life of the room.
fn members_query(caller: &Caller, roster: &Roster, request: &pb::ListRoomMembersRequest) -> Query {
    let log_id = roster.log_id.to_string();
    let roles: Vec<_> = request.roles.iter().map(ToString::to_string).collect();
    let mut parts =
        vec!["ListRoomMembers", caller.tenant_id.as_str(), name(caller), log_id.as_str()];
    parts.extend(request.user_ids.iter().map(String::as_str));
    // No user has an empty id: it ends the list.
    parts.push("");
    parts.extend(roles.iter().map(String::as_str));
    Query::new(&parts)
}

/// A user who may be left out.
fn optional_user_id(field: &str, id: String) -> Result<Option<UserId>, Violation> {
    fields::given(id).map(|id| fields::user_id(field, id)).transpose()
}
