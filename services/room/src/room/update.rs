//! Changing the fields of a room.

use std::borrow::Cow;
use std::sync::Arc;

use parlance_rpc::Deadline;
use parlance_types::{
    History, JoinRule, MemberRule, Micros, Pairs, Role, RoomId, RoomKind, UserId,
};

use super::repeat::{Asked, Changed};
use super::settings::check_join;
use super::{
    Actor, Description, FieldsDraft, Name, Picture, Room, RoomEvent, Rooms, Settings, Visibility,
};
use crate::Error;

/// A new value of one field; `None` and an unset rule mean the kind's default.
#[derive(Clone, Debug)]
pub(crate) enum Field {
    Name(Name),
    Picture(Picture),
    Description(Description),
    Metadata(Pairs),
    Fields(FieldsDraft),
    Visibility(Visibility),
    Post(Option<MemberRule>),
    Add(Option<MemberRule>),
    Remove(Option<MemberRule>),
    Join(Option<JoinRule>),
    AllowPreview(bool),
    History(Option<History>),
    Capacity(Option<i32>),
    /// Who may patch the metadata.
    Patch(Option<MemberRule>),
    /// How long events are kept, in seconds; 0: for ever.
    Retention(i64),
    /// What binds members, in seconds; 0: it does not.
    SlowMode(i64),
    EditWindow(i64),
    DeleteWindow(i64),
}

/// New values for some fields.
#[derive(Clone, Debug, Default)]
pub(crate) struct Change {
    fields: Vec<Field>,
    /// The version that the room must have.
    etag: Option<String>,
}

/// A change that somebody wants.
#[derive(Clone, Debug)]
pub(crate) struct Update {
    pub room_id: RoomId,
    pub change: Change,
    /// Who becomes a member, and who is removed.
    pub add: Vec<UserId>,
    pub remove: Vec<UserId>,
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
            Self::Fields(_) => "fields",
            Self::Visibility(_) => "visibility",
            Self::Post(_) => "settings.post",
            Self::Add(_) => "settings.add",
            Self::Remove(_) => "settings.remove",
            Self::Join(_) => "settings.join",
            Self::AllowPreview(_) => "settings.allow_preview",
            Self::History(_) => "settings.history",
            Self::Capacity(_) => "settings.capacity",
            Self::Patch(_) => "settings.metadata",
            Self::Retention(_) => "settings.retention",
            Self::SlowMode(_) => "settings.slow_mode",
            Self::EditWindow(_) => "settings.edit_window",
            Self::DeleteWindow(_) => "settings.delete_window",
        }
    }

    /// Takes the value over; says whether it is another.
    fn apply(&self, room: &mut Room, actor: Option<&UserId>) -> bool {
        let default = Settings::of(room.kind);
        let settings = &mut room.settings;
        match self {
            Self::Name(name) => put(&mut room.name, name.clone()),
            Self::Picture(picture) => put(&mut room.picture, picture.clone()),
            Self::Description(text) => put(&mut room.description, text.clone()),
            Self::Metadata(metadata) => {
                room.key_owners.take_over(&room.metadata, metadata, actor);
                let same = |key: &str| room.metadata.get().get(key) == metadata.get().get(key);
                room.bound_keys.retain(same);
                put(&mut room.metadata, metadata.clone())
            }
            Self::Fields(fields) => room.fields.put(fields),
            Self::Visibility(visibility) => put(&mut room.visibility, *visibility),
            Self::Post(rule) => put(&mut settings.post, rule.unwrap_or(default.post)),
            Self::Add(rule) => put(&mut settings.add, rule.unwrap_or(default.add)),
            Self::Remove(rule) => put(&mut settings.remove, rule.unwrap_or(default.remove)),
            Self::Join(rule) => put(&mut settings.join, rule.unwrap_or(default.join)),
            Self::AllowPreview(allow) => put(&mut settings.allow_preview, *allow),
            Self::History(rule) => put(&mut settings.history, rule.unwrap_or(default.history)),
            Self::Capacity(most) => put(&mut settings.capacity, most.unwrap_or(default.capacity)),
            Self::Patch(rule) => put(&mut settings.metadata, rule.unwrap_or(default.metadata)),
            Self::Retention(seconds) => put(&mut settings.retention, *seconds),
            Self::SlowMode(seconds) => put(&mut settings.windows.slow_mode, *seconds),
            Self::EditWindow(seconds) => put(&mut settings.windows.edit, *seconds),
            Self::DeleteWindow(seconds) => put(&mut settings.windows.delete, *seconds),
        }
    }
}

impl Change {
    /// Gives a field a new value; of two for one field the later counts.
    pub(crate) fn set(&mut self, field: Field) {
        self.fields.push(field);
    }

    /// Demands that the room has this version.
    pub(crate) fn only_if(&mut self, etag: String) {
        self.etag = Some(etag);
    }

