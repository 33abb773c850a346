//! The rules of a room.

use std::ops::RangeInclusive;

use parlance_types::{History, JoinRule, MemberRule, RoomKind};

use super::Visibility;
use crate::Error;

/// How long a room may keep its events, in seconds: a minute to ten years.
const RETENTION: RangeInclusive<i64> = 60..=315_360_000;

/// How long a member may have to wait between messages, in seconds: up to six hours.
const SLOW_MODE: RangeInclusive<i64> = 1..=21_600;

/// How long a message may be open to its sender, in seconds: up to ten years.
const WINDOW: RangeInclusive<i64> = 1..=315_360_000;

/// The most members a room can be made for.
pub(crate) const MAX_CAPACITY: i32 = 100_000;

/// What binds members who are neither owners nor admins, in seconds; 0: it does not.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Windows {
    /// The wait after each message.
    pub slow_mode: i64,
    /// How long after it was sent a message is edited, and deleted.
    pub edit: i64,
    pub delete: i64,
}

/// The rules of a room, all of them decided.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Settings {
    pub post: MemberRule,
    pub add: MemberRule,
    pub remove: MemberRule,
    pub join: JoinRule,
    pub allow_preview: bool,
    pub history: History,
    /// At most so many members.
    pub capacity: i32,
    /// Who may patch the metadata.
    pub metadata: MemberRule,
    /// How long events are kept, in seconds; 0: for ever.
    pub retention: i64,
    pub windows: Windows,
}

/// The rules that somebody wishes for; what is `None` takes the kind's default.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct SettingsDraft {
    pub post: Option<MemberRule>,
    pub add: Option<MemberRule>,
    pub remove: Option<MemberRule>,
    pub join: Option<JoinRule>,
    pub allow_preview: bool,
    pub history: Option<History>,
    pub capacity: Option<i32>,
    pub metadata: Option<MemberRule>,
    /// 0: for ever.
    pub retention: i64,
    pub windows: Windows,
}

/// The part of the rules that the log enforces.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct LogRules {
    pub post: MemberRule,
    pub allow_preview: bool,
    pub history: History,
    pub retention: i64,
    pub windows: Windows,
}

/// The part of the rules that the roster enforces.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct RosterRules {
    pub join: JoinRule,
    pub add: MemberRule,
    pub remove: MemberRule,
    pub capacity: i32,
    /// Whether it tells who comes and goes.
    pub watched: bool,
}

impl SettingsDraft {
    /// Checks what does not depend on the kind of the room; `at` is where the rules stand
    /// in the request.
    pub(crate) fn check(self, at: &str) -> Result<Self, Error> {
        if self.capacity.is_some_and(|capacity| !(1..=MAX_CAPACITY).contains(&capacity)) {
            return Err(Error::invalid(format!("{at}.capacity"), "must be from 1 to 100000"));
        }
        check_retention(at, self.retention)?;
        self.windows.check(at)?;
        Ok(self)
    }

    /// Decides what was left open; `at` is where the rules stand in the request.
    pub(crate) fn resolve(self, at: &str, kind: RoomKind) -> Result<Settings, Error> {
        let default = Settings::of(kind);
        check_join(at, self.join, kind)?;
        let settings = Settings {
            post: self.post.unwrap_or(default.post),
            add: self.add.unwrap_or(default.add),
            remove: self.remove.unwrap_or(default.remove),
            join: self.join.unwrap_or(default.join),
            allow_preview: self.allow_preview,
            history: self.history.unwrap_or(default.history),
            capacity: self.capacity.unwrap_or(default.capacity),
            metadata: self.metadata.unwrap_or(default.metadata),
            retention: self.retention,
            windows: self.windows,
        };
        settings.suit(kind, at)?;
        Ok(settings)
    }
}

/// Refuses a retention, in seconds, that is none; 0 is.
pub(crate) fn check_retention(at: &str, retention: i64) -> Result<(), Error> {
    if retention != 0 && !RETENTION.contains(&retention) {
        let rule = "must be from 1 minute to 10 years in whole seconds, or absent";
        return Err(Error::invalid(format!("{at}.retention"), rule));
    }
    Ok(())
}

