//! `RosterService`: how the room service opens, rules and closes rosters, and other services
//! of the suite see them.

use std::iter;

use parlance_proto::membership::v1 as pb;
use parlance_proto::membership::v1::roster_service_server::RosterService;
use parlance_proto::message::v1 as pb_message;
use parlance_proto::message::v1::MemberRole;
use parlance_rpc::{Deadline, Violation, detached, fields, internal};
use parlance_types::{JoinRule, LogId, MemberRule, Micros, Resource, RoomKind, SessionId, UserId};
use tonic::{Request, Response, Status};

use super::store::Opening;
use super::{
    Changed, Device, FirstSeat, Grant, Live, MAX_WAIT, MemberFilter, NewLive, NewRoster, Rules,
};
use crate::codec;
use crate::handler::{Actor, Handler, MAX_LIST};

/// So many members are returned at once.
const MAX_MEMBERS: usize = 1000;

/// The most members that a room begins with: its creator and 100 others.
const MAX_FIRST: usize = MAX_LIST + 1;

#[derive(Clone, Debug)]
pub struct RosterGrpc(pub(crate) Handler);

/// Who acts, until when, and what is asked.
fn open<T>(request: Request<T>) -> Result<(Actor, Deadline, T), Status> {
    let actor = Actor::of(&internal(&request)?);
    let deadline = Deadline::of(&request).reserve();
    Ok((actor, deadline, request.into_inner()))
}

#[tonic::async_trait]
impl RosterService for RosterGrpc {
    async fn open_roster(
        &self,
        request: Request<pb::OpenRosterRequest>,
    ) -> Result<Response<pb::OpenRosterResponse>, Status> {
        let (actor, deadline, request) = open(request)?;
        let opening = opening(&actor, request)?;
        let store = self.0.store.clone();
        let open = async move {
            let log_id = store.open_roster(&actor, &opening).await?.log_id;
            // The room that is entered tells of it before the one that is left.
            Ok((iter::once(log_id).chain(opening.roster.from()).collect(), ()))
        };
        self.0.settle_all(deadline, 1, open).await?;
        Ok(Response::new(pb::OpenRosterResponse {}))
    }

    async fn check_roster(
        &self,
        request: Request<pb::CheckRosterRequest>,
    ) -> Result<Response<pb::CheckRosterResponse>, Status> {
        let (actor, deadline, request) = open(request)?;
        let rules = rules(request.rules)?;
        let members = grants(request.members)?;
        let ensure = ensured(request.ensure_user_ids, &members)?;
        let check = self.0.store.check_roster(&actor.tenant_id, rules, &members, &ensure);
        deadline.bound(check).await?;
        Ok(Response::new(pb::CheckRosterResponse {}))
    }

    async fn ensure_members(
        &self,
        request: Request<pb::EnsureMembersRequest>,
    ) -> Result<Response<pb::EnsureMembersResponse>, Status> {
        let (actor, deadline, request) = open(request)?;
        let log_id = fields::log_id("log_id", &request.log_id)?;
        let user_ids = fields::ids("user_ids", request.user_ids, 1..=MAX_LIST, UserId::parse)?;
        let readmit = request.readmit_removed;
        let store = self.0.store.clone();
        let ensured = async move { store.ensure_members(&actor, log_id, &user_ids, readmit).await };
        self.0.settle(deadline, ensured).await?;
        Ok(Response::new(pb::EnsureMembersResponse {}))
    }

    async fn set_roster_rules(
        &self,
        request: Request<pb::SetRosterRulesRequest>,
    ) -> Result<Response<pb::SetRosterRulesResponse>, Status> {
        let (actor, deadline, request) = open(request)?;
        let log_id = fields::log_id("log_id", &request.log_id)?;
        let rules = rules(request.rules)?;
        let version = rules_version(request.rules_version)?;
        let store = self.0.store.clone();
        let set = async move { store.set_rules(&actor.tenant_id, log_id, rules, version).await };
        deadline.bound(detached(set)).await?;
        Ok(Response::new(pb::SetRosterRulesResponse {}))
    }

    async fn close_roster(
        &self,
        request: Request<pb::CloseRosterRequest>,
    ) -> Result<Response<pb::CloseRosterResponse>, Status> {
        let (actor, deadline, request) = open(request)?;
        let log_id = fields::log_id("log_id", &request.log_id)?;
        let store = self.0.store.clone();
        self.0.settle(deadline, async move { store.close_roster(&actor, log_id).await }).await?;
        Ok(Response::new(pb::CloseRosterResponse {}))
    }

