//! A membership service over logs in memory, and clients of every kind of caller.

use std::fmt::Debug;
use std::sync::Arc;

use parlance_db::Db;
use parlance_membership::Service;
use parlance_outbox::testing::Logs;
use parlance_proto::membership::v1 as pb;
use parlance_proto::membership::v1::block_service_client::BlockServiceClient;
use parlance_proto::membership::v1::invitation_service_client::InvitationServiceClient;
use parlance_proto::membership::v1::invite_link_service_client::InviteLinkServiceClient;
use parlance_proto::membership::v1::join_request_service_client::JoinRequestServiceClient;
use parlance_proto::membership::v1::member_edit_service_client::MemberEditServiceClient;
use parlance_proto::membership::v1::member_service_client::MemberServiceClient;
use parlance_proto::membership::v1::membership_service_client::MembershipServiceClient;
use parlance_proto::membership::v1::moderation_service_client::ModerationServiceClient;
use parlance_proto::membership::v1::operator_service_client::OperatorServiceClient;
use parlance_proto::membership::v1::privacy_list_service_client::PrivacyListServiceClient;
use parlance_proto::membership::v1::roster_service_client::RosterServiceClient;
use parlance_proto::membership::v1::seat_service_client::SeatServiceClient;
use parlance_proto::membership::v1::tenant_service_client::TenantServiceClient;
use parlance_proto::membership::v1::user_service_client::UserServiceClient;
use parlance_proto::message::v1::event::Body;
use parlance_proto::message::v1::{
    Effects, Event, LogRules, MemberGrant, MemberRole, RoomCreated, RoomKind,
};
use parlance_rpc::testing::{called_by, caller};
use parlance_rpc::{Caller, Env, Principal, Reason, Transport};
use parlance_types::{LogId, ManualClock, UserId};
use prost::Message as _;
use tonic::{Response, Status};
use tonic_types::StatusExt as _;
use uuid::Uuid;

pub(crate) use parlance_rpc::testing::{bad_ids, eventually, refused, violates};

pub(crate) use MemberRole::{Admin, Member, Owner};

/// The time at which every test begins: 1 000 s.
const START: i64 = 1_000_000_000;

pub(crate) struct World {
    pub(crate) env: Env,
    pub(crate) service: Service,
    pub(crate) logs: Logs,
    pub(crate) clock: Arc<ManualClock>,
}

/// Clients that one caller holds.
#[derive(Clone)]
pub(crate) struct Clients {
    pub(crate) users: UserServiceClient<Transport>,
    pub(crate) members: MembershipServiceClient<Transport>,
    pub(crate) moderation: ModerationServiceClient<Transport>,
    pub(crate) invitations: InvitationServiceClient<Transport>,
    pub(crate) requests: JoinRequestServiceClient<Transport>,
    pub(crate) links: InviteLinkServiceClient<Transport>,
    pub(crate) rosters: RosterServiceClient<Transport>,
    pub(crate) edits: MemberEditServiceClient<Transport>,
    pub(crate) seats: SeatServiceClient<Transport>,
    pub(crate) member: MemberServiceClient<Transport>,
    pub(crate) blocks: BlockServiceClient<Transport>,
    pub(crate) lists: PrivacyListServiceClient<Transport>,
    pub(crate) tenants: TenantServiceClient<Transport>,
}

impl World {
    pub(crate) fn new(db: Db) -> Self {
        let (logs, clock) = (Logs::default(), Arc::new(ManualClock::at(START)));
        let env = parlance_rpc::testing::env(clock.clone());
        let service = Service::open(&env, db, logs.transport());
        Self { env, service, logs, clock }
    }

    /// Another replica of the service, over the same database and logs.
    pub(crate) fn replica(&self, db: Db) -> Self {
        let env = parlance_rpc::testing::env(self.clock.clone());
        let service = Service::open(&env, db, self.logs.transport());
        Self { env, service, logs: self.logs.clone(), clock: self.clock.clone() }
    }

    fn of(&self, tenant: &str, principal: Principal) -> Clients {
        self.called_by(caller(tenant, principal))
    }

    /// What the token of a backend service holds.
    pub(crate) fn backend(&self, subject: &str) -> Clients {
        let caller = caller("acme", Principal::Service);
        self.called_by(Caller { subject: subject.to_owned(), ..caller })
    }

