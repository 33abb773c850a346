//! Who may see what of a log.

use parlance_db::{Db, Joined, Query, Row, Stored};
use parlance_rpc::Reason;
use parlance_types::{
    History, LogId, MemberRule, MessageId, Micros, Role, RoomId, RoomKind, Seq, TenantId, UserId,
};

use crate::member::MemberRow;
use crate::person::Blocked;
use crate::{Actor, EpochId, Error, Hidden, Membership, Rules};

/// What a viewer may see of a log, read together with the log's head in one statement.
/// Whatever narrows it (blocks, history, expiry) is narrowed here, and only here.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct View {
    pub tenant_id: TenantId,
    pub log_id: LogId,
    pub room_id: RoomId,
    pub kind: RoomKind,
    pub rules: Rules,
    pub head: Seq,
    /// The time of the event there.
    pub head_time: Micros,
    /// The present epoch.
    pub epoch: EpochId,
    /// The first event still stored.
    pub first_seq: Seq,
    /// Where the log was closed.
    pub closed: Option<Seq>,
    /// The viewer's membership; `None` for strangers and for viewers who are nobody.
    pub member: Option<Membership>,
    /// Until when the viewer is suspended, if they are.
    pub suspended: Option<Micros>,
    /// Whose messages the viewer does not see.
    pub blocked: Blocked,
    /// Which messages the viewer hid from themselves.
    pub hidden: Hidden,
}

/// The part of a log that a viewer may see: both ends included.
pub type Visible = (Seq, Seq);

/// What a stranger to a room is told: not even that it is there, if it is direct.
pub fn stranger(kind: RoomKind) -> Error {
    match kind {
        RoomKind::Direct => Error::room_not_found(),
        RoomKind::Group | RoomKind::Channel | RoomKind::Broadcast | RoomKind::Live => {
            Error::not_a_member()
        }
    }
}

/// Where a log stands: a place, and the time of the event there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Stands {
    pub log_id: LogId,
    pub epoch: EpochId,
    pub seq: Seq,
    pub time: Micros,
}

impl View {
    /// Where the log stands.
    pub fn stands(&self) -> Stands {
        let Self { log_id, head: seq, head_time: time, .. } = *self;
        Stands { log_id, epoch: self.epoch.clone(), seq, time }
    }

    /// What `user`, for whom the view was made, may see.
    ///
    /// A stranger to a direct room is told what is told of a room that is not there.
    pub fn visible_to(&self, user: Option<&UserId>) -> Result<Visible, Error> {
        if self.closed.is_some() {
            return Err(Error::room_not_found());
        }
        if let Some(until) = self.suspended {
            return Err(Error::Suspended { until });
        }
        let joined = match (&self.member, user) {
            (Some(member), Some(_)) if self.rules.history == History::SinceJoin => member.joined,
            (Some(_), _) | (None, None) => 1,
            (None, Some(_)) => return Err(stranger(self.kind)),
        };
        Ok((joined.max(self.shown()), self.head))
    }

    /// The first event that is stored and that the viewer has not cleared for themselves.
    pub fn shown(&self) -> Seq {
        self.member.map_or(0, |member| member.cleared + 1).max(self.first_seq)
    }

    /// Whether the viewer may write at this time, if they may at all.
    pub fn may_write(&self, now: Micros) -> Result<(), Error> {
        match self.member {
            Some(Membership { muted_until: until, .. }) if until > now => {
                Err(Error::Muted { until })
            }
            Some(Membership { peer_blocked: true, .. }) => Err(Error::blocked()),
            _ => Ok(()),
        }
    }

    /// Whether the room's rules let the viewer say something, if they may write at all.
    pub fn may_post(&self) -> Result<(), Error> {
        let may = |member: Membership| member.role >= Role::Admin;
        if self.rules.post == MemberRule::Admins && !self.member.is_none_or(may) {
            let rule = "the room's rules let only owners and admins send and edit";
            return Err(Error::Refused(Reason::PostingRestricted, rule));
        }
        Ok(())
    }

