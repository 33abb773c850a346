//! Members, roles and the rules of a room that its log enforces.

use parlance_db::Stored;
use parlance_types::{History, LogId, MemberRule, Micros, Role, Seq, UserId};

use crate::Error;

/// The rules that hold on every send and read.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Rules {
    pub post: MemberRule,
    pub allow_preview: bool,
    pub history: History,
}

impl Rules {
    pub(crate) fn stored(
        log_id: LogId,
        post: i16,
        allow_preview: bool,
        history: i16,
    ) -> Result<Self, Error> {
        let stored = Stored { table: "heads", row: log_id };
        Ok(Self {
            post: stored.value("post_rule", MemberRule::from_i16(post))?,
            allow_preview,
            history: stored.value("history", History::from_i16(history))?,
        })
    }
}

/// What an event means for access. Stands in its envelope, whatever its kind.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Effects {
    pub gained: Vec<(UserId, Role)>,
    pub lost: Vec<UserId>,
    pub roles: Vec<(UserId, Role)>,
    pub rules: Option<Rules>,
    /// How long events are kept from here on; 0: for ever. Said with the rules.
    pub retention: Option<Micros>,
    pub closed: bool,
    /// The first event that is left; 0: nothing is gone.
    pub first: Seq,
    /// Members who may not write until then.
    pub mutes: Vec<(UserId, Micros)>,
}

/// A present membership.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Membership {
    pub role: Role,
    /// The event that made the user a member.
    pub joined: Seq,
    /// Up to where the member cleared the history for themselves; 0: nowhere.
    pub cleared: Seq,
    /// Until when the member may not write: `MUTED_FOR_EVER`, or a time that may be over.
    pub muted_until: Micros,
}

/// The end of a mute that does not end by itself: the last moment of the year 9999.
pub const MUTED_FOR_EVER: Micros = 253_402_300_799_999_999;

impl Membership {
    pub(crate) fn stored(
        log_id: LogId,
        role: i16,
        joined: Seq,
        cleared: Seq,
        muted_until: Micros,
    ) -> Result<Self, Error> {
        let stored = Stored { table: "members", row: log_id };
        let role = stored.value("role", Role::from_i16(role))?;
        Ok(Self { role, joined, cleared, muted_until })
    }
}
