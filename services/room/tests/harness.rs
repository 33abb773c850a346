//! A room service over services in memory, and callers of it.

use std::sync::Arc;

use parlance_db::Db;
use parlance_proto::membership::v1::member_edit_service_server::MemberEditServiceServer;
use parlance_proto::membership::v1::membership_service_client::MembershipServiceClient;
use parlance_proto::membership::v1::moderation_service_client::ModerationServiceClient;
use parlance_proto::membership::v1::roster_service_server::RosterServiceServer;
use parlance_proto::membership::v1::tenant_service_server::TenantServiceServer;
use parlance_proto::membership::v1::user_service_client::UserServiceClient;
use parlance_proto::message::v1::RoomKind;
use parlance_proto::message::v1::content_filter_service_server::ContentFilterServiceServer;
use parlance_proto::message::v1::fact_service_server::FactServiceServer;
use parlance_proto::message::v1::user_log_service_server::UserLogServiceServer;
use parlance_proto::room::v1 as pb;
use parlance_proto::room::v1::metadata_service_client::MetadataServiceClient;
use parlance_proto::room::v1::operator_service_client::OperatorServiceClient;
use parlance_proto::room::v1::room_list_service_client::RoomListServiceClient;
use parlance_proto::room::v1::room_service_client::RoomServiceClient;
use parlance_proto::room::v1::tenant_settings_service_client::TenantSettingsServiceClient;
use parlance_room::Service;
use parlance_rpc::testing::{acme, called_by, caller, in_time, suite};
pub(crate) use parlance_rpc::testing::{eventually, refused, violates};
use parlance_rpc::{Caller, Env, Principal, Run, Served, Transport, internal, public};
use parlance_types::{ManualClock, Micros, UserId};

use crate::logs::FakeLogs;
use crate::roster::FakeRoster;

/// Clients of one caller.
#[derive(Clone, Debug)]
pub(crate) struct Client {
    pub(crate) rooms: RoomServiceClient<Transport>,
    pub(crate) lists: RoomListServiceClient<Transport>,
    pub(crate) metadata: MetadataServiceClient<Transport>,
    pub(crate) settings: TenantSettingsServiceClient<Transport>,
}

/// Seconds of the services' clock.
pub(crate) const SECOND: Micros = 1_000_000;

pub(crate) struct Harness {
    pub(crate) service: Service,
    pub(crate) roster: FakeRoster,
    pub(crate) logs: FakeLogs,
    pub(crate) clock: Arc<ManualClock>,
    env: Env,
}

/// The real membership service.
pub(crate) struct Membership(parlance_membership::Service);

impl Harness {
    /// A service on `db`. Bob and Cid are users of the tenant acme already.
    pub(crate) async fn new(db: Db) -> Self {
        let roster = FakeRoster::default();
        for user in ["bob", "cid"] {
            roster.state().users.insert(("acme".to_owned(), user.to_owned()));
        }
        let servers = internal![
            RosterServiceServer::new(roster.clone()),
            MemberEditServiceServer::new(roster.clone()),
            TenantServiceServer::new(roster.clone()),
        ];
        Self::over(db, roster, |_, _| ((), servers)).await.0
    }

    /// A service on `db` beside the real membership service on `beside`.
    pub(crate) async fn beside_membership(db: Db, beside: Db) -> (Self, Membership) {
        Self::over(db, FakeRoster::default(), |env, message| {
            let service = parlance_membership::Service::open(env, beside, message);
            let rosters = service.internal();
            (Membership(service), rosters)
        })
        .await
    }

    /// A service on `db` over the rosters that `serve` makes.
    async fn over<T>(
        db: Db,
        roster: FakeRoster,
        serve: impl FnOnce(&Env, Transport) -> (T, Served),
    ) -> (Self, T) {
        let logs = FakeLogs::default();
        let clock = Arc::new(ManualClock::at(1_800_000_000 * SECOND));
        let (env, verified) = suite(Arc::clone(&clock) as _).await;
        let message = verified.in_process(
            internal![
                ContentFilterServiceServer::new(logs.clone()),
                FactServiceServer::new(logs.clone()),
                UserLogServiceServer::new(logs.clone()),
            ]
            .into_routes(),
        );
        let (beside, rosters) = serve(&env, message.clone());
        let rosters = verified.in_process(rosters.into_routes());
        let service = Service::open(&env, db, rosters, message);
        (Self { service, roster, logs, clock, env }, beside)
    }

    /// A client of a caller that was verified.
    pub(crate) fn caller(&self, tenant_id: &str, principal: Principal) -> Client {
        self.client(caller(tenant_id, principal))
    }