    /// Whether a message is kept from the viewer, who has blocked its sender or hid it.
    pub fn leaves_out(&self, message: Seq, sender: Option<&UserId>) -> bool {
        self.hides(sender) || self.hidden.has(message)
    }

    /// Whether what a user does is kept from the viewer, who has blocked them.
    pub fn hides(&self, sender: Option<&UserId>) -> bool {
        sender.is_some_and(|sender| self.blocked.has(sender.as_str()))
    }

    /// What somebody who is not a member may see where the rules allow previews.
    pub fn preview(&self) -> Result<Visible, Error> {
        if self.rules.allow_preview {
            Ok((self.first_seq, self.head))
        } else {
            let rule = "the room does not allow previews";
            Err(Error::Refused(Reason::PreviewNotAllowed, rule))
        }
    }

    /// What `actor` may see of the log of a message that is within it, and theirs to know of.
    pub fn shows_to(&self, actor: &Actor, message_id: MessageId) -> Result<Visible, Error> {
        if self.tenant_id != actor.tenant_id {
            return Err(Error::message_not_found());
        }
        self.shows(actor.user.as_ref(), message_id.seq)
    }

    /// What `user` may see of the log of a message that is within it.
    pub fn shows(&self, user: Option<&UserId>, message: Seq) -> Result<Visible, Error> {
        let visible = match self.visible_to(user) {
            Err(Error::Refused(Reason::RoomNotFound, _)) => Err(Error::message_not_found()),
            visible => visible,
        }?;
        let seen = visible.0..=visible.1;
        if seen.contains(&message) { Ok(visible) } else { Err(Error::message_not_found()) }
    }
}

/// The columns of a [`ViewRow`]: of a log `h`, and of its member `m` who views it.
#[doc(hidden)]
#[macro_export]
macro_rules! view_columns {
    () => {
        "h.tenant_id, h.room_id, h.kind, h.head, h.head_time, h.first_seq, h.closed_seq,
         h.post_rule, h.allow_preview, h.history,
         (SELECT epoch_id FROM epochs ORDER BY number DESC LIMIT 1) AS epoch_id,
         m.role, m.joined_seq, m.cleared_seq, m.muted_until, m.suspended_until, m.has_blocks,
         m.peer_blocked, m.has_hidden"
    };
}

/// The log $1 and its viewer $2.
#[doc(hidden)]
#[macro_export]
macro_rules! viewed {
    () => {
        " FROM heads h LEFT JOIN members m
            ON m.log_id = $1 AND m.user_id = $2
         WHERE h.log_id = $1"
    };
}