    async fn batch_get_roles(
        &self,
        request: Request<pb::BatchGetRolesRequest>,
    ) -> Result<Response<pb::BatchGetRolesResponse>, Status> {
        let (actor, deadline, request) = open(request)?;
        self.0.not_suspended(deadline, &actor.tenant_id, actor.user.as_ref()).await?;
        let user_id = fields::user_id("user_id", request.user_id)?;
        let log_ids = fields::each("log_ids", request.log_ids, 1..=MAX_LIST, |field, id| {
            fields::log_id(field, &id)
        })?;
        let found =
            deadline.bound(self.0.store.roles(&actor.tenant_id, &user_id, &log_ids)).await?;
        let role = |log_id| {
            found.get(log_id).map_or(MemberRole::Unspecified, |(role, _)| codec::role(*role)).into()
        };
        let joined = |log_id| codec::timestamp(found.get(log_id).map_or(0, |(_, joined)| *joined));
        Ok(Response::new(pb::BatchGetRolesResponse {
            roles: log_ids.iter().map(role).collect(),
            join_times: log_ids.iter().map(joined).collect(),
        }))
    }

    async fn batch_get_join_times(
        &self,
        request: Request<pb::BatchGetJoinTimesRequest>,
    ) -> Result<Response<pb::BatchGetJoinTimesResponse>, Status> {
        let (actor, deadline, request) = open(request)?;
        let log_id = fields::log_id("log_id", &request.log_id)?;
        let user_ids = fields::ids("user_ids", request.user_ids, 1..=MAX_LIST, UserId::parse)?;
        let joined = self.0.store.joined(&actor.tenant_id, log_id, &user_ids);
        let member = |(user_id, joined): (UserId, Micros)| pb::MemberSince {
            user_id: user_id.into_string(),
            join_time: Some(codec::timestamp(joined)),
        };
        let members = deadline.bound(joined).await?.into_iter().map(member).collect();
        Ok(Response::new(pb::BatchGetJoinTimesResponse { members }))
    }

    async fn list_left_rosters(
        &self,
        request: Request<pb::ListLeftRostersRequest>,
    ) -> Result<Response<pb::ListLeftRostersResponse>, Status> {
        let user_id = internal(&request)?.require_user()?.clone();
        let (actor, deadline, _) = open(request)?;
        self.0.not_suspended(deadline, &actor.tenant_id, Some(&user_id)).await?;
        let left = deadline.bound(self.0.store.left(&actor.tenant_id, &user_id)).await?;
        let roster = |(log_id, time): (LogId, Micros)| pb::LeftRoster {
            log_id: log_id.0.to_string(),
            leave_time: Some(codec::timestamp(time)),
        };
        let rosters = left.into_iter().map(roster).collect();
        Ok(Response::new(pb::ListLeftRostersResponse { rosters }))
    }

    async fn get_room_members(
        &self,
        request: Request<pb::GetRoomMembersRequest>,
    ) -> Result<Response<pb::GetRoomMembersResponse>, Status> {
        let (actor, deadline, request) = open(request)?;
        let room_id = fields::room_id("room_id", request.room_id)?;
        let most = usize::try_from(request.max_members).ok();
        let most = most.filter(|most| (1..=MAX_MEMBERS).contains(most));
        let most = most.ok_or_else(|| Violation::new("max_members", "must be 1 to 1000"))?;
        let roster = self.0.readable_roster(deadline, &actor, &room_id).await?;
        let filter = MemberFilter::default();
        let members = self.0.store.members(&roster, &filter, None, most + 1);
        let members = deadline.bound(members).await?;
        // As of the list itself, unless there are more.
        let reply = if members.len() > most {
            let total_size = roster.member_count.max(i64::from(request.max_members) + 1);
            pb::GetRoomMembersResponse { user_ids: Vec::new(), total_size }
        } else {
            let total_size = i64::try_from(members.len()).unwrap_or(i64::MAX);
            let user_ids = members.into_iter().map(|member| member.user_id.into_string());
            pb::GetRoomMembersResponse { user_ids: user_ids.collect(), total_size }
        };
        Ok(Response::new(reply))
    }

    async fn batch_get_members(
        &self,
        request: Request<pb::BatchGetMembersRequest>,
    ) -> Result<Response<pb::BatchGetMembersResponse>, Status> {
        let (actor, deadline, request) = open(request)?;
        let log_ids = fields::each("log_ids", request.log_ids, 1..=MAX_LIST, |field, id| {
            fields::log_id(field, &id)
        })?;
        fields::once(log_ids.iter(), |at| format!("log_ids[{at}]"))?;
        let most = usize::try_from(request.max_members).ok();
        let most = most.filter(|most| (1..=MAX_LIST).contains(most));
        let most = most.ok_or_else(|| Violation::new("max_members", "must be 1 to 100"))?;
        let found = self.0.store.first_members(&actor.tenant_id, &log_ids, most);
        let mut found = deadline.bound(found).await?;
        let rooms = log_ids.iter().map(|log_id| {
            let (user_ids, total_size) = found.remove(log_id).unwrap_or_default();
            let user_ids = user_ids.into_iter().map(UserId::into_string).collect();
            pb::GetRoomMembersResponse { user_ids, total_size }
        });
        Ok(Response::new(pb::BatchGetMembersResponse { rooms: rooms.collect() }))
    }

