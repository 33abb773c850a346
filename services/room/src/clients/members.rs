//! Who is in a room, in the membership service: changes on behalf of somebody, by the rules of
//! the room.

use parlance_proto::membership::v1 as pb;
use parlance_proto::membership::v1::member_edit_service_client::MemberEditServiceClient;
use parlance_rpc::{Below, Deadline, Internal, Peer, Reason, Transport};
use parlance_types::UserId;

use super::call;
use crate::Error;
use crate::room::{Actor, Room, codec};

type Client = MemberEditServiceClient<Transport>;

/// Refusals that concern the caller of this service.
const PASSES: &[Reason] = &[
    Reason::NotAMember,
    Reason::NotAllowed,
    Reason::UserNotFound,
    Reason::MemberNotFound,
    Reason::Banned,
    Reason::Suspended,
    Reason::RoomFull,
    Reason::LastOwner,
    Reason::LiveRoom,
    Reason::BroadcastRoom,
    Reason::QuotaExceeded,
    Reason::RateLimited,
    Reason::Overloaded,
];

/// The members of all rooms.
#[derive(Clone, Debug)]
pub(crate) struct Members(Peer<Client>);

impl Members {
    pub(crate) fn new(membership: Transport, internal: Internal) -> Self {
        Self(Peer::new(Below::Membership, Client::new(membership), internal, PASSES))
    }

    /// Removes members and adds users, all or none.
    pub(crate) async fn edit(
        &self,
        actor: &Actor,
        room: &Room,
        add: &[UserId],
        remove: &[UserId],
        deadline: Deadline,
    ) -> Result<(), Error> {
        let ids = |users: &[UserId]| users.iter().map(ToString::to_string).collect();
        let request = pb::EditMembersRequest {
            room_id: room.room_id.to_string(),
            log_id: codec::log_id(room.log_id),
            add_user_ids: ids(add),
            remove_user_ids: ids(remove),
        };
        let edit = |mut to: Client, request| async move { to.edit_members(request).await };
        call(&self.0, actor, deadline, request, edit).await.map(drop)
    }
}
