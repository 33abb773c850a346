//! How much a tenant may have.

use parlance_types::RoomKind;

use super::{AllowedFields, Settings};
use crate::Error;

/// What operators allow a tenant; `None`: as much as it likes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Limits {
    pub rooms: Option<i64>,
    pub live_rooms: Option<i64>,
    /// Of one room.
    pub members: Option<i32>,
    /// Of the tenant; membership counts them.
    pub users: Option<i64>,
}

/// How many rooms a tenant has.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Use {
    pub rooms: i64,
    /// Those among them that are live.
    pub live_rooms: i64,
}

/// What holds in all rooms of a tenant.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct TenantRules {
    /// In how many of them that are live a user may be.
    pub max_live_rooms_per_user: i32,
    /// How long those that do not say it themselves keep events, in seconds; 0: for ever.
    pub retention: i64,
}

/// What a room that is made or changed keeps to.
#[derive(Clone, Debug, Default)]
pub(crate) struct OfTenant {
    pub allowed_fields: AllowedFields,
    pub limits: Limits,
    pub rules: TenantRules,
}

impl Default for TenantRules {
    fn default() -> Self {
        Self { max_live_rooms_per_user: 5, retention: 0 }
    }
}

impl TenantRules {
    /// What of them was decided.
    pub(crate) fn stored(max_live_rooms_per_user: Option<i32>, retention: Option<i64>) -> Self {
        let default = Self::default();
        let most = max_live_rooms_per_user.unwrap_or(default.max_live_rooms_per_user);
        let retention = retention.unwrap_or(default.retention);
        Self { max_live_rooms_per_user: most, retention }
    }

    /// How long a room with these settings keeps events.
    pub(crate) const fn kept_by(&self, settings: &Settings) -> i64 {
        if settings.retention == 0 { self.retention } else { settings.retention }
    }
}

impl Limits {
    /// Whether rooms are counted for them.
    pub(crate) const fn count(&self) -> bool {
        self.rooms.is_some() || self.live_rooms.is_some()
    }

    /// Fails if one more room, of a kind, with which it has so many, is too much.
    pub(crate) fn judge(&self, kind: RoomKind, has: Use) -> Result<(), Error> {
        let live = self.live_rooms.filter(|_| kind == RoomKind::Live);
        let limits = [("rooms", self.rooms, has.rooms), ("live_rooms", live, has.live_rooms)];
        limits.into_iter().try_for_each(|(limit, most, has)| within(limit, most, has))
    }

    /// How many members a room of a kind is made for, which asks for so many: for fewer, if it
    /// asks for what rooms of its kind have anyway.
    pub(crate) fn capacity(&self, kind: RoomKind, asked: i32) -> Result<i32, Error> {
        match (kind, self.members) {
            // Nobody chooses for how many these are.
            (RoomKind::Direct | RoomKind::Broadcast, _) | (_, None) => Ok(asked),
            (_, Some(most)) if asked == Settings::of(kind).capacity => Ok(asked.min(most)),
            (_, Some(most)) => within("members", Some(most.into()), asked.into()).map(|()| asked),
        }
    }
}

fn within(limit: &'static str, most: Option<i64>, has: i64) -> Result<(), Error> {
    match most {
        Some(most) if has > most => Err(Error::QuotaExceeded { limit, most }),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_does_not_choose_for_how_many_a_room_is_gets_what_is_allowed() {
        let limits = Limits { members: Some(50), ..Limits::default() };
        for (kind, asked, gets) in [
            (RoomKind::Group, 1000, Some(50)),
            (RoomKind::Group, 50, Some(50)),
            (RoomKind::Group, 51, None),
            (RoomKind::Channel, 100_000, Some(50)),
            (RoomKind::Channel, 1000, None),
            (RoomKind::Live, 1000, Some(50)),
            (RoomKind::Broadcast, 100_000, Some(100_000)),
        ] {
            assert_eq!(limits.capacity(kind, asked).ok(), gets, "{kind:?} for {asked}");
            assert_eq!(Limits::default().capacity(kind, asked).ok(), Some(asked));
        }
        let pairs = Limits { members: Some(1), ..Limits::default() };
        assert_eq!(pairs.capacity(RoomKind::Direct, 2).ok(), Some(2));
    }
}
