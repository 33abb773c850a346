//! A membership service in memory that does what it is told.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, MutexGuard};

use parlance_proto::membership::v1 as pb;
use parlance_proto::membership::v1::member_edit_service_server::MemberEditService;
use parlance_proto::membership::v1::roster_service_server::RosterService;
use parlance_proto::membership::v1::tenant_service_server::TenantService;
use parlance_proto::message::v1::{Event, MemberGrant, MemberRole};
use parlance_rpc::{Caller, Reason, Refusal};
use prost::Message as _;
use tokio::sync::Semaphore;
use tonic::{Request, Response, Status};

/// What goes wrong with a call.
#[derive(Clone, Debug)]
pub(crate) enum Fault {
    /// It has no effect.
    Refuse(Reason),
    /// It has its effect, and the answer is lost.
    LoseReply,
    /// It waits for a permit.
    Wait(Arc<Semaphore>),
}

#[derive(Clone, Debug)]
pub(crate) struct Roster {
    pub(crate) tenant_id: String,
    pub(crate) room_id: String,
    pub(crate) members: BTreeMap<String, MemberRole>,
    pub(crate) removed: BTreeSet<String>,
    pub(crate) rules: pb::RosterRules,
    pub(crate) rules_version: i64,
    /// How many members the room service was told of.
    pub(crate) told: Option<usize>,
    pub(crate) created: Event,
    pub(crate) closed: bool,
    /// On whose behalf it was closed.
    pub(crate) closed_by: Option<String>,
}

#[derive(Default)]
pub(crate) struct State {
    /// Tenant and user.
    pub(crate) users: BTreeSet<(String, String)>,
    /// By log.
    pub(crate) rosters: BTreeMap<String, Roster>,
    /// By tenant.
    pub(crate) rules: BTreeMap<String, pb::SetTenantRulesRequest>,
    /// The calls that arrived, by RPC.
    pub(crate) calls: Vec<&'static str>,
    /// How often it was asked what changed.
    changes: usize,
    faults: BTreeMap<&'static str, Fault>,
}

#[derive(Clone, Default)]
pub(crate) struct FakeRoster(Arc<Mutex<State>>);

fn refuse(reason: Reason) -> Status {
    Refusal::new(reason, "the fake refuses").into()
}

