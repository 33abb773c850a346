//! `PresenceService`.

use parlance_proto::presence::v1 as pb;
use parlance_proto::presence::v1::presence_service_server::PresenceService;
use parlance_rpc::{Deadline, caller, fields};
use parlance_types::{Micros, UserId};
use tokio::sync::mpsc;
use tokio::time::timeout;
use tonic::{Request, Response, Status};

use super::watch::Watcher;
use super::{Availability, Presence, Presences};
use crate::wire::{Frames, Streams};
use crate::{Error, Options};

/// How many users one call may name.
const MAX_USERS: usize = 100;

type Frame = Result<pb::WatchPresenceResponse, Status>;

/// Serves what is known of users over gRPC.
#[derive(Clone, Debug)]
pub(crate) struct PresenceGrpc {
    pub(crate) presences: Presences,
    pub(crate) streams: Streams,
}

fn user_ids(ids: Vec<String>) -> Result<Vec<UserId>, Error> {
    Ok(fields::ids("user_ids", ids, 1..=MAX_USERS, UserId::parse)?)
}

fn encode(user_id: &UserId, presence: &Presence) -> pb::Presence {
    let availability = match presence.availability {
        Availability::Unknown => pb::Availability::Unknown,
        Availability::Offline => pb::Availability::Offline,
        Availability::Online => pb::Availability::Online,
        Availability::Away => pb::Availability::Away,
    };
    pb::Presence {
        user_id: user_id.to_string(),
        availability: availability.into(),
        status: presence.status.as_str().to_owned(),
        last_seen_time: presence.last_seen.map(timestamp),
    }
}

fn timestamp(time: Micros) -> prost_types::Timestamp {
    let nanos = i32::try_from(time.rem_euclid(1_000_000) * 1000).expect("below 10^9");
    prost_types::Timestamp { seconds: time.div_euclid(1_000_000), nanos }
}

fn number(count: usize) -> i32 {
    i32::try_from(count).unwrap_or(i32::MAX)
}

#[tonic::async_trait]
impl PresenceService for PresenceGrpc {
    type WatchPresenceStream = Frames<pb::WatchPresenceResponse>;

    async fn batch_get_presence(
        &self,
        request: Request<pb::BatchGetPresenceRequest>,
    ) -> Result<Response<pb::BatchGetPresenceResponse>, Status> {
        let deadline = Deadline::of(&request);
        let caller = caller(&request)?;
        let user_ids = user_ids(request.into_inner().user_ids)?;
        let found = deadline.bound(self.presences.get(&caller.tenant_id, &user_ids)).await?;
        let presences = user_ids.iter().zip(&found);
        let presences = presences.map(|(user_id, found)| encode(user_id, found)).collect();
        Ok(Response::new(pb::BatchGetPresenceResponse { presences }))
    }

    async fn watch_presence(
        &self,
        request: Request<pb::WatchPresenceRequest>,
    ) -> Result<Response<Self::WatchPresenceStream>, Status> {
        let deadline = Deadline::of(&request);
        let caller = caller(&request)?;
        let user_ids = user_ids(request.into_inner().user_ids)?;
        let open = self.streams.open(&caller, user_ids.len())?;
        let watch = self.presences.watch(caller.tenant_id.clone(), &user_ids);
        let watcher = deadline.bound(watch).await?;
        let options = self.presences.options.clone();
        // One frame at a time: while it is not read, changes add up behind it.
        let frames = open.run(&caller, 1, async move |frames| {
            tell(watcher, &frames, &options).await;
            None
        });
        Ok(Response::new(frames))
    }

    async fn get_room_online_count(
        &self,
        request: Request<pb::GetRoomOnlineCountRequest>,
    ) -> Result<Response<pb::GetRoomOnlineCountResponse>, Status> {
        let deadline = Deadline::of(&request);
        let caller = caller(&request)?;
        let room_id = request.into_inner().room_id;
        let room_id = fields::room_id("room_id", room_id)?;
        let tenant_id = &caller.tenant_id;
        let count = self.presences.count(tenant_id, caller.user(), &room_id, deadline);
        let count = deadline.bound(count).await?;
        Ok(Response::new(pb::GetRoomOnlineCountResponse {
            online_count: number(count.online),
            away_count: number(count.away),
            unknown_count: number(count.unknown),
            member_count: number(count.members),
        }))
    }
}

/// Tells what users are and become, and now and then nothing, until the reader has gone, or
/// did not read for so long as a stream may stall.
async fn tell(mut watcher: Watcher, frames: &mpsc::Sender<Frame>, options: &Options) {
    let mut news = watcher.now();
    loop {
        // A place first, so that what is told is the latest.
        let Ok(Ok(place)) = timeout(options.stall, frames.reserve()).await else { return };
        if news.is_empty() {
            let silence = rand::random_range(options.heartbeat.clone());
            news = timeout(silence, watcher.changes()).await.unwrap_or_default();
        }
        place.send(Ok(frame(&std::mem::take(&mut news))));
    }
}

fn frame(news: &[(UserId, Presence)]) -> pb::WatchPresenceResponse {
    let presences = news.iter().map(|(user_id, presence)| encode(user_id, presence));
    pb::WatchPresenceResponse { presences: presences.collect() }
}
