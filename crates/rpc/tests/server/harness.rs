//! A server with two services made up for the tests.

use std::pin::Pin;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use parlance_proto::membership::v1::user_service_client::UserServiceClient;
use parlance_proto::membership::v1::user_service_server::{UserService, UserServiceServer};
use parlance_proto::membership::v1::{
    BatchGetUsersRequest, BatchGetUsersResponse, BatchUpsertUsersRequest, BatchUpsertUsersResponse,
    GetUserRequest, GetUserResponse, SearchUsersRequest, SearchUsersResponse, UpsertUserRequest,
    UpsertUserResponse, User,
};
use parlance_proto::message::v1::stream_service_client::StreamServiceClient;
use parlance_proto::message::v1::stream_service_server::{StreamService, StreamServiceServer};
use parlance_proto::message::v1::{SubscribeRequest, SubscribeResponse};
use parlance_rpc::{
    Auth, AuthConfig, ConnectionLimits, Health, Internal, InternalKey, KeySource, Layers,
    MAX_REQUEST, Minter, Principal, Reason, Reflection, Role, Secret, Server, Tls, Transport, Web,
    caller, carry, internal, remaining,
};
use parlance_types::{Clock, ManualClock, Micros, SystemClock, TenantId, UserId};
use tempfile::TempDir;
use tokio::net::TcpListener;
use tokio::sync::{Notify, Semaphore};
use tokio::task::JoinHandle;
use tokio::time::Instant;
use tokio_stream::Stream;
use tokio_util::sync::CancellationToken;
use tonic::service::Routes;
use tonic::transport::Channel;
use tonic::{Request, Response, Status};

pub(crate) type StreamClient = StreamServiceClient<Channel>;

pub(crate) const USERS: &str = "parlance.membership.v1.UserService";
pub(crate) const MINUTE: Duration = Duration::from_mins(1);

/// Does what the id of a user says.
#[derive(Clone)]
pub(crate) struct Fake {
    /// Where `GetUser("through")` goes on.
    behind: Option<(Internal, Transport)>,
    pub(crate) gate: Arc<Semaphore>,
    pub(crate) entered: Arc<Notify>,
    draining: CancellationToken,
    /// By when the streams of calls of `GetUser("leaves")` are elsewhere.
    pub(crate) leaves: Arc<Mutex<Vec<Instant>>>,
}

type Frames = Pin<Box<dyn Stream<Item = Result<SubscribeResponse, Status>> + Send>>;

fn found(user_id: impl Into<String>) -> Response<GetUserResponse> {
    let user = User { user_id: user_id.into(), ..User::default() };
    Response::new(GetUserResponse { user: Some(user) })
}

#[tonic::async_trait]
impl UserService for Fake {
    async fn get_user(
        &self,
        request: Request<GetUserRequest>,
    ) -> Result<Response<GetUserResponse>, Status> {
        let left = remaining(&request);
        match request.get_ref().user_id.as_str() {
            "me" => {
                let caller = caller(&request)?;
                Ok(found(format!("{} {:?}", caller.tenant_id, caller.principal)))
            }
            "leaves" => {
                self.leaves.lock().expect("no panic").extend(caller(&request)?.leaves);
                Ok(found("leaves"))
            }
            "internal" => {
                let caller = internal(&request)?;
                let Principal::Internal(user) = caller.principal else { unreachable!() };
                let headers = request.metadata();
                let text = |key| headers.get(key).and_then(|value| value.to_str().ok());
                Ok(found(format!(
                    "{} {:?} {} {}",
                    caller.tenant_id,
                    user.map(UserId::into_string),
                    text("x-request-id").unwrap_or_default(),
                    text("traceparent").unwrap_or_default(),
                )))
            }
            "through" => {
                let caller = caller(&request)?;
                let (internal, behind) = self.behind.clone().expect("somewhere to go");
                let message = GetUserRequest { user_id: "internal".to_owned() };
                let request = internal.request(&caller.tenant_id, caller.user(), left, message);
                UserServiceClient::new(behind).get_user(request).await
            }
            "spawned" => {
                // As changes do, which outlive a caller that goes away.
                let (fake, caller) = (self.clone(), caller(&request)?);
                let change = async move {
                    let (internal, behind) = fake.behind.expect("somewhere to go");
                    let message = GetUserRequest { user_id: "internal".to_owned() };
                    let request = internal.request(&caller.tenant_id, caller.user(), left, message);
                    UserServiceClient::new(behind).get_user(request).await
                };
                tokio::spawn(carry(change)).await.expect("no panic")
            }
            "wait" => {
                self.entered.notify_one();
                let permit = self.gate.acquire().await;
                permit.map_err(|_| Status::internal("closed"))?.forget();
                Ok(found("waited"))
            }
            text => panic!("a bug about {text}"),
        }
    }

