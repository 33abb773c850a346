//! A room service over services in memory, and callers of it.

use std::fmt::Debug;
use std::sync::Arc;
use std::time::Duration;

use parlance_db::Db;
use parlance_proto::membership::v1::membership_service_client::MembershipServiceClient;
use parlance_proto::membership::v1::roster_service_server::{RosterService, RosterServiceServer};
use parlance_proto::membership::v1::user_service_client::UserServiceClient;
use parlance_proto::message::v1::RoomKind;
use parlance_proto::message::v1::fact_service_server::FactServiceServer;
use parlance_proto::message::v1::user_log_service_server::UserLogServiceServer;
use parlance_proto::room::v1 as pb;
use parlance_proto::room::v1::room_list_service_client::RoomListServiceClient;
use parlance_proto::room::v1::room_service_client::RoomServiceClient;
use parlance_rpc::{
    Auth, AuthConfig, Caller, Internal, InternalKey, Principal, Reason, Transport, in_process,
};
use parlance_types::{Clock, ManualClock, Micros, TenantId, UserId};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;
use tonic::service::Routes;
use tonic::service::interceptor::InterceptedService;
use tonic::{Request, Response, Status};
use tonic_types::StatusExt as _;

use crate::logs::FakeLogs;
use crate::roster::FakeRoster;

/// Clients of one caller.
#[derive(Clone, Debug)]
pub(crate) struct Client {
    pub(crate) rooms: RoomServiceClient<Transport>,
    pub(crate) lists: RoomListServiceClient<Transport>,
}

/// Seconds of the services' clock.
pub(crate) const SECOND: Micros = 1_000_000;

pub(crate) struct Harness {
    pub(crate) service: parlance_room::Service,
    pub(crate) roster: FakeRoster,
    pub(crate) logs: FakeLogs,
    pub(crate) clock: Arc<ManualClock>,
}

/// What another service of the suite is made of.
struct Parts {
    clock: Arc<dyn Clock>,
    internal: Internal,
    message: Transport,
}

/// The real membership service.
pub(crate) struct Membership(parlance_membership::Service);

/// The background work of a service, until it is stopped.
pub(crate) struct Running(CancellationToken, JoinHandle<()>);

impl Running {
    pub(crate) async fn stop(self) {
        self.0.cancel();
        tokio::time::timeout(Duration::from_secs(20), self.1)
            .await
            .expect("it ends in time")
            .expect("it ends well");
    }
}

impl Harness {
    /// A service on `db`. Bob and Cid are users of the tenant acme already.
    pub(crate) async fn new(db: Db) -> Self {
        let roster = FakeRoster::default();
        for user in ["bob", "cid"] {
            roster.state().users.insert(("acme".to_owned(), user.to_owned()));
        }
        let server = RosterServiceServer::new(roster.clone());
        let (suite, ()) = Self::over(db, roster, |_| ((), server)).await;
        suite
    }

    /// A service on `db` beside the real membership service on `beside`.
    pub(crate) async fn beside_membership(db: Db, beside: Db) -> (Self, Membership) {
        Self::over(db, FakeRoster::default(), |parts: Parts| {
            let Parts { clock, internal, message } = parts;
            let service = parlance_membership::Service::open(beside, clock, internal, message);
            let rosters = service.rosters();
            (Membership(service), rosters)
        })
        .await
    }

    /// A service on `db` over the rosters that `serve` makes.
    async fn over<T, R>(
        db: Db,
        roster: FakeRoster,
        serve: impl FnOnce(Parts) -> (T, RosterServiceServer<R>),
    ) -> (Self, T)
    where
        R: RosterService,
    {
        let logs = FakeLogs::default();
        let clock = Arc::new(ManualClock::at(1_800_000_000 * SECOND));
        let shared: Arc<dyn Clock> = clock.clone();
        let key = InternalKey::random();
        let auth = AuthConfig::new(Vec::new(), key.clone());
        let auth = Auth::load(auth, Arc::clone(&shared)).await.expect("keys");
        let verify = move |mut request: Request<()>| {
            let caller = auth.verify(&request.metadata().clone().into_headers())?;
            request.extensions_mut().insert(caller);
            Ok::<_, Status>(request)
        };
        let facts = FactServiceServer::new(logs.clone());
        let user_logs = UserLogServiceServer::new(logs.clone());
        let message = Routes::new(InterceptedService::new(facts, verify.clone()))
            .add_service(InterceptedService::new(user_logs, verify.clone()));
        let message = in_process(message);
        let internal = Internal::new(key, Arc::clone(&shared));
        let parts = Parts {
            clock: Arc::clone(&shared),
            internal: internal.clone(),
            message: message.clone(),
        };
        let (beside, rosters) = serve(parts);
        let rosters = in_process(Routes::new(InterceptedService::new(rosters, verify)));
        let service = parlance_room::Service::open(db, shared, internal, rosters, message);
        (Self { service, roster, logs, clock }, beside)
    }

