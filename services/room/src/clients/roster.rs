//! Rosters, in the membership service: who is in which room.

use std::collections::BTreeMap;

use parlance_proto::membership::v1 as pb;
use parlance_proto::membership::v1::roster_service_client::RosterServiceClient;
use parlance_rpc::{Below, Deadline, Internal, Peer, Reason, Transport, fields, of_no_tenant};
use parlance_types::{LogId, Micros, Role, UserId};
use prost::Message as _;

use super::call;
use crate::Error;
use crate::room::{Actor, NewRoom, Room, codec};

type Client = RosterServiceClient<Transport>;

/// Refusals that concern the caller of this service.
const PASSES: &[Reason] = &[
    Reason::UserNotFound,
    Reason::RoomFull,
    Reason::RemovedFromRoom,
    Reason::Banned,
    Reason::Suspended,
    Reason::RoomLimit,
    Reason::SeatNotFound,
    Reason::RoomIdTaken,
    Reason::QuotaExceeded,
    Reason::RateLimited,
    Reason::Overloaded,
];

/// What a watched roster tells of who came and went.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Changed {
    pub(crate) log_id: LogId,
    /// Counts the changes.
    pub(crate) changes: i64,
    /// How many members there are after them.
    pub(crate) members: i64,
}

/// The rosters of all rooms.
#[derive(Clone, Debug)]
pub(crate) struct Rosters(Peer<Client>);

impl Rosters {
    pub(crate) fn new(membership: Transport, internal: Internal) -> Self {
        Self(Peer::new(Below::Membership, Client::new(membership), internal, PASSES))
    }

    /// Fails as `open` would, and changes nothing.
    pub(crate) async fn check(
        &self,
        actor: &Actor,
        new: &NewRoom,
        deadline: Deadline,
    ) -> Result<(), Error> {
        let request = pb::CheckRosterRequest {
            rules: Some(codec::roster_rules(new.settings.roster_rules())),
            members: codec::grants(&new.founding),
            ensure_user_ids: new.founding.ensure().to_vec(),
        };
        let check = |mut to: Client, request| async move { to.check_roster(request).await };
        call(&self.0, actor, deadline, request, check).await?;
        Ok(())
    }

    /// Lets the acting user come into being.
    pub(crate) async fn ensure_user(&self, actor: &Actor, deadline: Deadline) -> Result<(), Error> {
        let ensure = |mut to: Client, request| async move { to.ensure_user(request).await };
        call(&self.0, actor, deadline, pb::EnsureUserRequest {}, ensure).await?;
        Ok(())
    }

    /// Opens the roster of a room in creation, and with it the room's log.
    pub(crate) async fn open(&self, room: &Room, deadline: Deadline) -> Result<(), Error> {
        let request = pb::OpenRosterRequest {
            log_id: codec::log_id(room.log_id),
            room_id: room.room_id.to_string(),
            kind: codec::kind(room.kind).into(),
            rules: Some(codec::roster_rules(room.roster_rules())),
            rules_version: room.rules_version,
            members: codec::grants(&room.founding),
            ensure_user_ids: room.founding.ensure().to_vec(),
            created_event: codec::created_event(room).encode_to_vec(),
            live: room.founding.live().map(|live| codec::live_roster(live, room.tenant)),
        };
        let open = |mut to: Client, request| async move { to.open_roster(request).await };
        call(&self.0, &room.founder(), deadline, request, open).await?;
        Ok(())
    }

    /// Makes users members whatever the rules say. Fails with `NoRoster` where
    /// there is none any more.
    pub(crate) async fn ensure_members(
        &self,
        actor: &Actor,
        log_id: LogId,
        users: &[UserId],
        readmit_removed: bool,
        deadline: Deadline,
    ) -> Result<(), Error> {
        if users.is_empty() {
            return Ok(());
        }
        let request = pb::EnsureMembersRequest {
            log_id: codec::log_id(log_id),
            user_ids: users.iter().map(ToString::to_string).collect(),
            readmit_removed,
        };
        let ensure = |mut to: Client, request| async move { to.ensure_members(request).await };
        call(&self.0, actor, deadline, request, ensure).await?;
        Ok(())
    }

    /// Gives a roster the present rules of its room.
    pub(crate) async fn set_rules(&self, room: &Room, deadline: Deadline) -> Result<(), Error> {
        let request = pb::SetRosterRulesRequest {
            log_id: codec::log_id(room.log_id),
            rules: Some(codec::roster_rules(room.roster_rules())),
            rules_version: room.rules_version,
        };
        let set = |mut to: Client, request| async move { to.set_roster_rules(request).await };
        call(&self.0, &room.founder(), deadline, request, set).await?;
        Ok(())
    }

    /// Ends a roster and closes its log. One that never was is ended already.
    pub(crate) async fn close(
        &self,
        actor: &Actor,
        log_id: LogId,
        deadline: Deadline,
    ) -> Result<(), Error> {
        let request = pb::CloseRosterRequest { log_id: codec::log_id(log_id) };
        let close = |mut to: Client, request| async move { to.close_roster(request).await };
        match call(&self.0, actor, deadline, request, close).await {
            Ok(_) | Err(Error::NoRoster) => Ok(()),
            Err(error) => Err(error),
        }
    }

