//! Rosters: who is in a room, the rules of coming and going, and what every change keeps to.

use std::collections::{BTreeMap, BTreeSet};

use parlance_types::{
    JoinRule, LogId, MemberRule, Micros, Resource, Role, RoomId, RoomKind, SessionId, TenantId,
    UserId, stored_enum,
};

pub(crate) mod grpc;
mod refused;
pub(crate) mod store;

pub(crate) use self::refused::{MAX_BLOCKS, Refused};

stored_enum! {
    /// How somebody who ever was a member stands; who stayed was one when the room ended.
    State { Present = 1, Left = 2, Removed = 3, Stayed = 4 }
}

stored_enum! {
    /// What is laid on a user in a room.
    Sanction { Ban = 1, Mute = 2 }
}

stored_enum! {
    /// What waits for an answer before a user is a member.
    Pending { Invitation = 1, Request = 2 }
}

/// The end of what does not end by itself.
pub(crate) const FOR_EVER: Micros = Micros::MAX;

/// The rules of a room that its roster enforces.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Rules {
    pub(crate) join: JoinRule,
    pub(crate) add: MemberRule,
    pub(crate) remove: MemberRule,
    /// At most so many members; at least 1.
    pub(crate) capacity: i32,
    /// Whether the room service wants to hear who comes and goes.
    pub(crate) watched: bool,
}

/// A watched roster in which somebody came or went.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Changed {
    pub(crate) log_id: LogId,
    /// Counts the changes.
    pub(crate) changes: i64,
    pub(crate) member_count: i64,
}

/// The roster of one life of a room.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Roster {
    pub(crate) log_id: LogId,
    pub(crate) tenant_id: TenantId,
    pub(crate) room_id: RoomId,
    pub(crate) kind: RoomKind,
    pub(crate) rules: Rules,
    pub(crate) member_count: i64,
    pub(crate) closed: bool,
    /// Of a live room only.
    pub(crate) live: Option<Live>,
    /// How many invitations wait for an answer.
    pub(crate) invited: i64,
    /// How many requests to join do.
    pub(crate) asking: i64,
}

/// The longest that a live room waits for somebody.
pub(crate) const MAX_WAIT: Micros = 3 * 60 * 60 * 1_000_000;

/// How a live room lives.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Live {
    /// How long it waits after the last one left.
    pub(crate) destroy_delay: Micros,
    /// Whether a user has one device at most in it.
    pub(crate) single_device: bool,
}

/// A device of a user, and the session that it has.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Device {
    pub(crate) resource: Resource,
    pub(crate) session_id: SessionId,
}

/// What ends a membership.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Cause {
    Left,
    /// The session of the last device ended.
    LeaseEnded,
    Removed,
    Switched,
}

/// Which members of a room to list.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct MemberFilter {
    /// Only these users; empty: all.
    pub(crate) user_ids: Vec<UserId>,
    /// Only these roles; empty: all.
    pub(crate) roles: Vec<Role>,
}

impl MemberFilter {
    /// Whether it lets members of a role pass.
    pub(crate) fn has(&self, role: Role) -> bool {
        self.roles.is_empty() || self.roles.contains(&role)
    }
}

/// A user and the role they hold.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Grant {
    pub(crate) user_id: UserId,
    pub(crate) role: Role,
}

/// A roster to be opened.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct NewRoster {
    pub(crate) log_id: LogId,
    pub(crate) room_id: RoomId,
    pub(crate) kind: RoomKind,
    pub(crate) rules: Rules,
    pub(crate) rules_version: i64,
    pub(crate) members: Vec<Grant>,
    /// Those of the members who come into being if they do not exist.
    pub(crate) ensure: Vec<UserId>,
    /// Of a live room only.
    pub(crate) live: Option<NewLive>,
}

impl NewRoster {
    /// The room whose seat the first member gives up.
    pub(crate) fn from(&self) -> Option<LogId> {
        self.live.as_ref()?.seat.as_ref()?.from
    }
}

/// A live room to be opened.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct NewLive {
    pub(crate) live: Live,
    /// How long it waits for the first one.
    pub(crate) empty_timeout: Micros,
    pub(crate) seat: Option<FirstSeat>,
}

/// The seat of the first member of a live room.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct FirstSeat {
    pub(crate) user_id: UserId,
    pub(crate) device: Device,
    /// In so many live rooms the user may be.
    pub(crate) max_rooms: i64,
    /// The room whose seat the device gives up.
    pub(crate) from: Option<LogId>,
}

/// What a roster keeps of somebody who is or was a member.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct MemberRow {
    /// The role, or the last one.
    pub(crate) role: Role,
    pub(crate) state: State,
    pub(crate) joined: Micros,
}