impl FakeRoster {
    pub(crate) fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().expect("no test panics with the lock")
    }

    /// From now on calls of `rpc` go wrong.
    pub(crate) fn break_rpc(&self, rpc: &'static str, fault: Fault) {
        self.state().faults.insert(rpc, fault);
    }

    /// From now on calls of `rpc` go well.
    pub(crate) fn mend(&self, rpc: &'static str) {
        self.state().faults.remove(rpc);
    }

    pub(crate) fn calls(&self, rpc: &str) -> usize {
        self.state().calls.iter().filter(|call| **call == rpc).count()
    }

    /// The rosters of a room id that are not closed, with their logs.
    pub(crate) fn open_rosters(&self, room_id: &str) -> Vec<(String, Roster)> {
        let state = self.state();
        let open = state.rosters.iter().filter(|(_, roster)| !roster.closed);
        open.filter(|(_, roster)| roster.room_id == room_id)
            .map(|(log, roster)| (log.clone(), roster.clone()))
            .collect()
    }

    /// The log of the one open roster that is of another room.
    pub(crate) fn open_rosters_but(&self, room_id: &str) -> String {
        let state = self.state();
        let mut others = state.rosters.iter().filter(|(_, roster)| roster.room_id != room_id);
        others.next().expect("another room").0.clone()
    }

    /// The one open roster of a room id.
    pub(crate) fn of(&self, room_id: &str) -> (String, Roster) {
        let mut open = self.open_rosters(room_id);
        assert_eq!(open.len(), 1, "one roster of {room_id} is open");
        open.remove(0)
    }

    /// Changes the one open roster of a room id.
    pub(crate) fn change(&self, room_id: &str, change: impl FnOnce(&mut Roster)) {
        let (log_id, _) = self.of(room_id);
        change(self.state().rosters.get_mut(&log_id).expect("it is there"));
    }

    /// Takes note of a call and does what is to go wrong before its effect.
    async fn enter<T>(
        &self,
        rpc: &'static str,
        request: Request<T>,
    ) -> Result<(Caller, T), Status> {
        let caller = parlance_rpc::internal(&request)?;
        let fault = {
            let mut state = self.state();
            state.calls.push(rpc);
            state.faults.get(rpc).cloned()
        };
        match fault {
            Some(Fault::Refuse(reason)) => return Err(refuse(reason)),
            Some(Fault::Wait(gate)) => gate.acquire().await.expect("open").forget(),
            Some(Fault::LoseReply) | None => {}
        }
        Ok((caller, request.into_inner()))
    }

    /// Answers, if the answer is not to be lost.
    fn reply<T>(&self, rpc: &'static str, reply: T) -> Result<Response<T>, Status> {
        match self.state().faults.get(rpc) {
            Some(Fault::LoseReply) => Err(Status::unavailable("the reply was lost")),
            _ => Ok(Response::new(reply)),
        }
    }

    fn check(
        &self,
        caller: &Caller,
        rules: Option<&pb::RosterRules>,
        members: &[MemberGrant],
        ensure: &[String],
    ) -> Result<(), Status> {
        let state = self.state();
        for member in members {
            let key = (caller.tenant_id.to_string(), member.user_id.clone());
            if !ensure.contains(&member.user_id) && !state.users.contains(&key) {
                return Err(refuse(Reason::UserNotFound));
            }
        }
        let capacity = rules.expect("rules").capacity;
        if i32::try_from(members.len()).expect("few") > capacity {
            return Err(refuse(Reason::RoomFull));
        }
        Ok(())
    }

    /// Runs `work` on an open roster of the caller's tenant.
    fn on_roster<T>(
        &self,
        caller: &Caller,
        log_id: &str,
        work: impl FnOnce(&mut Roster) -> Result<T, Status>,
    ) -> Result<T, Status> {
        let mut state = self.state();
        let roster = state
            .rosters
            .get_mut(log_id)
            .filter(|roster| !roster.closed && roster.tenant_id == caller.tenant_id.as_str());
        work(roster.ok_or_else(|| refuse(Reason::LogNotFound))?)
    }
}

#[tonic::async_trait]
impl RosterService for FakeRoster {
    async fn open_roster(
        &self,
        request: Request<pb::OpenRosterRequest>,
    ) -> Result<Response<pb::OpenRosterResponse>, Status> {
        let (caller, request) = self.enter("OpenRoster", request).await?;
        if !self.state().rosters.contains_key(&request.log_id) {
            let (rules, ensure) = (request.rules.as_ref(), &request.ensure_user_ids);
            self.check(&caller, rules, &request.members, ensure)?;
            let tenant_id = caller.tenant_id.to_string();
            let mut state = self.state();
            for user in request.ensure_user_ids {
                state.users.insert((tenant_id.clone(), user));
            }
            let members = request.members.iter().map(|m| (m.user_id.clone(), m.role())).collect();
            let roster = Roster {
                tenant_id,
                room_id: request.room_id,
                members,
                removed: BTreeSet::new(),
                rules: request.rules.expect("rules"),
                rules_version: request.rules_version,
                told: None,
                created: Event::decode(request.created_event.as_slice()).expect("an event"),
                closed: false,
                closed_by: None,
            };
            state.rosters.insert(request.log_id, roster);
        }
        self.reply("OpenRoster", pb::OpenRosterResponse {})
    }

    async fn check_roster(
        &self,
        request: Request<pb::CheckRosterRequest>,
    ) -> Result<Response<pb::CheckRosterResponse>, Status> {
        let (caller, request) = self.enter("CheckRoster", request).await?;
        let (rules, ensure) = (request.rules.as_ref(), &request.ensure_user_ids);
        self.check(&caller, rules, &request.members, ensure)?;
        self.reply("CheckRoster", pb::CheckRosterResponse {})
    }

    async fn ensure_members(
        &self,
        request: Request<pb::EnsureMembersRequest>,
    ) -> Result<Response<pb::EnsureMembersResponse>, Status> {
        let (caller, request) = self.enter("EnsureMembers", request).await?;
        self.on_roster(&caller, &request.log_id, |roster| {
            for user in request.user_ids {
                if roster.removed.contains(&user) && !request.readmit_removed {
                    return Err(refuse(Reason::RemovedFromRoom));
                }
                let most = usize::try_from(roster.rules.capacity).expect("positive");
                if !roster.members.contains_key(&user) && roster.members.len() >= most {
                    return Err(refuse(Reason::RoomFull));
                }
                roster.removed.remove(&user);
                roster.members.entry(user).or_insert(MemberRole::Member);
            }
            Ok(())
        })?;
        self.reply("EnsureMembers", pb::EnsureMembersResponse {})
    }

