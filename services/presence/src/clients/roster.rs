//! Rosters, in the membership service: who exists, and who is in which room.

use parlance_proto::membership::v1 as pb;
use parlance_proto::membership::v1::roster_service_client::RosterServiceClient;
use parlance_rpc::{Below, Deadline, Internal, Peer, Transport};
use parlance_types::{RoomId, TenantId, UserId};

use super::PASSES;
use crate::Error;
use crate::session::User;

type Client = RosterServiceClient<Transport>;

/// The rosters of all rooms.
#[derive(Clone, Debug)]
pub(crate) struct Rosters(Peer<Client>);

/// The members of a room.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Members {
    All(Vec<UserId>),
    /// So many, more than asked for.
    TooMany(i64),
}

impl Rosters {
    pub(crate) fn new(membership: Transport, internal: Internal) -> Self {
        Self(Peer::new(Below::Membership, Client::new(membership), internal, PASSES))
    }

    /// Lets a user come into being.
    pub(crate) async fn ensure_user(
        &self,
        (tenant_id, user_id): &User,
        deadline: Deadline,
    ) -> Result<(), Error> {
        let ensure = |mut to: Client, request| async move { to.ensure_user(request).await };
        let request = pb::EnsureUserRequest {};
        self.0.call(tenant_id, Some(user_id), deadline, request, ensure).await?;
        Ok(())
    }

    /// The members of a room that `actor` may see, up to `most`.
    pub(crate) async fn members(
        &self,
        tenant_id: &TenantId,
        actor: Option<&UserId>,
        room_id: &RoomId,
        most: i32,
        deadline: Deadline,
    ) -> Result<Members, Error> {
        let get = |mut to: Client, request| async move { to.get_room_members(request).await };
        let room_id = room_id.to_string();
        let request = pb::GetRoomMembersRequest { room_id, max_members: most };
        let reply = self.0.call(tenant_id, actor, deadline, request, get).await?;
        if reply.total_size > i64::from(most) || reply.user_ids.is_empty() && reply.total_size > 0 {
            return Ok(Members::TooMany(reply.total_size));
        }
        Ok(Members::All(reply.user_ids.into_iter().map(UserId::new).collect()))
    }
}
