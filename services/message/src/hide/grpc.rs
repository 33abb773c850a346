//! `HideService`.

use parlance_proto::message::v1 as pb;
use parlance_proto::message::v1::hide_service_server::HideService;
use parlance_rpc::{Deadline, caller, fields};
use tonic::{Request, Response, Status};

use super::Hider;

/// Serves [`Hider`] to the users whose lists they are.
#[derive(Clone, Debug)]
pub struct HideGrpc {
    hider: Hider,
}

impl HideGrpc {
    pub const fn new(hider: Hider) -> Self {
        Self { hider }
    }
}

#[tonic::async_trait]
impl HideService for HideGrpc {
    async fn hide_room(
        &self,
        request: Request<pb::HideRoomRequest>,
    ) -> Result<Response<pb::HideRoomResponse>, Status> {
        let (caller, deadline) = (caller(&request)?, Deadline::of(&request));
        let user = caller.require_user()?.clone();
        let room_id = fields::room_id("room_id", request.into_inner().room_id)?;
        deadline.bound(self.hider.hide_room(&caller.into(), &user, &room_id)).await?;
        Ok(Response::new(pb::HideRoomResponse {}))
    }
}