    async fn set_roster_rules(
        &self,
        request: Request<pb::SetRosterRulesRequest>,
    ) -> Result<Response<pb::SetRosterRulesResponse>, Status> {
        let (caller, request) = self.enter("SetRosterRules", request).await?;
        self.on_roster(&caller, &request.log_id, |roster| {
            if request.rules_version > roster.rules_version {
                roster.rules_version = request.rules_version;
                roster.rules = request.rules.expect("rules");
                roster.told = None;
            }
            Ok(())
        })?;
        self.reply("SetRosterRules", pb::SetRosterRulesResponse {})
    }

    async fn close_roster(
        &self,
        request: Request<pb::CloseRosterRequest>,
    ) -> Result<Response<pb::CloseRosterResponse>, Status> {
        let (caller, request) = self.enter("CloseRoster", request).await?;
        match self.state().rosters.get_mut(&request.log_id) {
            Some(roster) => {
                roster.closed = true;
                roster.closed_by = caller.user().map(ToString::to_string);
            }
            None => return Err(refuse(Reason::LogNotFound)),
        }
        self.reply("CloseRoster", pb::CloseRosterResponse {})
    }

    async fn batch_get_roles(
        &self,
        request: Request<pb::BatchGetRolesRequest>,
    ) -> Result<Response<pb::BatchGetRolesResponse>, Status> {
        let (_, request) = self.enter("BatchGetRoles", request).await?;
        let join_times =
            vec![prost_types::Timestamp { seconds: 1, nanos: 0 }; request.log_ids.len()];
        let roles = {
            let state = self.state();
            let role = |log_id: &String| {
                let roster = state.rosters.get(log_id).filter(|roster| !roster.closed);
                roster.and_then(|roster| roster.members.get(&request.user_id))
            };
            request.log_ids.iter().map(|id| role(id).map_or(0, |role| *role as i32)).collect()
        };
        self.reply("BatchGetRoles", pb::BatchGetRolesResponse { roles, join_times })
    }

    async fn batch_get_join_times(
        &self,
        request: Request<pb::BatchGetJoinTimesRequest>,
    ) -> Result<Response<pb::BatchGetJoinTimesResponse>, Status> {
        let (caller, request) = self.enter("BatchGetJoinTimes", request).await?;
        let members = self.on_roster(&caller, &request.log_id, |roster| {
            let there = request.user_ids.into_iter();
            let there = there.filter(|user| roster.members.contains_key(user));
            let join_time = Some(prost_types::Timestamp { seconds: 1, nanos: 0 });
            Ok(there.map(|user_id| pb::MemberSince { user_id, join_time }).collect())
        })?;
        self.reply("BatchGetJoinTimes", pb::BatchGetJoinTimesResponse { members })
    }

    async fn list_left_rosters(
        &self,
        request: Request<pb::ListLeftRostersRequest>,
    ) -> Result<Response<pb::ListLeftRostersResponse>, Status> {
        self.enter("ListLeftRosters", request).await?;
        self.reply("ListLeftRosters", pb::ListLeftRostersResponse::default())
    }

    async fn get_room_members(
        &self,
        _: Request<pb::GetRoomMembersRequest>,
    ) -> Result<Response<pb::GetRoomMembersResponse>, Status> {
        Err(Status::unimplemented("rooms list no members"))
    }

    async fn batch_get_members(
        &self,
        request: Request<pb::BatchGetMembersRequest>,
    ) -> Result<Response<pb::BatchGetMembersResponse>, Status> {
        let (_, request) = self.enter("BatchGetMembers", request).await?;
        let members = |log_id: &String| {
            let state = self.state();
            let all = state.rosters.get(log_id).map(|roster| roster.members.clone());
            let all = all.unwrap_or_default();
            let most = usize::try_from(request.max_members).expect("positive");
            pb::GetRoomMembersResponse {
                user_ids: all.keys().take(most).cloned().collect(),
                total_size: i64::try_from(all.len()).expect("few"),
            }
        };
        let rooms = request.log_ids.iter().map(members).collect();
        self.reply("BatchGetMembers", pb::BatchGetMembersResponse { rooms })
    }

