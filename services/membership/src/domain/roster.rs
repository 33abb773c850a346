//! Rosters: who is in a room, and the rules of coming and going.

use parlance_types::{LogId, Micros, RoomId, TenantId, UserId};

/// Declares an enum that is stored as a small number.
macro_rules! stored_enum {
    ($(#[$doc:meta])* $name:ident { $($(#[$variant_doc:meta])* $variant:ident = $value:literal),+ $(,)? }) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
        pub enum $name { $($(#[$variant_doc])* $variant = $value),+ }

        impl $name {
            /// Reads what `as i16` wrote.
            pub const fn from_i16(value: i16) -> Option<Self> {
                match value { $($value => Some(Self::$variant),)+ _ => None }
            }
        }
    };
}

stored_enum!(
    /// A member's rights. Ordered: who is greater may do more.
    Role { Member = 1, Admin = 2, Owner = 3 }
);
stored_enum!(
    /// Which kind of room it is.
    RoomKind { Direct = 1, Group = 2, Channel = 3 }
);
stored_enum!(
    /// Who may become a member by themselves.
    JoinRule { Anyone = 1, AddedOnly = 2 }
);
stored_enum!(
    /// Which members may do something.
    MemberRule { Members = 1, Admins = 2 }
);
stored_enum!(
    /// How somebody who ever was a member stands.
    State { Present = 1, Left = 2, Removed = 3 }
);

/// The rules of a room that its roster enforces.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rules {
    pub join: JoinRule,
    pub add: MemberRule,
    pub remove: MemberRule,
    /// At most so many members; at least 1.
    pub capacity: i32,
}

/// The roster of one life of a room.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Roster {
    pub log_id: LogId,
    pub tenant_id: TenantId,
    pub room_id: RoomId,
    pub kind: RoomKind,
    pub rules: Rules,
    pub member_count: i64,
    pub closed: bool,
}

/// A user and the role they hold.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Grant {
    pub user_id: UserId,
    pub role: Role,
}

/// A roster to be opened.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NewRoster {
    pub log_id: LogId,
    pub room_id: RoomId,
    pub kind: RoomKind,
    pub rules: Rules,
    pub rules_version: i64,
    pub members: Vec<Grant>,
    /// Those of the members who come into being if they do not exist.
    pub ensure: Vec<UserId>,
}

/// What a roster keeps of somebody who is or was a member.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MemberRow {
    /// The role, or the last one.
    pub role: Role,
    pub state: State,
    pub joined: Micros,
}

/// That a user is in a room.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Membership {
    pub room_id: RoomId,
    pub user_id: UserId,
    pub role: Role,
    pub joined: Micros,
}

impl MemberRule {
    /// Whether the rule lets a member of this role do it.
    pub fn allows(self, role: Role) -> bool {
        match self {
            Self::Members => true,
            Self::Admins => role >= Role::Admin,
        }
    }
}

impl Roster {
    /// Whether so many more members fit.
    pub fn has_room_for(&self, more: usize) -> bool {
        let more = i64::try_from(more).unwrap_or(i64::MAX);
        self.member_count.saturating_add(more) <= i64::from(self.rules.capacity)
    }
}