    async fn upsert_user(
        &self,
        _: Request<UpsertUserRequest>,
    ) -> Result<Response<UpsertUserResponse>, Status> {
        Ok(Response::new(UpsertUserResponse::default()))
    }

    async fn batch_upsert_users(
        &self,
        _: Request<BatchUpsertUsersRequest>,
    ) -> Result<Response<BatchUpsertUsersResponse>, Status> {
        Ok(Response::new(BatchUpsertUsersResponse::default()))
    }

    async fn batch_get_users(
        &self,
        _: Request<BatchGetUsersRequest>,
    ) -> Result<Response<BatchGetUsersResponse>, Status> {
        Ok(Response::new(BatchGetUsersResponse::default()))
    }

    async fn search_users(
        &self,
        _: Request<SearchUsersRequest>,
    ) -> Result<Response<SearchUsersResponse>, Status> {
        Ok(Response::new(SearchUsersResponse::default()))
    }
}

#[tonic::async_trait]
impl StreamService for Fake {
    type SubscribeStream = Frames;

    /// Panics after its first frame, or is silent until the server drains and ends
    /// with another frame; follows for ever if asked for all rooms.
    async fn subscribe(
        &self,
        request: Request<SubscribeRequest>,
    ) -> Result<Response<Frames>, Status> {
        let request = request.into_inner();
        let (panics, stays) = (!request.rooms.is_empty(), request.all_my_rooms);
        let first = tokio_stream::once(Ok(SubscribeResponse::default()));
        let draining = self.draining.clone();
        let rest = futures::stream::once(async move {
            assert!(!panics, "a bug in a stream");
            draining.cancelled().await;
            if stays {
                std::future::pending::<()>().await;
            }
            Ok(SubscribeResponse::default())
        });
        Ok(Response::new(Box::pin(tokio_stream::StreamExt::chain(first, rest))))
    }
}

/// A server that runs.
pub(crate) struct Harness {
    pub(crate) address: std::net::SocketAddr,
    pub(crate) health: Health,
    pub(crate) fake: Fake,
    pub(crate) shutdown: CancellationToken,
    pub(crate) served: JoinHandle<std::io::Result<()>>,
    pub(crate) internal: Internal,
    signing: InternalKey,
    minter: Minter,
    _folder: TempDir,
}

impl Harness {
    pub(crate) async fn start() -> Self {
        Self::with(Duration::from_secs(10), |layers| layers).await
    }

    pub(crate) async fn with(drain: Duration, change: impl FnOnce(Layers) -> Layers) -> Self {
        Self::made(Reflection::Open, ConnectionLimits::default(), drain, change).await
    }

    pub(crate) async fn limited(limits: ConnectionLimits) -> Self {
        Self::made(Reflection::Open, limits, Duration::from_secs(10), |layers| layers).await
    }

    pub(crate) async fn reflecting(reflection: Reflection) -> Self {
        let limits = ConnectionLimits::default();
        Self::made(reflection, limits, Duration::from_secs(10), |layers| layers).await
    }

    /// One whose connections begin with TLS, or that browsers call too.
    pub(crate) async fn open_to(tls: Option<Tls>, web: Option<Web>) -> Self {
        let (reflection, limits) = (Reflection::Open, ConnectionLimits::default());
        Self::of(reflection, limits, Duration::from_secs(10), |layers| layers, tls, web).await
    }

