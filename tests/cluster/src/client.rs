//! A caller that does what a client should: it keeps its request id and goes to
//! another replica when one does not answer.

use std::time::Duration;

use bytes::{Buf as _, Bytes};
use http::uri::PathAndQuery;
use parlance_proto::membership::v1::membership_service_client::MembershipServiceClient;
use parlance_proto::membership::v1::operator_service_client::OperatorServiceClient as MembershipOperator;
use parlance_proto::membership::v1::user_service_client::UserServiceClient;
use parlance_proto::membership::v1::{
    AddMembersRequest, AddMembersResponse, BatchUpsertUsersRequest, OutboxCounters,
    RemoveMembersRequest, RemoveMembersResponse, User,
};
use parlance_proto::message::v1::inbox_service_client::InboxServiceClient;
use parlance_proto::message::v1::mark_service_client::MarkServiceClient;
use parlance_proto::message::v1::message_service_client::MessageServiceClient;
use parlance_proto::message::v1::operator_service_client::OperatorServiceClient;
use parlance_proto::message::v1::reaction_service_client::ReactionServiceClient;
use parlance_proto::message::v1::stream_service_client::StreamServiceClient;
use parlance_proto::message::v1::{
    AddReactionRequest, GetCountersRequest, GetCountersResponse, GetUnreadRequest, HealingCounters,
    ListMessagesRequest, MarkReadRequest, Message, MessageContent, RecountUnreadRequest,
    RemoveReactionRequest, RoomKind, RoomUnread, SendMessageRequest, SendMessageResponse,
    SubscribeRequest, SubscribeResponse,
};
use parlance_proto::presence::v1::presence_service_client::PresenceServiceClient;
use parlance_proto::presence::v1::session_service_client::SessionServiceClient;
use parlance_proto::room::v1::room_service_client::RoomServiceClient;
use parlance_proto::room::v1::{CreateRoomRequest, CreateRoomResponse};
use parlance_rpc::Reason;
use tokio::time::{Instant, sleep, timeout};
use tonic::client::Grpc;
use tonic::codec::{BufferSettings, Codec, DecodeBuf, Decoder};
use tonic::metadata::AsciiMetadataValue;
use tonic::service::Interceptor;
use tonic::service::interceptor::InterceptedService;
use tonic::transport::Channel;
use tonic::{Code, Request, Response, Status, Streaming};
use uuid::Uuid;

use crate::Kind;

/// How long one try may take, and how long a call is tried.
const TRY: Duration = Duration::from_secs(4);
const PATIENCE: Duration = Duration::from_mins(1);

/// One caller. Clones share the connections.
#[derive(Clone, Debug)]
pub struct Client {
    /// By kind, in the order of [`Kind::ALL`].
    channels: [Vec<Channel>; 4],
    bearer: String,
}

impl Client {
    pub(crate) fn new(channels: [Vec<Channel>; 4], token: &str) -> Self {
        Self { channels, bearer: format!("Bearer {token}") }
    }

    /// A connection to one replica; numbers beyond the last begin anew.
    fn channel(&self, kind: Kind, replica: usize) -> Channel {
        let channels = &self.channels[kind as usize];
        channels[replica % channels.len()].clone()
    }

    fn request<T>(&self, message: T) -> Request<T> {
        let mut request = Request::new(message);
        let bearer = self.bearer.parse().expect("a token is ASCII");
        request.metadata_mut().insert("authorization", bearer);
        request
    }

    /// Calls one replica once.
    pub async fn once<M, R, W>(
        &self,
        at: (Kind, usize),
        message: M,
        rpc: impl Fn(Channel, Request<M>) -> W,
    ) -> Result<R, Status>
    where
        W: Future<Output = Result<Response<R>, Status>>,
    {
        self.once_within(TRY, at, message, rpc).await
    }

    /// Calls one replica once, with a deadline.
    pub async fn once_within<M, R, W>(
        &self,
        within: Duration,
        (kind, replica): (Kind, usize),
        message: M,
        rpc: impl Fn(Channel, Request<M>) -> W,
    ) -> Result<R, Status>
    where
        W: Future<Output = Result<Response<R>, Status>>,
    {
        let mut request = self.request(message);
        request.set_timeout(within);
        let answer = timeout(within, rpc(self.channel(kind, replica), request)).await;
        let late = || Status::deadline_exceeded("no answer");
        answer.unwrap_or_else(|_| Err(late())).map(Response::into_inner)
    }

