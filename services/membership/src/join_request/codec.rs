//! The encoding of requests to join: replies, entries of lists.

use parlance_proto::membership::v1 as pb;
use parlance_types::UserId;
use prost::Message as _;

use super::Approved;
use crate::codec::{self, timestamp, user_ids};
use crate::roster::Membership;
use crate::roster::store::Waiting;

/// The reply to who asks: what waits now.
pub(super) fn ask_reply(waiting: Waiting) -> Vec<u8> {
    let join_request = Some(join_request(waiting));
    pb::RequestToJoinResponse { join_request, membership: None }.encode_to_vec()
}

/// The reply to who asks and is in already.
pub(super) fn member_reply(membership: &Membership) -> Vec<u8> {
    let membership = Some(codec::membership(membership));
    pb::RequestToJoinResponse { join_request: None, membership }.encode_to_vec()
}

pub(super) fn withdraw_reply() -> Vec<u8> {
    pb::WithdrawJoinRequestResponse {}.encode_to_vec()
}

pub(super) fn approve_reply(approved: &Approved) -> Vec<u8> {
    pb::ApproveJoinRequestsResponse {
        added: approved.added.iter().map(codec::membership).collect(),
        already_member_user_ids: user_ids(&approved.already),
    }
    .encode_to_vec()
}

pub(super) fn deny_reply(users: &[UserId]) -> Vec<u8> {
    pb::DenyJoinRequestsResponse { denied_user_ids: user_ids(users) }.encode_to_vec()
}

pub(super) fn join_request(waiting: Waiting) -> pb::JoinRequest {
    let Waiting { room_id, user_id, text, created, .. } = waiting;
    pb::JoinRequest { room_id, user_id, text, create_time: Some(timestamp(created)) }
}
