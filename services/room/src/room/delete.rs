//! Deleting a room for everyone.

use futures::StreamExt as _;
use parlance_rpc::Deadline;
use parlance_types::{Role, RoomId, RoomKind};

use super::repeat::Asked;
use super::{Actor, Room, Rooms, State};
use crate::Error;

/// How many of several rooms are deleted at once.
const AT_ONCE: usize = 8;

impl Rooms {
    /// Deletes a room.
    pub(crate) async fn delete(&self, asked: Asked, room_id: RoomId) -> Result<(), Error> {
        self.repeatable(asked, move |rooms, asked| {
            let room_id = room_id.clone();
            async move { rooms.delete_once(&asked, &room_id).await }
        })
        .await
        .map(drop)
    }

    /// Deletes rooms, each for itself, and says how each of them went.
    pub(crate) async fn batch_delete(
        &self,
        asked: &Asked,
        room_ids: Vec<RoomId>,
    ) -> Vec<(RoomId, Result<(), Error>)> {
        let delete = async |room_id: RoomId| {
            let request = asked.request.clone().map(|request| request.for_room(room_id.clone()));
            let asked = Asked { request, ..asked.clone() };
            (room_id.clone(), self.delete(asked, room_id).await)
        };
        futures::stream::iter(room_ids).map(delete).buffered(AT_ONCE).collect().await
    }

    async fn delete_once(&self, asked: &Asked, room_id: &RoomId) -> Result<Room, Error> {
        let Asked { actor, request, deadline } = asked;
        let deadline = *deadline;
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
        let (log_id, now) = (room.log_id, self.now());
        let deleter = self.store.begin_deletion(log_id, actor, request.as_ref(), now).await?;
        let begun = Room { state: State::Deleting, deleter, ..room };
        self.finish_deletion(&begun, deadline).await?;
        Ok(begun)
    }

    async fn judge_deletion(
        &self,
        actor: &Actor,
        room: &Room,
        deadline: Deadline,
    ) -> Result<(), Error> {
        // Whoever is left of a direct room's pair is one of its two users.
        if actor.is_tenant() || room.kind == RoomKind::Direct {
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
        if began || actor.is_tenant() || room.kind == RoomKind::Direct {
            return Ok(());
        }
        match self.role(actor, room, deadline).await? {
            Some(Role::Owner) => Ok(()),
            _ => Err(Error::RoomNotFound),
        }
    }
}
