//! The streams of rooms, in the message service.

use std::time::Duration;

use parlance_proto::message::v1 as pb;
use parlance_proto::message::v1::notice_relay_service_client::NoticeRelayServiceClient;
use parlance_proto::message::v1::publish_notice_request::Notice;
use parlance_rpc::{Below, Deadline, Internal, Peer, Transport};
use parlance_types::RoomId;

use super::PASSES;
use crate::Error;
use crate::session::User;

type Client = NoticeRelayServiceClient<Transport>;

/// Tells the streams of rooms.
#[derive(Clone, Debug)]
pub(crate) struct Notices(Peer<Client>);

impl Notices {
    pub(crate) fn new(message: Transport, internal: Internal) -> Self {
        Self(Peer::new(Below::Log, Client::new(message), internal, PASSES))
    }

    /// Tells that a member is typing for so long; zero: stopped.
    pub(crate) async fn typing(
        &self,
        (tenant_id, user_id): &User,
        room_id: &RoomId,
        lasts: Duration,
        deadline: Deadline,
    ) -> Result<(), Error> {
        let lasts = prost_types::Duration::try_from(lasts).ok();
        let request = pb::PublishNoticeRequest {
            room_id: room_id.to_string(),
            user_id: user_id.to_string(),
            notice: Some(Notice::Typing(pb::TypingNotice { lasts })),
        };
        let publish = |mut to: Client, request| async move { to.publish_notice(request).await };
        self.0.call(tenant_id, Some(user_id), deadline, request, publish).await?;
        Ok(())
    }
}
