//! Rosters: who is in a room, the rules of coming and going, and what every change keeps to.

use std::collections::{BTreeMap, BTreeSet};

use parlance_types::{
    JoinRule, LogId, MemberRule, Micros, Role, RoomId, RoomKind, TenantId, UserId, stored_enum,
};

pub(crate) mod grpc;
pub(crate) mod store;

stored_enum! {
    /// How somebody who ever was a member stands; who stayed was one when the room ended.
    State { Present = 1, Left = 2, Removed = 3, Stayed = 4 }
}

stored_enum! {
    /// What is laid on a user in a room.
    Sanction { Ban = 1 }
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
    /// first into a group in which nobody is owns it.
    pub(crate) fn role_of_newcomer(&self, others: usize) -> Role {
        match self.kind {
            RoomKind::Group if self.member_count == 0 && others == 0 => Role::Owner,
            _ => Role::Member,
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

    /// Refuses to take all owners from members who stay.
    pub(crate) fn spare_an_owner(&self, lost: &[UserId]) -> Result<(), Refused> {
        let roles = lost.iter().filter_map(|user_id| self.present(user_id)).map(|row| row.role);
        let (mut owners, mut all) = (0, 0);
        for role in roles {
            owners += i64::from(role == Role::Owner);
            all += 1;
        }
        let somebody_stays = self.roster.member_count > all;
        if owners > 0 && owners == self.owners && somebody_stays {
            return Err(Refused::LastOwner);
        }
        Ok(())
    }
}

/// One step of a change: one event.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Step {
    Gained(Vec<Grant>),
    Lost { user_ids: Vec<UserId>, removed: bool, reason: String },
    Roles(Vec<Grant>),
}

/// Why a change or a look is refused.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Refused {
    #[error("the room does not exist")]
    RoomNotFound,

    #[error("the user {user_id:?} does not exist")]
    UserNotFound { user_id: String },

    #[error("the user {user_id:?} is not a member of the room")]
    MemberNotFound { user_id: String },

    #[error("the caller is not a member of the room")]
    NotAMember,

    #[error("{0}")]
    NotAllowed(&'static str),

    #[error("members of this room are added, they cannot join")]
    JoinRestricted,

    #[error("the user was removed from the room and can only be added again")]
    RemovedFromRoom,

    #[error("the user {user_id:?} is banned from the room")]
    Banned { user_id: String, until: Option<Micros> },

    #[error("the room would be left without an owner: name a successor")]
    LastOwner,

    #[error("the members of a direct room do not change")]
    DirectRoom,

    #[error("the room takes at most {capacity} members")]
    RoomFull { capacity: i32 },

    #[error("another open room holds the id")]
    RoomIdTaken,
}

impl Refused {
    pub(crate) fn no_user(user_id: &UserId) -> Self {
        Self::UserNotFound { user_id: user_id.as_str().to_owned() }
    }

    pub(crate) fn no_member(user_id: &UserId) -> Self {
        Self::MemberNotFound { user_id: user_id.as_str().to_owned() }
    }
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
    keep_strangers_out(roster, viewer)?;
    match viewer {
        Viewer::Tenant | Viewer::User(Some(MemberRow { state: State::Present, .. })) => Ok(()),
        Viewer::User(_) => Err(Refused::NotAMember),
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

/// To others than its two users a direct room is not there.
pub(crate) fn keep_strangers_out(roster: &Roster, viewer: Viewer<'_>) -> Result<(), Refused> {
    match viewer {
        Viewer::User(None) if roster.kind == RoomKind::Direct => Err(Refused::RoomNotFound),
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
