//! The rules of a room.

use super::Kind;
use crate::Error;

/// The most members a room can be made for.
const MAX_CAPACITY: i32 = 100_000;

/// Declares an enum that is stored as a small number.
macro_rules! stored {
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
pub(super) use stored;

stored! {
    /// Who may send.
    Post {
        /// Every member.
        Members = 1,
        /// Owners and admins.
        Admins = 2,
    }
}

stored! {
    /// Which members may add or remove others.
    Members {
        /// Every member.
        All = 1,
        /// Owners and admins.
        Admins = 2,
    }
}

stored! {
    /// Who may become a member by themselves.
    Join {
        /// Every user of the tenant.
        Anyone = 1,
        /// Nobody.
        AddedOnly = 2,
    }
}

stored! {
    /// How much of the past a member sees.
    History {
        /// Everything.
        All = 1,
        /// What came since the member's present join.
        SinceJoin = 2,
    }
}

/// The rules of a room, all of them decided.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Settings {
    pub post: Post,
    pub add: Members,
    pub remove: Members,
    pub join: Join,
    pub allow_preview: bool,
    pub history: History,
    /// At most so many members.
    pub capacity: i32,
}

/// The rules that somebody wishes for; what is `None` takes the kind's default.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct SettingsDraft {
    pub post: Option<Post>,
    pub add: Option<Members>,
    pub remove: Option<Members>,
    pub join: Option<Join>,
    pub allow_preview: bool,
    pub history: Option<History>,
    pub capacity: Option<i32>,
}

/// The part of the rules that the log enforces.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LogRules {
    pub post: Post,
    pub allow_preview: bool,
    pub history: History,
}

/// The part of the rules that the roster enforces.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RosterRules {
    pub join: Join,
    pub add: Members,
    pub remove: Members,
    pub capacity: i32,
}

impl SettingsDraft {
    /// Checks what does not depend on the kind of the room; `field` is what a
    /// refusal of the capacity names.
    pub fn check(self, field: &str) -> Result<Self, Error> {
        match self.capacity {
            Some(capacity) if !(1..=MAX_CAPACITY).contains(&capacity) => {
                Err(Error::invalid(field, "must be from 1 to 100000"))
            }
            _ => Ok(self),
        }
    }

    /// Decides what was left open.
    pub fn resolve(self, kind: Kind) -> Settings {
        let default = Settings::of(kind);
        Settings {
            post: self.post.unwrap_or(default.post),
            add: self.add.unwrap_or(default.add),
            remove: self.remove.unwrap_or(default.remove),
            join: self.join.unwrap_or(default.join),
            allow_preview: self.allow_preview,
            history: self.history.unwrap_or(default.history),
            capacity: self.capacity.unwrap_or(default.capacity),
        }
    }
}

impl Settings {
    /// The defaults of a kind.
    pub const fn of(kind: Kind) -> Self {
        let (join, capacity) = match kind {
            Kind::Direct => (Join::AddedOnly, 2),
            Kind::Group => (Join::AddedOnly, 1000),
            Kind::Channel => (Join::Anyone, MAX_CAPACITY),
        };
        Self {
            post: Post::Members,
            add: Members::All,
            remove: Members::Admins,
            join,
            allow_preview: false,
            history: History::All,
            capacity,
        }
    }

    pub const fn log_rules(&self) -> LogRules {
        LogRules { post: self.post, allow_preview: self.allow_preview, history: self.history }
    }

    pub const fn roster_rules(&self) -> RosterRules {
        RosterRules { join: self.join, add: self.add, remove: self.remove, capacity: self.capacity }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_unspecified_takes_the_default_of_the_kind() {
        let group = SettingsDraft::default().resolve(Kind::Group);
        assert_eq!((group.join, group.capacity), (Join::AddedOnly, 1000));
        let channel = SettingsDraft { post: Some(Post::Admins), ..SettingsDraft::default() };
        let channel = channel.resolve(Kind::Channel);
        assert_eq!((channel.join, channel.post), (Join::Anyone, Post::Admins));
        assert_eq!(channel.capacity, 100_000);
    }

    #[test]
    fn a_capacity_is_from_1_to_100000() {
        let of = |capacity| SettingsDraft { capacity: Some(capacity), ..SettingsDraft::default() };
        for good in [1, 100_000] {
            assert!(of(good).check("settings.capacity").is_ok());
        }
        for bad in [i32::MIN, -1, 0, 100_001] {
            assert!(of(bad).check("settings.capacity").is_err());
        }
    }
}
