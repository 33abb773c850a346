//! What invitations, requests to join and links cost beside many.

use parlance_db::{Db, work};
use parlance_proto::membership::v1 as pb;

use super::{Growing, Place, Work, compare, crowd};
use crate::harness::strings;

fn den() -> String {
    "den".to_owned()
}

/// Mia leaves again.
async fn leave(place: &Place, room: &str) {
    let leave = pb::LeaveRoomRequest { room_id: room.to_owned(), ..Default::default() };
    place.mia.members.clone().leave_room(leave).await.expect("left");
}

async fn invite(place: &Place, users: &[&str]) {
    let (room_id, user_ids) = (den(), strings(users));
    let request = pb::InviteUsersRequest { room_id, user_ids, ..Default::default() };
    place.ann.invitations.clone().invite_users(request).await.expect("invited");
}

async fn ask(place: &Place) {
    let (room_id, text) = ("club".to_owned(), String::new());
    let request = pb::RequestToJoinRequest { room_id, text };
    place.mia.requests.clone().request_to_join(request).await.expect("asked");
}

pub(super) const WORK: &[(&str, Work)] = work! {
    "InviteUsers and RevokeInvitations": |_, place| {
        let users = &crowd()[2..12];
        invite(place, users).await;
        let (room_id, user_ids) = (den(), strings(users));
        let request = pb::RevokeInvitationsRequest { room_id, user_ids, ..Default::default() };
        place.ann.invitations.clone().revoke_invitations(request).await.expect("revoked")
    },
    "AcceptInvitation and DeclineInvitation": |_, place| {
        let mut mia = place.mia.invitations.clone();
        mia.decline_invitation(pb::DeclineInvitationRequest { room_id: den() }).await.expect("none");
        invite(place, &["mia"]).await;
        mia.accept_invitation(pb::AcceptInvitationRequest { room_id: den() }).await.expect("in");
        leave(place, "den").await;
        invite(place, &["mia"]).await;
        mia.decline_invitation(pb::DeclineInvitationRequest { room_id: den() }).await.expect("not")
    },
    "ListInvitations": |_, place| {
        for (client, room_id) in [(&place.ann, den()), (&place.rita, String::new())] {
            let mut request =
                pb::ListInvitationsRequest { room_id, page_size: 20, ..Default::default() };
            for _ in 0..2 {
                let page = client.invitations.clone().list_invitations(request.clone()).await;
                request.page_token = page.expect("a page").into_inner().next_page_token;
            }
        }
    },
    "RequestToJoin and WithdrawJoinRequest": |_, place| {
        ask(place).await;
        ask(place).await;
        let request = pb::WithdrawJoinRequestRequest { room_id: "club".to_owned() };
        place.mia.requests.clone().withdraw_join_request(request).await.expect("withdrawn")
    },
    "ApproveJoinRequests and DenyJoinRequests": |_, place| {
        let (room_id, user_ids) = ("club".to_owned(), strings(&["mia"]));
        ask(place).await;
        let request = pb::DenyJoinRequestsRequest {
            room_id: room_id.clone(),
            user_ids: user_ids.clone(),
            ..Default::default()
        };
        place.ann.requests.clone().deny_join_requests(request).await.expect("denied");
        ask(place).await;
        let request = pb::ApproveJoinRequestsRequest { room_id, user_ids, ..Default::default() };
        place.ann.requests.clone().approve_join_requests(request).await.expect("in");
        leave(place, "club").await;
    },
    "ListJoinRequests": |_, place| {
        for (client, room_id) in [(&place.ann, "club".to_owned()), (&place.rita, String::new())] {
            let mut request =
                pb::ListJoinRequestsRequest { room_id, page_size: 20, ..Default::default() };
            for _ in 0..2 {
                let page = client.requests.clone().list_join_requests(request.clone()).await;
                request.page_token = page.expect("a page").into_inner().next_page_token;
            }
        }
    },
    "CreateInviteLink, JoinByLink and RevokeInviteLink": |_, place| {
        let mut ann = place.ann.links.clone();
        let request = pb::CreateInviteLinkRequest { room_id: den(), ..Default::default() };
        let made = ann.create_invite_link(request).await.expect("made").into_inner();
        let request = pb::JoinByLinkRequest { token: made.token };
        place.mia.links.clone().join_by_link(request).await.expect("in");
        leave(place, "den").await;
        let list = pb::ListInviteLinksRequest { room_id: den(), ..Default::default() };
        ann.list_invite_links(list).await.expect("a page");
        let link_id = made.link.expect("a link").link_id;
        let request = pb::RevokeInviteLinkRequest { room_id: den(), link_id };
        ann.revoke_invite_link(request).await.expect("revoked")
    },
};

/// Beside many who are invited into the group, many who ask to be let into the club, and many
/// rooms into which Rita is invited and to which she asks to be let in.
pub(super) async fn beside_pending(db: Db) {
    compare(db, async |growing: &Growing<'_>, size| {
        growing.rooms(size, false, 2, |log_id| format!("room {log_id}")).await;
        for (kind, log_id, room) in
            [(1_i16, growing.place.den, "den"), (2, growing.place.club, "club")]
        {
            let of_room = "
                WITH RECURSIVE n (i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < $3)
                INSERT INTO pending (log_id, kind, user_id, tenant_id, room_id, actor_id, text,
                                     create_time)
                SELECT $2, $4, 'm' || CAST(n.i AS TEXT), $1, $5, '', '', 1 FROM n";
            let of_room = growing.write(of_room).bind(log_id.0).bind(size).bind(kind).bind(room);
            of_room.execute().await.expect("filled");
            let of_rita = "
                INSERT INTO pending (log_id, kind, user_id, tenant_id, room_id, actor_id, text,
                                     create_time)
                SELECT log_id, $2, 'rita', $1, room_id, '', '', 1 FROM rosters
                 WHERE tenant_id = $1 AND room_id LIKE 'room %'";
            growing.write(of_rita).bind(kind).execute().await.expect("filled");
        }
        // As many as a room may have and take one call more.
        let count = "UPDATE rosters SET invited = 900, asking = 900 WHERE tenant_id = $1";
        growing.write(count).execute().await.expect("counted");
    })
    .await;
}
