//! The encoding of invitations: events, replies, entries of lists.

use parlance_proto::membership::v1 as pb;
use parlance_proto::message::v1::event::Body;
use parlance_proto::message::v1::{Effects, InvitationsEnded, UsersInvited};
use parlance_types::UserId;
use prost::Message as _;

use super::Invited;
use crate::codec::{self, Event, by, timestamp, user_ids};
use crate::roster::Membership;
use crate::roster::store::Waiting;

pub(super) fn invited(actor: Option<&UserId>, users: &[UserId]) -> Event {
    let body = UsersInvited { user_ids: user_ids(users) };
    by(actor, Effects::default(), Body::UsersInvited(body))
}

pub(super) fn ended(actor: Option<&UserId>, users: &[UserId], revoked: bool) -> Event {
    let body = InvitationsEnded { user_ids: user_ids(users), revoked };
    by(actor, Effects::default(), Body::InvitationsEnded(body))
}

pub(super) fn invite_reply(invited: &Invited) -> Vec<u8> {
    pb::InviteUsersResponse {
        invited_user_ids: user_ids(&invited.new),
        already_invited_user_ids: user_ids(&invited.already),
        already_member_user_ids: user_ids(&invited.members),
    }
    .encode_to_vec()
}

pub(super) fn revoke_reply(users: &[UserId]) -> Vec<u8> {
    pb::RevokeInvitationsResponse { revoked_user_ids: user_ids(users) }.encode_to_vec()
}

pub(super) fn accept_reply(membership: &Membership, already_member: bool) -> Vec<u8> {
    let membership = Some(codec::membership(membership));
    pb::AcceptInvitationResponse { membership, already_member }.encode_to_vec()
}

pub(super) fn decline_reply() -> Vec<u8> {
    pb::DeclineInvitationResponse {}.encode_to_vec()
}

pub(super) fn invitation(waiting: Waiting) -> pb::Invitation {
    let Waiting { room_id, user_id, actor_id, text, created } = waiting;
    let create_time = Some(timestamp(created));
    pb::Invitation { room_id, user_id, inviter_id: actor_id, text, create_time }
}