    /// A client of a caller that was verified.
    pub(crate) fn caller(&self, tenant_id: &str, principal: Principal) -> Client {
        let (tenant_id, subject) = (TenantId::new(tenant_id), "test".to_owned());
        self.client(&Caller { tenant_id, subject, principal, expires: Micros::MAX })
    }

    /// A client of a service of the tenant acme, by the subject of its token.
    pub(crate) fn backend_named(&self, subject: &str) -> Client {
        let (tenant_id, subject) = (TenantId::new("acme"), subject.to_owned());
        let principal = Principal::Service;
        self.client(&Caller { tenant_id, subject, principal, expires: Micros::MAX })
    }

    fn client(&self, caller: &Caller) -> Client {
        let rooms = InterceptedService::new(self.service.server(), called_by(caller.clone()));
        let lists = InterceptedService::new(self.service.lists(), called_by(caller.clone()));
        Client {
            rooms: RoomServiceClient::new(in_process(Routes::new(rooms))),
            lists: RoomListServiceClient::new(in_process(Routes::new(lists))),
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

    /// Starts what the service does by itself.
    pub(crate) fn run(&self) -> Running {
        let (service, shutdown) = (self.service.clone(), CancellationToken::new());
        let ended = shutdown.clone();
        Running(shutdown, tokio::spawn(async move { service.run(ended).await }))
    }
}

/// Lets every call be one of `caller`.
fn called_by(
    caller: Caller,
) -> impl FnMut(Request<()>) -> Result<Request<()>, Status> + Clone + Send + Sync + 'static {
    move |mut call| {
        call.extensions_mut().insert(caller.clone());
        Ok(call)
    }
}

impl Membership {
    /// A client of a user of the tenant acme.
    pub(crate) fn user(&self, user: &str) -> MembershipServiceClient<Transport> {
        let service = InterceptedService::new(self.0.memberships(), called_by(acme(user)));
        MembershipServiceClient::new(in_process(Routes::new(service)))
    }

    /// The same user's client of the directory.
    pub(crate) fn users(&self, user: &str) -> UserServiceClient<Transport> {
        let service = InterceptedService::new(self.0.users(), called_by(acme(user)));
        UserServiceClient::new(in_process(Routes::new(service)))
    }
}

/// A user of the tenant acme.
fn acme(user: &str) -> Caller {
    let principal = Principal::User(UserId::new(user));
    Caller {
        tenant_id: TenantId::new("acme"),
        subject: "test".to_owned(),
        principal,
        expires: Micros::MAX,
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
    pb::GetRoomRequest { room_id: room_id.to_owned() }
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

/// Checks that a call was refused for `reason`, with its code and its details.
pub(crate) fn assert_refused<T: Debug>(reply: Result<Response<T>, Status>, reason: Reason) {
    let status = reply.expect_err("refused");
    assert_eq!(Reason::of(&status), Some(reason), "{status:?}");
    assert_eq!(status.code(), reason.code(), "{status:?}");
}

/// Checks that a call was refused for what a field says.
pub(crate) fn assert_violation<T: Debug>(reply: Result<Response<T>, Status>, field: &str) {
    let status = reply.expect_err("refused");
    assert_eq!(Reason::of(&status), Some(Reason::InvalidField), "{status:?}");
    let bad = status.get_details_bad_request().expect("a BadRequest");
    assert_eq!(bad.field_violations[0].field, field);
}

/// Waits until `check` holds.
pub(crate) async fn eventually<W: Future<Output = bool>>(mut check: impl FnMut() -> W) {
    let holds = async {
        while !check().await {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(20), holds).await.expect("it holds in time");
}