    /// Calls until there is an answer that no repeat would change, first of
    /// `replica`, then of the others by turns.
    pub async fn call<M: Clone, R, W>(
        &self,
        (kind, mut replica): (Kind, usize),
        message: M,
        rpc: impl Fn(Channel, Request<M>) -> W,
    ) -> Result<R, Status>
    where
        W: Future<Output = Result<Response<R>, Status>>,
    {
        let end = Instant::now() + PATIENCE;
        let mut pause = Duration::from_millis(5);
        loop {
            let status = match self.once((kind, replica), message.clone(), &rpc).await {
                Ok(answer) => return Ok(answer),
                Err(status) if is_final(&status) || Instant::now() > end => return Err(status),
                Err(status) => status,
            };
            drop(status);
            replica += 1;
            sleep(pause).await;
            pause = (pause * 2).min(Duration::from_millis(300));
        }
    }

    /// Sends until it is answered.
    pub async fn send(
        &self,
        replica: usize,
        room: &str,
        request_id: &str,
        text: &str,
    ) -> Result<SendMessageResponse, Status> {
        self.reply(replica, room, request_id, text, "").await
    }

    /// Sends a reply to a message until it is answered; to none, if its id is empty.
    pub async fn reply(
        &self,
        replica: usize,
        room: &str,
        request_id: &str,
        text: &str,
        to: &str,
    ) -> Result<SendMessageResponse, Status> {
        let content = MessageContent {
            text: text.to_owned(),
            reply_to_message_id: to.to_owned(),
            ..MessageContent::default()
        };
        let request = SendMessageRequest {
            room_id: room.to_owned(),
            content: Some(content),
            request_id: request_id.to_owned(),
            ..SendMessageRequest::default()
        };
        let rpc = |channel, request| async move {
            MessageServiceClient::new(channel).send_message(request).await
        };
        self.call((Kind::Message, replica), request, rpc).await
    }

    /// Reacts to a message, or no longer, until that is answered.
    pub async fn react(
        &self,
        replica: usize,
        message_id: &str,
        kind: &str,
        add: bool,
    ) -> Result<(), Status> {
        let (message_id, kind) = (message_id.to_owned(), kind.to_owned());
        if add {
            let request = AddReactionRequest { message_id, kind, replace: false };
            let rpc = |channel, request| async move {
                ReactionServiceClient::new(channel).add_reaction(request).await
            };
            return self.call((Kind::Message, replica), request, rpc).await.map(drop);
        }
        let request = RemoveReactionRequest { message_id, kind };
        let rpc = |channel, request| async move {
            ReactionServiceClient::new(channel).remove_reaction(request).await
        };
        self.call((Kind::Message, replica), request, rpc).await.map(drop)
    }

    /// The latest messages of a room.
    pub async fn messages(&self, room: &str) -> Vec<Message> {
        let request = ListMessagesRequest {
            room_id: room.to_owned(),
            page_size: 100,
            ..ListMessagesRequest::default()
        };
        let rpc = |channel, request| async move {
            MessageServiceClient::new(channel).list_messages(request).await
        };
        self.call((Kind::Message, 0), request, rpc).await.expect("messages").messages
    }

    pub async fn subscribe(
        &self,
        replica: usize,
        request: SubscribeRequest,
    ) -> Result<Streaming<SubscribeResponse>, Status> {
        let mut client = StreamServiceClient::new(self.channel(Kind::Message, replica));
        let answer = timeout(TRY, client.subscribe(self.request(request))).await;
        let late = || Status::deadline_exceeded("no answer");
        answer.unwrap_or_else(|_| Err(late())).map(Response::into_inner)
    }

    /// Subscribes at whichever replica lets it.
    pub async fn follow(&self, request: SubscribeRequest) -> Streaming<SubscribeResponse> {
        let end = Instant::now() + PATIENCE;
        for replica in 0.. {
            match self.subscribe(replica, request.clone()).await {
                Ok(stream) => return stream,
                Err(status) => assert!(!is_final(&status) && Instant::now() < end, "{status}"),
            }
            sleep(Duration::from_millis(50)).await;
        }
        unreachable!("replicas do not end")
    }

