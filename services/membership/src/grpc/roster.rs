//! RosterService.

use parlance_proto::membership::v1 as pb;
use parlance_proto::membership::v1::roster_service_server::RosterService;
use parlance_proto::message::v1::MemberRole;
use parlance_rpc::internal;
use parlance_types::LogId;
use tonic::{Request, Response, Status};

use super::{Due, Handler, actor, parse};
use crate::Error;
use crate::codec;
use crate::domain::NewRoster;
use crate::store::{MemberFilter, Opening};

/// So many members are returned at once.
const MAX_MEMBERS: usize = 1000;

/// How the room service opens, rules and closes rosters, and others see them.
#[derive(Clone, Debug)]
pub struct Rosters(pub(crate) Handler);

fn opening(request: pb::OpenRosterRequest) -> Result<Opening, Error> {
    let log_id = parse::log_id("log_id", &request.log_id)?;
    let room_id = parse::room_id(request.room_id)?;
    let kind = parse::kind(request.kind)?;
    let rules = parse::rules(request.rules)?;
    let rules_version = parse::rules_version(request.rules_version)?;
    let members = parse::grants(request.members)?;
    let ensure = parse::ensured(request.ensure_user_ids, &members)?;
    let created = codec::creation(&request.created_event).ok_or_else(|| {
        let rule = "must be an event of a room's creation, without seq, time and event_id";
        Error::invalid("created_event", rule)
    })?;
    let roster = NewRoster { log_id, room_id, kind, rules, rules_version, members, ensure };
    Ok(Opening { roster, created })
}

#[tonic::async_trait]
impl RosterService for Rosters {
    async fn open_roster(
        &self,
        request: Request<pb::OpenRosterRequest>,
    ) -> Result<Response<pb::OpenRosterResponse>, Status> {
        let (actor, due) = (actor(&internal(&request)?), Due::of(&request));
        let opening = opening(request.into_inner())?;
        let store = self.0.store.clone();
        self.0.settle(due, async move { store.open_roster(&actor, &opening).await }).await?;
        Ok(Response::new(pb::OpenRosterResponse {}))
    }

    async fn check_roster(
        &self,
        request: Request<pb::CheckRosterRequest>,
    ) -> Result<Response<pb::CheckRosterResponse>, Status> {
        let (actor, due) = (actor(&internal(&request)?), Due::of(&request));
        let request = request.into_inner();
        let rules = parse::rules(request.rules)?;
        let members = parse::grants(request.members)?;
        let ensure = parse::ensured(request.ensure_user_ids, &members)?;
        let check = self.0.store.check_roster(&actor.tenant_id, rules, &members, &ensure);
        self.0.read(due, check).await?;
        Ok(Response::new(pb::CheckRosterResponse {}))
    }

    async fn ensure_members(
        &self,
        request: Request<pb::EnsureMembersRequest>,
    ) -> Result<Response<pb::EnsureMembersResponse>, Status> {
        let (actor, due) = (actor(&internal(&request)?), Due::of(&request));
        let request = request.into_inner();
        let log_id = parse::log_id("log_id", &request.log_id)?;
        let user_ids = parse::user_ids("user_ids", request.user_ids)?;
        let readmit = request.readmit_removed;
        let store = self.0.store.clone();
        let ensured = async move { store.ensure_members(&actor, log_id, &user_ids, readmit).await };
        self.0.settle(due, ensured).await?;
        Ok(Response::new(pb::EnsureMembersResponse {}))
    }

    async fn set_roster_rules(
        &self,
        request: Request<pb::SetRosterRulesRequest>,
    ) -> Result<Response<pb::SetRosterRulesResponse>, Status> {
        let (actor, due) = (actor(&internal(&request)?), Due::of(&request));
        let request = request.into_inner();
        let log_id = parse::log_id("log_id", &request.log_id)?;
        let rules = parse::rules(request.rules)?;
        let version = parse::rules_version(request.rules_version)?;
        let store = self.0.store.clone();
        let set = async move { store.set_rules(&actor.tenant_id, log_id, rules, version).await };
        self.0.write(due, set).await?;
        Ok(Response::new(pb::SetRosterRulesResponse {}))
    }

    async fn close_roster(
        &self,
        request: Request<pb::CloseRosterRequest>,
    ) -> Result<Response<pb::CloseRosterResponse>, Status> {
        let (actor, due) = (actor(&internal(&request)?), Due::of(&request));
        let log_id = parse::log_id("log_id", &request.into_inner().log_id)?;
        let store = self.0.store.clone();
        self.0.settle(due, async move { store.close_roster(&actor, log_id).await }).await?;
        Ok(Response::new(pb::CloseRosterResponse {}))
    }

    async fn batch_get_roles(
        &self,
        request: Request<pb::BatchGetRolesRequest>,
    ) -> Result<Response<pb::BatchGetRolesResponse>, Status> {
        let (actor, due) = (actor(&internal(&request)?), Due::of(&request));
        let request = request.into_inner();
        let user_id = parse::user_id("user_id", request.user_id)?;
        parse::length("log_ids", request.log_ids.len(), 1..=100)?;
        let log_ids: Vec<LogId> = (request.log_ids.iter().enumerate())
            .map(|(index, id)| parse::log_id(format!("log_ids[{index}]"), id))
            .collect::<Result<_, _>>()?;
        let found = self.0.store.roles(&actor.tenant_id, &user_id, &log_ids);
        let found = self.0.read(due, found).await?;
        let role = |log_id| {
            found.get(log_id).map_or(MemberRole::Unspecified, |role| codec::role(*role)).into()
        };
        Ok(Response::new(pb::BatchGetRolesResponse { roles: log_ids.iter().map(role).collect() }))
    }

    async fn get_room_members(
        &self,
        request: Request<pb::GetRoomMembersRequest>,
    ) -> Result<Response<pb::GetRoomMembersResponse>, Status> {
        let (actor, due) = (actor(&internal(&request)?), Due::of(&request));
        let request = request.into_inner();
        let room_id = parse::room_id(request.room_id)?;
        let most = usize::try_from(request.max_members).ok();
        let most = most.filter(|most| (1..=MAX_MEMBERS).contains(most));
        let most = most.ok_or_else(|| Error::invalid("max_members", "must be 1 to 1000"))?;
        let roster = self.0.look(due, &actor, &room_id).await?;
        let filter = MemberFilter::default();
        let members = self.0.store.members(roster.log_id, &filter, None, most + 1);
        let members = self.0.read(due, members).await?;
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

    async fn ensure_user(
        &self,
        request: Request<pb::EnsureUserRequest>,
    ) -> Result<Response<pb::EnsureUserResponse>, Status> {
        let (actor, due) = (actor(&internal(&request)?), Due::of(&request));
        if let Some(user_id) = &actor.user {
            self.0.read(due, self.0.store.ensure_user(&actor.tenant_id, user_id)).await?;
        }
        Ok(Response::new(pb::EnsureUserResponse {}))
    }
}
