//! Who may see what of a log.

use parlance_db::{Db, Joined};
use parlance_rpc::Reason;
use parlance_types::{History, LogId, Micros, RoomId, RoomKind, Seq, TenantId, UserId};

use crate::head::HeadRow;
use crate::{EpochId, Error, Membership, Rules};

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
}

/// The part of a log that a viewer may see: both ends included.
pub type Visible = (Seq, Seq);

/// What a stranger to a room is told: not even that it is there, if it is direct.
pub fn stranger(kind: RoomKind) -> Error {
    match kind {
        RoomKind::Direct => Error::room_not_found(),
        RoomKind::Group | RoomKind::Channel => Error::not_a_member(),
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
        let from = match (&self.member, user) {
            (Some(member), Some(_)) if self.rules.history == History::SinceJoin => member.joined,
            (Some(_), _) | (None, None) => 1,
            (None, Some(_)) => return Err(stranger(self.kind)),
        };
        Ok((from.max(self.first_seq), self.head))
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

parlance_db::row! {
    struct Viewer {
        epoch_id: String,
        role: Option<i16>,
        joined_seq: Option<Seq>,
        at_time: Option<Micros>,
    }
}

const SELECT: &str = "
    SELECT h.tenant_id, h.room_id, h.kind, h.head, h.head_time, h.ord, h.first_seq,
           h.deleted, h.message_time, h.closed_seq, h.post_rule, h.allow_preview, h.history, h.epoch,
           h.applied_membership, h.applied_room, m.role, m.joined_seq,
           (SELECT epoch_id FROM epochs ORDER BY number DESC LIMIT 1) AS epoch_id,
           (SELECT e.time FROM events e WHERE e.log_id = $1 AND e.seq = $3) AS at_time
      FROM heads h LEFT JOIN members m
        ON m.log_id = $1 AND m.user_id = $2
     WHERE h.log_id = $1";

/// What a viewer may see of a log, and the time of the event at `at`, if it is stored.
pub(crate) async fn view(
    db: &Db,
    log_id: LogId,
    viewer: Option<&UserId>,
    at: Seq,
) -> Result<Option<(View, Option<Micros>)>, Error> {
    // No user has an empty id.
    let viewer = viewer.map_or("", UserId::as_str);
    let select = db.read(SELECT).bind(log_id.0).bind(viewer).bind(at);
    let row: Option<Joined<HeadRow, Viewer>> = select.fetch_optional().await?;
    let Some(Joined(head, viewer)) = row else { return Ok(None) };
    let Viewer { epoch_id, role, joined_seq, at_time } = viewer;
    let member = role.zip(joined_seq);
    let member =
        member.map(|(role, joined)| Membership::stored(log_id, role, joined)).transpose()?;
    Ok(Some((head.view(log_id, EpochId(epoch_id), member)?, at_time)))
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
            member: joined.map(|joined| Membership { role: Role::Member, joined }),
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