    /// As `subscribe`, without understanding what comes.
    pub async fn subscribe_raw(
        &self,
        replica: usize,
        request: SubscribeRequest,
    ) -> Result<Streaming<Bytes>, Status> {
        let mut client = Grpc::new(self.channel(Kind::Message, replica));
        client.ready().await.map_err(|error| Status::unavailable(error.to_string()))?;
        let path = PathAndQuery::from_static("/parlance.message.v1.StreamService/Subscribe");
        let answer = client.server_streaming(self.request(request), path, Raw).await;
        answer.map(Response::into_inner)
    }

    /// The presence service, at one replica.
    pub fn presence(&self, replica: usize) -> Presence {
        let channel = self.channel(Kind::Presence, replica);
        PresenceServiceClient::with_interceptor(channel, self.bearer())
    }

    /// The sessions of the presence service, at one replica.
    pub fn sessions(&self, replica: usize) -> Sessions {
        let channel = self.channel(Kind::Presence, replica);
        SessionServiceClient::with_interceptor(channel, self.bearer())
    }

    fn bearer(&self) -> Bearer {
        Bearer(self.bearer.parse().expect("a token is ASCII"))
    }

    pub async fn mark_read(&self, room: &str, seq: i64) -> Result<(), Status> {
        let request = MarkReadRequest { room_id: room.to_owned(), seq };
        let rpc = |channel, request| async move {
            MarkServiceClient::new(channel).mark_read(request).await
        };
        self.call((Kind::Message, 0), request, rpc).await.map(drop)
    }

    /// What is unread in rooms.
    pub async fn unread(&self, rooms: &[String]) -> Vec<RoomUnread> {
        let request = GetUnreadRequest { room_ids: rooms.to_vec(), ..GetUnreadRequest::default() };
        let rpc = |channel, request| async move {
            InboxServiceClient::new(channel).get_unread(request).await
        };
        self.call((Kind::Message, 0), request, rpc).await.expect("counts").rooms
    }

    /// What a replica of message had to heal, as an operator sees it.
    pub(crate) async fn healing(&self, replica: usize) -> HealingCounters {
        self.counters(replica).await.healing.expect("counters")
    }

    pub(crate) async fn counters(&self, replica: usize) -> GetCountersResponse {
        let rpc = |channel, request| async move {
            OperatorServiceClient::new(channel).get_counters(request).await
        };
        let answer = self.once((Kind::Message, replica), GetCountersRequest {}, rpc).await;
        answer.expect("counters")
    }

    /// What a replica of membership had to heal, as an operator sees it.
    pub(crate) async fn outbox(&self, replica: usize) -> OutboxCounters {
        let rpc = |channel, request| async move {
            MembershipOperator::new(channel).get_counters(request).await
        };
        let request = parlance_proto::membership::v1::GetCountersRequest {};
        let answer = self.once((Kind::Membership, replica), request, rpc).await;
        answer.expect("counters").outbox.expect("counters")
    }

    /// How many rooms the service itself counts differently.
    pub async fn recount(&self) -> usize {
        let rpc = |channel, request| async move {
            InboxServiceClient::new(channel).recount_unread(request).await
        };
        let request = RecountUnreadRequest {};
        let answer = self.call((Kind::Message, 0), request, rpc).await;
        answer.expect("a recount").differences.len()
    }

    /// Makes users known, as a backend.
    pub async fn know(&self, users: &[String]) {
        let user = |id: &String| User { user_id: id.clone(), ..User::default() };
        for users in users.chunks(100) {
            let request = BatchUpsertUsersRequest { users: users.iter().map(user).collect() };
            let rpc = |channel, request| async move {
                UserServiceClient::new(channel).batch_upsert_users(request).await
            };
            self.call((Kind::Membership, 0), request, rpc).await.expect("users");
        }
    }

    /// Creates a group whose owner is the caller.
    pub async fn create_group(&self, room: &str, members: &[String]) -> Result<(), Status> {
        self.call((Kind::Room, 0), group(room, members), create).await.map(drop)
    }

    /// Creates a group without members, or fails.
    pub async fn create_once(&self, replica: usize, room: &str) -> Result<(), Status> {
        self.once((Kind::Room, replica), group(room, &[]), create).await.map(drop)
    }