/// That a user is in a room.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Membership {
    pub(crate) room_id: RoomId,
    pub(crate) user_id: UserId,
    pub(crate) role: Role,
    pub(crate) joined: Micros,
}

impl Roster {
    /// The role of somebody who comes in, after so many others who come in at once. Who comes
    /// first into a group or a live room in which nobody is owns it.
    pub(crate) fn role_of_newcomer(&self, others: usize) -> Role {
        match self.kind {
            RoomKind::Group | RoomKind::Live if self.member_count == 0 && others == 0 => {
                Role::Owner
            }
            RoomKind::Direct
            | RoomKind::Group
            | RoomKind::Channel
            | RoomKind::Broadcast
            | RoomKind::Live => Role::Member,
        }
    }

    /// What a user is who comes in, after so many others who come in at once.
    pub(crate) fn newcomer(
        &self,
        user_id: &UserId,
        others: usize,
        now: Micros,
    ) -> (Grant, Membership) {
        let role = self.role_of_newcomer(others);
        let row = MemberRow { role, state: State::Present, joined: now };
        let membership = Membership::of(&self.room_id, user_id, &row);
        (Grant { user_id: user_id.clone(), role }, membership)
    }

    /// How many of these wait for an answer.
    pub(crate) const fn waiting(&self, kind: Pending) -> i64 {
        match kind {
            Pending::Invitation => self.invited,
            Pending::Request => self.asking,
        }
    }

    /// Whether it has an owner as long as anybody is in. A live room need not: its owner's
    /// connection may break, and nobody would be asked for a successor.
    pub(crate) const fn keeps_an_owner(&self) -> bool {
        match self.kind {
            RoomKind::Group | RoomKind::Channel => true,
            RoomKind::Direct | RoomKind::Broadcast | RoomKind::Live => false,
        }
    }

    /// Whether so many more members fit.
    pub(crate) fn has_room_for(&self, more: usize) -> bool {
        let more = i64::try_from(more).unwrap_or(i64::MAX);
        self.member_count.saturating_add(more) <= i64::from(self.rules.capacity)
    }
}

/// What is known about a roster, under its lock, when a change is decided.
#[derive(Clone, Debug)]
pub(crate) struct LockedRoster {
    pub(crate) roster: Roster,
    /// Those of the actor and the named who are or were members.
    pub(crate) rows: BTreeMap<UserId, MemberRow>,
    /// Those of the users to be added who exist in the tenant.
    pub(crate) known: BTreeSet<UserId>,
    /// How many present members are owners; of more than a hundred not all.
    pub(crate) owners: i64,
}

impl LockedRoster {
    /// What the roster keeps of a user who is a member now.
    pub(crate) fn present(&self, user_id: &UserId) -> Option<&MemberRow> {
        self.rows.get(user_id).filter(|row| row.state == State::Present)
    }

    /// How the actor looks at the roster; nobody is who acts for the tenant.
    pub(crate) fn viewer(&self, actor: Option<&UserId>) -> Viewer<'_> {
        actor.map_or(Viewer::Tenant, |actor| Viewer::User(self.rows.get(actor)))
    }

    /// Refuses to take all owners from members who stay, where somebody must own the room.
    pub(crate) fn spare_an_owner(&self, lost: &[UserId]) -> Result<(), Refused> {
        let roles = lost.iter().filter_map(|user_id| self.present(user_id)).map(|row| row.role);
        let (mut owners, mut all) = (0, 0);
        for role in roles {
            owners += i64::from(role == Role::Owner);
            all += 1;
        }
        let somebody_stays = self.roster.member_count > all;
        let all_lost = owners > 0 && owners == self.owners;
        if all_lost && somebody_stays && self.roster.keeps_an_owner() {
            return Err(Refused::LastOwner);
        }
        Ok(())
    }
}

/// One step of a change: one event.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Step {
    Gained(Vec<Grant>),
    Lost { user_ids: Vec<UserId>, cause: Cause, reason: String },
    Roles(Vec<Grant>),
}

impl Membership {
    pub(crate) fn of(room_id: &RoomId, user_id: &UserId, row: &MemberRow) -> Self {
        let (room_id, user_id) = (room_id.clone(), user_id.clone());
        Self { room_id, user_id, role: row.role, joined: row.joined }
    }
}

/// Who looks at a roster.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Viewer<'a> {
    /// A service that acts for the tenant.
    Tenant,
    /// A user, and what the roster keeps of them.
    User(Option<&'a MemberRow>),
}

/// Whether a viewer may see the members.
pub(crate) fn may_read(roster: &Roster, viewer: Viewer<'_>) -> Result<(), Refused> {
    has_members_for(roster, viewer)?;
    match viewer {
        Viewer::Tenant | Viewer::User(Some(MemberRow { state: State::Present, .. })) => Ok(()),
        Viewer::User(_) => Err(Refused::NotAMember),
    }
}

