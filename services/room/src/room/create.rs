//! Creating a room.

use std::sync::Arc;

use parlance_rpc::{Deadline, fields};
use parlance_types::{LogId, Pairs, RoomId, RoomKind, UserId};

use super::repeat::{Asked, Changed};
use super::{
    Actor, BoundKeys, Description, Fields, FieldsDraft, Founding, KeyOwners, Name, OfTenant, Pair,
    Picture, Room, Rooms, Settings, State, UniqueId, Visibility,
};
use crate::Error;

/// The most first members besides the creator.
pub(crate) const MAX_MEMBERS: usize = 100;

/// How often an id that turns out to be free again is tried for.
const TRIES: usize = 4;

/// A room that somebody wants to create.
#[derive(Clone, Debug)]
pub(crate) struct NewRoom {
    /// `None`: the server makes one.
    pub room_id: Option<RoomId>,
    pub kind: RoomKind,
    pub unique_id: Option<UniqueId>,
    pub name: Name,
    pub picture: Picture,
    pub description: Description,
    pub metadata: Pairs,
    pub fields: FieldsDraft,
    pub settings: Settings,
    pub visibility: Visibility,
    pub pair: Option<Pair>,
    pub founding: Founding,
}

impl NewRoom {
    /// A room of `kind` with nothing said about it.
    pub(crate) fn bare(kind: RoomKind, founding: Founding) -> Self {
        Self {
            room_id: None,
            kind,
            unique_id: None,
            name: Name::default(),
            picture: Picture::default(),
            description: Description::default(),
            metadata: Pairs::default(),
            fields: FieldsDraft::default(),
            settings: Settings::of(kind),
            visibility: Visibility::Unlisted,
            pair: None,
            founding,
        }
    }
}

impl Founding {
    /// Takes the first members of a group or channel from the wire.
    pub(crate) fn parse(
        actor: &Actor,
        owner: Option<UserId>,
        members: &[UserId],
    ) -> Result<Self, Error> {
        if owner.is_some() && !actor.is_tenant() {
            let rule = "is for services that name no user: the creator is the owner";
            return Err(Error::invalid("owner_user_id", rule));
        }
        let owner = owner.or_else(|| actor.user.clone());
        fields::once(members.iter(), |at| format!("member_user_ids[{at}]"))?;
        // The owner is in anyway and may be listed among the members.
        let others = members.iter().filter(|member| Some(*member) != owner.as_ref()).cloned();
        Ok(Self::new(owner.clone(), others.collect(), actor.user.clone()))
    }
}

impl Rooms {
    /// Creates a group or a channel.
    pub(crate) async fn create(&self, asked: Asked, new: NewRoom) -> Result<Changed, Error> {
        let new = Arc::new(new);
        self.repeatable(asked, move |rooms, asked| {
            let new = Arc::clone(&new);
            async move { rooms.create_once(&asked, &new).await }
        })
        .await
    }

    async fn create_once(&self, asked: &Asked, new: &NewRoom) -> Result<Room, Error> {
        let Asked { actor, request, deadline } = asked;
        self.rosters.check(actor, new, *deadline).await?;
        for _ in 0..TRIES {
            let room = self.plan_now(actor, new).await?;
            if self.store.insert(&room, request.as_ref()).await? {
                self.finish_creation(&room, *deadline).await?;
                return Ok(room);
            }
            self.clear_ids(&room, *deadline).await?;
        }
        Err(Error::GivenUp)
    }

    /// Whoever holds the ids of `room`: fails if they are there to stay, finishes
    /// their creation or deletion if that was begun.
    async fn clear_ids(&self, room: &Room, deadline: Deadline) -> Result<(), Error> {
        if let Some(holder) = self.store.by_room_id(&room.tenant_id, &room.room_id).await? {
            self.clear_id(&holder, Error::RoomIdTaken, deadline).await?;
        }
        let Some(unique_id) = &room.unique_id else { return Ok(()) };
        if let Some(holder) = self.store.by_unique_id(&room.tenant_id, unique_id).await? {
            self.clear_id(&holder, Error::UniqueIdTaken, deadline).await?;
        }
        Ok(())
    }

    async fn clear_id(&self, holder: &Room, taken: Error, deadline: Deadline) -> Result<(), Error> {
        match holder.state {
            State::Creating => match self.finish_creation(holder, deadline).await {
                Ok(()) => Err(taken),
                Err(error) if error.is_final() => Ok(()),
                Err(error) => Err(error),
            },
            State::Active => Err(taken),
            State::Deleting => self.finish_deletion(holder, deadline).await,
            State::Deleted | State::Abandoned => Ok(()),
        }
    }

    /// The row of a room that is to be, by what holds in its tenant now.
    pub(crate) async fn plan_now(&self, actor: &Actor, new: &NewRoom) -> Result<Room, Error> {
        self.plan(actor, new, self.store.of_tenant(&actor.tenant_id).await?)
    }

    /// The row of a room that is to be.
    pub(crate) fn plan(
        &self,
        actor: &Actor,
        new: &NewRoom,
        OfTenant { allowed_fields, limits, rules }: OfTenant,
    ) -> Result<Room, Error> {
        let capacity = limits.capacity(new.kind, new.settings.capacity)?;
        let now = self.now();
        let made = || RoomId::new(self.fresh_id().to_string());
        Ok(Room {
            tenant_id: actor.tenant_id.clone(),
            log_id: LogId(self.fresh_id()),
            room_id: new.room_id.clone().unwrap_or_else(made),
            unique_id: new.unique_id.clone(),
            kind: new.kind,
            name: new.name.clone(),
            picture: new.picture.clone(),
            description: new.description.clone(),
            metadata: new.metadata.clone(),
            fields: Fields::new(allowed_fields, &new.fields),
            bound_keys: BoundKeys::default(),
            key_owners: KeyOwners::of(&new.metadata, actor.user.as_ref()),
            settings: Settings { capacity, ..new.settings },
            visibility: new.visibility,
            members: 0,
            kept: rules.kept_by(&new.settings),
            tenant: rules,
            creator: actor.user.clone(),
            pair: new.pair.clone(),
            founding: new.founding.clone(),
            state: State::Creating,
            version: 1,
            rules_version: 1,
            pushed_rules_version: 0,
            deleter: None,
            create_time: now,
            update_time: now,
        })
    }
}
