//! Changing the fields of a room.

use parlance_types::{Micros, RoomId};

use super::rooms::{Changed, Deadline, Repeatable, Rooms};
use super::{
    Actor, Description, History, Join, Kind, Members, Metadata, Name, Picture, Post, Role, Room,
    RoomEvent, Settings, State,
};
use crate::Error;

/// A new value of one field; `None` and an unset rule mean the kind's default.
#[derive(Clone, Debug)]
pub enum Field {
    Name(Name),
    Picture(Picture),
    Description(Description),
    Metadata(Metadata),
    Post(Option<Post>),
    Add(Option<Members>),
    Remove(Option<Members>),
    Join(Option<Join>),
    AllowPreview(bool),
    History(Option<History>),
    Capacity(Option<i32>),
}

/// New values for some fields.
#[derive(Clone, Debug, Default)]
pub struct Change {
    fields: Vec<Field>,
    /// The version that the room must have.
    etag: Option<String>,
}

/// A change that somebody wants.
#[derive(Clone, Debug)]
pub struct Update {
    pub room_id: RoomId,
    pub change: Change,
}

/// Takes a value over; says whether it is another.
fn put<T: PartialEq>(place: &mut T, value: T) -> bool {
    let differs = *place != value;
    *place = value;
    differs
}

impl Field {
    /// The path of the field.
    const fn path(&self) -> &'static str {
        match self {
            Self::Name(_) => "name",
            Self::Picture(_) => "picture",
            Self::Description(_) => "description",
            Self::Metadata(_) => "metadata",
            Self::Post(_) => "settings.post",
            Self::Add(_) => "settings.add",
            Self::Remove(_) => "settings.remove",
            Self::Join(_) => "settings.join",
            Self::AllowPreview(_) => "settings.allow_preview",
            Self::History(_) => "settings.history",
            Self::Capacity(_) => "settings.capacity",
        }
    }

    /// Takes the value over; says whether it is another.
    fn apply(&self, room: &mut Room) -> bool {
        let default = Settings::of(room.kind);
        let settings = &mut room.settings;
        match self {
            Self::Name(name) => put(&mut room.name, name.clone()),
            Self::Picture(picture) => put(&mut room.picture, picture.clone()),
            Self::Description(text) => put(&mut room.description, text.clone()),
            Self::Metadata(metadata) => put(&mut room.metadata, metadata.clone()),
            Self::Post(rule) => put(&mut settings.post, rule.unwrap_or(default.post)),
            Self::Add(rule) => put(&mut settings.add, rule.unwrap_or(default.add)),
            Self::Remove(rule) => put(&mut settings.remove, rule.unwrap_or(default.remove)),
            Self::Join(rule) => put(&mut settings.join, rule.unwrap_or(default.join)),
            Self::AllowPreview(allow) => put(&mut settings.allow_preview, *allow),
            Self::History(rule) => put(&mut settings.history, rule.unwrap_or(default.history)),
            Self::Capacity(most) => put(&mut settings.capacity, most.unwrap_or(default.capacity)),
        }
    }
}

impl Change {
    /// Gives a field a new value; of two for one field the later counts.
    pub fn set(&mut self, field: Field) {
        self.fields.push(field);
    }

    /// Demands that the room has this version.
    pub fn only_if(&mut self, etag: String) {
        self.etag = Some(etag);
    }

    pub const fn is_empty(&self) -> bool {
        self.fields.is_empty()
    }

    /// Changes a room at `now`. `None`: it has these values already.
    pub(crate) fn apply(
        &self,
        room: &mut Room,
        actor: &Actor,
        now: Micros,
    ) -> Result<Option<RoomEvent>, Error> {
        if self.etag.as_ref().is_some_and(|etag| *etag != room.etag()) {
            return Err(Error::EtagMismatch);
        }
        let before = room.settings;
        let mut changed: Vec<_> =
            self.fields.iter().filter(|field| field.apply(room)).map(Field::path).collect();
        changed.dedup();
        if changed.is_empty() {
            return Ok(None);
        }
        room.version += 1;
        room.update_time = now.max(room.update_time);
        if before.roster_rules() != room.settings.roster_rules() {
            room.rules_version += 1;
        }
        let rules_changed = before.log_rules() != room.settings.log_rules();
        Ok(Some(RoomEvent { actor: actor.user.clone(), changed, rules_changed }))
    }
}

impl Rooms {
    /// Changes a room.
    pub async fn update(
        &self,
        actor: Actor,
        update: Update,
        request: Option<Repeatable>,
        deadline: Deadline,
    ) -> Result<Changed, Error> {
        let rooms = self.clone();
        self.change(deadline, async move {
            rooms.update_or_repeat(&actor, &update, request.as_ref(), deadline).await
        })
        .await
    }

    async fn update_or_repeat(
        &self,
        actor: &Actor,
        update: &Update,
        request: Option<&Repeatable>,
        deadline: Deadline,
    ) -> Result<Changed, Error> {
        if let Some(repeat) = self.repeat_update(actor, request, deadline).await? {
            return Ok(repeat);
        }
        match self.update_once(actor, update, request, deadline).await {
            // Two of the same request at once: what the other did may be the reason.
            Err(error) if error.is_refusal() => {
                self.repeat_update(actor, request, deadline).await?.ok_or(error)
            }
            updated => updated.map(|room| Changed::Now(Box::new(room))),
        }
    }

    async fn update_once(
        &self,
        actor: &Actor,
        update: &Update,
        request: Option<&Repeatable>,
        deadline: Deadline,
    ) -> Result<Room, Error> {
        let room = self.active(actor, &update.room_id).await?;
        self.judge_update(actor, &room, deadline).await?;
        let now = self.now();
        let room = self.store.update(room.log_id, &update.change, actor, request, now).await?;
        self.settle(&room, deadline).await?;
        Ok(room)
    }

    async fn repeat_update(
        &self,
        actor: &Actor,
        request: Option<&Repeatable>,
        deadline: Deadline,
    ) -> Result<Option<Changed>, Error> {
        let Some((log_id, reply)) = self.before(actor, request).await? else { return Ok(None) };
        if let Some(room) = self.store.by_log_id(log_id).await?
            && room.state == State::Active
        {
            self.settle(&room, deadline).await?;
        }
        Ok(Some(Changed::Before(reply)))
    }

    async fn judge_update(
        &self,
        actor: &Actor,
        room: &Room,
        deadline: Deadline,
    ) -> Result<(), Error> {
        room.conceal_from(actor)?;
        if room.kind == Kind::Direct {
            return Err(Error::DirectRoom);
        }
        if actor.is_tenant() {
            return Ok(());
        }
        match self.role(actor, room, deadline).await? {
            Some(Role::Owner | Role::Admin) => Ok(()),
            Some(Role::Member) => {
                Err(Error::NotAllowed("only owners and admins may update the room"))
            }
            None => Err(Error::NotAMember),
        }
    }
}
