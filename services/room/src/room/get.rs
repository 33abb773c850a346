//! Reading rooms.

use std::collections::{HashMap, HashSet};

use parlance_rpc::{Deadline, fields};
use parlance_types::{LogId, RoomId, RoomKind};

use super::{Actor, Named, Room, Rooms, State, UniqueId};
use crate::Error;

/// The most rooms of one batch.
const MAX_BATCH: usize = 100;

/// How many rooms one statement names.
const AT_ONCE: usize = 500;

/// Rooms by their names, at most 100, each name once.
#[derive(Clone, Debug)]
pub(crate) struct Names {
    room_ids: Vec<RoomId>,
    unique_ids: Vec<UniqueId>,
}

impl Names {
    /// Takes names from the wire.
    pub(crate) fn parse(room_ids: Vec<String>, unique_ids: Vec<String>) -> Result<Self, Error> {
        if !(1..=MAX_BATCH).contains(&(room_ids.len() + unique_ids.len())) {
            let rule = "must name 1 to 100 rooms, unique_ids included";
            return Err(Error::invalid("room_ids", rule));
        }
        let all = 0..=MAX_BATCH;
        let room_ids = fields::each("room_ids", room_ids, all.clone(), fields::room_id)?;
        let unique_ids =
            fields::each("unique_ids", unique_ids, all, |field, id| UniqueId::parse(&field, id))?;
        fields::once(room_ids.iter(), |at| format!("room_ids[{at}]"))?;
        fields::once(unique_ids.iter(), |at| format!("unique_ids[{at}]"))?;
        Ok(Self { room_ids, unique_ids })
    }
}

impl Rooms {
    /// One room, if the caller may see it.
    pub(crate) async fn get(
        &self,
        actor: &Actor,
        room_id: &RoomId,
        deadline: Deadline,
    ) -> Result<Room, Error> {
        let room = self.active(actor, room_id).await?;
        room.conceal_from(actor)?;
        if needs_membership(actor, &room) && self.role(actor, &room, deadline).await?.is_none() {
            return Err(Error::NotAMember);
        }
        Ok(room)
    }

    /// The rooms of those names that exist and that the caller may see, in the
    /// order asked for, those by id first.
    pub(crate) async fn batch_get(
        &self,
        actor: &Actor,
        names: &Names,
        deadline: Deadline,
    ) -> Result<Vec<Room>, Error> {
        let mut rooms = self.store.by_room_ids(&actor.tenant_id, &names.room_ids).await?;
        in_order(&mut rooms, &names.room_ids, |room| Some(&room.room_id));
        let mut channels = self.store.by_unique_ids(&actor.tenant_id, &names.unique_ids).await?;
        in_order(&mut channels, &names.unique_ids, |room| room.unique_id.as_ref());
        rooms.append(&mut channels);
        rooms.retain(|room| room.state == State::Active && room.conceal_from(actor).is_ok());

        let closed = rooms.iter().filter(|room| needs_membership(actor, room));
        let mut closed: Vec<LogId> = closed.map(|room| room.log_id).collect();
        closed.sort_unstable();
        closed.dedup();
        if closed.is_empty() {
            return Ok(rooms);
        }
        let roles = self.rosters.roles(actor, &closed, deadline).await?;
        let strange: HashSet<_> = closed
            .iter()
            .zip(roles)
            .filter(|(_, role)| role.is_none())
            .map(|(id, _)| *id)
            .collect();
        rooms.retain(|room| !strange.contains(&room.log_id));
        Ok(rooms)
    }

    /// What rooms are called that are there, of whatever number.
    pub(crate) async fn named(
        &self,
        actor: &Actor,
        log_ids: &[LogId],
    ) -> Result<Vec<Named>, Error> {
        let mut named = Vec::new();
        for some in log_ids.chunks(AT_ONCE) {
            named.append(&mut self.store.named(&actor.tenant_id, some).await?);
        }
        Ok(named)
    }

    /// The rooms of these logs that are there, by log.
    pub(crate) async fn of_logs(
        &self,
        actor: &Actor,
        log_ids: &[LogId],
    ) -> Result<HashMap<LogId, Room>, Error> {
        let rooms = self.store.by_log_ids(&actor.tenant_id, log_ids).await?;
        let there = rooms.into_iter();
        let there = there.filter(|room| matches!(room.state, State::Creating | State::Active));
        Ok(there.map(|room| (room.log_id, room)).collect())
    }
}

/// Whether the room is open to its members only and the caller is a user.
fn needs_membership(actor: &Actor, room: &Room) -> bool {
    !actor.is_tenant() && is_of_members(room.kind)
}

/// Whether only its members may see a room of a kind. Of direct rooms that is said by their pair.
pub(crate) const fn is_of_members(kind: RoomKind) -> bool {
    match kind {
        RoomKind::Group => true,
        RoomKind::Direct | RoomKind::Channel | RoomKind::Broadcast | RoomKind::Live => false,
    }
}

/// Brings rooms into the order of `names`.
fn in_order<N: PartialEq>(rooms: &mut [Room], names: &[N], name: impl Fn(&Room) -> Option<&N>) {
    rooms.sort_by_key(|room| names.iter().position(|wanted| Some(wanted) == name(room)));
}
