//! `SessionService`.

use std::time::Duration;

use parlance_proto::presence::v1 as pb;
use parlance_proto::presence::v1::session_service_server::SessionService;
use parlance_rpc::{Deadline, Failure as _, Reason, caller, fields};
use tokio::sync::mpsc::{self, error::TrySendError};
use tokio::time::{Instant, sleep_until};
use tonic::{Request, Response, Status};

use parlance_types::{Resource, SessionId};

use super::{Active, Device, Devices, InvalidSession, Lease, Session, User};
use crate::wire::{Frames, Streams, user};
use crate::{Error, Leases};

/// A lease is renewed when so much of it has passed.
const THIRD: u32 = 3;

/// How soon a renewal is tried again that failed.
const RETRY: Duration = Duration::from_millis(500);

/// Frames that wait for the reader: a renewal that is not read takes no place.
const FRAMES: usize = 2;

type Frame = Result<pb::KeepSessionResponse, Status>;

/// Serves the sessions of users over gRPC.
#[derive(Clone, Debug)]
pub struct SessionGrpc {
    pub(crate) devices: Devices,
    pub(crate) streams: Streams,
}

fn part<T>(field: &str, part: Result<T, InvalidSession>) -> Result<T, Error> {
    part.map_err(|invalid| Error::invalid(field, invalid.to_string()))
}

fn resource(resource: String) -> Result<Resource, Error> {
    Ok(fields::id("resource", Resource::parse(resource))?)
}

/// What is said of a device.
fn decode(request: pb::OpenSessionRequest, leases: Leases) -> Result<(Resource, Session), Error> {
    let active = match pb::Availability::try_from(request.availability) {
        Ok(pb::Availability::Unspecified | pb::Availability::Online) => Active::Online,
        Ok(pb::Availability::Away) => Active::Away,
        _ => return Err(Error::invalid("availability", "must be online or away")),
    };
    let lease = fields::duration("lease", request.lease)?;
    let resource = resource(request.resource)?;
    let status = part("status", super::Status::parse(request.status))?;
    let lease = part("lease", Lease::parse(lease, leases))?;
    Ok((resource, Session { active, status, lease }))
}

fn encode(resource: &Resource, id: &SessionId, session: &Session) -> pb::Session {
    let availability = match session.active {
        Active::Online => pb::Availability::Online,
        Active::Away => pb::Availability::Away,
    };
    pb::Session {
        resource: resource.as_str().to_owned(),
        availability: availability.into(),
        status: session.status.as_str().to_owned(),
        lease: prost_types::Duration::try_from(session.lease.get()).ok(),
        session_id: id.as_str().to_owned(),
    }
}

impl SessionGrpc {
    /// Opens the session of a request.
    async fn open(
        &self,
        user: User,
        request: pb::OpenSessionRequest,
        deadline: Deadline,
    ) -> Result<(Device, SessionId, Session), Error> {
        let (resource, session) = decode(request, self.devices.leases)?;
        let device = Device { user, resource };
        let id = deadline.bound(self.devices.open(&device, &session, deadline)).await?;
        Ok((device, id, session))
    }
}

#[tonic::async_trait]
impl SessionService for SessionGrpc {
    type KeepSessionStream = Frames<pb::KeepSessionResponse>;

    async fn open_session(
        &self,
        request: Request<pb::OpenSessionRequest>,
    ) -> Result<Response<pb::OpenSessionResponse>, Status> {
        let deadline = Deadline::of(&request);
        let user = user(&caller(&request)?)?;
        let (device, id, session) = self.open(user, request.into_inner(), deadline).await?;
        let session = Some(encode(&device.resource, &id, &session));
        Ok(Response::new(pb::OpenSessionResponse { session }))
    }

    async fn heartbeat(
        &self,
        request: Request<pb::HeartbeatRequest>,
    ) -> Result<Response<pb::HeartbeatResponse>, Status> {
        let deadline = Deadline::of(&request);
        let caller = caller(&request)?;
        let resource = resource(request.into_inner().resource)?;
        let device = Device { user: user(&caller)?, resource };
        let (id, session) = deadline.bound(self.devices.renew(&device)).await?;
        let session = Some(encode(&device.resource, &id, &session));
        Ok(Response::new(pb::HeartbeatResponse { session }))
    }

    async fn close_session(
        &self,
        request: Request<pb::CloseSessionRequest>,
    ) -> Result<Response<pb::CloseSessionResponse>, Status> {
        let deadline = Deadline::of(&request);
        let caller = caller(&request)?;
        let resource = resource(request.into_inner().resource)?;
        let device = Device { user: user(&caller)?, resource };
        deadline.bound(self.devices.close(&device)).await?;
        Ok(Response::new(pb::CloseSessionResponse {}))
    }

    async fn keep_session(
        &self,
        request: Request<pb::KeepSessionRequest>,
    ) -> Result<Response<Self::KeepSessionStream>, Status> {
        let deadline = Deadline::of(&request);
        let caller = caller(&request)?;
        let user = user(&caller)?;
        let open = self.streams.open(&caller, 0)?;
        let pb::KeepSessionRequest { resource, availability, status, lease } = request.into_inner();
        let request = pb::OpenSessionRequest { resource, availability, status, lease };
        let (device, id, session) = self.open(user, request, deadline).await?;
        let devices = self.devices.clone();
        let frames = open.run(&caller, FRAMES, async move |frames| {
            Some(renew(&devices, &device, (id, session), &frames).await)
        });
        Ok(Response::new(frames))
    }
}

/// Renews until the session has ended.
async fn renew(
    devices: &Devices,
    device: &Device,
    (id, opened): (SessionId, Session),
    frames: &mpsc::Sender<Frame>,
) -> Error {
    let third = |session: &Session| session.lease.get().max(RETRY) / THIRD;
    let mut wait = third(&opened);
    tell(frames, device, &id, &opened);
    loop {
        sleep_until(Instant::now() + wait).await;
        match devices.renew(device).await {
            // Opened again by another stream it may have another id.
            Ok((id, session)) => {
                wait = third(&session);
                tell(frames, device, &id, &session);
            }
            Err(ended @ Error::SessionNotFound) => return ended,
            Err(ended) if ended.reason() == Reason::Suspended => return ended,
            Err(error) => {
                let error = &error as &dyn std::error::Error;
                tracing::warn!(error, "could not renew a lease");
                wait = RETRY.min(wait);
            }
        }
    }
}

/// Tells of a renewal, unless older ones still wait to be read.
fn tell(frames: &mpsc::Sender<Frame>, device: &Device, id: &SessionId, session: &Session) {
    let session = Some(encode(&device.resource, id, session));
    let frame = Ok(pb::KeepSessionResponse { session });
    if let Err(TrySendError::Full(_)) = frames.try_send(frame) {
        tracing::trace!("a renewal is not told to a reader who does not read");
    }
}
