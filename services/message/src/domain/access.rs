//! Who may see what of a log.

use parlance_types::{Seq, TenantId, UserId};

use super::{History, RoomKind, View};
use crate::Error;

/// Whose rights count in a request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Actor {
    pub tenant_id: TenantId,
    /// `None`: somebody who acts for the tenant, and may read every room of it.
    pub user: Option<UserId>,
}

/// The part of a log that a viewer may see: both ends included.
pub type Visible = (Seq, Seq);

impl View {
    /// What `user`, for whom the view was made, may see.
    ///
    /// A stranger to a direct room is told what is told of a room that is not there.
    pub fn visible_to(&self, user: Option<&UserId>) -> Result<Visible, Error> {
        if self.closed.is_some() {
            return Err(Error::RoomNotFound);
        }
        let from = match (&self.member, user) {
            (Some(member), Some(_)) if self.rules.history == History::SinceJoin => member.joined,
            (Some(_), _) | (None, None) => 1,
            (None, Some(_)) if self.kind == RoomKind::Direct => return Err(Error::RoomNotFound),
            (None, Some(_)) => return Err(Error::NotAMember),
        };
        Ok((from.max(self.first_seq), self.head))
    }

    /// What somebody who is not a member may see where the rules allow previews.
    pub fn preview(&self) -> Result<Visible, Error> {
        if self.rules.allow_preview {
            Ok((self.first_seq, self.head))
        } else {
            Err(Error::PreviewNotAllowed)
        }
    }
}

#[cfg(test)]
mod tests {
    use parlance_types::{LogId, RoomId};
    use uuid::Uuid;

    use super::*;
    use crate::domain::{EpochId, Membership, Role, Rules};

    fn view(kind: RoomKind, history: History, joined: Option<Seq>) -> View {
        View {
            tenant_id: TenantId::new("acme"),
            log_id: LogId(Uuid::from_u128(1)),
            room_id: RoomId::new("lobby"),
            kind,
            rules: Rules { history, ..Rules::default() },
            head: 9,
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
        assert_eq!(refusal(RoomKind::Group), Error::NotAMember.to_string());
        assert_eq!(refusal(RoomKind::Channel), Error::NotAMember.to_string());
        assert_eq!(refusal(RoomKind::Direct), Error::RoomNotFound.to_string());
    }

    #[test]
    fn somebody_who_acts_for_the_tenant_sees_all_of_what_is_open() {
        let mut view = view(RoomKind::Direct, History::SinceJoin, None);
        assert_eq!(view.visible_to(None).expect("visible"), (1, 9));
        view.closed = Some(9);
        assert!(matches!(view.visible_to(None), Err(Error::RoomNotFound)));
    }
}