    async fn list_changed_rosters(
        &self,
        request: Request<pb::ListChangedRostersRequest>,
    ) -> Result<Response<pb::ListChangedRostersResponse>, Status> {
        internal(&request)?;
        let changed = Deadline::of(&request).bound(self.0.store.changed()).await?;
        Ok(Response::new(pb::ListChangedRostersResponse {
            rosters: changed.into_iter().map(changed_roster).collect(),
        }))
    }

    async fn acknowledge_changed_rosters(
        &self,
        request: Request<pb::AcknowledgeChangedRostersRequest>,
    ) -> Result<Response<pb::AcknowledgeChangedRostersResponse>, Status> {
        internal(&request)?;
        let (deadline, request) = (Deadline::of(&request), request.into_inner());
        fields::length("rosters", request.rosters.len(), 1..=MAX_LIST)?;
        let roster = |(at, roster): (usize, pb::ChangedRoster)| {
            let log_id = fields::log_id(format!("rosters[{at}].log_id"), &roster.log_id)?;
            Ok(Changed { log_id, changes: roster.changes, member_count: roster.member_count })
        };
        let heard = request.rosters.into_iter().enumerate().map(roster);
        let heard: Vec<_> = heard.collect::<Result<_, Violation>>()?;
        let log_ids = heard.iter().map(|changed| changed.log_id);
        fields::once(log_ids, |at| format!("rosters[{at}].log_id"))?;
        let store = self.0.store.clone();
        deadline.bound(detached(async move { store.heard(&heard).await })).await?;
        Ok(Response::new(pb::AcknowledgeChangedRostersResponse {}))
    }

    async fn ensure_user(
        &self,
        request: Request<pb::EnsureUserRequest>,
    ) -> Result<Response<pb::EnsureUserResponse>, Status> {
        let (actor, deadline, _) = open(request)?;
        if let Some(user_id) = &actor.user {
            deadline.bound(self.0.store.ensure_user(&actor.tenant_id, user_id)).await?;
        }
        Ok(Response::new(pb::EnsureUserResponse {}))
    }
}

fn changed_roster(changed: Changed) -> pb::ChangedRoster {
    let Changed { log_id, changes, member_count } = changed;
    pb::ChangedRoster { log_id: log_id.0.to_string(), changes, member_count }
}

fn opening(actor: &Actor, request: pb::OpenRosterRequest) -> Result<Opening, Violation> {
    let log_id = fields::log_id("log_id", &request.log_id)?;
    let room_id = fields::room_id("room_id", request.room_id)?;
    let kind = kind(request.kind)?;
    let rules = rules(request.rules)?;
    let rules_version = rules_version(request.rules_version)?;
    let members = grants(request.members)?;
    if kind == RoomKind::Broadcast && !members.is_empty() {
        return Err(Violation::new("members", "must be empty: everybody is in a broadcast"));
    }
    let ensure = ensured(request.ensure_user_ids, &members)?;
    let created = codec::creation(&request.created_event).ok_or_else(|| {
        let rule = "must be an event of a room's creation, without seq, time and event_id";
        Violation::new("created_event", rule)
    })?;
    let live = live(actor, kind, request.live, &members)?;
    let roster = NewRoster { log_id, room_id, kind, rules, rules_version, members, ensure, live };
    Ok(Opening { roster, created })
}

fn kind(kind: i32) -> Result<RoomKind, Violation> {
    match pb_message::RoomKind::try_from(kind) {
        Ok(pb_message::RoomKind::Direct) => Ok(RoomKind::Direct),
        Ok(pb_message::RoomKind::Group) => Ok(RoomKind::Group),
        Ok(pb_message::RoomKind::Channel) => Ok(RoomKind::Channel),
        Ok(pb_message::RoomKind::Broadcast) => Ok(RoomKind::Broadcast),
        Ok(pb_message::RoomKind::Live) => Ok(RoomKind::Live),
        _ => Err(Violation::new("kind", "must be a kind of room")),
    }
}

