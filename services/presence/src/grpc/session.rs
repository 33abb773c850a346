//! `SessionService`.

use std::time::Duration;

use parlance_proto::presence::v1 as pb;
use parlance_proto::presence::v1::session_service_server::SessionService;
use tonic::{Request, Response, Status};

use super::streams::{Frames, Streams};
use super::{codec, open, parse, user, within};
use crate::Error;
use crate::domain::{Device, Presences, User};

/// Serves the sessions of [`Presences`] over gRPC.
#[derive(Clone, Debug)]
pub struct SessionGrpc {
    pub(super) presences: Presences,
    pub(super) streams: Streams,
}

impl SessionGrpc {
    pub(crate) const fn new(presences: Presences, streams: Streams) -> Self {
        Self { presences, streams }
    }

    /// Opens the session of a request.
    pub(super) async fn open_session(
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

#[tonic::async_trait]
impl SessionService for SessionGrpc {
    type KeepSessionStream = Frames<pb::KeepSessionResponse>;

    async fn open_session(
        &self,
        request: Request<pb::OpenSessionRequest>,
    ) -> Result<Response<pb::OpenSessionResponse>, Status> {
        let (caller, left, request) = open(request)?;
        let (_, session) = self.open_session(user(&caller)?, request, left).await?;
        Ok(Response::new(pb::OpenSessionResponse { session: Some(session) }))
    }

    async fn heartbeat(
        &self,
        request: Request<pb::HeartbeatRequest>,
    ) -> Result<Response<pb::HeartbeatResponse>, Status> {
        let (caller, left, request) = open(request)?;
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
        let (caller, left, request) = open(request)?;
        let resource = parse::resource(request.resource)?;
        let device = Device { user: user(&caller)?, resource };
        within(left, self.presences.close(&device)).await?;
        Ok(Response::new(pb::CloseSessionResponse {}))
    }

    async fn keep_session(
        &self,
        request: Request<pb::KeepSessionRequest>,
    ) -> Result<Response<Self::KeepSessionStream>, Status> {
        let (caller, left, request) = open(request)?;
        Ok(Response::new(self.keep(&caller, request, left).await?))
    }
}
