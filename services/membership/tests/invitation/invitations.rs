//! InviteUsers, AcceptInvitation, DeclineInvitation, RevokeInvitations, ListInvitations.

use parlance_db::Db;
use parlance_proto::membership::v1 as pb;
use parlance_proto::message::v1::RoomKind;
use parlance_proto::message::v1::event::Body;
use parlance_rpc::Reason;
use parlance_types::LogId;
use tonic_types::StatusExt as _;
use uuid::Uuid;

use crate::harness::{
    Admin, Clients, Member, Owner, World, add, bad_ids, close, effects, eventually, join, refused,
    refused_naming, rules, strings, violates,
};
use crate::seat::rooms::live;

parlance_db::test_on_each_db!(
    parlance_membership::MIGRATIONS =>
        users_are_invited_and_come_in_when_they_accept,
        an_invitation_overrules_the_join_rule_and_an_earlier_removal,
        a_user_declines_and_a_member_revokes,
        whoever_comes_in_otherwise_has_no_invitation_any_more,
        a_ban_ends_invitations_and_beats_them,
        a_full_room_keeps_the_invitation,
        who_may_add_may_invite,
        only_users_of_the_tenant_are_invited,
        direct_and_live_rooms_have_no_invitations,
        an_invitation_is_over_when_the_room_is,
        a_repeat_gets_the_first_reply,
        invitations_are_listed_a_page_at_a_time,
        a_room_and_a_user_have_a_bounded_number,
        bad_fields_are_named,
);

pub(super) fn invite(room: &str, users: &[&str]) -> pb::InviteUsersRequest {
    let (room_id, user_ids) = (room.to_owned(), strings(users));
    pb::InviteUsersRequest { room_id, user_ids, ..Default::default() }
}

pub(super) fn accept(room: &str) -> pb::AcceptInvitationRequest {
    pb::AcceptInvitationRequest { room_id: room.to_owned() }
}

pub(super) fn revoke(room: &str, users: &[&str]) -> pb::RevokeInvitationsRequest {
    let (room_id, user_ids) = (room.to_owned(), strings(users));
    pb::RevokeInvitationsRequest { room_id, user_ids, ..Default::default() }
}

fn decline(room: &str) -> pb::DeclineInvitationRequest {
    pb::DeclineInvitationRequest { room_id: room.to_owned() }
}

/// Who is invited where, as a caller sees it: into a room, or with an empty one the caller.
async fn listed(caller: &Clients, room: &str) -> Vec<(String, String)> {
    let request = pb::ListInvitationsRequest {
        room_id: room.to_owned(),
        page_size: 100,
        ..Default::default()
    };
    let page = caller.invitations.clone().list_invitations(request).await.expect("a page");
    let found = page.into_inner().invitations.into_iter();
    found.map(|invitation| (invitation.room_id, invitation.user_id)).collect()
}

async fn invited(world: &World, by: &str, room: &str, users: &[&str]) {
    let mut client = world.user(by).invitations;
    client.invite_users(invite(room, users)).await.expect("invited");
}

/// How many invitations and requests are stored.
async fn rows(db: &Db) -> i64 {
    let (count,) = db.read("SELECT COUNT(*) FROM pending").fetch_one().await.expect("a count");
    count
}

fn bodies(world: &World, log: LogId) -> Vec<Body> {
    world.later_events(log).into_iter().filter_map(|event| event.body).collect()
}