/// How a live room lives, and who has its first seat.
fn live(
    actor: &Actor,
    kind: RoomKind,
    live: Option<pb::LiveRoster>,
    members: &[Grant],
) -> Result<Option<NewLive>, Violation> {
    let live = match (live, kind) {
        (Some(live), RoomKind::Live) => live,
        (None, RoomKind::Live) => return Err(Violation::new("live", "must be set")),
        (Some(_), _) => return Err(Violation::new("live", "is for live rooms")),
        (None, _) => return Ok(None),
    };
    let seat = live.seat.map(|seat| first_seat(actor, seat)).transpose()?;
    let seated = seat.as_ref().map(|seat| &seat.user_id);
    if !members.iter().map(|member| &member.user_id).eq(seated) {
        return Err(Violation::new("members", "must be those who have a seat"));
    }
    Ok(Some(NewLive {
        live: Live {
            destroy_delay: wait("live.destroy_delay", live.destroy_delay)?,
            single_device: live.single_device,
        },
        empty_timeout: wait("live.empty_timeout", live.empty_timeout)?,
        seat,
    }))
}

fn first_seat(actor: &Actor, seat: pb::FirstSeat) -> Result<FirstSeat, Violation> {
    let actor = actor.user.clone();
    let user_id = actor.ok_or_else(|| Violation::new("live.seat", "needs a user who acts"))?;
    let parsed = Resource::parse(seat.resource);
    let resource = fields::id("live.seat.resource", parsed)?;
    let parsed = SessionId::parse(seat.session_id);
    let session_id = fields::id("live.seat.session_id", parsed)?;
    let max_rooms = fields::at_least("live.seat.max_rooms", seat.max_rooms.into(), 1)?;
    let from = fields::given(seat.from_log_id);
    let from = from.map(|id| fields::log_id("live.seat.from_log_id", &id)).transpose()?;
    Ok(FirstSeat { user_id, device: Device { resource, session_id }, max_rooms, from })
}

/// How long a live room waits, in microseconds.
fn wait(field: &str, span: Option<prost_types::Duration>) -> Result<Micros, Violation> {
    let wait = fields::duration(field, span)?.unwrap_or_default();
    let wait = Micros::try_from(wait.as_micros()).ok().filter(|wait| *wait <= MAX_WAIT);
    wait.ok_or_else(|| Violation::new(field, "must be at most 3 h"))
}

/// The first members of a room, each once.
fn grants(members: Vec<pb_message::MemberGrant>) -> Result<Vec<Grant>, Violation> {
    fields::length("members", members.len(), 0..=MAX_FIRST)?;
    let grant = |(at, member): (usize, pb_message::MemberGrant)| {
        let user_id = fields::user_id(format!("members[{at}].user_id"), member.user_id)?;
        Ok(Grant { user_id, role: codec::parse_role(format!("members[{at}].role"), member.role)? })
    };
    let grants: Vec<_> =
        members.into_iter().enumerate().map(grant).collect::<Result<_, Violation>>()?;
    let user_ids = grants.iter().map(|grant| &grant.user_id);
    fields::once(user_ids, |at| format!("members[{at}].user_id"))?;
    Ok(grants)
}

/// Those of the members who come into being.
fn ensured(ids: Vec<String>, members: &[Grant]) -> Result<Vec<UserId>, Violation> {
    let ids = fields::ids("ensure_user_ids", ids, 0..=MAX_FIRST, UserId::parse)?;
    let stranger = |id: &UserId| !members.iter().any(|member| member.user_id == *id);
    match ids.iter().position(stranger) {
        Some(at) => Err(Violation::new(format!("ensure_user_ids[{at}]"), "must be one of members")),
        None => Ok(ids),
    }
}

fn rules(rules: Option<pb::RosterRules>) -> Result<Rules, Violation> {
    let rules = rules.ok_or_else(|| Violation::new("rules", "must be set"))?;
    let join = match pb::JoinRule::try_from(rules.join) {
        Ok(pb::JoinRule::Anyone) => JoinRule::Anyone,
        Ok(pb::JoinRule::AddedOnly) => JoinRule::AddedOnly,
        Ok(pb::JoinRule::Request) => JoinRule::Request,
        _ => return Err(Violation::new("rules.join", "must be a rule")),
    };
    let add = member_rule("rules.add", rules.add)?;
    let remove = member_rule("rules.remove", rules.remove)?;
    if rules.capacity < 1 {
        return Err(Violation::new("rules.capacity", "must be at least 1"));
    }
    Ok(Rules { join, add, remove, capacity: rules.capacity, watched: rules.watched })
}

fn member_rule(field: &str, rule: i32) -> Result<MemberRule, Violation> {
    match pb::MemberRule::try_from(rule) {
        Ok(pb::MemberRule::Members) => Ok(MemberRule::Members),
        Ok(pb::MemberRule::Admins) => Ok(MemberRule::Admins),
        _ => Err(Violation::new(field, "must be a rule")),
    }
}

fn rules_version(version: i64) -> Result<i64, Violation> {
    if version < 0 {
        return Err(Violation::new("rules_version", "must not be negative"));
    }
    Ok(version)
}
