//! Decides where a stream begins in a room, if it may.
//!
//! An epoch is a stretch of history that was not rewound. A log was at 10 in epoch e1 when its
//! database was put back to a backup of 8; what is written since is of epoch e2:
//!
//! ```text
//!     e1   ... 7 8 9 10
//!     e2         8 9' 10' 11'      9' is another event than 9
//!
//!     a client gives   it is told                        and gets
//!     (e1, 7)          Attached, epoch e2                8, 9', 10', 11'
//!     (e1, 10)         Reset: keep what is up to 8       9', 10', 11'
//!     (e2, 10)         Attached                          11'
//!     (e7, 3)          Reset: the epoch is not known     everything, from 1
//! ```

use parlance_log::{CursorCheck, History, RoomKind, View};
use parlance_proto::message::v1 as pb;
use parlance_proto::message::v1::ResetReason;
use parlance_types::{Seq, UserId};

use super::failure::Refused;

/// Where a stream wants to begin.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Start {
    /// After what a client has handled.
    After(pb::Cursor),
    /// After the present head.
    Latest,
    /// At the event that made the user a member.
    Join,
}

impl Start {
    /// The cursor that the client gave.
    pub fn cursor(&self) -> Option<pb::Cursor> {
        match self {
            Self::After(cursor) => Some(cursor.clone()),
            Self::Latest | Self::Join => None,
        }
    }
}

/// A cursor could not be honoured.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Reset {
    /// Events that the client holds above this did not happen; the stream goes on from here.
    pub keep_through: Seq,
    pub reason: ResetReason,
}

/// Admits a viewer who may follow the log; the event that made them a member, 0 for one who
/// acts for nobody.
pub(crate) fn admit(view: &View, user: Option<&UserId>) -> Result<Seq, Refused> {
    if let (None, Some(until)) = (view.closed, view.suspended) {
        return Err(Refused::Suspended { until });
    }
    match (view.closed, user, view.member) {
        (Some(_), ..) => Err(Refused::RoomNotFound),
        (None, None, _) => Ok(0),
        (None, Some(_), Some(member)) => Ok(member.joined),
        // That two others have a direct room is theirs to know.
        (None, Some(_), None) if view.kind == RoomKind::Direct => Err(Refused::RoomNotFound),
        (None, Some(_), None) => Err(Refused::NotAMember),
    }
}

/// After which position the stream goes on, and what it must be told first.
pub(crate) fn begin(
    view: &View,
    joined: Seq,
    start: &Start,
    check: &CursorCheck,
) -> (Seq, Option<Reset>) {
    let seq = match start {
        Start::Latest => return (view.head, None),
        Start::Join => return ((joined - 1).max(0), None),
        Start::After(cursor) => cursor.seq,
    };
    let reset = |keep_through, reason| (keep_through, Some(Reset { keep_through, reason }));
    match check {
        CursorCheck::Holds if misses(view, joined, seq) => {
            reset(view.first_seq - 1, ResetReason::Pruned)
        }
        CursorCheck::Holds => (seq, None),
        CursorCheck::Rewound { keep_through } => {
            reset(seq.min(*keep_through).min(view.head), ResetReason::Rewound)
        }
        CursorCheck::UnknownEpoch => reset(0, ResetReason::UnknownEpoch),
    }
}

/// Whether events that the viewer could see once are gone behind `seq`. Who holds nothing
/// misses nothing: what is gone is skipped for them.
fn misses(view: &View, joined: Seq, seq: Seq) -> bool {
    let theirs = if view.rules.history == History::SinceJoin { joined } else { 1 };
    let cleared = view.member.map_or(0, |member| member.cleared);
    seq > 0 && theirs.max(cleared.max(seq).saturating_add(1)) < view.first_seq
}

#[cfg(test)]
mod tests {
    use parlance_log::{Blocked, EpochId, Hidden, Membership, Role, Rules};
    use parlance_types::{LogId, RoomId, TenantId};
    use uuid::Uuid;

    use super::*;

    fn view(kind: RoomKind, member: Option<Seq>, closed: Option<Seq>) -> View {
        View {
            tenant_id: TenantId::new("acme"),
            log_id: LogId(Uuid::from_u128(1)),
            room_id: RoomId::new("r"),
            kind,
            rules: Rules::default(),
            head: 10,
            head_time: 10,
            epoch: EpochId("e".to_owned()),
            first_seq: 1,
            closed,
            member: member.map(|joined| Membership::new(Role::Member, joined)),
            suspended: None,
            blocked: Blocked::default(),
            hidden: Hidden::default(),
        }
    }

    #[test]
    fn strangers_are_refused_and_direct_rooms_of_others_are_not_found() {
        let ann = UserId::new("ann");
        let cases = [
            (view(RoomKind::Group, Some(2), None), Some(&ann), Ok(2)),
            (view(RoomKind::Group, None, None), None, Ok(0)),
            (view(RoomKind::Group, None, None), Some(&ann), Err(Refused::NotAMember)),
            (view(RoomKind::Direct, None, None), Some(&ann), Err(Refused::RoomNotFound)),
            (view(RoomKind::Group, Some(2), Some(10)), Some(&ann), Err(Refused::RoomNotFound)),
            (view(RoomKind::Group, None, Some(10)), None, Err(Refused::RoomNotFound)),
            (
                View { suspended: Some(7), ..view(RoomKind::Group, Some(2), None) },
                Some(&ann),
                Err(Refused::Suspended { until: 7 }),
            ),
        ];
        for (view, user, admitted) in cases {
            assert_eq!(admit(&view, user), admitted);
        }
    }

    #[test]
    fn a_stream_begins_where_its_cursor_holds() {
        let view = view(RoomKind::Group, Some(4), None);
        let after = |seq| {
            let epoch = "e".to_owned();
            Start::After(pb::Cursor { epoch, seq, time: None })
        };
        let rewound = CursorCheck::Rewound { keep_through: 6 };
        let cases = [
            (Start::Latest, CursorCheck::Holds, (10, None)),
            (Start::Join, CursorCheck::Holds, (3, None)),
            (after(7), CursorCheck::Holds, (7, None)),
            (after(8), rewound, (6, Some(Reset { keep_through: 6, reason: ResetReason::Rewound }))),
            (
                after(8),
                CursorCheck::UnknownEpoch,
                (0, Some(Reset { keep_through: 0, reason: ResetReason::UnknownEpoch })),
            ),
        ];
        for (start, check, begun) in cases {
            assert_eq!(begin(&view, 4, &start, &check), begun);
        }
    }

    #[test]
    fn a_cursor_behind_which_events_are_gone_is_told_so_if_they_were_its_users() {
        let mut view = view(RoomKind::Group, Some(4), None);
        view.first_seq = 7;
        let after = |seq| Start::After(pb::Cursor { epoch: "e".to_owned(), seq, time: None });
        let begins = |view: &View, seq| begin(view, 4, &after(seq), &CursorCheck::Holds);
        let pruned = Some(Reset { keep_through: 6, reason: ResetReason::Pruned });
        for (seq, begun) in [(0, (0, None)), (1, (6, pruned)), (5, (6, pruned)), (6, (6, None))] {
            assert_eq!(begins(&view, seq), begun);
        }
        view.member = view.member.map(|member| Membership { cleared: 6, ..member });
        assert_eq!(begins(&view, 1), (1, None));
        view.member = view.member.map(|member| Membership { cleared: 0, ..member });
        view.rules.history = History::SinceJoin;
        assert_eq!(begins(&view, 1), (6, pruned));
        assert_eq!(begin(&view, 7, &after(1), &CursorCheck::Holds), (1, None));
    }
}