    /// The first members of each of 1 to 100 rooms and their number, in the order of the rooms.
    pub(crate) async fn first_members(
        &self,
        actor: &Actor,
        log_ids: &[LogId],
        most: i32,
        deadline: Deadline,
    ) -> Result<Vec<pb::GetRoomMembersResponse>, Error> {
        let request = pb::BatchGetMembersRequest {
            log_ids: log_ids.iter().copied().map(codec::log_id).collect(),
            max_members: most,
        };
        let get = |mut to: Client, request| async move { to.batch_get_members(request).await };
        let rooms = call(&self.0, actor, deadline, request, get).await?.rooms;
        if rooms.len() != log_ids.len() {
            let what = "the reply has another number of rooms than asked for";
            return Err(self.0.strange(what).into());
        }
        Ok(rooms)
    }

    /// Watched rosters of all tenants in which somebody came or went.
    pub(crate) async fn changed(&self, deadline: Deadline) -> Result<Vec<Changed>, Error> {
        let request = pb::ListChangedRostersRequest {};
        let list = |mut to: Client, request| async move { to.list_changed_rosters(request).await };
        let changed = self.0.call(&of_no_tenant(), None, deadline, request, list).await?.rosters;
        let roster = |roster: pb::ChangedRoster| {
            let pb::ChangedRoster { log_id, changes, member_count } = roster;
            let log_id = log_id.parse();
            let what = "the reply names a log that is not a UUID";
            let log_id = log_id.map_err(|_| self.0.strange(what))?;
            Ok(Changed { log_id, changes, members: member_count })
        };
        changed.into_iter().map(roster).collect()
    }

    /// Tells that what changed is known.
    pub(crate) async fn acknowledge(
        &self,
        changed: &[Changed],
        deadline: Deadline,
    ) -> Result<(), Error> {
        let roster = |changed: &Changed| pb::ChangedRoster {
            log_id: codec::log_id(changed.log_id),
            changes: changed.changes,
            member_count: changed.members,
        };
        let rosters = changed.iter().map(roster).collect();
        let request = pb::AcknowledgeChangedRostersRequest { rosters };
        let known =
            |mut to: Client, request| async move { to.acknowledge_changed_rosters(request).await };
        self.0.call(&of_no_tenant(), None, deadline, request, known).await?;
        Ok(())
    }

    /// Those of the users who are members of a room, and since when. Fails with `NoRoster`
    /// where that is not known.
    pub(crate) async fn joined(
        &self,
        room: &Room,
        users: &[UserId],
        deadline: Deadline,
    ) -> Result<BTreeMap<UserId, Micros>, Error> {
        let request = pb::BatchGetJoinTimesRequest {
            log_id: codec::log_id(room.log_id),
            user_ids: users.iter().map(ToString::to_string).collect(),
        };
        let get = |mut to: Client, request| async move { to.batch_get_join_times(request).await };
        let nobody = Actor { tenant_id: room.tenant_id.clone(), user: None };
        let members = call(&self.0, &nobody, deadline, request, get).await?.members;
        let member = |member: pb::MemberSince| {
            let joined = member.join_time.as_ref().and_then(fields::micros);
            (UserId::new(member.user_id), joined.unwrap_or_default())
        };
        Ok(members.into_iter().map(member).collect())
    }

    /// The rooms that the acting user is no longer in, those left last first, and when they left.
    pub(crate) async fn left(
        &self,
        actor: &Actor,
        deadline: Deadline,
    ) -> Result<Vec<(LogId, Micros)>, Error> {
        let request = pb::ListLeftRostersRequest {};
        let list = |mut to: Client, request| async move { to.list_left_rosters(request).await };
        let left = call(&self.0, actor, deadline, request, list).await?.rosters;
        let roster = |roster: pb::LeftRoster| {
            let log_id = roster.log_id.parse();
            let what = "the reply names a log that is not a UUID";
            let log_id = log_id.map_err(|_| self.0.strange(what))?;
            let left = roster.leave_time.as_ref().and_then(fields::micros);
            Ok((log_id, left.unwrap_or_default()))
        };
        left.into_iter().map(roster).collect()
    }

    /// The role of the acting user in each of 1 to 100 rooms, in their order, and since when they
    /// have been a member; 0: that is not known.
    pub(crate) async fn roles(
        &self,
        actor: &Actor,
        log_ids: &[LogId],
        deadline: Deadline,
    ) -> Result<Vec<Option<(Role, Micros)>>, Error> {
        let request = pb::BatchGetRolesRequest {
            log_ids: log_ids.iter().copied().map(codec::log_id).collect(),
            user_id: actor.user.as_ref().ok_or(Error::UserRequired)?.to_string(),
        };
        let get = |mut to: Client, request| async move { to.batch_get_roles(request).await };
        let pb::BatchGetRolesResponse { roles, mut join_times } =
            call(&self.0, actor, deadline, request, get).await?;
        if roles.len() != log_ids.len() {
            let what = "the reply has another number of roles than asked for";
            return Err(self.0.strange(what).into());
        }
        join_times.resize(roles.len(), prost_types::Timestamp::default());
        let joined = join_times.iter().map(|time| fields::micros(time).unwrap_or_default());
        let member = |(role, joined)| codec::role(role).map(|role| (role, joined));
        Ok(roles.into_iter().zip(joined).map(member).collect())
    }
}
