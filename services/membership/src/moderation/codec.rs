//! The encoding of what is laid on users: events, replies, entries of lists.

use parlance_proto::membership::v1 as pb;
use parlance_proto::message::v1::event::Body;
use parlance_proto::message::v1::{
    Effects, MembersBanned, MembersMuted, MembersUnbanned, MembersUnmuted,
};
use parlance_types::{Micros, UserId};
use prost::Message as _;
use prost_types::Timestamp;

use super::Laid;
use super::suspension::SuspendedUser;
use crate::codec::{self, Event, by, timestamp, user_ids};
use crate::roster::FOR_EVER;

/// The event of a ban, which takes some of the users from the room.
pub(super) fn banned(
    actor: Option<&UserId>,
    users: &[UserId],
    lost: &[UserId],
    until: Micros,
    reason: &str,
) -> Event {
    let effects = Effects { lost_user_ids: user_ids(lost), ..Effects::default() };
    let (until, reason) = (self::until(until), reason.to_owned());
    let body = MembersBanned { user_ids: user_ids(users), until, reason };
    by(actor, effects, Body::MembersBanned(body))
}

pub(super) fn unbanned(actor: Option<&UserId>, users: &[UserId]) -> Event {
    let body = MembersUnbanned { user_ids: user_ids(users) };
    by(actor, Effects::default(), Body::MembersUnbanned(body))
}

/// The event of a mute.
pub(super) fn muted(
    actor: Option<&UserId>,
    users: &[UserId],
    until: Micros,
    reason: &str,
) -> Event {
    let body = MembersMuted {
        user_ids: user_ids(users),
        until: self::until(until),
        reason: reason.to_owned(),
    };
    let mut event = by(actor, Effects::default(), Body::MembersMuted(body));
    let mutes: Vec<_> = users.iter().map(|user_id| (user_id.clone(), until)).collect();
    codec::mute(&mut event, &mutes);
    event
}

pub(super) fn unmuted(actor: Option<&UserId>, users: &[UserId]) -> Event {
    let body = MembersUnmuted { user_ids: user_ids(users) };
    let mut event = by(actor, Effects::default(), Body::MembersUnmuted(body));
    codec::unmute(&mut event, users);
    event
}

pub(super) fn mute_reply() -> Vec<u8> {
    pb::MuteMembersResponse {}.encode_to_vec()
}

pub(super) fn unmute_reply(users: &[UserId]) -> Vec<u8> {
    pb::UnmuteMembersResponse { unmuted_user_ids: user_ids(users) }.encode_to_vec()
}

pub(super) fn ban_reply(lost: &[UserId]) -> Vec<u8> {
    pb::BanUsersResponse { removed_user_ids: user_ids(lost) }.encode_to_vec()
}

pub(super) fn unban_reply(users: &[UserId]) -> Vec<u8> {
    pb::UnbanUsersResponse { unbanned_user_ids: user_ids(users) }.encode_to_vec()
}

pub(super) fn ban(laid: Laid) -> pb::Ban {
    pb::Ban {
        user_id: laid.user_id,
        until: until(laid.until),
        reason: laid.reason,
        actor_id: laid.actor_id,
        create_time: Some(timestamp(laid.created)),
    }
}

pub(super) fn mute(laid: Laid) -> pb::Mute {
    pb::Mute {
        user_id: laid.user_id,
        until: until(laid.until),
        reason: laid.reason,
        actor_id: laid.actor_id,
        create_time: Some(timestamp(laid.created)),
    }
}

pub(super) fn suspend_reply() -> Vec<u8> {
    pb::SuspendUserResponse {}.encode_to_vec()
}

pub(super) fn reinstate_reply(reinstated: bool) -> Vec<u8> {
    pb::ReinstateUserResponse { reinstated }.encode_to_vec()
}

pub(super) fn suspended_user(user: SuspendedUser) -> pb::SuspendedUser {
    pb::SuspendedUser {
        user_id: user.user_id,
        until: until(user.suspension.until),
        reason: user.suspension.reason,
        create_time: Some(timestamp(user.since)),
    }
}

fn until(until: Micros) -> Option<Timestamp> {
    (until != FOR_EVER).then(|| timestamp(until))
}
