//! Seats, in the membership service: the devices in live rooms.

use parlance_proto::membership::v1 as pb;
use parlance_proto::membership::v1::seat_service_client::SeatServiceClient;
use parlance_rpc::{Below, Deadline, Internal, Peer, Reason, Transport, of_no_tenant};
use parlance_types::{LogId, Resource};

use super::call;
use crate::Error;
use crate::live::Device;
use crate::room::{Actor, Room, TenantRules, codec};

type Client = SeatServiceClient<Transport>;

/// Refusals that concern the caller of this service.
const PASSES: &[Reason] = &[
    Reason::RoomLimit,
    Reason::RoomFull,
    Reason::RemovedFromRoom,
    Reason::Banned,
    Reason::Suspended,
    Reason::JoinRestricted,
    Reason::SeatNotFound,
    Reason::QuotaExceeded,
    Reason::RateLimited,
    Reason::Overloaded,
];

/// The seats of all live rooms.
#[derive(Clone, Debug)]
pub(crate) struct Seats(Peer<Client>);

/// A seat that a device has taken.
#[derive(Clone, Debug)]
pub(crate) struct Taken {
    pub(crate) membership: pb::Membership,
    /// Whether the room that was left for it has ended.
    pub(crate) from_ended: bool,
}

/// A room that a device has left.
#[derive(Clone, Debug)]
pub(crate) struct Left {
    pub(crate) log_id: LogId,
    pub(crate) room_id: String,
    pub(crate) ended: bool,
}

impl Seats {
    pub(crate) fn new(membership: Transport, internal: Internal) -> Self {
        Self(Peer::new(Below::Membership, Client::new(membership), internal, PASSES))
    }

    fn taken(&self, membership: Option<pb::Membership>, from_ended: bool) -> Result<Taken, Error> {
        match membership {
            Some(membership) => Ok(Taken { membership, from_ended }),
            None => Err(self.0.strange("the reply has no membership").into()),
        }
    }

    /// Gives a device of the acting user a seat. Fails with `NoRoster` where the room has ended.
    pub(crate) async fn enter(
        &self,
        actor: &Actor,
        room: &Room,
        device: &Device,
        deadline: Deadline,
    ) -> Result<Taken, Error> {
        let request = pb::EnterSeatRequest {
            log_id: codec::log_id(room.log_id),
            resource: device.resource.to_string(),
            session_id: device.session_id.to_string(),
            max_rooms: room.tenant.max_live_rooms_per_user,
        };
        let enter = |mut to: Client, request| async move { to.enter_seat(request).await };
        let reply = call(&self.0, actor, deadline, request, enter).await?;
        self.taken(reply.membership, false)
    }

    /// Moves a device. Fails with `NoRoster` where the room to go to has ended.
    pub(crate) async fn switch(
        &self,
        actor: &Actor,
        from: Option<LogId>,
        to: LogId,
        device: &Device,
        deadline: Deadline,
    ) -> Result<Taken, Error> {
        let request = pb::SwitchSeatRequest {
            from_log_id: from.map(codec::log_id).unwrap_or_default(),
            to_log_id: codec::log_id(to),
            resource: device.resource.to_string(),
            session_id: device.session_id.to_string(),
        };
        let switch = |mut to: Client, request| async move { to.switch_seat(request).await };
        let reply = call(&self.0, actor, deadline, request, switch).await?;
        self.taken(reply.membership, reply.from_ended)
    }

    /// Ends the seat of a device; whether the room has ended.
    pub(crate) async fn leave(
        &self,
        actor: &Actor,
        log_id: LogId,
        resource: &Resource,
        deadline: Deadline,
    ) -> Result<bool, Error> {
        let log_id = codec::log_id(log_id);
        let request = pb::LeaveSeatRequest { log_id, resource: resource.to_string() };
        let leave = |mut to: Client, request| async move { to.leave_seat(request).await };
        Ok(call(&self.0, actor, deadline, request, leave).await?.ended)
    }

    /// Ends all seats of a device.
    pub(crate) async fn leave_all(
        &self,
        actor: &Actor,
        resource: &Resource,
        deadline: Deadline,
    ) -> Result<Vec<Left>, Error> {
        let request = pb::LeaveSeatsRequest { resource: resource.to_string() };
        let leave = |mut to: Client, request| async move { to.leave_seats(request).await };
        let left = call(&self.0, actor, deadline, request, leave).await?.left;
        let left = left.into_iter().map(|pb::LeftSeat { log_id, room_id, ended }| {
            Ok(Left { log_id: self.log_id(&log_id)?, room_id, ended })
        });
        left.collect()
    }

    /// Fails if the acting user may be in no more live rooms.
    pub(crate) async fn check_limit(
        &self,
        actor: &Actor,
        rules: TenantRules,
        deadline: Deadline,
    ) -> Result<(), Error> {
        let max_rooms = rules.max_live_rooms_per_user;
        let request = pb::CheckSeatLimitRequest { max_rooms };
        let check = |mut to: Client, request| async move { to.check_seat_limit(request).await };
        call(&self.0, actor, deadline, request, check).await?;
        Ok(())
    }

    /// Live rooms of all tenants that ended by themselves and were not acknowledged.
    pub(crate) async fn ended(&self, deadline: Deadline) -> Result<Vec<LogId>, Error> {
        let request = pb::ListEndedRostersRequest {};
        let list = |mut to: Client, request| async move { to.list_ended_rosters(request).await };
        let ended = self.0.call(&of_no_tenant(), None, deadline, request, list).await?;
        ended.log_ids.iter().map(|log_id| self.log_id(log_id)).collect()
    }

    /// Tells that their end is known.
    pub(crate) async fn acknowledge(
        &self,
        ended: &[LogId],
        deadline: Deadline,
    ) -> Result<(), Error> {
        let log_ids = ended.iter().copied().map(codec::log_id).collect();
        let request = pb::AcknowledgeEndedRostersRequest { log_ids };
        let known =
            |mut to: Client, request| async move { to.acknowledge_ended_rosters(request).await };
        self.0.call(&of_no_tenant(), None, deadline, request, known).await?;
        Ok(())
    }

    fn log_id(&self, log_id: &str) -> Result<LogId, Error> {
        let strange = |_| self.0.strange("the reply names a log that is not a UUID").into();
        log_id.parse().map_err(strange)
    }
}
