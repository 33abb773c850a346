//! Rooms: what they are, and what may be done with them.
//!
//! `grpc` decodes, calls and encodes; `store` is SQL. Between them stand the values that
//! cannot be wrong, and a file for each thing that is done with a room.

mod bound;
pub(crate) mod codec;
mod create;
mod delete;
mod fields;
mod follow;
mod get;
mod get_or_create;
mod grpc;
mod janitor;
mod lifecycle;
mod live;
mod owners;
mod quota;
mod repeat;
mod rooms;
mod row;
mod settings;
pub(crate) mod store;
mod text;
mod update;
mod watch;

use parlance_rpc::Caller;
use parlance_types::{LogId, Micros, Pairs, Role, RoomId, RoomKind, TenantId, UserId};
use serde::{Deserialize, Serialize};

pub(crate) use bound::{BoundKeys, Member};
pub(crate) use create::{MAX_MEMBERS, NewRoom};
pub(crate) use fields::{AllowedFields, Fields, FieldsDraft};
pub(crate) use follow::FOLLOW;
pub(crate) use get::{Names, is_of_members};
pub(crate) use get_or_create::{ChannelWish, DirectWish};
pub(crate) use grpc::{RoomGrpc, settings, wait, whole_seconds};
pub(crate) use live::LiveFounding;
pub(crate) use owners::KeyOwners;
pub(crate) use quota::{Limits, OfTenant, TenantRules, Use};
pub(crate) use repeat::{Asked, Changed};
pub(crate) use rooms::Rooms;
pub(crate) use row::{Listed, Named};
pub(crate) use settings::{
    LogRules, MAX_CAPACITY, RosterRules, Settings, SettingsDraft, Windows, check_retention,
};
pub(crate) use text::{Description, Name, Picture, UniqueId, folded};
pub(crate) use update::{Change, Field, Update};

use crate::Error;

parlance_types::stored_enum! {
    /// Where a room is in its life. Its ids are taken in the first three states.
    State {
        /// Its roster may or may not be open.
        Creating = 1,
        /// There.
        Active = 2,
        /// Its roster may or may not be closed.
        Deleting = 3,
        /// Gone.
        Deleted = 4,
        /// It never came to be, and never will.
        Abandoned = 5,
    }
}

parlance_types::stored_enum! {
    /// Whether a channel is found by those who do not know its name; nothing else is.
    Visibility { Unlisted = 1, Listed = 2 }
}

/// On whose behalf something is done: a user, or nobody, which is the tenant.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Actor {
    pub tenant_id: TenantId,
    pub user: Option<UserId>,
}

/// The two users of a direct room, the lower id first.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Pair {
    low: UserId,
    high: UserId,
}

/// The first members of a room: kept so that anybody can finish its creation.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Founding {
    owner: Option<String>,
    members: Vec<String>,
    /// Who comes into being if they do not exist.
    ensure: Vec<String>,
    /// Of a live room only.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    live: Option<LiveFounding>,
}

/// A room.
#[expect(clippy::struct_field_names, reason = "an id is called what callers call it")]
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Room {
    pub tenant_id: TenantId,
    pub log_id: LogId,
    pub room_id: RoomId,
    pub unique_id: Option<UniqueId>,
    pub kind: RoomKind,
    pub name: Name,
    pub picture: Picture,
    pub description: Description,
    pub metadata: Pairs,
    pub fields: Fields,
    /// Who set the keys of the metadata.
    pub key_owners: KeyOwners,
    /// Which of them end with a membership.
    pub bound_keys: BoundKeys,
    pub settings: Settings,
    pub visibility: Visibility,
    /// Of a listed channel: how many members it had when membership last told.
    pub members: i64,
    /// How long the log was last told to keep events, in seconds; 0: for ever.
    pub kept: i64,
    /// What holds in all rooms of the tenant.
    pub tenant: TenantRules,
    /// `None`: a service that acted for nobody.
    pub creator: Option<UserId>,
    /// The users of a direct room.
    pub pair: Option<Pair>,
    pub founding: Founding,
    pub state: State,
    /// Counts the updates.
    pub version: i64,
    /// Counts the changes of the roster's rules.
    pub rules_version: i64,
    /// The rules that the roster is known to have.
    pub pushed_rules_version: i64,
    /// Who began to delete it: a user, or nobody for the tenant.
    pub deleter: Option<UserId>,
    pub create_time: Micros,
    pub update_time: Micros,
}

/// What a change of a room tells its log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct RoomEvent {
    pub actor: Option<UserId>,
    /// The fields that changed, by their paths.
    pub changed: Vec<&'static str>,
    /// Whether the log's rules are others from here on.
    pub rules_changed: bool,
}

