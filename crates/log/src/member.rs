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

/// What binds members who are neither owners nor admins; 0: it does not.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Windows {
    /// The wait after each message.
    pub slow_mode: Micros,
    /// How long after it was sent a message is edited, and deleted for everyone.
    pub edit: Micros,
    pub delete: Micros,
}

/// What an event means for access. Stands in its envelope, whatever its kind.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Effects {
    pub gained: Vec<(UserId, Role)>,
    pub lost: Vec<UserId>,
    pub roles: Vec<(UserId, Role)>,
    pub rules: Option<Rules>,
    /// Said with the rules.
    pub windows: Option<Windows>,
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
    /// Until when the member may not write: `FOR_EVER`, or a time that may be over.
    pub muted_until: Micros,
    /// Until when the user is kept out of everything, likewise.
    pub suspended_until: Micros,
    /// Whether the messages of users whom the member has blocked are kept from them here.
    pub has_blocks: bool,
    /// Whether the other member of a direct room has blocked this one.
    pub peer_blocked: bool,
    /// Whether the member hid messages from themselves here.
    pub has_hidden: bool,
}

/// The end of what does not end by itself: the last moment of the year 9999.
pub const FOR_EVER: Micros = 253_402_300_799_999_999;

parlance_db::row! {
    /// What a [`Membership`] is made from.
    pub(crate) struct MemberRow {
        pub(crate) role: i16,
        pub(crate) joined_seq: Seq,
        pub(crate) cleared_seq: Seq,
        pub(crate) muted_until: Micros,
        pub(crate) suspended_until: Micros,
        pub(crate) has_blocks: bool,
        pub(crate) peer_blocked: bool,
        pub(crate) has_hidden: bool,
    }
}

impl MemberRow {
    pub(crate) fn membership(self, log_id: LogId) -> Result<Membership, Error> {
        let stored = Stored { table: "members", row: log_id };
        Ok(Membership {
            role: stored.value("role", Role::from_i16(self.role))?,
            joined: self.joined_seq,
            cleared: self.cleared_seq,
            muted_until: self.muted_until,
            suspended_until: self.suspended_until,
            has_blocks: self.has_blocks,
            peer_blocked: self.peer_blocked,
            has_hidden: self.has_hidden,
        })
    }
}

impl Membership {
    /// A member with a role since an event, of whom nothing else is said.
    pub const fn new(role: Role, joined: Seq) -> Self {
        Self {
            role,
            joined,
            cleared: 0,
            muted_until: 0,
            suspended_until: 0,
            has_blocks: false,
            peer_blocked: false,
            has_hidden: false,
        }
    }
}