async fn users_are_invited_and_come_in_when_they_accept(db: Db) {
    let world = World::new(db);
    let log = world.group("den", &[("ann", Owner), ("cleo", Member)]).await;
    world.know("acme", &["bob", "eve"]).await;
    let request = pb::InviteUsersRequest {
        text: "tea?".to_owned(),
        ..invite("den", &["eve", "bob", "cleo"])
    };
    let mut cleo = world.user("cleo").invitations;
    let reply = cleo.invite_users(request).await.expect("invited").into_inner();
    assert_eq!(reply.invited_user_ids, ["eve", "bob"]);
    assert_eq!(reply.already_member_user_ids, ["cleo"]);
    assert_eq!(world.roles("den").await.len(), 2, "nobody is in by it");
    let again = cleo.invite_users(invite("den", &["bob"])).await.expect("again").into_inner();
    assert_eq!(again.already_invited_user_ids, ["bob"]);
    assert!(again.invited_user_ids.is_empty());
    let events = world.later_events(log);
    assert_eq!((events.len(), events[0].actor_id.as_str()), (1, "cleo"));
    assert_eq!(effects(&events[0]), (Vec::new(), Vec::new()));
    let Some(Body::UsersInvited(told)) = &events[0].body else { panic!("{events:?}") };
    assert_eq!(told.user_ids, ["eve", "bob"]);

    let request = pb::ListInvitationsRequest::default();
    let mine = world.user("bob").invitations.list_invitations(request).await.expect("a page");
    let mine = mine.into_inner().invitations.remove(0);
    assert_eq!((mine.room_id.as_str(), mine.inviter_id.as_str()), ("den", "cleo"));
    assert_eq!((mine.text.as_str(), mine.create_time.expect("a time").seconds), ("tea?", 1000));

    let mut bob = world.user("bob").invitations;
    for already_member in [false, true] {
        let reply = bob.accept_invitation(accept("den")).await.expect("in").into_inner();
        let membership = reply.membership.expect("a membership");
        assert_eq!((membership.user_id.as_str(), membership.role()), ("bob", Member));
        assert_eq!(reply.already_member, already_member);
    }
    let events = world.later_events(log);
    assert_eq!((events.len(), events[1].actor_id.as_str()), (2, "bob"));
    assert_eq!(effects(&events[1]).0, [("bob".to_owned(), Member)]);
    assert!(matches!(events[1].body, Some(Body::MembersJoined(_))));
    assert_eq!(listed(&world.user("ann"), "den").await, [("den".to_owned(), "eve".to_owned())]);
    assert!(listed(&world.user("bob"), "").await.is_empty());
}

async fn an_invitation_overrules_the_join_rule_and_an_earlier_removal(db: Db) {
    let world = World::new(db);
    world.channel("news", &[("ann", Owner), ("bob", Member)]).await;
    let mut ann = world.user("ann").members;
    let request = pb::RemoveMembersRequest {
        room_id: "news".to_owned(),
        user_ids: strings(&["bob"]),
        ..Default::default()
    };
    ann.remove_members(request.clone()).await.expect("removed");
    let mut bob = world.user("bob");
    refused(bob.members.join_room(join("news")).await, Reason::RemovedFromRoom);
    invited(&world, "ann", "news", &["bob"]).await;
    bob.invitations.accept_invitation(accept("news")).await.expect("in");
    // A later removal is not overruled: the invitation was used.
    ann.remove_members(request).await.expect("removed");
    let again = bob.invitations.accept_invitation(accept("news")).await;
    refused(again, Reason::InvitationNotFound);
}

async fn a_user_declines_and_a_member_revokes(db: Db) {
    let world = World::new(db);
    let log = world.group("den", &[("ann", Owner)]).await;
    world.know("acme", &["bob", "eve"]).await;
    invited(&world, "ann", "den", &["bob", "eve"]).await;
    let mut bob = world.user("bob").invitations;
    for _ in 0..2 {
        bob.decline_invitation(decline("den")).await.expect("declined");
    }
    let mut ann = world.user("ann").invitations;
    for revoked in [strings(&["eve"]), Vec::new()] {
        let reply = ann.revoke_invitations(revoke("den", &["bob", "eve"])).await.expect("revoked");
        assert_eq!(reply.into_inner().revoked_user_ids, revoked);
    }
    for user in ["bob", "eve"] {
        let came = world.user(user).invitations.accept_invitation(accept("den")).await;
        refused(came, Reason::InvitationNotFound);
    }
    let told: Vec<_> = bodies(&world, log)
        .into_iter()
        .filter_map(|body| match body {
            Body::InvitationsEnded(ended) => Some((ended.user_ids, ended.revoked)),
            _ => None,
        })
        .collect();
    assert_eq!(told, [(strings(&["bob"]), false), (strings(&["eve"]), true)]);
    assert_eq!(world.later_events(log)[1].actor_id, "bob");
    // They may be invited again.
    invited(&world, "ann", "den", &["bob"]).await;
    bob.accept_invitation(accept("den")).await.expect("in");
}