    async fn list_changed_rosters(
        &self,
        request: Request<pb::ListChangedRostersRequest>,
    ) -> Result<Response<pb::ListChangedRostersResponse>, Status> {
        self.enter("ListChangedRosters", request).await?;
        let mut state = self.state();
        let count = |log_id: &String, roster: &Roster| pb::ChangedRoster {
            log_id: log_id.clone(),
            changes: i64::try_from(state.changes).expect("few") + 1,
            member_count: i64::try_from(roster.members.len()).expect("few"),
        };
        let watched = state.rosters.iter().filter(|(_, roster)| {
            roster.rules.watched && !roster.closed && roster.told != Some(roster.members.len())
        });
        let rosters = watched.take(100).map(|(log_id, roster)| count(log_id, roster)).collect();
        state.changes += 1;
        drop(state);
        self.reply("ListChangedRosters", pb::ListChangedRostersResponse { rosters })
    }

    async fn acknowledge_changed_rosters(
        &self,
        request: Request<pb::AcknowledgeChangedRostersRequest>,
    ) -> Result<Response<pb::AcknowledgeChangedRostersResponse>, Status> {
        let (_, request) = self.enter("AcknowledgeChangedRosters", request).await?;
        for told in request.rosters {
            let mut state = self.state();
            let roster = state.rosters.get_mut(&told.log_id).expect("it was told of");
            roster.told = usize::try_from(told.member_count).ok();
        }
        let known = pb::AcknowledgeChangedRostersResponse {};
        self.reply("AcknowledgeChangedRosters", known)
    }

    async fn ensure_user(
        &self,
        request: Request<pb::EnsureUserRequest>,
    ) -> Result<Response<pb::EnsureUserResponse>, Status> {
        let (_, _) = self.enter("EnsureUser", request).await?;
        self.reply("EnsureUser", pb::EnsureUserResponse {})
    }
}

#[tonic::async_trait]
impl MemberEditService for FakeRoster {
    async fn edit_members(
        &self,
        request: Request<pb::EditMembersRequest>,
    ) -> Result<Response<pb::EditMembersResponse>, Status> {
        let (caller, request) = self.enter("EditMembers", request).await?;
        self.on_roster(&caller, &request.log_id, |roster| {
            for user in request.remove_user_ids {
                if roster.members.remove(&user).is_none() && !roster.removed.contains(&user) {
                    return Err(refuse(Reason::MemberNotFound));
                }
                roster.removed.insert(user);
            }
            for user in request.add_user_ids {
                roster.members.entry(user).or_insert(MemberRole::Member);
            }
            Ok(())
        })?;
        self.reply("EditMembers", pb::EditMembersResponse {})
    }
}

#[tonic::async_trait]
impl TenantService for FakeRoster {
    async fn set_tenant_rules(
        &self,
        request: Request<pb::SetTenantRulesRequest>,
    ) -> Result<Response<pb::SetTenantRulesResponse>, Status> {
        let (caller, request) = self.enter("SetTenantRules", request).await?;
        let version = {
            let mut state = self.state();
            let known = state.rules.entry(caller.tenant_id.to_string()).or_default();
            if request.version > known.version {
                *known = request;
            }
            known.version
        };
        self.reply("SetTenantRules", pb::SetTenantRulesResponse { version })
    }

    async fn get_tenant_use(
        &self,
        request: Request<pb::GetTenantUseRequest>,
    ) -> Result<Response<pb::GetTenantUseResponse>, Status> {
        let (caller, _) = self.enter("GetTenantUse", request).await?;
        let users = {
            let state = self.state();
            let tenant = caller.tenant_id.as_str();
            let limited = state.rules.get(tenant).and_then(|rules| rules.max_users);
            let users = state.users.iter().filter(|(of, _)| of == tenant).count();
            limited.map(|_| i64::try_from(users).expect("few"))
        };
        self.reply("GetTenantUse", pb::GetTenantUseResponse { users })
    }
}
