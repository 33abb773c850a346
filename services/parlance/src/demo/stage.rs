//! Where the story happens: calls with a token, lines that tell of them.

use std::io::Write;
use std::time::{Duration, Instant};

use parlance_proto::membership::v1::membership_service_client::MembershipServiceClient;
use parlance_proto::membership::v1::user_service_client::UserServiceClient;
use parlance_proto::message::v1::inbox_service_client::InboxServiceClient;
use parlance_proto::message::v1::mark_service_client::MarkServiceClient;
use parlance_proto::message::v1::message_service_client::MessageServiceClient;
use parlance_proto::message::v1::stream_service_client::StreamServiceClient;
use parlance_proto::presence::v1::session_service_client::SessionServiceClient;
use parlance_proto::room::v1::live_room_service_client::LiveRoomServiceClient;
use parlance_proto::room::v1::room_list_service_client::RoomListServiceClient;
use parlance_proto::room::v1::room_service_client::RoomServiceClient;
use parlance_rpc::Reason;
use tonic::metadata::MetadataValue;
use tonic::transport::Channel;
use tonic::{Code, Request, Response, Status};

use super::{DemoError, Tokens, Who};

/// How long a call may take.
const DEADLINE: Duration = Duration::from_secs(10);

/// The clients of a caller.
#[derive(Clone, Debug)]
pub(super) struct On(Channel);

impl On {
    pub(super) fn users(&self) -> UserServiceClient<Channel> {
        UserServiceClient::new(self.0.clone())
    }

    pub(super) fn members(&self) -> MembershipServiceClient<Channel> {
        MembershipServiceClient::new(self.0.clone())
    }

    pub(super) fn rooms(&self) -> RoomServiceClient<Channel> {
        RoomServiceClient::new(self.0.clone())
    }

    pub(super) fn lists(&self) -> RoomListServiceClient<Channel> {
        RoomListServiceClient::new(self.0.clone())
    }

    pub(super) fn live(&self) -> LiveRoomServiceClient<Channel> {
        LiveRoomServiceClient::new(self.0.clone())
    }

    pub(super) fn sessions(&self) -> SessionServiceClient<Channel> {
        SessionServiceClient::new(self.0.clone())
    }

    pub(super) fn marks(&self) -> MarkServiceClient<Channel> {
        MarkServiceClient::new(self.0.clone())
    }

    pub(super) fn inbox(&self) -> InboxServiceClient<Channel> {
        InboxServiceClient::new(self.0.clone())
    }

    pub(super) fn messages(&self) -> MessageServiceClient<Channel> {
        MessageServiceClient::new(self.0.clone())
    }

    pub(super) fn streams(&self) -> StreamServiceClient<Channel> {
        StreamServiceClient::new(self.0.clone())
    }
}

/// Makes calls and prints what happens.
pub(super) struct Stage<'a> {
    on: On,
    tokens: Tokens<'a>,
    out: &'a mut (dyn Write + Send),
    began: Instant,
    chapters: usize,
    calls: usize,
    /// The call that was announced last.
    rpc: &'static str,
}

impl<'a> Stage<'a> {
    pub(super) fn new(
        channel: Channel,
        tokens: Tokens<'a>,
        out: &'a mut (dyn Write + Send),
    ) -> Self {
        let began = Instant::now();
        Self { on: On(channel), tokens, out, began, chapters: 0, calls: 0, rpc: "" }
    }

    /// Begins a chapter of the story.
    pub(super) fn chapter(&mut self, title: &str) -> Result<(), DemoError> {
        self.chapters += 1;
        Ok(writeln!(self.out, "\n{}. {title}\n", self.chapters)?)
    }

    /// Announces a call.
    pub(super) fn says(
        &mut self,
        who: Who,
        rpc: &'static str,
        what: &str,
    ) -> Result<(), DemoError> {
        self.rpc = rpc;
        let line = format!("{:>8}  {rpc:<34} {what}", who.name());
        Ok(writeln!(self.out, "{}", line.trim_end())?)
    }

    /// Tells what came of it.
    pub(super) fn note(&mut self, what: &str) -> Result<(), DemoError> {
        Ok(writeln!(self.out, "{:>8}  → {what}", "")?)
    }

    /// Shows a frame of a stream.
    pub(super) fn frame(&mut self, who: Who, frame: &str) -> Result<(), DemoError> {
        Ok(writeln!(self.out, "{:>42} ◂ {frame}", who.name())?)
    }

    /// Ends the story.
    pub(super) fn end(self) -> Result<(), DemoError> {
        let Self { out, began, calls, .. } = self;
        let spent = began.elapsed().as_millis();
        Ok(writeln!(out, "\nThe end: {calls} calls in {spent} ms, over gRPC all of them.")?)
    }

    /// Makes the call that was announced.
    pub(super) async fn call<Q, R>(
        &mut self,
        who: Who,
        request: Q,
        call: impl AsyncFnOnce(Request<Q>, On) -> Result<Response<R>, Status>,
    ) -> Result<R, DemoError> {
        let mut request = self.request(who, request);
        request.set_timeout(DEADLINE);
        self.calls += 1;
        let reply = call(request, self.on.clone()).await;
        reply.map(Response::into_inner).map_err(|status| self.refusal(status))
    }

    /// Makes the call that was announced, which the server must refuse.
    pub(super) async fn refused<Q, R>(
        &mut self,
        who: Who,
        request: Q,
        code: Code,
        call: impl AsyncFnOnce(Request<Q>, On) -> Result<Response<R>, Status>,
    ) -> Result<(), DemoError> {
        let request = self.request(who, request);
        self.calls += 1;
        match call(request, self.on.clone()).await {
            Err(status) if status.code() == code => {
                let reason = Reason::of(&status).map_or("", Reason::as_str);
                self.note(&format!("refused: {reason}: {}", status.message()))
            }
            Err(status) => Err(self.refusal(status)),
            Ok(_) => Err(DemoError::Broken(self.rpc)),
        }
    }

    /// Opens a stream, which lives longer than a call.
    pub(super) async fn open<Q, R>(
        &mut self,
        who: Who,
        request: Q,
        call: impl AsyncFnOnce(Request<Q>, On) -> Result<Response<R>, Status>,
    ) -> Result<R, DemoError> {
        let request = self.request(who, request);
        self.calls += 1;
        let reply = call(request, self.on.clone()).await;
        reply.map(Response::into_inner).map_err(|status| self.refusal(status))
    }

    fn request<Q>(&self, who: Who, message: Q) -> Request<Q> {
        let mut request = Request::new(message);
        let bearer = format!("Bearer {}", (self.tokens)(who));
        let bearer = MetadataValue::try_from(bearer).expect("a token is ASCII");
        request.metadata_mut().insert("authorization", bearer);
        request
    }

    fn refusal(&self, status: Status) -> DemoError {
        DemoError::Refused { rpc: self.rpc, source: Box::new(status) }
    }
}

impl Who {
    /// The name of the user or service.
    pub(super) const fn name(self) -> &'static str {
        match self {
            Self::User(name) | Self::Service(name) => name,
        }
    }
}