async fn whoever_comes_in_otherwise_has_no_invitation_any_more(db: Db) {
    let world = World::new(db);
    world.channel("news", &[("ann", Owner)]).await;
    world.know("acme", &["bob", "eve"]).await;
    invited(&world, "ann", "news", &["bob", "eve"]).await;
    world.user("ann").members.add_members(add("news", &["bob"])).await.expect("added");
    world.user("eve").members.join_room(join("news")).await.expect("joined");
    assert!(listed(&world.user("ann"), "news").await.is_empty());
    for user in ["bob", "eve"] {
        let room_id = "news".to_owned();
        let leave = pb::LeaveRoomRequest { room_id, ..Default::default() };
        let mut client = world.user(user);
        client.members.leave_room(leave).await.expect("left");
        let came = client.invitations.accept_invitation(accept("news")).await;
        refused(came, Reason::InvitationNotFound);
    }
}

async fn a_ban_ends_invitations_and_beats_them(db: Db) {
    let world = World::new(db);
    world.group("den", &[("ann", Owner)]).await;
    world.know("acme", &["bob", "eve"]).await;
    invited(&world, "ann", "den", &["bob", "eve"]).await;
    let ban = pb::BanUsersRequest {
        room_id: "den".to_owned(),
        user_ids: strings(&["bob"]),
        ..Default::default()
    };
    let mut ann = world.user("ann");
    ann.moderation.ban_users(ban).await.expect("banned");
    assert_eq!(listed(&ann, "den").await, [("den".to_owned(), "eve".to_owned())]);
    let came = world.user("bob").invitations.accept_invitation(accept("den")).await;
    refused(came, Reason::InvitationNotFound);
    let again = ann.invitations.invite_users(invite("den", &["eve", "bob"])).await;
    refused_naming(again, Reason::Banned, "bob");
}

async fn a_full_room_keeps_the_invitation(db: Db) {
    let world = World::new(db);
    let rules = pb::RosterRules { capacity: 2, ..rules() };
    let members = [("ann", Owner), ("cleo", Member)];
    world.open_as("acme", RoomKind::Group, "den", rules, &members).await;
    world.know("acme", &["bob"]).await;
    invited(&world, "ann", "den", &["bob"]).await;
    let mut bob = world.user("bob").invitations;
    refused(bob.accept_invitation(accept("den")).await, Reason::RoomFull);
    let leave = pb::LeaveRoomRequest { room_id: "den".to_owned(), ..Default::default() };
    world.user("cleo").members.leave_room(leave).await.expect("left");
    bob.accept_invitation(accept("den")).await.expect("in");
}

async fn who_may_add_may_invite(db: Db) {
    let world = World::new(db);
    let closed = pb::RosterRules { add: pb::MemberRule::Admins.into(), ..rules() };
    let members = [("ann", Owner), ("bob", Admin), ("cleo", Member)];
    let log = world.open_as("acme", RoomKind::Group, "den", closed, &members).await;
    world.know("acme", &["u1", "u2", "u3"]).await;
    let list = || pb::ListInvitationsRequest { room_id: "den".to_owned(), ..Default::default() };
    for (user, reason) in [("cleo", Reason::NotAllowed), ("eve", Reason::NotAMember)] {
        for mut client in [world.user(user).invitations, world.service_for(user).invitations] {
            refused(client.invite_users(invite("den", &["u1"])).await, reason);
            refused(client.revoke_invitations(revoke("den", &["u1"])).await, reason);
            refused(client.list_invitations(list()).await, reason);
        }
    }
    for other in [world.user_of("other", "ann"), world.service_of("other")] {
        let mut other = other.invitations;
        refused(other.invite_users(invite("den", &["u1"])).await, Reason::RoomNotFound);
        refused(other.revoke_invitations(revoke("den", &["u1"])).await, Reason::RoomNotFound);
        refused(other.list_invitations(list()).await, Reason::RoomNotFound);
    }
    refused(
        world.user_of("other", "u1").invitations.accept_invitation(accept("den")).await,
        Reason::RoomNotFound,
    );
    for (mut client, user) in
        [(world.user("ann"), "u1"), (world.user("bob"), "u2"), (world.service(), "u3")]
    {
        client.invitations.invite_users(invite("den", &[user])).await.expect("invited");
    }
    assert_eq!(world.later_events(log)[2].actor_id, "", "the tenant, and nobody");
    assert_eq!(listed(&world.service(), "den").await.len(), 3);
    let mut service = world.service().invitations;
    service.revoke_invitations(revoke("den", &["u1"])).await.expect("revoked");
    refused(service.accept_invitation(accept("den")).await, Reason::UserRequired);
    refused(service.decline_invitation(decline("den")).await, Reason::UserRequired);
    let own = service.list_invitations(pb::ListInvitationsRequest::default()).await;
    refused(own, Reason::UserRequired);
    world.service_for("u2").invitations.accept_invitation(accept("den")).await.expect("in");
}

