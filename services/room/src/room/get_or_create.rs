//! Get-or-create: the room of two users, the channel of a unique id.

use parlance_rpc::Deadline;
use parlance_types::{JoinRule, Pairs, Role, RoomKind, UserId};

use super::{
    Actor, Change, Field, FieldsDraft, Founding, Name, NewRoom, Pair, Picture, Room, Rooms, State,
    UniqueId, Visibility,
};
use crate::Error;

/// How often a room that goes away while it is being found is looked for.
const TRIES: usize = 4;

/// The direct room that somebody wants.
#[derive(Clone, Debug)]
pub(crate) struct DirectWish {
    pub pair: Pair,
    /// Of a new room.
    pub metadata: Pairs,
}

/// The channel that somebody wants.
#[derive(Clone, Debug)]
pub(crate) struct ChannelWish {
    pub unique_id: UniqueId,
    /// Empty: not given.
    pub name: Name,
    /// Empty: not given.
    pub picture: Picture,
    /// Of a new channel.
    pub metadata: Pairs,
    pub fields: FieldsDraft,
    /// Of a new channel.
    pub visibility: Visibility,
}

/// How a room is found again.
enum Key<'a> {
    Pair(&'a Pair),
    UniqueId(&'a UniqueId),
}

impl DirectWish {
    /// Takes the two users from the wire.
    pub(crate) fn parse(
        actor: &Actor,
        user_id: UserId,
        first_user_id: Option<UserId>,
        metadata: Pairs,
    ) -> Result<Self, Error> {
        let first = match (&actor.user, first_user_id) {
            (Some(user), None) => user.clone(),
            (None, Some(first)) => first,
            (Some(_), Some(_)) => {
                let rule = "is for services that name no user: the caller is the first user";
                return Err(Error::invalid("first_user_id", rule));
            }
            (None, None) => {
                let rule = "is required when a service names no user";
                return Err(Error::invalid("first_user_id", rule));
            }
        };
        let one = || Error::invalid("user_id", "must be another user than the first");
        Ok(Self { pair: Pair::new(first, user_id).ok_or_else(one)?, metadata })
    }
}

impl Rooms {
    /// The direct room of two users, and whether this call created it.
    pub(crate) async fn get_or_create_direct(
        &self,
        actor: Actor,
        wish: DirectWish,
        deadline: Deadline,
    ) -> Result<(Room, bool), Error> {
        let rooms = self.clone();
        self.change(deadline, async move {
            // Neither of the two owns what they share.
            let founding = Founding::new(None, wish.pair.users(), actor.user.clone());
            let new = NewRoom {
                metadata: wish.metadata,
                pair: Some(wish.pair.clone()),
                ..NewRoom::bare(RoomKind::Direct, founding)
            };
            let key = Key::Pair(&wish.pair);
            for _ in 0..TRIES {
                let (room, created) = rooms.find_or_create(&actor, &key, &new, deadline).await?;
                if created || rooms.bring_in(&actor, &room, &wish.pair.users(), deadline).await? {
                    return Ok((room, created));
                }
            }
            Err(Error::GivenUp)
        })
        .await
    }

    /// The channel of a unique id, and whether this call created it.
    pub(crate) async fn get_or_create_channel(
        &self,
        actor: Actor,
        wish: ChannelWish,
        deadline: Deadline,
    ) -> Result<(Room, bool), Error> {
        let rooms = self.clone();
        self.change(deadline, async move {
            let founding = Founding::new(actor.user.clone(), Vec::new(), actor.user.clone());
            let new = NewRoom {
                unique_id: Some(wish.unique_id.clone()),
                name: wish.name.clone(),
                picture: wish.picture.clone(),
                metadata: wish.metadata.clone(),
                fields: wish.fields.clone(),
                visibility: wish.visibility,
                ..NewRoom::bare(RoomKind::Channel, founding)
            };
            let key = Key::UniqueId(&wish.unique_id);
            for _ in 0..TRIES {
                let (room, created) = rooms.find_or_create(&actor, &key, &new, deadline).await?;
                if created {
                    return Ok((room, true));
                }
                if let Some(room) = rooms.enter_channel(&actor, room, &wish, deadline).await? {
                    return Ok((room, false));
                }
            }
            Err(Error::GivenUp)
        })
        .await
    }

    /// The room of `key`, created as `new` if there is none. Of several who create
    /// it at once one wins, and the others find its room and drive it on.
    async fn find_or_create(
        &self,
        actor: &Actor,
        key: &Key<'_>,
        new: &NewRoom,
        deadline: Deadline,
    ) -> Result<(Room, bool), Error> {
        for _ in 0..TRIES {
            let tenant_id = &actor.tenant_id;
            let found = match key {
                Key::Pair(pair) => self.store.by_pair(tenant_id, pair).await?,
                Key::UniqueId(unique_id) => self.store.by_unique_id(tenant_id, unique_id).await?,
            };
            match found {
                Some(room) if room.state == State::Active => return Ok((room, false)),
                Some(room) if room.state == State::Creating => {
                    match self.finish_creation(&room, deadline).await {
                        // Their room can never be; ours may.
                        Err(error) if error.is_final() => {}
                        finished => {
                            finished?;
                            let pushed_rules_version = room.rules_version;
                            let state = State::Active;
                            return Ok((Room { state, pushed_rules_version, ..room }, false));
                        }
                    }
                }
                Some(room) => self.finish_deletion(&room, deadline).await?,
                None => {
                    self.rosters.check(actor, new, deadline).await?;
                    let room = self.plan_now(actor, new).await?;
                    if self.store.insert(&room, None).await? {
                        self.finish_creation(&room, deadline).await?;
                        return Ok((room, true));
                    }
                }
            }
        }
        Err(Error::GivenUp)
    }

    /// Makes users members of a room that was found. `false`: it is gone.
    async fn bring_in(
        &self,
        actor: &Actor,
        room: &Room,
        users: &[UserId],
        deadline: Deadline,
    ) -> Result<bool, Error> {
        let readmit = room.kind == RoomKind::Direct;
        match self.rosters.ensure_members(actor, room.log_id, users, readmit, deadline).await {
            Ok(()) => {
                self.settle(room, deadline).await?;
                Ok(true)
            }
            // Deleted since it was found, or it will be.
            Err(Error::NoRoster) => Ok(false),
            Err(error) => Err(error),
        }
    }

    /// Lets the caller into a channel that was found, and takes over what the
    /// caller said about it. `None`: it is gone.
    async fn enter_channel(
        &self,
        actor: &Actor,
        room: Room,
        wish: &ChannelWish,
        deadline: Deadline,
    ) -> Result<Option<Room>, Error> {
        let mut role = None;
        if actor.user.is_some() {
            role = self.role(actor, &room, deadline).await?;
            if role.is_none() && room.settings.join != JoinRule::Anyone {
                return Err(Error::JoinRestricted);
            }
        }
        if !self.bring_in(actor, &room, actor.user.as_slice(), deadline).await? {
            return Ok(None);
        }
        let mut change = Change::default();
        if !wish.name.as_str().is_empty() {
            change.set(Field::Name(wish.name.clone()));
        }
        if !wish.picture.as_str().is_empty() {
            change.set(Field::Picture(wish.picture.clone()));
        }
        let may_update = actor.is_tenant() || role >= Some(Role::Admin);
        if change.is_empty() || !may_update {
            return Ok(Some(room));
        }
        match self.store.update(room.log_id, &change, actor, None, self.now()).await {
            Ok(room) => {
                self.settle(&room, deadline).await?;
                Ok(Some(room))
            }
            Err(Error::RoomNotFound) => Ok(None),
            Err(error) => Err(error),
        }
    }
}