/// Whether a viewer may let others in: in groups and channels, as the room's add rule says.
pub(crate) fn may_add(roster: &Roster, viewer: Viewer<'_>) -> Result<(), Refused> {
    in_groups_and_channels(roster, viewer)?;
    match viewer {
        Viewer::Tenant => Ok(()),
        Viewer::User(Some(row)) if row.state == State::Present => {
            let otherwise = "the room's rules do not let the caller add members";
            if roster.rules.add.allows(row.role) {
                Ok(())
            } else {
                Err(Refused::NotAllowed(otherwise))
            }
        }
        Viewer::User(_) => Err(Refused::NotAMember),
    }
}

/// Refuses what is done in groups and channels only.
pub(crate) fn in_groups_and_channels(roster: &Roster, viewer: Viewer<'_>) -> Result<(), Refused> {
    has_members_for(roster, viewer)?;
    match roster.kind {
        RoomKind::Group | RoomKind::Channel => Ok(()),
        RoomKind::Direct => Err(Refused::DirectRoom),
        RoomKind::Broadcast => Err(Refused::BroadcastRoom),
        RoomKind::Live => Err(Refused::LiveRoom),
    }
}

/// Whether a roster may begin with these members.
pub(crate) fn may_open(
    rules: Rules,
    members: &[Grant],
    exists: impl Fn(&UserId) -> bool,
) -> Result<(), Refused> {
    if let Some(missing) = members.iter().find(|member| !exists(&member.user_id)) {
        return Err(Refused::no_user(&missing.user_id));
    }
    if i64::try_from(members.len()).is_ok_and(|count| count <= i64::from(rules.capacity)) {
        Ok(())
    } else {
        Err(Refused::RoomFull { capacity: rules.capacity })
    }
}

/// Decides who of `user_ids` becomes a member whatever the room's rules say.
pub(crate) fn admit(
    locked: &LockedRoster,
    user_ids: &[UserId],
    readmit: bool,
) -> Result<Vec<Grant>, Refused> {
    match locked.roster.kind {
        RoomKind::Live => return Err(Refused::LiveRoom),
        RoomKind::Broadcast => return Err(Refused::BroadcastRoom),
        RoomKind::Direct | RoomKind::Group | RoomKind::Channel => {}
    }
    let mut gained = Vec::new();
    for user_id in user_ids {
        let row = locked.rows.get(user_id);
        match row.map(|row| row.state) {
            Some(State::Present) => continue,
            Some(State::Removed) if !readmit => return Err(Refused::RemovedFromRoom),
            _ => {}
        }
        // Who comes back into a direct room is who they were.
        let kept = row.filter(|_| locked.roster.kind == RoomKind::Direct).map(|row| row.role);
        let role = kept.unwrap_or_else(|| locked.roster.role_of_newcomer(gained.len()));
        gained.push(Grant { user_id: user_id.clone(), role });
    }
    fit(&locked.roster, gained.len())?;
    Ok(gained)
}

/// Decides what a device of a user makes of the user who enters a live room with it: a member
/// with a role, or nothing new. Who comes back is who they were.
pub(crate) fn enter(
    roster: &Roster,
    user_id: &UserId,
    row: Option<&MemberRow>,
) -> Result<Option<Grant>, Refused> {
    let role = match row {
        Some(row) => match row.state {
            State::Present => return Ok(None),
            State::Removed => return Err(Refused::RemovedFromRoom),
            State::Left | State::Stayed => row.role.max(roster.role_of_newcomer(0)),
        },
        None if roster.rules.join != JoinRule::Anyone => return Err(Refused::JoinRestricted),
        None => roster.role_of_newcomer(0),
    };
    fit(roster, 1)?;
    Ok(Some(Grant { user_id: user_id.clone(), role }))
}

/// Whether there are members to look at, or to change, whatever the viewer's rights: to others
/// than its two users a direct room is not there, and a broadcast has none that are kept.
pub(crate) fn has_members_for(roster: &Roster, viewer: Viewer<'_>) -> Result<(), Refused> {
    match (roster.kind, viewer) {
        (RoomKind::Direct, Viewer::User(None)) => Err(Refused::RoomNotFound),
        (RoomKind::Broadcast, _) => Err(Refused::BroadcastRoom),
        _ => Ok(()),
    }
}

/// Refuses more members than there is room for.
pub(crate) fn fit(roster: &Roster, more: usize) -> Result<(), Refused> {
    if more == 0 || roster.has_room_for(more) {
        Ok(())
    } else {
        Err(Refused::RoomFull { capacity: roster.rules.capacity })
    }
}