    async fn made(
        reflection: Reflection,
        limits: ConnectionLimits,
        drain: Duration,
        change: impl FnOnce(Layers) -> Layers,
    ) -> Self {
        Self::of(reflection, limits, drain, change, None, None).await
    }

    async fn of(
        reflection: Reflection,
        limits: ConnectionLimits,
        drain: Duration,
        change: impl FnOnce(Layers) -> Layers,
        tls: Option<Tls>,
        web: Option<Web>,
    ) -> Self {
        let folder = TempDir::new().expect("a folder");
        let key = folder.path().join("key");
        let secret = Secret::random();
        std::fs::write(&key, secret.as_bytes()).expect("a file");
        let signing = InternalKey::random();
        let clock: Arc<dyn Clock> = Arc::new(SystemClock);
        let mut config = AuthConfig::new(vec![KeySource::secret(&key)], signing.clone());
        config.reflection = reflection;
        let auth = Auth::load(config, Arc::clone(&clock)).await.expect("keys");
        let layers = change(Layers::new(auth));
        let internal = Internal::new(signing.clone(), clock);

        let draining = CancellationToken::new();
        let mut fake = Fake {
            behind: None,
            gate: Arc::new(Semaphore::new(0)),
            entered: Arc::default(),
            draining: draining.clone(),
            leaves: Arc::default(),
        };
        let behind = layers.in_process(Routes::new(UserServiceServer::new(fake.clone())));
        fake.behind = Some((internal.clone(), behind));
        let users = UserServiceServer::new(fake.clone()).max_decoding_message_size(MAX_REQUEST);
        let routes = Routes::new(users).add_service(StreamServiceServer::new(fake.clone()));

        let health = Health::new([USERS]).await;
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let address = listener.local_addr().expect("an address");
        let shutdown = CancellationToken::new();
        let health_of = health.clone();
        let program = Server { layers, health: health_of, limits, tls, web, draining, drain };
        let served = tokio::spawn(program.serve(listener, routes, shutdown.clone()));
        let (issuer, audience) = ("parlance".to_owned(), "parlance".to_owned());
        let minter = Minter { secret, issuer, audience };
        Self { address, health, fake, shutdown, served, internal, signing, minter, _folder: folder }
    }

    pub(crate) fn channel(&self) -> Channel {
        Channel::from_shared(format!("http://{}", self.address)).expect("a URL").connect_lazy()
    }

    pub(crate) fn users(&self) -> UserServiceClient<Channel> {
        UserServiceClient::new(self.channel())
    }

    pub(crate) fn streams(&self) -> StreamServiceClient<Channel> {
        StreamServiceClient::new(self.channel())
    }

    /// A request of the user ann of the tenant acme.
    pub(crate) fn ann<T>(&self, message: T) -> Request<T> {
        let (tenant, ann) = (TenantId::new("acme"), UserId::new("ann"));
        let now = SystemClock.now();
        let token = self.minter.token(&tenant, Role::User, &ann, now, MINUTE);
        let mut request = Request::new(message);
        let bearer = format!("Bearer {token}").parse().expect("a value");
        request.metadata_mut().insert("authorization", bearer);
        request
    }

    /// A call of another service of the suite, whose clock is so far ahead.
    pub(crate) fn skewed(&self, ahead: Duration) -> Request<GetUserRequest> {
        let ahead = Micros::try_from(ahead.as_micros()).expect("a time");
        let clock = Arc::new(ManualClock::at(SystemClock.now() + ahead));
        let message = GetUserRequest { user_id: "internal".to_owned() };
        let internal = Internal::new(self.signing.clone(), clock);
        internal.request(&TenantId::new("acme"), None, MINUTE, message)
    }

    pub(crate) fn get(&self, user_id: &str) -> Request<GetUserRequest> {
        self.ann(GetUserRequest { user_id: user_id.to_owned() })
    }
}

pub(crate) fn user_id(response: Response<GetUserResponse>) -> String {
    response.into_inner().user.expect("a user").user_id
}

pub(crate) fn reason<T>(result: Result<T, Status>) -> Option<Reason> {
    Reason::of(&result.err().expect("an error"))
}