    /// Fails if a rule is none of rooms of this kind.
    fn check_rules(&self, kind: RoomKind) -> Result<(), Error> {
        self.fields.iter().try_for_each(|field| match field {
            Field::Join(join) => check_join("room.settings", *join, kind),
            Field::Visibility(visibility) => visibility.suit(kind, "room.visibility"),
            _ => Ok(()),
        })
    }

    /// Whether it says anew for how long events are kept: what is gone comes not back.
    fn lets_go(&self, room: &Room) -> bool {
        let other = |field: &Field| matches!(field, Field::Retention(seconds) if *seconds != room.settings.retention);
        self.fields.iter().any(other)
    }

    /// The values of fields that it gives.
    pub(crate) fn fields(&self) -> Option<&FieldsDraft> {
        self.fields.iter().find_map(|field| match field {
            Field::Fields(fields) => Some(fields),
            _ => None,
        })
    }

    pub(crate) const fn is_empty(&self) -> bool {
        self.fields.is_empty()
    }

    /// Fails if the room has not the version that it must have.
    fn check(&self, room: &Room) -> Result<(), Error> {
        match &self.etag {
            Some(etag) if *etag != room.etag() => Err(Error::EtagMismatch),
            _ => Ok(()),
        }
    }

    /// Changes a room at `now`. `None`: it has these values already.
    pub(crate) fn apply(
        &self,
        room: &mut Room,
        actor: &Actor,
        now: Micros,
    ) -> Result<Option<RoomEvent>, Error> {
        self.check(room)?;
        let (rules, told) = (room.roster_rules(), room.log_rules());
        let user = actor.user.as_ref();
        let changed = self.fields.iter().filter(|field| field.apply(room, user));
        let mut changed: Vec<_> = changed.map(Field::path).collect();
        changed.dedup();
        if changed.is_empty() {
            return Ok(None);
        }
        room.settings.suit(room.kind, "room.settings")?;
        room.revised(now);
        room.kept = room.keeps();
        if rules != room.roster_rules() {
            room.rules_version += 1;
        }
        let rules_changed = told != room.log_rules();
        Ok(Some(RoomEvent { actor: actor.user.clone(), changed, rules_changed }))
    }
}

impl Rooms {
    /// Changes a room.
    pub(crate) async fn update(&self, asked: Asked, update: Update) -> Result<Changed, Error> {
        let update = Arc::new(update);
        self.repeatable(asked, move |rooms, asked| {
            let update = Arc::clone(&update);
            async move { rooms.update_once(&asked, &update).await }
        })
        .await
    }

    async fn update_once(&self, asked: &Asked, update: &Update) -> Result<Room, Error> {
        let Asked { actor, request, deadline } = asked;
        let room = self.active(actor, &update.room_id).await?;
        self.judge_update(actor, &room, &update.change, *deadline).await?;
        if !update.add.is_empty() || !update.remove.is_empty() {
            // People first: they are changed whole or not at all, and again without effect.
            let (add, remove) = (&update.add, &update.remove);
            self.members.edit(actor, &room, add, remove, *deadline).await?;
        }
        let change = self.limited(&room, &update.change).await?;
        let (log_id, now) = (room.log_id, self.now());
        let updated = self.store.update(log_id, &change, actor, request.as_ref(), now);
        let room = updated.await?;
        self.settle(&room, *deadline).await?;
        Ok(room)
    }

    /// The change as it is within the limits of the tenant.
    async fn limited<'a>(&self, room: &Room, change: &'a Change) -> Result<Cow<'a, Change>, Error> {
        let capacity = |field: &Field| matches!(field, Field::Capacity(_));
        if !change.fields.iter().any(capacity) {
            return Ok(Cow::Borrowed(change));
        }
        let limits = self.store.of_tenant(&room.tenant_id).await?.limits;
        let mut change = change.clone();
        for field in &mut change.fields {
            if let Field::Capacity(most) = field {
                let asked = most.unwrap_or(Settings::of(room.kind).capacity);
                *most = Some(limits.capacity(room.kind, asked)?);
            }
        }
        Ok(Cow::Owned(change))
    }

    async fn judge_update(
        &self,
        actor: &Actor,
        room: &Room,
        change: &Change,
        deadline: Deadline,
    ) -> Result<(), Error> {
        room.conceal_from(actor)?;
        if room.kind == RoomKind::Direct {
            return Err(Error::DirectRoom);
        }
        change.check_rules(room.kind)?;
        change.check(room)?;
        // Who may change people is judged where they are changed.
        if actor.is_tenant() || change.is_empty() {
            return Ok(());
        }
        match self.role(actor, room, deadline).await? {
            Some(Role::Admin) if change.lets_go(room) => {
                Err(Error::NotAllowed("only owners may say how long messages are kept"))
            }
            Some(Role::Owner | Role::Admin) => Ok(()),
            Some(Role::Member) => {
                Err(Error::NotAllowed("only owners and admins may update the room"))
            }
            None => Err(Error::NotAMember),
        }
    }
}
