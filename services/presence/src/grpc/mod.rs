//! The gRPC face of the service: decode, call the domain, encode.

mod codec;
mod keep;
mod parse;
mod status;
mod streams;
mod watch;

use std::sync::Arc;
use std::time::Duration;

use parlance_proto::presence::v1 as pb;
use parlance_proto::presence::v1::presence_service_server::PresenceService;
use parlance_rpc::{Caller, caller, remaining};
use parlance_types::Clock;
use tokio_util::sync::CancellationToken;
use tonic::{Request, Response, Status};

pub(crate) use self::streams::Streams;
use self::streams::{Frames, Life};
use crate::Error;
use crate::domain::{Device, Presences, User};

/// Serves [`Presences`] over gRPC.
#[derive(Clone, Debug)]
pub struct PresenceGrpc {
    presences: Presences,
    clock: Arc<dyn Clock>,
    draining: CancellationToken,
    streams: Streams,
}

impl PresenceGrpc {
    pub(crate) fn new(
        presences: Presences,
        clock: Arc<dyn Clock>,
        draining: CancellationToken,
        streams: Streams,
    ) -> Self {
        Self { presences, clock, draining, streams }
    }

    /// Who calls, for how long, and what.
    fn open<T>(request: Request<T>) -> Result<(Caller, Duration, T), Status> {
        Ok((caller(&request)?, remaining(&request), request.into_inner()))
    }

    /// How long a stream that begins now lives.
    fn life(&self, caller: &Caller) -> Life {
        Life::new(caller, &*self.clock, &self.draining, self.presences.options())
    }

    /// Opens the session of a request.
    async fn open_session(
        &self,
        user: User,
        request: pb::OpenSessionRequest,
        left: Duration,
    ) -> Result<(Device, pb::Session), Error> {
        let (resource, session) = parse::session(request, self.presences.options().leases)?;
        let device = Device { user, resource };
        within(left, self.presences.open(&device, &session, left)).await?;
        let session = codec::session(&device.resource, &session);
        Ok((device, session))
    }
}

fn user(caller: &Caller) -> Result<User, Status> {
    Ok((caller.tenant_id.clone(), caller.require_user()?.clone()))
}

/// Waits for a call of the domain as long as its request may take.
async fn within<T>(
    left: Duration,
    call: impl Future<Output = Result<T, Error>>,
) -> Result<T, Error> {
    tokio::time::timeout(left, call).await.unwrap_or(Err(Error::Deadline))
}

fn number(count: usize) -> i32 {
    i32::try_from(count).unwrap_or(i32::MAX)
}

#[tonic::async_trait]
impl PresenceService for PresenceGrpc {
    type KeepSessionStream = Frames<pb::KeepSessionResponse>;
    type WatchPresenceStream = Frames<pb::WatchPresenceResponse>;

    async fn open_session(
        &self,
        request: Request<pb::OpenSessionRequest>,
    ) -> Result<Response<pb::OpenSessionResponse>, Status> {
        let (caller, left, request) = Self::open(request)?;
        let (_, session) = self.open_session(user(&caller)?, request, left).await?;
        Ok(Response::new(pb::OpenSessionResponse { session: Some(session) }))
    }

    async fn heartbeat(
        &self,
        request: Request<pb::HeartbeatRequest>,
    ) -> Result<Response<pb::HeartbeatResponse>, Status> {
        let (caller, left, request) = Self::open(request)?;
        let resource = parse::resource(request.resource)?;
        let device = Device { user: user(&caller)?, resource };
        let session = within(left, self.presences.renew(&device)).await?;
        let session = Some(codec::session(&device.resource, &session));
        Ok(Response::new(pb::HeartbeatResponse { session }))
    }

    async fn close_session(
        &self,
        request: Request<pb::CloseSessionRequest>,
    ) -> Result<Response<pb::CloseSessionResponse>, Status> {
        let (caller, left, request) = Self::open(request)?;
        let resource = parse::resource(request.resource)?;
        let device = Device { user: user(&caller)?, resource };
        within(left, self.presences.close(&device)).await?;
        Ok(Response::new(pb::CloseSessionResponse {}))
    }

    async fn keep_session(
        &self,
        request: Request<pb::KeepSessionRequest>,
    ) -> Result<Response<Self::KeepSessionStream>, Status> {
        let (caller, left, request) = Self::open(request)?;
        Ok(Response::new(self.keep(&caller, request, left).await?))
    }

    async fn batch_get_presence(
        &self,
        request: Request<pb::BatchGetPresenceRequest>,
    ) -> Result<Response<pb::BatchGetPresenceResponse>, Status> {
        let (caller, left, request) = Self::open(request)?;
        let user_ids = parse::user_ids(request.user_ids)?;
        let found = within(left, self.presences.get(&caller.tenant_id, &user_ids)).await?;
        let presences = user_ids.iter().zip(&found);
        let presences = presences.map(|(user_id, found)| codec::presence(user_id, found));
        Ok(Response::new(pb::BatchGetPresenceResponse { presences: presences.collect() }))
    }

    async fn watch_presence(
        &self,
        request: Request<pb::WatchPresenceRequest>,
    ) -> Result<Response<Self::WatchPresenceStream>, Status> {
        let (caller, left, request) = Self::open(request)?;
        let user_ids = parse::user_ids(request.user_ids)?;
        Ok(Response::new(self.watch(&caller, &user_ids, left).await?))
    }

    async fn get_room_online_count(
        &self,
        request: Request<pb::GetRoomOnlineCountRequest>,
    ) -> Result<Response<pb::GetRoomOnlineCountResponse>, Status> {
        let (caller, left, request) = Self::open(request)?;
        let room_id = parse::room_id(request.room_id)?;
        let count = self.presences.count(&caller.tenant_id, caller.user(), &room_id, left);
        let count = within(left, count).await?;
        Ok(Response::new(pb::GetRoomOnlineCountResponse {
            online_count: number(count.online),
            away_count: number(count.away),
            unknown_count: number(count.unknown),
            member_count: number(count.members),
        }))
    }

    async fn set_typing(
        &self,
        request: Request<pb::SetTypingRequest>,
    ) -> Result<Response<pb::SetTypingResponse>, Status> {
        let (caller, left, request) = Self::open(request)?;
        let room_id = parse::room_id(request.room_id)?;
        let user = user(&caller)?;
        let set = self.presences.set_typing(&user, &room_id, request.typing, left);
        within(left, set).await?;
        Ok(Response::new(pb::SetTypingResponse {}))
    }
}
