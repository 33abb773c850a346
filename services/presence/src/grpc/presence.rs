//! `PresenceService`.

use parlance_proto::presence::v1 as pb;
use parlance_proto::presence::v1::presence_service_server::PresenceService;
use tonic::{Request, Response, Status};

use super::streams::{Frames, Streams};
use super::{codec, open, parse, within};
use crate::domain::Presences;

/// Serves what is known of users by [`Presences`] over gRPC.
#[derive(Clone, Debug)]
pub struct PresenceGrpc {
    pub(super) presences: Presences,
    pub(super) streams: Streams,
}

impl PresenceGrpc {
    pub(crate) const fn new(presences: Presences, streams: Streams) -> Self {
        Self { presences, streams }
    }
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
        let (caller, left, request) = open(request)?;
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
        let (caller, left, request) = open(request)?;
        let user_ids = parse::user_ids(request.user_ids)?;
        Ok(Response::new(self.watch(&caller, &user_ids, left).await?))
    }

    async fn get_room_online_count(
        &self,
        request: Request<pb::GetRoomOnlineCountRequest>,
    ) -> Result<Response<pb::GetRoomOnlineCountResponse>, Status> {
        let (caller, left, request) = open(request)?;
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
}