async fn only_users_of_the_tenant_are_invited(db: Db) {
    let world = World::new(db);
    let log = world.group("den", &[("ann", Owner)]).await;
    world.know("acme", &["bob"]).await;
    world.know("other", &["eve"]).await;
    let mut ann = world.user("ann").invitations;
    let invited = ann.invite_users(invite("den", &["bob", "eve"])).await;
    refused_naming(invited, Reason::UserNotFound, "eve");
    assert!(world.later_events(log).is_empty());
    assert!(listed(&world.user("bob"), "").await.is_empty(), "all or none");
}

async fn direct_and_live_rooms_have_no_invitations(db: Db) {
    let world = World::new(db);
    world.direct("pair", ["ann", "bob"]).await;
    live(&world, "lounge", 60).await;
    let list =
        |room: &str| pb::ListInvitationsRequest { room_id: room.to_owned(), ..Default::default() };
    for (room, reason) in [("pair", Reason::DirectRoom), ("lounge", Reason::LiveRoom)] {
        for mut client in [world.user("ann").invitations, world.service().invitations] {
            refused(client.invite_users(invite(room, &["bob"])).await, reason);
            refused(client.revoke_invitations(revoke(room, &["bob"])).await, reason);
            refused(client.list_invitations(list(room)).await, reason);
        }
        let mut ann = world.user("ann").invitations;
        refused(ann.accept_invitation(accept(room)).await, reason);
        refused(ann.decline_invitation(decline(room)).await, reason);
    }
    let mut eve = world.user("eve").invitations;
    refused(eve.accept_invitation(accept("pair")).await, Reason::RoomNotFound);
    refused(eve.list_invitations(list("pair")).await, Reason::RoomNotFound);
}

async fn an_invitation_is_over_when_the_room_is(db: Db) {
    let world = World::new(db.clone());
    let log = world.group("den", &[("ann", Owner)]).await;
    world.know("acme", &["bob"]).await;
    invited(&world, "ann", "den", &["bob"]).await;
    close(&world, log).await;
    assert!(listed(&world.user("bob"), "").await.is_empty());
    let mut bob = world.user("bob").invitations;
    refused(bob.accept_invitation(accept("den")).await, Reason::RoomNotFound);
    world.group("den", &[("ann", Owner)]).await;
    refused(bob.accept_invitation(accept("den")).await, Reason::InvitationNotFound);
    world.service.run();
    eventually(async || rows(&db).await == 0).await;
}

async fn a_repeat_gets_the_first_reply(db: Db) {
    let world = World::new(db);
    let log = world.group("den", &[("ann", Owner)]).await;
    world.know("acme", &["bob"]).await;
    let mut ann = world.user("ann").invitations;
    let first = pb::InviteUsersRequest { request_id: "r1".to_owned(), ..invite("den", &["bob"]) };
    let second =
        pb::RevokeInvitationsRequest { request_id: "r2".to_owned(), ..revoke("den", &["bob"]) };
    for _ in 0..2 {
        let reply = ann.invite_users(first.clone()).await.expect("invited").into_inner();
        assert_eq!(reply.invited_user_ids, ["bob"]);
        let reply = ann.revoke_invitations(second.clone()).await.expect("revoked").into_inner();
        assert_eq!(reply.revoked_user_ids, ["bob"]);
    }
    assert_eq!(world.later_events(log).len(), 2);
    let other = pb::InviteUsersRequest { text: "other".to_owned(), ..first };
    refused(ann.invite_users(other).await, Reason::RequestIdReused);
}

async fn invitations_are_listed_a_page_at_a_time(db: Db) {
    let world = World::new(db);
    let users = ["u0", "u1", "u2", "u3", "u4"];
    world.know("acme", &users).await;
    for room in ["a", "b", "c"] {
        world.group(room, &[("ann", Owner), ("bob", Member)]).await;
        invited(&world, "ann", room, &["u0"]).await;
    }
    invited(&world, "ann", "b", &users[1..]).await;
    for (caller, room, expected) in [("ann", "b", &users[..]), ("u0", "", &["a", "b", "c"])] {
        let mut client = world.user(caller).invitations;
        let mut request = pb::ListInvitationsRequest {
            room_id: room.to_owned(),
            page_size: 2,
            ..Default::default()
        };
        let mut found = Vec::new();
        loop {
            let page = client.list_invitations(request.clone()).await.expect("a page").into_inner();
            assert!(page.invitations.len() <= 2);
            found.extend(
                page.invitations
                    .into_iter()
                    .map(|found| if room.is_empty() { found.room_id } else { found.user_id }),
            );
            request.page_token = page.next_page_token;
            if request.page_token.is_empty() {
                break;
            }
            let mut bob = world.user("bob").invitations;
            violates(bob.list_invitations(request.clone()).await, "page_token");
        }
        assert_eq!(found, expected);
    }
}