    /// What operators of the installation call.
    pub(crate) fn operators(&self) -> OperatorServiceClient<Transport> {
        let operator = caller("acme", Principal::Operator);
        OperatorServiceClient::new(called_by(self.service.public(), operator, None))
    }

    fn called_by(&self, caller: Caller) -> Clients {
        let services = self.service.public().and(self.service.internal());
        let transport = called_by(services, caller, None);
        Clients {
            users: UserServiceClient::new(transport.clone()),
            members: MembershipServiceClient::new(transport.clone()),
            moderation: ModerationServiceClient::new(transport.clone()),
            invitations: InvitationServiceClient::new(transport.clone()),
            requests: JoinRequestServiceClient::new(transport.clone()),
            links: InviteLinkServiceClient::new(transport.clone()),
            rosters: RosterServiceClient::new(transport.clone()),
            edits: MemberEditServiceClient::new(transport.clone()),
            seats: SeatServiceClient::new(transport.clone()),
            member: MemberServiceClient::new(transport.clone()),
            blocks: BlockServiceClient::new(transport.clone()),
            lists: PrivacyListServiceClient::new(transport.clone()),
            tenants: TenantServiceClient::new(transport),
        }
    }

    /// What a user of the tenant holds.
    pub(crate) fn user_of(&self, tenant: &str, user: &str) -> Clients {
        self.of(tenant, Principal::User(UserId::new(user)))
    }

    pub(crate) fn user(&self, user: &str) -> Clients {
        self.user_of("acme", user)
    }

    /// A backend service, on behalf of a user.
    pub(crate) fn service_for(&self, user: &str) -> Clients {
        self.of("acme", Principal::ServiceFor(UserId::new(user)))
    }

    /// What an operator of the tenant holds.
    pub(crate) fn operator(&self) -> Clients {
        self.of("acme", Principal::Operator)
    }

    /// A backend service that acts for nobody.
    pub(crate) fn service_of(&self, tenant: &str) -> Clients {
        self.of(tenant, Principal::Service)
    }

    pub(crate) fn service(&self) -> Clients {
        self.service_of("acme")
    }

    /// The room service, on behalf of a user or of nobody.
    pub(crate) fn room_service(&self, tenant: &str, user: Option<&str>) -> Clients {
        self.of(tenant, Principal::Internal(user.map(UserId::new)))
    }

    /// Lets users exist.
    pub(crate) async fn know(&self, tenant: &str, users: &[&str]) {
        let users = users.iter().map(|user| named(user)).collect();
        let request = pb::BatchUpsertUsersRequest { users };
        self.service_of(tenant).users.batch_upsert_users(request).await.expect("users");
    }

    /// Sets what operators decided for a tenant. The version that holds then.
    pub(crate) async fn rule(&self, tenant: &str, rules: pb::SetTenantRulesRequest) -> i64 {
        let mut tenants = self.room_service(tenant, None).tenants;
        tenants.set_tenant_rules(rules).await.expect("set").into_inner().version
    }

    /// Opens a roster; its members come into being.
    pub(crate) async fn open_as(
        &self,
        tenant: &str,
        kind: RoomKind,
        room: &str,
        rules: pb::RosterRules,
        members: &[(&str, MemberRole)],
    ) -> LogId {
        let log_id = LogId(Uuid::now_v7());
        let request = pb::OpenRosterRequest {
            kind: kind.into(),
            rules: Some(rules),
            ..opening(log_id, room, members)
        };
        self.room_service(tenant, None).rosters.open_roster(request).await.expect("open");
        log_id
    }

    /// Opens a group where members add and admins remove.
    pub(crate) async fn group(&self, room: &str, members: &[(&str, MemberRole)]) -> LogId {
        self.open_as("acme", RoomKind::Group, room, rules(), members).await
    }

    /// Opens a channel that anyone may join.
    pub(crate) async fn channel(&self, room: &str, members: &[(&str, MemberRole)]) -> LogId {
        let rules = pb::RosterRules { join: pb::JoinRule::Anyone.into(), ..rules() };
        self.open_as("acme", RoomKind::Channel, room, rules, members).await
    }

