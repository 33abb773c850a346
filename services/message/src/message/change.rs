//! Edits and deletions: who may make them.

use futures::future::BoxFuture;
use parlance_log::{Actor, Error, Locked, RequestKey, Role, Target, View};
use parlance_rpc::Reason;
use parlance_types::{MessageId, Micros, Seq, UserId};

use super::Content;

/// How often a message may be edited.
pub(super) const MAX_EDITS: i16 = 1000;

/// A new content for a message.
#[derive(Clone, Debug)]
pub struct Edit {
    pub actor: Actor,
    pub message_id: MessageId,
    pub request: RequestKey,
    /// Its `reply_to` is ignored: an edit keeps the message's. A repeat is told by it.
    pub content: Content,
    /// What is stored instead of it.
    pub instead: Option<Content>,
}

/// An accepted edit.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Edited {
    pub seq: Seq,
    pub time: Micros,
}

/// A message that is to be deleted for everyone.
#[derive(Clone, Debug)]
pub struct Deletion {
    pub actor: Actor,
    pub message_id: MessageId,
    pub on_delete: OnDelete,
}

/// What goes with a deleted message: each is run with the place of the deletion, within
/// its transaction and under the lock of the log.
pub type OnDelete = &'static [for<'a> fn(
    &'a mut Locked<'_>,
    &'a Target,
    Seq,
) -> BoxFuture<'a, Result<(), Error>>];

/// What a deletion comes to.
#[derive(Clone, Copy, Debug)]
pub(super) enum Delete<'t> {
    Now(&'t Target),
    /// It was deleted here.
    Already(Seq),
}

/// Who sent a message; `None`: the system.
pub(super) fn is_of(target: &Target, actor: Option<&UserId>) -> bool {
    target.sender_id == actor.map_or("", UserId::as_str)
}

/// Whether `view`, made for the editor, allows the edit of what was found; the message.
pub(super) fn edit<'t>(
    view: &View,
    editor: Option<&UserId>,
    message: Seq,
    target: Option<&'t Target>,
    now: Micros,
) -> Result<&'t Target, Error> {
    let target = shown(view, editor, message, target)?;
    if !is_of(target, editor) {
        return Err(not_the_sender());
    }
    // An edit says something anew.
    view.may_post()?;
    if target.is_gone(now) {
        return Err(Error::Refused(Reason::MessageDeleted, "the message was deleted"));
    }
    if target.edits >= MAX_EDITS {
        return Err(Error::Refused(Reason::TooManyEdits, "the message was edited 1000 times"));
    }
    Ok(target)
}

/// Whether `view`, made for the actor, allows the deletion of what was found. `before`:
/// the place of the actor's own deletion.
pub(super) fn delete<'t>(
    view: &View,
    actor: Option<&UserId>,
    message: Seq,
    target: Option<&'t Target>,
    before: Option<Seq>,
) -> Result<Delete<'t>, Error> {
    if let Some(before) = before {
        // A repeat, before rights are judged.
        return Ok(Delete::Already(before));
    }
    let target = shown(view, actor, message, target)?;
    let role = view.member.map_or(Role::Owner, |member| member.role);
    if !is_of(target, actor) && role < Role::Admin {
        return Err(not_the_sender());
    }
    Ok(target.deleted_seq.map_or(Delete::Now(target), Delete::Already))
}

/// The refusals of what a sender may do for a time.
pub(super) const EDIT_WINDOW_OVER: Error =
    Error::Refused(Reason::EditWindowOver, "the message was sent too long ago to be edited");
pub(super) const DELETE_WINDOW_OVER: Error =
    Error::Refused(Reason::DeleteWindowOver, "the message was sent too long ago to be deleted");

/// Whether a member may still change what they sent, in a room that lets them for a window of
/// time; 0: for ever.
pub(super) fn in_time(
    view: &View,
    target: &Target,
    window: Micros,
    now: Micros,
    over: Error,
) -> Result<(), Error> {
    let bound = view.member.is_some_and(|member| member.role < Role::Admin);
    let is_over = window > 0 && now > target.time.saturating_add(window);
    if bound && is_over { Err(over) } else { Ok(()) }
}

/// The message, if a viewer may see it: in the room, and of the part of its history.
fn shown<'t>(
    view: &View,
    viewer: Option<&UserId>,
    message: Seq,
    target: Option<&'t Target>,
) -> Result<&'t Target, Error> {
    let (first, last) = view.visible_to(viewer)?;
    let seen = (first..=last).contains(&message);
    target.filter(|_| seen).ok_or(Error::message_not_found())
}

const fn not_the_sender() -> Error {
    Error::Refused(Reason::NotTheSender, "only the sender may do this")
}

#[cfg(test)]
mod tests {
    use parlance_log::{
        Blocked, EpochId, Hidden, History, MemberRule, Membership, RoomKind, Rules,
    };
    use parlance_rpc::Failure as _;
    use parlance_types::{LogId, RoomId, TenantId};
    use uuid::Uuid;

    use super::*;