async fn a_room_and_a_user_have_a_bounded_number(db: Db) {
    let world = World::new(db.clone());
    let log = world.group("den", &[("ann", Owner)]).await;
    world.know("acme", &["bob", "eve"]).await;
    let update = "UPDATE rosters SET invited = $2 WHERE log_id = $1";
    let fill = async |invited: i64| {
        db.write(update).bind(log.0).bind(invited).execute().await.expect("filled");
    };
    let mut ann = world.user("ann").invitations;
    fill(999).await;
    let both = ann.invite_users(invite("den", &["bob", "eve"])).await;
    let refusal = refused(both, Reason::TooManyInvitations);
    let info = refusal.get_details_error_info().expect("error info");
    assert!(info.metadata.is_empty(), "it is the room");
    ann.invite_users(invite("den", &["bob"])).await.expect("the thousandth");
    refused(ann.invite_users(invite("den", &["eve"])).await, Reason::TooManyInvitations);
    fill(1).await;
    for room in 0..100 {
        let put = "INSERT INTO pending (log_id, kind, user_id, tenant_id, room_id, actor_id, text,
                                        create_time)
                   VALUES ($1, 1, 'eve', 'acme', $2, '', '', 1)";
        let put = db.write(put).bind(Uuid::now_v7()).bind(format!("room {room}"));
        put.execute().await.expect("put");
    }
    let named = ann.invite_users(invite("den", &["eve"])).await;
    refused_naming(named, Reason::TooManyInvitations, "eve");
}

async fn bad_fields_are_named(db: Db) {
    let world = World::new(db);
    let log = world.group("den", &[("ann", Owner)]).await;
    let mut ann = world.user("ann").invitations;
    for bad in bad_ids() {
        violates(ann.invite_users(invite(&bad, &["bob"])).await, "room_id");
        violates(ann.revoke_invitations(revoke(&bad, &["bob"])).await, "room_id");
        violates(ann.accept_invitation(accept(&bad)).await, "room_id");
        violates(ann.decline_invitation(decline(&bad)).await, "room_id");
        violates(ann.invite_users(invite("den", &[&bad])).await, "user_ids[0]");
        violates(ann.revoke_invitations(revoke("den", &[&bad])).await, "user_ids[0]");
        let list = pb::ListInvitationsRequest { room_id: bad.clone(), ..Default::default() };
        // An empty one asks for the caller's own.
        if !bad.is_empty() {
            violates(ann.list_invitations(list).await, "room_id");
        }
    }
    let many: Vec<_> = (0..101).map(|user| format!("u{user}")).collect();
    let many: Vec<_> = many.iter().map(String::as_str).collect();
    for users in [&[][..], &many] {
        violates(ann.invite_users(invite("den", users)).await, "user_ids");
        violates(ann.revoke_invitations(revoke("den", users)).await, "user_ids");
    }
    violates(ann.invite_users(invite("den", &["a", "a"])).await, "user_ids[1]");
    violates(ann.revoke_invitations(revoke("den", &["a", "a"])).await, "user_ids[1]");
    for text in ["a\0".to_owned(), "é".repeat(501)] {
        let request = pb::InviteUsersRequest { text, ..invite("den", &["bob"]) };
        violates(ann.invite_users(request).await, "text");
    }
    for room_id in ["den".to_owned(), String::new()] {
        let page_size = -1;
        let list = pb::ListInvitationsRequest { room_id, page_size, ..Default::default() };
        violates(ann.list_invitations(list.clone()).await, "page_size");
        let page_token = "x".to_owned();
        let list = pb::ListInvitationsRequest { page_size: 0, page_token, ..list };
        violates(ann.list_invitations(list).await, "page_token");
    }
    assert!(world.later_events(log).is_empty());
}
