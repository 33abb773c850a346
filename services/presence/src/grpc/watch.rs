//! `WatchPresence`: what users are, then what changes.

use std::time::Duration;

use parlance_proto::presence::v1 as pb;
use parlance_rpc::Caller;
use parlance_types::UserId;
use tokio::sync::mpsc;
use tokio::time::timeout;
use tokio_stream::wrappers::ReceiverStream;
use tonic::Status;
use tracing::Instrument as _;

use super::streams::Frames;
use super::{PresenceGrpc, codec, within};
use crate::domain::{Presence, Watcher};

type Frame = Result<pb::WatchPresenceResponse, Status>;

impl PresenceGrpc {
    pub(super) async fn watch(
        &self,
        caller: &Caller,
        user_ids: &[UserId],
        left: Duration,
    ) -> Result<Frames<pb::WatchPresenceResponse>, Status> {
        let open = self.streams.open(caller)?;
        let watch = self.presences.watch(caller.tenant_id.clone(), user_ids);
        let watcher = within(left, watch).await?;
        // One frame at a time: while it is not read, changes add up behind it.
        let (sender, frames) = mpsc::channel(1);
        let life = self.streams.life(caller, self.presences.options());
        let stall = self.presences.options().stall;
        let watching = async move {
            let ended = tokio::select! {
                ended = life.over(&sender) => ended,
                () = tell(watcher, &sender, stall) => None,
            };
            if let Some(ended) = ended {
                let wait = Duration::from_secs(10);
                if sender.send_timeout(Err(ended.into()), wait).await.is_err() {
                    tracing::debug!("nobody reads how a stream ended");
                }
            }
            drop(open);
        };
        tokio::spawn(watching.in_current_span());
        Ok(ReceiverStream::new(frames))
    }
}

/// Tells what users are and become, until the reader has gone, or did not read for so
/// long as a stream may stall.
async fn tell(mut watcher: Watcher, frames: &mpsc::Sender<Frame>, stall: Duration) {
    let mut news = watcher.now();
    loop {
        // A place first, so that what is told is the latest.
        let Ok(Ok(place)) = timeout(stall, frames.reserve()).await else { return };
        if news.is_empty() {
            news = watcher.changes().await;
        }
        place.send(Ok(frame(&std::mem::take(&mut news))));
    }
}

fn frame(news: &[(UserId, Presence)]) -> pb::WatchPresenceResponse {
    let presences = news.iter().map(|(user_id, presence)| codec::presence(user_id, presence));
    pb::WatchPresenceResponse { presences: presences.collect() }
}