    /// A request to remove one member.
    pub fn removal(room: &str, user: &str, request_id: &str) -> RemoveMembersRequest {
        RemoveMembersRequest {
            room_id: room.to_owned(),
            user_ids: vec![user.to_owned()],
            request_id: request_id.to_owned(),
            ..RemoveMembersRequest::default()
        }
    }

    /// Removes a member; OK means that it is in the log.
    pub async fn remove(&self, replica: usize, room: &str, user: &str) -> Result<(), Status> {
        let request = Self::removal(room, user, &any_id());
        self.call((Kind::Membership, replica), request, remove).await.map(drop)
    }

    pub async fn add(&self, replica: usize, room: &str, user: &str) -> Result<(), Status> {
        self.call((Kind::Membership, replica), adding(room, user, &any_id()), add).await.map(drop)
    }

    /// Adds a member, or fails.
    pub async fn add_once(&self, replica: usize, room: &str, user: &str) -> Result<(), Status> {
        self.once((Kind::Membership, replica), adding(room, user, &any_id()), add).await.map(drop)
    }
}

/// Puts the token into every request.
#[derive(Clone, Debug)]
pub struct Bearer(AsciiMetadataValue);

/// A client of the presence service that names its user.
pub type Presence = PresenceServiceClient<InterceptedService<Channel, Bearer>>;

/// A client of the sessions of the presence service that names its user.
pub type Sessions = SessionServiceClient<InterceptedService<Channel, Bearer>>;

impl Interceptor for Bearer {
    fn call(&mut self, mut request: Request<()>) -> Result<Request<()>, Status> {
        request.metadata_mut().insert("authorization", self.0.clone());
        Ok(request)
    }
}

/// Requests as protobuf, answers as bytes.
#[derive(Clone, Copy, Debug)]
struct Raw;

impl Codec for Raw {
    type Encode = SubscribeRequest;
    type Decode = Bytes;
    type Encoder = tonic_prost::ProstEncoder<SubscribeRequest>;
    type Decoder = Self;

    fn encoder(&mut self) -> Self::Encoder {
        tonic_prost::ProstEncoder::new(BufferSettings::default())
    }

    fn decoder(&mut self) -> Self {
        *self
    }
}

impl Decoder for Raw {
    type Item = Bytes;
    type Error = Status;

    fn decode(&mut self, from: &mut DecodeBuf<'_>) -> Result<Option<Bytes>, Status> {
        Ok(Some(from.copy_to_bytes(from.remaining())))
    }
}

fn any_id() -> String {
    Uuid::new_v4().to_string()
}

fn group(room: &str, members: &[String]) -> CreateRoomRequest {
    CreateRoomRequest {
        room_id: room.to_owned(),
        kind: RoomKind::Group.into(),
        name: room.to_owned(),
        member_user_ids: members.to_vec(),
        request_id: any_id(),
        ..CreateRoomRequest::default()
    }
}

/// A request to add one member.
pub fn adding(room: &str, user: &str, request_id: &str) -> AddMembersRequest {
    AddMembersRequest {
        room_id: room.to_owned(),
        user_ids: vec![user.to_owned()],
        request_id: request_id.to_owned(),
    }
}

async fn create(
    channel: Channel,
    request: Request<CreateRoomRequest>,
) -> Result<Response<CreateRoomResponse>, Status> {
    RoomServiceClient::new(channel).create_room(request).await
}

/// `AddMembers`, once.
pub async fn add(
    channel: Channel,
    request: Request<AddMembersRequest>,
) -> Result<Response<AddMembersResponse>, Status> {
    MembershipServiceClient::new(channel).add_members(request).await
}

/// `RemoveMembers`, once.
pub async fn remove(
    channel: Channel,
    request: Request<RemoveMembersRequest>,
) -> Result<Response<RemoveMembersResponse>, Status> {
    MembershipServiceClient::new(channel).remove_members(request).await
}

/// Whether a refusal stays one. A failure without a reason comes from the way
/// there, not from the service.
pub fn is_final(status: &Status) -> bool {
    let outage = [
        Code::Unavailable,
        Code::ResourceExhausted,
        Code::DeadlineExceeded,
        Code::Cancelled,
        Code::Aborted,
    ];
    Reason::of(status).is_some() && !outage.contains(&status.code())
}
