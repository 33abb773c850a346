//! Deleting a room for everyone.

use parlance_types::RoomId;

use super::rooms::{Deadline, Repeatable, Rooms};
use super::{Actor, Kind, Role, Room, State};
use crate::Error;

impl Rooms {
    /// Deletes a room.
    pub async fn delete(
        &self,
        actor: Actor,
        room_id: RoomId,
        request: Option<Repeatable>,
        deadline: Deadline,
    ) -> Result<(), Error> {
        let rooms = self.clone();
        self.change(deadline, async move {
            rooms.delete_or_repeat(&actor, &room_id, request.as_ref(), deadline).await
        })
        .await
    }

    async fn delete_or_repeat(
        &self,
        actor: &Actor,
        room_id: &RoomId,
        request: Option<&Repeatable>,
        deadline: Deadline,
    ) -> Result<(), Error> {
        if self.repeat_deletion(actor, request, deadline).await? {
            return Ok(());
        }
        match self.delete_once(actor, room_id, request, deadline).await {
            // Two of the same request at once: what the other did may be the reason.
            Err(error) if error.is_refusal() => {
                let repeated = self.repeat_deletion(actor, request, deadline).await?;
                if repeated { Ok(()) } else { Err(error) }
            }
            deleted => deleted,
        }
    }

    async fn delete_once(
        &self,
        actor: &Actor,
        room_id: &RoomId,
        request: Option<&Repeatable>,
        deadline: Deadline,
    ) -> Result<(), Error> {
        let room = self.store.by_room_id(&actor.tenant_id, room_id).await?;
        let room = room.ok_or(Error::RoomNotFound)?;
        room.conceal_from(actor)?;
        match room.state {
            State::Active => self.judge_deletion(actor, &room, deadline).await?,
            State::Deleting => self.judge_finishing(actor, &room, deadline).await?,
            State::Creating | State::Deleted | State::Abandoned => {
                return Err(Error::RoomNotFound);
            }
        }
        let deleter = self.store.begin_deletion(room.log_id, actor, request, self.now()).await?;
        self.finish_deletion(&Room { state: State::Deleting, deleter, ..room }, deadline).await
    }

    /// Finishes a deletion that this very request began; `false` if there is none.
    async fn repeat_deletion(
        &self,
        actor: &Actor,
        request: Option<&Repeatable>,
        deadline: Deadline,
    ) -> Result<bool, Error> {
        let Some((log_id, _)) = self.before(actor, request).await? else { return Ok(false) };
        if let Some(room) = self.store.by_log_id(log_id).await?
            && room.state == State::Deleting
        {
            self.finish_deletion(&room, deadline).await?;
        }
        Ok(true)
    }

    async fn judge_deletion(
        &self,
        actor: &Actor,
        room: &Room,
        deadline: Deadline,
    ) -> Result<(), Error> {
        // Whoever is left of a direct room's pair is one of its two users.
        if actor.is_tenant() || room.kind == Kind::Direct {
            return Ok(());
        }
        match self.role(actor, room, deadline).await? {
            Some(Role::Owner) => Ok(()),
            Some(Role::Admin | Role::Member) => {
                Err(Error::NotAllowed("only owners may delete the room"))
            }
            None => Err(Error::NotAMember),
        }
    }

    /// Who may finish a deletion that was begun: who may delete, and who began it,
    /// for the roster may have forgotten its owners by now. To everybody else the
    /// room is gone.
    async fn judge_finishing(
        &self,
        actor: &Actor,
        room: &Room,
        deadline: Deadline,
    ) -> Result<(), Error> {
        let began = actor.user.is_some() && actor.user == room.deleter;
        if began || actor.is_tenant() || room.kind == Kind::Direct {
            return Ok(());
        }
        match self.role(actor, room, deadline).await? {
            Some(Role::Owner) => Ok(()),
            _ => Err(Error::RoomNotFound),
        }
    }
}
