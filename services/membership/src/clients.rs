//! What the streams of users are told beside facts, in the message service.

use std::time::Duration;

use parlance_proto::message::v1 as pb;
use parlance_proto::message::v1::notice_relay_service_client::NoticeRelayServiceClient;
use parlance_proto::message::v1::publish_notice_request::Notice;
use parlance_rpc::{Below, Deadline, Internal, Peer, Transport};
use parlance_types::{Resource, TenantId};

use crate::roster::Membership;

type Client = NoticeRelayServiceClient<Transport>;

/// How long a notice may take: whoever enters waits for it.
const NOTICE: Duration = Duration::from_secs(1);

/// Tells the streams of users.
#[derive(Clone, Debug)]
pub(crate) struct Notices(Peer<Client>);

impl Notices {
    pub(crate) fn new(message: Transport, internal: Internal) -> Self {
        Self(Peer::new(Below::Log, Client::new(message), internal, &[]))
    }

    /// Tells a user that their devices lost their seats to another. What fails is not told:
    /// the seats are gone all the same.
    pub(crate) async fn replaced(
        &self,
        tenant_id: &TenantId,
        Membership { room_id, user_id, .. }: &Membership,
        devices: &[Resource],
        deadline: Deadline,
    ) {
        for resource in devices {
            let seat_ended = pb::SeatEndedNotice {
                resource: resource.to_string(),
                cause: pb::SeatEndCause::Replaced.into(),
            };
            let request = pb::PublishNoticeRequest {
                room_id: room_id.to_string(),
                user_id: user_id.to_string(),
                notice: Some(Notice::SeatEnded(seat_ended)),
            };
            let publish = |mut to: Client, request| async move { to.publish_notice(request).await };
            let deadline = deadline.at_most(NOTICE);
            let told = self.0.call(tenant_id, Some(user_id), deadline, request, publish).await;
            if let Err(error) = told {
                tracing::debug!(%error, "a device is not told that it lost its seat");
            }
        }
    }
}