impl Actor {
    /// Whether it acts for the tenant, with every right in every room.
    pub(crate) const fn is_tenant(&self) -> bool {
        self.user.is_none()
    }
}

impl From<Caller> for Actor {
    fn from(caller: Caller) -> Self {
        let user = caller.user().cloned();
        Self { tenant_id: caller.tenant_id, user }
    }
}

impl Pair {
    /// Two users; `None` if they are one.
    pub(crate) fn new(one: UserId, other: UserId) -> Option<Self> {
        match one.cmp(&other) {
            std::cmp::Ordering::Less => Some(Self { low: one, high: other }),
            std::cmp::Ordering::Equal => None,
            std::cmp::Ordering::Greater => Some(Self { low: other, high: one }),
        }
    }

    pub(crate) const fn low(&self) -> &UserId {
        &self.low
    }

    pub(crate) const fn high(&self) -> &UserId {
        &self.high
    }

    pub(crate) fn has(&self, user: &UserId) -> bool {
        self.low == *user || self.high == *user
    }

    pub(crate) fn users(&self) -> Vec<UserId> {
        vec![self.low.clone(), self.high.clone()]
    }
}

impl Founding {
    /// The first members, and who of them need not exist before.
    pub(crate) fn new(owner: Option<UserId>, members: Vec<UserId>, ensure: Option<UserId>) -> Self {
        Self {
            owner: owner.map(UserId::into_string),
            members: members.into_iter().map(UserId::into_string).collect(),
            ensure: ensure.into_iter().map(UserId::into_string).collect(),
            live: None,
        }
    }

    /// Everybody with their role, the owner first.
    pub(crate) fn grants(&self) -> impl Iterator<Item = (&str, Role)> {
        let owner = self.owner.iter().map(|user| (user.as_str(), Role::Owner));
        owner.chain(self.members.iter().map(|user| (user.as_str(), Role::Member)))
    }

    pub(crate) fn ensure(&self) -> &[String] {
        &self.ensure
    }
}

impl Room {
    /// Names the present version of this life of the room.
    pub(crate) fn etag(&self) -> String {
        format!("{}-{}", self.log_id, self.version)
    }

    /// On whose behalf the room's creation is finished.
    pub(crate) fn founder(&self) -> Actor {
        Actor { tenant_id: self.tenant_id.clone(), user: self.creator.clone() }
    }

    /// On whose behalf the room's roster is closed: of who deletes the room, or of
    /// who began to create it if it never came to be.
    pub(crate) fn closer(&self) -> Actor {
        match self.state {
            State::Deleting | State::Deleted => {
                let (tenant_id, user) = (self.tenant_id.clone(), self.deleter.clone());
                Actor { tenant_id, user }
            }
            State::Creating | State::Active | State::Abandoned => self.founder(),
        }
    }

    /// Takes note of a change at `now`.
    pub(crate) fn revised(&mut self, now: Micros) {
        self.version += 1;
        self.update_time = now.max(self.update_time);
    }

    /// How long the log is to keep events, in seconds; 0: for ever.
    const fn keeps(&self) -> i64 {
        self.tenant.kept_by(&self.settings)
    }

    /// The rules that the log was told.
    pub(crate) const fn log_rules(&self) -> LogRules {
        LogRules { retention: self.kept, ..self.settings.log_rules() }
    }

    /// The rules of the roster, which tells of its members where somebody waits for that.
    pub(crate) fn roster_rules(&self) -> RosterRules {
        let watched = self.visibility == Visibility::Listed || !self.bound_keys.is_empty();
        RosterRules { watched, ..self.settings.roster_rules() }
    }

    /// By what a list is ordered that it is in.
    pub(crate) fn sort_name(&self) -> String {
        match self.visibility {
            Visibility::Listed => folded(self.name.as_str()),
            Visibility::Unlisted => String::new(),
        }
    }

    /// Whether the roster may not have heard of the latest rules.
    pub(crate) const fn rules_pending(&self) -> bool {
        self.pushed_rules_version < self.rules_version
    }

    /// Fails with `RoomNotFound` if the room is a direct room of other people:
    /// nobody learns that those talk to each other.
    pub(crate) fn conceal_from(&self, actor: &Actor) -> Result<(), Error> {
        match (&self.pair, &actor.user) {
            (Some(pair), Some(user)) if !pair.has(user) => Err(Error::RoomNotFound),
            _ => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pair_is_two_users_in_whatever_order() {
        let user = |id: &str| UserId::new(id);
        assert_eq!(Pair::new(user("a"), user("b")), Pair::new(user("b"), user("a")));
        assert_ne!(Pair::new(user("a:b"), user("c")), Pair::new(user("a"), user("b:c")));
        assert_eq!(Pair::new(user("a"), user("a")), None);
    }
}