impl Windows {
    fn check(self, at: &str) -> Result<(), Error> {
        let Self { slow_mode, edit, delete } = self;
        if slow_mode != 0 && !SLOW_MODE.contains(&slow_mode) {
            let rule = "must be from 1 second to 6 hours in whole seconds, or absent";
            return Err(Error::invalid(format!("{at}.slow_mode"), rule));
        }
        for (field, window) in [("edit_window", edit), ("delete_window", delete)] {
            if window != 0 && !WINDOW.contains(&window) {
                let rule = "must be from 1 second to 10 years in whole seconds, or absent";
                return Err(Error::invalid(format!("{at}.{field}"), rule));
            }
        }
        Ok(())
    }
}

/// Refuses that users ask to be let into a room that one enters.
pub(crate) fn check_join(at: &str, join: Option<JoinRule>, kind: RoomKind) -> Result<(), Error> {
    if join == Some(JoinRule::Request) && kind == RoomKind::Live {
        return Err(Error::invalid(format!("{at}.join"), "must not be on request in a live room"));
    }
    Ok(())
}

impl Visibility {
    /// Fails if a room of the kind cannot be listed; `at` is what a refusal names.
    pub(crate) fn suit(self, kind: RoomKind, at: &str) -> Result<(), Error> {
        match (self, kind) {
            (Self::Unlisted, _) | (Self::Listed, RoomKind::Channel) => Ok(()),
            (Self::Listed, _) => Err(Error::invalid(at, "is for channels")),
        }
    }
}

impl Settings {
    /// The defaults of a kind.
    pub(crate) const fn of(kind: RoomKind) -> Self {
        let (join, capacity) = match kind {
            RoomKind::Direct => (JoinRule::AddedOnly, 2),
            RoomKind::Group => (JoinRule::AddedOnly, 1000),
            RoomKind::Channel => (JoinRule::Anyone, MAX_CAPACITY),
            // Nobody is counted in it.
            RoomKind::Broadcast => (JoinRule::AddedOnly, MAX_CAPACITY),
            RoomKind::Live => (JoinRule::Anyone, 1000),
        };
        let members = match kind {
            // Who acts for the tenant needs no role, and nobody else has one.
            RoomKind::Broadcast => MemberRule::Admins,
            RoomKind::Direct | RoomKind::Group | RoomKind::Channel | RoomKind::Live => {
                MemberRule::Members
            }
        };
        Self {
            post: members,
            add: members,
            remove: MemberRule::Admins,
            join,
            allow_preview: false,
            history: History::All,
            capacity,
            metadata: MemberRule::Admins,
            retention: 0,
            windows: Windows { slow_mode: 0, edit: 0, delete: 0 },
        }
    }

    /// Fails, naming the rule, if a room of the kind may not have these; `at` is where they stand
    /// in the request. What a broadcast keeps of its past is all that there is to say of one.
    pub(crate) fn suit(&self, kind: RoomKind, at: &str) -> Result<(), Error> {
        if kind != RoomKind::Broadcast {
            return Ok(());
        }
        let own = Self::of(kind);
        let other = [
            ("post", self.post != own.post),
            ("add", self.add != own.add),
            ("remove", self.remove != own.remove),
            ("join", self.join != own.join),
            ("allow_preview", self.allow_preview != own.allow_preview),
            ("history", self.history != own.history),
            ("capacity", self.capacity != own.capacity),
            ("metadata", self.metadata != own.metadata),
            ("slow_mode", self.windows.slow_mode != 0),
            ("edit_window", self.windows.edit != 0),
            ("delete_window", self.windows.delete != 0),
        ];
        match other.into_iter().find(|(_, other)| *other) {
            Some((rule, _)) => {
                Err(Error::invalid(format!("{at}.{rule}"), "must be left as it is in a broadcast"))
            }
            None => Ok(()),
        }
    }

    pub(crate) const fn log_rules(&self) -> LogRules {
        let Self { post, allow_preview, history, retention, windows, .. } = *self;
        LogRules { post, allow_preview, history, retention, windows }
    }