    /// Opens the direct room of two users.
    pub(crate) async fn direct(&self, room: &str, pair: [&str; 2]) -> LogId {
        let members = pair.map(|user| (user, Member));
        let rules = pb::RosterRules { capacity: 2, ..rules() };
        self.open_as("acme", RoomKind::Direct, room, rules, &members).await
    }

    /// The last events of a log, without the room's creation and the first joining.
    pub(crate) fn later_events(&self, log_id: LogId) -> Vec<Event> {
        self.logs.log(log_id).events.split_off(2)
    }

    /// Everybody who is in a room, with their roles, in order.
    pub(crate) async fn roles(&self, room: &str) -> Vec<(String, MemberRole)> {
        let request = pb::ListRoomMembersRequest {
            room_id: room.to_owned(),
            page_size: 100,
            ..Default::default()
        };
        let page = self.service().members.list_room_members(request).await.expect("list");
        let page = page.into_inner();
        assert_eq!(page.total_size, i64::try_from(page.members.len()).expect("few"));
        page.members.into_iter().map(|m| (m.user_id.clone(), m.role())).collect()
    }
}

pub(crate) fn named(user: &str) -> pb::User {
    pb::User { user_id: user.to_owned(), ..Default::default() }
}

/// Group rules: members add, admins remove, nobody joins.
pub(crate) fn rules() -> pb::RosterRules {
    pb::RosterRules {
        join: pb::JoinRule::AddedOnly.into(),
        add: pb::MemberRule::Members.into(),
        remove: pb::MemberRule::Admins.into(),
        capacity: 100,
        watched: false,
    }
}

pub(crate) fn grants(members: &[(&str, MemberRole)]) -> Vec<MemberGrant> {
    let grant = |(user, role): &(&str, MemberRole)| MemberGrant {
        user_id: (*user).to_owned(),
        role: (*role).into(),
    };
    members.iter().map(grant).collect()
}

pub(crate) fn created() -> Event {
    let rules = Some(LogRules::default());
    Event {
        effects: Some(Effects { rules, ..Effects::default() }),
        body: Some(Body::RoomCreated(RoomCreated::default())),
        ..Event::default()
    }
}

/// A request to open a group whose members come into being.
pub(crate) fn opening(
    log_id: LogId,
    room: &str,
    members: &[(&str, MemberRole)],
) -> pb::OpenRosterRequest {
    pb::OpenRosterRequest {
        log_id: log_id.0.to_string(),
        room_id: room.to_owned(),
        kind: RoomKind::Group.into(),
        rules: Some(rules()),
        rules_version: 1,
        members: grants(members),
        ensure_user_ids: members.iter().map(|(user, _)| (*user).to_owned()).collect(),
        created_event: created().encode_to_vec(),
        live: None,
    }
}

pub(crate) fn strings(values: &[&str]) -> Vec<String> {
    values.iter().map(|value| (*value).to_owned()).collect()
}

/// Asserts that a call was refused for a reason that names a user.
#[track_caller]
pub(crate) fn refused_naming<T: Debug>(
    result: Result<Response<T>, Status>,
    reason: Reason,
    user: &str,
) {
    let info = refused(result, reason).get_details_error_info().expect("error info");
    assert_eq!(info.metadata.get("user_id").map(String::as_str), Some(user));
}

/// Who an event says to have gained, lost or changed.
pub(crate) fn effects(event: &Event) -> (Vec<(String, MemberRole)>, Vec<String>) {
    let effects = event.effects.clone().expect("effects");
    let granted = effects.gained.into_iter().chain(effects.roles);
    (granted.map(|grant| (grant.user_id.clone(), grant.role())).collect(), effects.lost_user_ids)
}

pub(crate) fn add(room: &str, users: &[&str]) -> pb::AddMembersRequest {
    pb::AddMembersRequest {
        room_id: room.to_owned(),
        user_ids: strings(users),
        ..Default::default()
    }
}

/// Ends a room.
pub(crate) async fn close(world: &World, log_id: LogId) {
    let close = pb::CloseRosterRequest { log_id: log_id.0.to_string() };
    world.room_service("acme", None).rosters.close_roster(close).await.expect("closed");
}

pub(crate) fn join(room: &str) -> pb::JoinRoomRequest {
    pb::JoinRoomRequest { room_id: room.to_owned() }
}
