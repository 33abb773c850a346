//! Seats in live rooms, in the membership service.

use parlance_proto::membership::v1 as pb;
use parlance_proto::membership::v1::seat_service_client::SeatServiceClient;
use parlance_proto::message::v1::LeaveCause;
use parlance_rpc::{Below, Deadline, Internal, Peer, Transport, of_no_tenant};
use parlance_types::{Resource, SessionId, TenantId, UserId};

use super::PASSES;
use crate::Error;
use crate::session::Device;
use crate::state::Named;

type Client = SeatServiceClient<Transport>;

/// Seats on a page.
const PAGE: i32 = 500;

/// The seats in all live rooms.
#[derive(Clone, Debug)]
pub(crate) struct Seats(Peer<Client>);

impl Seats {
    pub(crate) fn new(membership: Transport, internal: Internal) -> Self {
        Self(Peer::new(Below::Membership, Client::new(membership), internal, PASSES))
    }

    /// Ends the seats that these sessions of a tenant hold, at most 100.
    pub(crate) async fn end(
        &self,
        tenant_id: &TenantId,
        sessions: &[Named],
        deadline: Deadline,
    ) -> Result<(), Error> {
        let cause = LeaveCause::LeaseEnded;
        let session = |named: &Named| pb::SeatSession {
            user_id: named.device.user.1.to_string(),
            resource: named.device.resource.as_str().to_owned(),
            session_id: named.id.as_str().to_owned(),
        };
        let sessions = sessions.iter().map(session).collect();
        let request = pb::EndSeatsRequest { sessions, cause: cause.into() };
        let end = |mut to: Client, request| async move { to.end_seats(request).await };
        self.0.call(tenant_id, None, deadline, request, end).await?;
        Ok(())
    }

    /// A page of the sessions that hold the seats of all tenants, and the token of the next.
    pub(crate) async fn list(
        &self,
        page_token: String,
        deadline: Deadline,
    ) -> Result<(Vec<Named>, String), Error> {
        let request = pb::ListSeatsRequest { page_size: PAGE, page_token };
        let list = |mut to: Client, request| async move { to.list_seats(request).await };
        let reply = self.0.call(&of_no_tenant(), None, deadline, request, list).await?;
        let named = |seat: pb::Seat| Named {
            device: Device {
                user: (TenantId::new(seat.tenant_id), UserId::new(seat.user_id)),
                resource: Resource::new(seat.resource),
            },
            id: SessionId::new(seat.session_id),
        };
        let mut held: Vec<_> = reply.seats.into_iter().map(named).collect();
        // A session has a seat in each of its rooms.
        held.dedup();
        Ok((held, reply.next_page_token))
    }
}