/// The arms of a CASE that say from which event on a member `m` of a log `h` sees it; NULL for
/// who is none. The parameter is [`History::All`].
#[macro_export]
macro_rules! shown {
    ($all:literal) => {
        concat!(
            "WHEN m.cleared_seq >= h.first_seq
              AND (h.history = ",
            $all,
            "  OR m.cleared_seq >= m.joined_seq) THEN m.cleared_seq + 1
             WHEN h.history = ",
            $all,
            " AND m.joined_seq IS NOT NULL OR m.joined_seq < h.first_seq THEN h.first_seq
             ELSE m.joined_seq"
        )
    };
}

/// A statement that reads a view of the log $1 and, in the same snapshot, rows of what the
/// viewer $2 sees: `columns` of what stands after `from`. There `(SELECT shown FROM viewed)` is
/// the first event that they see, so that nothing else is read; NULL for those who see nothing.
/// $3 is [`History::All`], and what the rows bind themselves begins at $4. `nothing` names
/// their columns where there is none: `NULL AS seq, NULL AS time`.
///
/// This is to read little. Who may see what is for [`View::visible_to`] to say.
#[macro_export]
macro_rules! with_view {
    (nothing: $nothing:expr, columns: $columns:expr, from: $from:expr $(,)?) => {
        concat!(
            "WITH viewed AS (SELECT ",
            $crate::view_columns!(),
            ", CASE WHEN $2 = '' THEN h.first_seq ",
            $crate::shown!("$3"),
            " END AS shown",
            $crate::viewed!(),
            ") SELECT tenant_id, room_id, kind, head, head_time, first_seq, closed_seq, post_rule,
                      allow_preview, history, epoch_id, role, joined_seq, cleared_seq,
                      muted_until, suspended_until, has_blocks, peer_blocked, has_hidden, ",
            $nothing,
            " FROM viewed
              UNION ALL
              SELECT NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL,
                     NULL, NULL, NULL, NULL, NULL, NULL, ",
            $columns,
            " FROM ",
            $from
        )
    };
}

parlance_db::row! {
    /// What a [`View`] is made from.
    pub struct ViewRow {
        tenant_id: String,
        room_id: String,
        kind: i16,
        head: Seq,
        head_time: Micros,
        first_seq: Seq,
        closed_seq: Option<Seq>,
        post_rule: i16,
        allow_preview: bool,
        history: i16,
        epoch_id: String,
        role: Option<i16>,
        joined_seq: Option<Seq>,
        cleared_seq: Option<Seq>,
        muted_until: Option<Micros>,
        suspended_until: Option<Micros>,
        has_blocks: Option<bool>,
        peer_blocked: Option<bool>,
        has_hidden: Option<bool>,
    }
}

parlance_db::row! {
    struct AtRow {
        at_time: Option<Micros>,
    }
}

impl ViewRow {
    fn view(self, log_id: LogId, now: Micros) -> Result<View, Error> {
        let row = self.role.map(|role| MemberRow {
            role,
            joined_seq: self.joined_seq.unwrap_or_default(),
            cleared_seq: self.cleared_seq.unwrap_or_default(),
            muted_until: self.muted_until.unwrap_or_default(),
            suspended_until: self.suspended_until.unwrap_or_default(),
            has_blocks: self.has_blocks.unwrap_or_default(),
            peer_blocked: self.peer_blocked.unwrap_or_default(),
            has_hidden: self.has_hidden.unwrap_or_default(),
        });
        let member = row.map(|row| row.membership(log_id)).transpose()?;
        let stored = Stored { table: "heads", row: log_id };
        Ok(View {
            tenant_id: TenantId::new(self.tenant_id),
            log_id,
            room_id: RoomId::new(self.room_id),
            kind: stored.value("kind", RoomKind::from_i16(self.kind))?,
            rules: Rules::stored(log_id, self.post_rule, self.allow_preview, self.history)?,
            head: self.head,
            head_time: self.head_time,
            epoch: EpochId(self.epoch_id),
            first_seq: self.first_seq,
            closed: self.closed_seq,
            suspended: suspended(member.as_ref(), now),
            member,
            blocked: Blocked::default(),
            hidden: Hidden::default(),
        })
    }
}

/// Until when a member is suspended, if they are at this time.
pub(crate) fn suspended(member: Option<&Membership>, now: Micros) -> Option<Micros> {
    member.map(|member| member.suspended_until).filter(|until| *until > now)
}

/// The viewer as a statement takes it: no user has an empty id.
fn viewer(user: Option<&UserId>) -> &str {
    user.map_or("", UserId::as_str)
}

const SELECT: &str = concat!(
    "SELECT ",
    view_columns!(),
    ", (SELECT e.time FROM events e WHERE e.log_id = $1 AND e.seq = $3) AS at_time",
    viewed!()
);

/// What a viewer may see of a log, and the time of the event at `at`, if it is stored.
pub(crate) async fn view(
    db: &Db,
    log_id: LogId,
    user: Option<&UserId>,
    at: Seq,
    now: Micros,
) -> Result<Option<(View, Option<Micros>)>, Error> {
    let select = db.read(SELECT).bind(log_id.0).bind(viewer(user)).bind(at);
    let row: Option<Joined<ViewRow, AtRow>> = select.fetch_optional().await?;
    let Some(Joined(row, AtRow { at_time })) = row else { return Ok(None) };
    Ok(Some((row.view(log_id, now)?, at_time)))
}

/// What a viewer may see of a log, and the rows that a statement of [`with_view!`] reads with
/// it. `bind` gives the select of the rows what it binds itself.
pub(crate) async fn view_with<R>(
    db: &Db,
    log_id: LogId,
    user: Option<&UserId>,
    now: Micros,
    select: &'static str,
    bind: impl FnOnce(Query<'_>) -> Query<'_>,
) -> Result<Option<(View, Vec<R>)>, Error>
where
    Joined<Option<ViewRow>, Option<R>>: Row,
{
    let select = db.read(select).bind(log_id.0).bind(viewer(user)).bind(History::All as i16);
    let (mut view, mut rows) = (None, Vec::new());
    for Joined(viewed, row) in bind(select).fetch_all().await? {
        view = view.or(viewed);
        rows.extend(row);
    }
    let view = view.map(|view: ViewRow| view.view(log_id, now)).transpose()?;
    Ok(view.map(|view| (view, rows)))
}

#[cfg(test)]
mod tests {
    use parlance_types::Role;
    use uuid::Uuid;

    use super::*;

    fn view(kind: RoomKind, history: History, joined: Option<Seq>) -> View {
        View {
            tenant_id: TenantId::new("acme"),
            log_id: LogId(Uuid::from_u128(1)),
            room_id: RoomId::new("lobby"),
            kind,
            rules: Rules { history, ..Rules::default() },
            head: 9,
            head_time: 9,
            epoch: EpochId::default(),
            first_seq: 1,
            closed: None,
            member: joined.map(|joined| Membership::new(Role::Member, joined)),
            suspended: None,
            blocked: Blocked::default(),
            hidden: Hidden::default(),
        }
    }

    #[test]
    fn a_member_sees_all_or_what_came_since_the_join() {
        let ann = UserId::new("ann");
        for (history, from) in [(History::All, 1), (History::SinceJoin, 5)] {
            let view = view(RoomKind::Group, history, Some(5));
            assert_eq!(view.visible_to(Some(&ann)).expect("visible"), (from, 9));
        }
    }

    #[test]
    fn a_member_sees_nothing_that_was_pruned_or_that_they_cleared() {
        let ann = UserId::new("ann");
        for (history, first_seq, cleared, from) in [
            (History::All, 3, 0, 3),
            (History::All, 3, 2, 3),
            (History::All, 3, 3, 4),
            (History::All, 1, 9, 10),
            (History::SinceJoin, 3, 4, 5),
            (History::SinceJoin, 7, 4, 7),
            (History::SinceJoin, 1, 6, 7),
        ] {
            let mut view = view(RoomKind::Group, history, Some(5));
            view.first_seq = first_seq;
            view.member = view.member.map(|member| Membership { cleared, ..member });
            assert_eq!(view.visible_to(Some(&ann)).expect("visible"), (from, 9));
        }
    }

    #[test]
    fn a_stranger_sees_nothing_and_does_not_learn_of_direct_rooms() {
        let eve = UserId::new("eve");
        let refusal = |kind| {
            let view = view(kind, History::All, None);
            view.visible_to(Some(&eve)).expect_err("refused").to_string()
        };
        assert_eq!(refusal(RoomKind::Group), Error::not_a_member().to_string());
        assert_eq!(refusal(RoomKind::Channel), Error::not_a_member().to_string());
        assert_eq!(refusal(RoomKind::Direct), Error::room_not_found().to_string());
    }

    #[test]
    fn somebody_who_acts_for_the_tenant_sees_all_of_what_is_open() {
        let mut view = view(RoomKind::Direct, History::SinceJoin, None);
        assert_eq!(view.visible_to(None).expect("visible"), (1, 9));
        view.closed = Some(9);
        assert!(matches!(view.visible_to(None), Err(Error::Refused(Reason::RoomNotFound, _))));
    }
}
