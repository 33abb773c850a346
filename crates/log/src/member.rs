//! Members, roles and the rules of a room that its log enforces.

use parlance_types::{Seq, UserId};

use crate::Error;

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

/// A present membership.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Membership {
    pub role: Role,
    /// The event that made the user a member.
    pub joined: Seq,
}

/// Reads what `as i16` wrote.
macro_rules! stored {
    ($($type:ident in $table:literal $column:literal: $($value:ident)+;)+) => {$(
        impl $type {
            /// Reads what the database holds.
            pub fn stored(number: i16) -> Result<Self, Error> {
                $(if number == Self::$value as i16 {
                    return Ok(Self::$value);
                })+
                Err(Error::Impossible { table: $table, column: $column })
            }
        }
    )+};
}

stored! {
    Role in "members" "role": Member Admin Owner;
    RoomKind in "heads" "kind": Direct Group Channel;
    PostRule in "heads" "post_rule": Members Admins;
    History in "heads" "history": All SinceJoin;
}
