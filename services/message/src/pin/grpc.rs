//! `PinService`.

use parlance_log::Body;
use parlance_log::codec::timestamp;
use parlance_proto::message::v1 as pb;
use parlance_proto::stored;
use parlance_proto::stored::pin_service_server::PinService;
use parlance_rpc::{Deadline, caller, fields};
use parlance_types::{MessageId, UserId};
use tonic::{Request, Response, Status};

use super::{Pinned, Pins};
use crate::message::grpc::message;

/// The event that pins a message.
pub(super) fn pinned_event(message: MessageId) -> Body {
    let message_id = message.to_string();
    Body::MessagePinned(pb::MessagePinned { message_id, message_seq: message.seq })
}

/// The event that unpins a message.
pub(super) fn unpinned_event(message: MessageId) -> Body {
    let message_id = message.to_string();
    Body::MessageUnpinned(pb::MessageUnpinned { message_id, message_seq: message.seq })
}

/// Serves [`Pins`] to the callers of the suite.
#[derive(Clone, Debug)]
pub struct PinGrpc {
    pins: Pins,
}

impl PinGrpc {
    pub const fn new(pins: Pins) -> Self {
        Self { pins }
    }
}

#[tonic::async_trait]
impl PinService for PinGrpc {
    async fn pin_message(
        &self,
        request: Request<pb::PinMessageRequest>,
    ) -> Result<Response<pb::PinMessageResponse>, Status> {
        let deadline = Deadline::of(&request);
        let actor = caller(&request)?.into();
        let message_id = fields::message_id("message_id", &request.get_ref().message_id)?;
        let pin_seq = deadline.bound(self.pins.pin(&actor, message_id)).await?;
        Ok(Response::new(pb::PinMessageResponse { pin_seq }))
    }

    async fn unpin_message(
        &self,
        request: Request<pb::UnpinMessageRequest>,
    ) -> Result<Response<pb::UnpinMessageResponse>, Status> {
        let deadline = Deadline::of(&request);
        let actor = caller(&request)?.into();
        let message_id = fields::message_id("message_id", &request.get_ref().message_id)?;
        deadline.bound(self.pins.unpin(&actor, message_id)).await?;
        Ok(Response::new(pb::UnpinMessageResponse {}))
    }

    async fn list_pins(
        &self,
        request: Request<pb::ListPinsRequest>,
    ) -> Result<Response<stored::ListPinsResponse>, Status> {
        let deadline = Deadline::of(&request);
        let actor = caller(&request)?.into();
        let room_id = fields::room_id("room_id", request.into_inner().room_id)?;
        let pins = deadline.bound(self.pins.list(&actor, &room_id)).await?;
        let pin = |pin: Pinned| stored::Pin {
            message: Some(message(&room_id, pin.message)),
            pin_seq: pin.seq,
            pinner_id: pin.pinner.map(UserId::into_string).unwrap_or_default(),
            pin_time: Some(timestamp(pin.time)),
        };
        Ok(Response::new(stored::ListPinsResponse { pins: pins.into_iter().map(pin).collect() }))
    }
}
