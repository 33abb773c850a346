//! `KeepSession`: a lease that is renewed as long as somebody listens.

use std::time::Duration;

use parlance_proto::presence::v1 as pb;
use parlance_rpc::Caller;
use tokio::sync::mpsc::{self, error::TrySendError};
use tokio::time::{Instant, sleep_until};
use tokio_stream::wrappers::ReceiverStream;
use tonic::Status;
use tracing::Instrument as _;

use super::streams::Frames;
use super::{SessionGrpc, codec, user};
use crate::Error;
use crate::domain::{Device, Presences};

/// A lease is renewed when so much of it has passed.
const THIRD: u32 = 3;

/// How soon a renewal is tried again that failed.
const RETRY: Duration = Duration::from_millis(500);

/// Frames that wait for the reader: a renewal that is not read takes no place.
const FRAMES: usize = 2;

type Frame = Result<pb::KeepSessionResponse, Status>;

impl SessionGrpc {
    pub(super) async fn keep(
        &self,
        caller: &Caller,
        request: pb::KeepSessionRequest,
        left: Duration,
    ) -> Result<Frames<pb::KeepSessionResponse>, Status> {
        let user = user(caller)?;
        let open = self.streams.open(caller)?;
        let pb::KeepSessionRequest { resource, availability, status, lease } = request;
        let request = pb::OpenSessionRequest { resource, availability, status, lease };
        let (device, session) = self.open_session(user, request, left).await?;
        let (sender, frames) = mpsc::channel(FRAMES);
        let life = self.streams.life(caller, self.presences.options());
        let presences = self.presences.clone();
        let keeping = async move {
            let ended = tokio::select! {
                ended = life.over(&sender) => ended,
                ended = renew(&presences, &device, session, &sender) => Some(ended),
            };
            if let Some(ended) = ended {
                tell_end(&sender, ended).await;
            }
            drop(open);
        };
        tokio::spawn(keeping.in_current_span());
        Ok(ReceiverStream::new(frames))
    }
}

/// Renews until the session has ended.
async fn renew(
    presences: &Presences,
    device: &Device,
    opened: pb::Session,
    frames: &mpsc::Sender<Frame>,
) -> Error {
    let lease = |session: &pb::Session| {
        let lease = session.lease.and_then(|lease| Duration::try_from(lease).ok());
        lease.unwrap_or_default().max(RETRY)
    };
    let mut wait = lease(&opened) / THIRD;
    tell(frames, opened);
    loop {
        sleep_until(Instant::now() + wait).await;
        match presences.renew(device).await {
            Ok(session) => {
                let session = codec::session(&device.resource, &session);
                wait = lease(&session) / THIRD;
                tell(frames, session);
            }
            Err(ended @ Error::SessionNotFound) => return ended,
            Err(error) => {
                let error = &error as &dyn std::error::Error;
                tracing::warn!(error, "could not renew a lease");
                wait = RETRY.min(wait);
            }
        }
    }
}

/// Tells of a renewal, unless older ones still wait to be read.
fn tell(frames: &mpsc::Sender<Frame>, session: pb::Session) {
    let frame = Ok(pb::KeepSessionResponse { session: Some(session) });
    if let Err(TrySendError::Full(_)) = frames.try_send(frame) {
        tracing::trace!("a renewal is not told to a reader who does not read");
    }
}

/// Tells the end, if somebody reads it in time.
async fn tell_end(frames: &mpsc::Sender<Frame>, ended: Error) {
    let wait = Duration::from_secs(10);
    if frames.send_timeout(Err(ended.into()), wait).await.is_err() {
        tracing::debug!("nobody reads how a stream ended");
    }
}