    pub(crate) const fn roster_rules(&self) -> RosterRules {
        let Self { join, add, remove, capacity, .. } = *self;
        RosterRules { join, add, remove, capacity, watched: false }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_unspecified_takes_the_default_of_the_kind() {
        let resolve = |draft: SettingsDraft, kind| draft.resolve("settings", kind).expect("good");
        let group = resolve(SettingsDraft::default(), RoomKind::Group);
        assert_eq!((group.join, group.capacity), (JoinRule::AddedOnly, 1000));
        let channel = SettingsDraft { post: Some(MemberRule::Admins), ..SettingsDraft::default() };
        let channel = resolve(channel, RoomKind::Channel);
        assert_eq!((channel.join, channel.post), (JoinRule::Anyone, MemberRule::Admins));
        assert_eq!(channel.capacity, 100_000);
    }

    #[test]
    fn nobody_asks_to_be_let_into_a_live_room() {
        let join = Some(JoinRule::Request);
        let draft = SettingsDraft { join, ..SettingsDraft::default() };
        assert!(draft.resolve("settings", RoomKind::Live).is_err());
        for kind in [RoomKind::Group, RoomKind::Channel] {
            let settings = draft.resolve("settings", kind).expect("good");
            assert_eq!(settings.join, JoinRule::Request);
        }
    }

    #[test]
    fn of_a_broadcast_only_the_retention_can_be_said() {
        let suits = |draft: SettingsDraft, kind| draft.resolve("settings", kind);
        let (capacity, retention) = (Some(MAX_CAPACITY), 60);
        let good = SettingsDraft { capacity, retention, ..SettingsDraft::default() };
        assert!(suits(good, RoomKind::Broadcast).is_ok());
        let (members, anyone) = (Some(MemberRule::Members), Some(JoinRule::Anyone));
        let draft = SettingsDraft::default();
        for bad in [
            SettingsDraft { post: members, ..draft },
            SettingsDraft { add: members, ..draft },
            SettingsDraft { remove: members, ..draft },
            SettingsDraft { join: anyone, ..draft },
            SettingsDraft { allow_preview: true, ..draft },
            SettingsDraft { history: Some(History::SinceJoin), ..draft },
            SettingsDraft { capacity: Some(5), ..draft },
            SettingsDraft { metadata: members, ..draft },
            SettingsDraft { windows: Windows { slow_mode: 1, ..Windows::default() }, ..draft },
            SettingsDraft { windows: Windows { edit: 1, ..Windows::default() }, ..draft },
            SettingsDraft { windows: Windows { delete: 1, ..Windows::default() }, ..draft },
        ] {
            assert!(suits(bad, RoomKind::Broadcast).is_err(), "{bad:?}");
            assert!(suits(bad, RoomKind::Group).is_ok());
        }
    }

    #[test]
    fn a_capacity_is_from_1_to_100000() {
        let of = |capacity| SettingsDraft { capacity: Some(capacity), ..SettingsDraft::default() };
        for good in [1, 100_000] {
            assert!(of(good).check("settings").is_ok());
        }
        for bad in [i32::MIN, -1, 0, 100_001] {
            assert!(of(bad).check("settings").is_err());
        }
    }

    #[test]
    fn members_wait_for_hours_at_most_and_change_what_they_wrote_for_years() {
        let none = Windows::default();
        for good in [1, 21_600] {
            assert!(Windows { slow_mode: good, ..none }.check("settings").is_ok());
        }
        for bad in [i64::MIN, -1, 21_601] {
            assert!(Windows { slow_mode: bad, ..none }.check("settings").is_err());
        }
        for (window, good) in [(1, true), (315_360_000, true), (-1, false), (315_360_001, false)] {
            assert_eq!(Windows { edit: window, ..none }.check("settings").is_ok(), good);
            assert_eq!(Windows { delete: window, ..none }.check("settings").is_ok(), good);
        }
    }

    #[test]
    fn events_are_kept_for_a_minute_to_ten_years_or_for_ever() {
        let of = |retention| SettingsDraft { retention, ..SettingsDraft::default() };
        for good in [0, 60, 3600, 315_360_000] {
            assert!(of(good).check("settings").is_ok());
        }
        for bad in [i64::MIN, -1, 1, 59, 315_360_001] {
            assert!(of(bad).check("settings").is_err());
        }
    }
}