    /// A group at 9, as somebody sees it who joined at 5 since when history shows.
    fn view(role: Option<Role>) -> View {
        View {
            tenant_id: TenantId::new("acme"),
            log_id: LogId(Uuid::from_u128(1)),
            room_id: RoomId::new("lobby"),
            kind: RoomKind::Group,
            rules: Rules { history: History::SinceJoin, ..Rules::default() },
            head: 9,
            head_time: 0,
            epoch: EpochId::default(),
            first_seq: 1,
            closed: None,
            member: role.map(|role| Membership::new(role, 5)),
            suspended: None,
            blocked: Blocked::default(),
            hidden: Hidden::default(),
        }
    }

    fn message(seq: Seq, sender: &str, deleted_seq: Option<Seq>) -> Target {
        let (sender_id, payload) = (sender.to_owned(), Vec::new());
        Target {
            seq,
            time: seq,
            sender_id,
            ord: seq,
            counted: true,
            edits: 0,
            deleted_seq,
            root_seq: None,
            expire_time: None,
            payload,
        }
    }

    fn reason<T>(refused: Result<T, Error>) -> Option<Reason> {
        refused.err().map(|refused| refused.reason())
    }

    #[test]
    fn only_the_sender_edits_what_is_seen_and_not_deleted() {
        let ann = UserId::new("ann");
        let judge = |role, user, message: Option<Target>| {
            let seq = message.as_ref().map_or(7, |message| message.seq);
            reason(edit(&view(role), user, seq, message.as_ref(), 9))
        };
        let member = Some(Role::Member);
        let sees = |target| judge(member, Some(&ann), target);
        assert_eq!(sees(Some(message(7, "ann", None))), None);
        assert_eq!(sees(Some(message(7, "bob", None))), Some(Reason::NotTheSender));
        assert_eq!(sees(Some(message(7, "ann", Some(8)))), Some(Reason::MessageDeleted));
        let lasting = |until| Target { expire_time: Some(until), ..message(7, "ann", None) };
        assert_eq!(sees(Some(lasting(10))), None);
        assert_eq!(sees(Some(lasting(9))), Some(Reason::MessageDeleted));
        assert_eq!(sees(Some(message(4, "ann", None))), Some(Reason::MessageNotFound));
        let edited = |edits| Some(Target { edits, ..message(7, "ann", None) });
        assert_eq!(sees(edited(MAX_EDITS - 1)), None);
        assert_eq!(sees(edited(MAX_EDITS)), Some(Reason::TooManyEdits));
        assert_eq!(sees(None), Some(Reason::MessageNotFound));
        let stranger = judge(None, Some(&ann), Some(message(7, "ann", None)));
        assert_eq!(stranger, Some(Reason::NotAMember));
        assert_eq!(judge(None, None, Some(message(1, "", None))), None);
        let of_ann = judge(None, None, Some(message(7, "ann", None)));
        assert_eq!(of_ann, Some(Reason::NotTheSender));
    }

    #[test]
    fn whoever_may_not_post_edits_nothing_and_still_deletes() {
        let ann = UserId::new("ann");
        let mine = message(7, "ann", None);
        for (role, refusal) in [
            (Role::Member, Some(Reason::PostingRestricted)),
            (Role::Admin, None),
            (Role::Owner, None),
        ] {
            let mut view = view(Some(role));
            view.rules.post = MemberRule::Admins;
            assert_eq!(reason(edit(&view, Some(&ann), 7, Some(&mine), 9)), refusal);
            assert_eq!(reason(delete(&view, Some(&ann), 7, Some(&mine), None)), None);
        }
        let mut nobody = view(None);
        nobody.rules.post = MemberRule::Admins;
        assert_eq!(reason(edit(&nobody, None, 1, Some(&message(1, "", None)), 9)), None);
    }

    #[test]
    fn members_change_what_they_sent_for_a_time_and_admins_at_any() {
        let judge = |role, window, now| {
            let mine = message(7, "ann", None);
            reason(in_time(&view(role), &mine, window, now, EDIT_WINDOW_OVER))
        };
        let (member, over) = (Some(Role::Member), Some(Reason::EditWindowOver));
        assert_eq!(judge(member, 0, i64::MAX), None);
        assert_eq!((judge(member, 5, 12), judge(member, 5, 13)), (None, over));
        assert_eq!(judge(Some(Role::Admin), 5, 13), None);
        assert_eq!(judge(None, 5, 13), None);
    }

    #[test]
    fn admins_delete_for_others_and_a_repeat_is_found_before_rights() {
        let ann = UserId::new("ann");
        let judge = |role, deleted, before| {
            let target = message(7, "bob", deleted);
            match delete(&view(role), Some(&ann), 7, Some(&target), before) {
                Ok(Delete::Now(_)) => Ok(None),
                Ok(Delete::Already(seq)) => Ok(Some(seq)),
                Err(refused) => Err(Some(refused.reason())),
            }
        };
        assert_eq!(judge(Some(Role::Member), None, None), Err(Some(Reason::NotTheSender)));
        assert_eq!(judge(Some(Role::Admin), None, None), Ok(None));
        assert_eq!(judge(Some(Role::Owner), Some(8), None), Ok(Some(8)));
        assert_eq!(judge(None, Some(8), Some(8)), Ok(Some(8)));
        assert_eq!(judge(None, Some(8), None), Err(Some(Reason::NotAMember)));
    }
}
