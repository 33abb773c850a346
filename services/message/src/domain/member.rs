//! Members, roles and the rules of a room that its log enforces.

use parlance_types::UserId;

/// A member's rights. Ordered: who is greater may do more.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Role {
    Member = 1,
    Admin = 2,
    Owner = 3,
}

/// Which kind of room a log belongs to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RoomKind {
    Direct = 1,
    Group = 2,
    Channel = 3,
}

/// Who may send.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum PostRule {
    #[default]
    Members = 1,
    Admins = 2,
}

/// How much of the past a member sees.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum History {
    #[default]
    All = 1,
    SinceJoin = 2,
}

/// The rules that hold on every send and read.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Rules {
    pub post: PostRule,
    pub allow_preview: bool,
    pub history: History,
}

/// What an event means for access. Stands in its envelope, whatever its kind.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Effects {
    pub gained: Vec<(UserId, Role)>,
    pub lost: Vec<UserId>,
    pub roles: Vec<(UserId, Role)>,
    pub rules: Option<Rules>,
    pub closed: bool,
}

impl Role {
    /// Reads what `as i16` wrote.
    pub const fn from_i16(role: i16) -> Option<Self> {
        match role {
            1 => Some(Self::Member),
            2 => Some(Self::Admin),
            3 => Some(Self::Owner),
            _ => None,
        }
    }
}

impl PostRule {
    /// Reads what `as i16` wrote.
    pub const fn from_i16(rule: i16) -> Option<Self> {
        match rule {
            1 => Some(Self::Members),
            2 => Some(Self::Admins),
            _ => None,
        }
    }
}

impl History {
    /// Reads what `as i16` wrote.
    pub const fn from_i16(history: i16) -> Option<Self> {
        match history {
            1 => Some(Self::All),
            2 => Some(Self::SinceJoin),
            _ => None,
        }
    }
}

impl RoomKind {
    /// Reads what `as i16` wrote.
    pub const fn from_i16(kind: i16) -> Option<Self> {
        match kind {
            1 => Some(Self::Direct),
            2 => Some(Self::Group),
            3 => Some(Self::Channel),
            _ => None,
        }
    }
}