    fn client(&self, caller: Caller) -> Client {
        let to = called_by(self.service.public(), caller, None);
        Client {
            rooms: RoomServiceClient::new(to.clone()),
            lists: RoomListServiceClient::new(to.clone()),
            metadata: MetadataServiceClient::new(to.clone()),
            settings: TenantSettingsServiceClient::new(to),
        }
    }

    /// A client of a user of the tenant acme.
    pub(crate) fn user(&self, user: &str) -> Client {
        self.caller("acme", Principal::User(UserId::new(user)))
    }

    /// A client of a service of the tenant acme that acts for nobody.
    pub(crate) fn backend(&self) -> Client {
        self.caller("acme", Principal::Service)
    }

    /// A client of a service of the tenant acme that acts for a user.
    pub(crate) fn service_for(&self, user: &str) -> Client {
        self.caller("acme", Principal::ServiceFor(UserId::new(user)))
    }

    /// A client of a service of the tenant acme, by the subject of its token.
    pub(crate) fn backend_named(&self, subject: &str) -> Client {
        let backend = caller("acme", Principal::Service);
        self.client(Caller { subject: subject.to_owned(), ..backend })
    }

    /// What operators of the installation call.
    pub(crate) fn operators(&self) -> OperatorServiceClient<Transport> {
        let operator = caller("acme", Principal::Operator);
        OperatorServiceClient::new(called_by(self.service.public(), operator, None))
    }

    /// Starts what the service does by itself.
    pub(crate) fn run(&self) {
        self.service.run();
    }

    /// How one of the tasks that it runs is doing.
    pub(crate) fn task(&self, name: &str) -> Option<Run> {
        self.env.tasks.report().remove(name)
    }

    /// Stops what the service does by itself.
    pub(crate) async fn stop(&self) {
        in_time(self.env.tasks.close()).await;
        assert_eq!(self.env.tasks.broken_by(), None);
    }
}

impl Membership {
    /// Ends live rooms whose time is over.
    pub(crate) async fn end_due(&self) {
        self.0.end_due().await.expect("ended");
    }

    /// A client of a user of the tenant acme.
    pub(crate) fn user(&self, user: &str) -> MembershipServiceClient<Transport> {
        let members = public![self.0.memberships()];
        MembershipServiceClient::new(called_by(members, acme(user), None))
    }

    /// The same user's client for moderation.
    pub(crate) fn moderation(&self, user: &str) -> ModerationServiceClient<Transport> {
        ModerationServiceClient::new(called_by(public![self.0.moderation()], acme(user), None))
    }

    /// The same user's client of the directory.
    pub(crate) fn users(&self, user: &str) -> UserServiceClient<Transport> {
        UserServiceClient::new(called_by(public![self.0.users()], acme(user), None))
    }
}

/// A request for the group `room_id` with these members.
pub(crate) fn group(room_id: &str, members: &[&str]) -> pb::CreateRoomRequest {
    pb::CreateRoomRequest {
        room_id: room_id.to_owned(),
        kind: RoomKind::Group.into(),
        name: "Our room".to_owned(),
        member_user_ids: members.iter().map(ToString::to_string).collect(),
        ..pb::CreateRoomRequest::default()
    }
}

/// A request for a group that takes as much as one may.
pub(crate) fn largest(room_id: &str) -> pb::CreateRoomRequest {
    pb::CreateRoomRequest {
        name: "\u{10348}".repeat(256),
        picture: "x".repeat(2048),
        description: "\u{10348}".repeat(4000),
        metadata: (0..32).map(|n| (format!("{n:0>64}"), "x".repeat(1024))).collect(),
        ..group(room_id, &[])
    }
}

/// A request for the channel of a unique id.
pub(crate) fn channel(unique_id: &str) -> pb::GetOrCreateChannelRequest {
    let unique_id = unique_id.to_owned();
    pb::GetOrCreateChannelRequest { unique_id, ..pb::GetOrCreateChannelRequest::default() }
}

/// A request for the direct room with a user.
pub(crate) fn direct(user_id: &str) -> pb::GetOrCreateDirectRoomRequest {
    let user_id = user_id.to_owned();
    pb::GetOrCreateDirectRoomRequest { user_id, ..pb::GetOrCreateDirectRoomRequest::default() }
}

/// A request for a room.
pub(crate) fn get(room_id: &str) -> pb::GetRoomRequest {
    pb::GetRoomRequest { room_id: room_id.to_owned(), ..Default::default() }
}

/// A request to delete a room.
pub(crate) fn delete(room_id: &str, request_id: &str) -> pb::DeleteRoomRequest {
    pb::DeleteRoomRequest { room_id: room_id.to_owned(), request_id: request_id.to_owned() }
}

/// Creates a room.
pub(crate) async fn create(client: &mut Client, request: pb::CreateRoomRequest) -> pb::Room {
    let reply = client.rooms.create_room(request).await.expect("created").into_inner();
    reply.room.expect("a room")
}
