//! The encoding of links.

use parlance_proto::membership::v1 as pb;
use prost::Message as _;

use super::{Link, Token};
use crate::codec::timestamp;
use crate::roster::{FOR_EVER, Roster};

pub(super) fn create_reply(roster: &Roster, link: Link, token: Token) -> Vec<u8> {
    let link = Some(self::link(roster, link));
    pb::CreateInviteLinkResponse { link, token: token.0 }.encode_to_vec()
}

pub(super) fn revoke_reply() -> Vec<u8> {
    pb::RevokeInviteLinkResponse {}.encode_to_vec()
}

pub(super) fn link(roster: &Roster, link: Link) -> pb::InviteLink {
    pb::InviteLink {
        link_id: link.id,
        room_id: roster.room_id.to_string(),
        creator_id: link.creator_id,
        create_time: Some(timestamp(link.created)),
        expire_time: (link.expires != FOR_EVER).then(|| timestamp(link.expires)),
        max_uses: link.max_uses,
        uses: link.uses,
    }
}
