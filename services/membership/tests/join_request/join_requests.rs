//! RequestToJoin, WithdrawJoinRequest, ApproveJoinRequests, DenyJoinRequests,
//! ListJoinRequests.

use parlance_db::Db;
use parlance_proto::membership::v1 as pb;
use parlance_proto::message::v1::event::Body;
use parlance_proto::message::v1::{MemberRole, RoomKind};
use parlance_rpc::Reason;
use parlance_types::LogId;
use tonic_types::StatusExt as _;
use uuid::Uuid;

use crate::harness::{
    Admin, Clients, Member, Owner, World, add, bad_ids, close, effects, join, refused,
    refused_naming, rules, strings, violates,
};
use crate::moderation::bans::ban;
use crate::seat::rooms::live;

parlance_db::test_on_each_db!(
    parlance_membership::MIGRATIONS =>
        a_user_asks_and_is_in_once_that_is_approved,
        users_ask_where_the_rule_says_so_and_join_nowhere_there,
        a_request_is_withdrawn_or_denied,
        approving_lets_in_all_or_none,
        a_ban_ends_requests_and_beats_them,
        who_may_add_may_approve,
        direct_and_live_rooms_take_no_requests,
        a_request_is_over_when_the_room_is,
        a_repeat_gets_the_first_reply,
        requests_are_listed_a_page_at_a_time,
        a_room_and_a_user_have_a_bounded_number,
        bad_fields_are_named,
);

/// Opens a group in which users ask to be let in.
pub(super) async fn asked(world: &World, room: &str, members: &[(&str, MemberRole)]) -> LogId {
    let rules = pb::RosterRules { join: pb::JoinRule::Request.into(), ..rules() };
    world.open_as("acme", RoomKind::Group, room, rules, members).await
}

pub(super) fn ask(room: &str) -> pb::RequestToJoinRequest {
    pb::RequestToJoinRequest { room_id: room.to_owned(), ..Default::default() }
}

pub(super) fn withdraw(room: &str) -> pb::WithdrawJoinRequestRequest {
    pb::WithdrawJoinRequestRequest { room_id: room.to_owned() }
}

pub(super) fn approve(room: &str, users: &[&str]) -> pb::ApproveJoinRequestsRequest {
    let (room_id, user_ids) = (room.to_owned(), strings(users));
    pb::ApproveJoinRequestsRequest { room_id, user_ids, ..Default::default() }
}

fn deny(room: &str, users: &[&str]) -> pb::DenyJoinRequestsRequest {
    let (room_id, user_ids) = (room.to_owned(), strings(users));
    pb::DenyJoinRequestsRequest { room_id, user_ids, ..Default::default() }
}

fn list(room: &str) -> pb::ListJoinRequestsRequest {
    let room_id = room.to_owned();
    pb::ListJoinRequestsRequest { room_id, page_size: 100, ..Default::default() }
}

/// Who asks where, with what they say: in a room, or with an empty one the caller.
async fn listed(caller: &Clients, room: &str) -> Vec<(String, String, String)> {
    let page = caller.requests.clone().list_join_requests(list(room)).await.expect("a page");
    let found = page.into_inner().join_requests.into_iter();
    found.map(|found| (found.room_id, found.user_id, found.text)).collect()
}

async fn asks(world: &World, user: &str, room: &str) {
    world.user(user).requests.request_to_join(ask(room)).await.expect("asked");
}

async fn a_user_asks_and_is_in_once_that_is_approved(db: Db) {
    let world = World::new(db);
    let log = asked(&world, "den", &[("ann", Owner)]).await;
    let mut bob = world.user("bob");
    for text in ["please", "pretty please"] {
        let request = pb::RequestToJoinRequest { text: text.to_owned(), ..ask("den") };
        let reply = bob.requests.request_to_join(request).await.expect("asked").into_inner();
        let waits = reply.join_request.expect("a request");
        assert_eq!((waits.user_id.as_str(), waits.text.as_str()), ("bob", text));
        assert_eq!((waits.create_time.expect("a time").seconds, reply.membership), (1000, None));
        world.clock.advance(1_000_000);
    }
    assert!(world.later_events(log).is_empty(), "the log knows nothing of it");
    let waits = [("den".to_owned(), "bob".to_owned(), "pretty please".to_owned())];
    assert_eq!(listed(&world.user("ann"), "den").await, waits);
    assert_eq!(listed(&bob, "").await, waits);

    let mut ann = world.user("ann").requests;
    let reply = ann.approve_join_requests(approve("den", &["bob"])).await.expect("in").into_inner();
    assert_eq!((reply.added.len(), reply.added[0].role()), (1, Member));
    let again = ann.approve_join_requests(approve("den", &["bob"])).await.expect("as it was");
    assert_eq!(again.into_inner().already_member_user_ids, ["bob"]);
    let events = world.later_events(log);
    assert_eq!((events.len(), events[0].actor_id.as_str()), (1, "ann"));
    assert_eq!(effects(&events[0]).0, [("bob".to_owned(), Member)]);
    assert!(matches!(events[0].body, Some(Body::MembersJoined(_))));
    assert!(listed(&bob, "").await.is_empty());
    let reply = bob.requests.request_to_join(ask("den")).await.expect("a member").into_inner();
    assert_eq!(reply.membership.expect("a membership").user_id, "bob");
    assert!(reply.join_request.is_none());
}

async fn users_ask_where_the_rule_says_so_and_join_nowhere_there(db: Db) {
    let world = World::new(db);
    world.channel("news", &[("ann", Owner)]).await;
    world.group("den", &[("ann", Owner)]).await;
    let log = asked(&world, "club", &[("ann", Owner), ("eve", Member)]).await;
    let mut bob = world.user("bob");
    for room in ["news", "den"] {
        refused(bob.requests.request_to_join(ask(room)).await, Reason::JoinRestricted);
    }
    refused(bob.members.join_room(join("club")).await, Reason::JoinRestricted);
    let remove = pb::RemoveMembersRequest {
        room_id: "club".to_owned(),
        user_ids: strings(&["eve"]),
        ..Default::default()
    };
    world.user("ann").members.remove_members(remove).await.expect("removed");
    let mut eve = world.user("eve").requests;
    refused(eve.request_to_join(ask("club")).await, Reason::RemovedFromRoom);
    // One that was made stays when the rule changes.
    asks(&world, "bob", "club").await;
    let request = pb::SetRosterRulesRequest {
        log_id: log.0.to_string(),
        rules: Some(rules()),
        rules_version: 2,
    };
    let mut room = world.room_service("acme", None).rosters;
    room.set_roster_rules(request).await.expect("set");
    refused(world.user("cleo").requests.request_to_join(ask("club")).await, Reason::JoinRestricted);
    let mut ann = world.user("ann").requests;
    ann.approve_join_requests(approve("club", &["bob"])).await.expect("in");
}

async fn a_request_is_withdrawn_or_denied(db: Db) {
    let world = World::new(db);
    let log = asked(&world, "den", &[("ann", Owner)]).await;
    asks(&world, "bob", "den").await;
    asks(&world, "eve", "den").await;
    for _ in 0..2 {
        world.user("bob").requests.withdraw_join_request(withdraw("den")).await.expect("withdrawn");
    }
    let mut ann = world.user("ann").requests;
    for denied in [strings(&["eve"]), Vec::new()] {
        let reply = ann.deny_join_requests(deny("den", &["bob", "eve"])).await.expect("denied");
        assert_eq!(reply.into_inner().denied_user_ids, denied);
    }
    for user in ["bob", "eve"] {
        let approved = ann.approve_join_requests(approve("den", &[user])).await;
        refused_naming(approved, Reason::JoinRequestNotFound, user);
    }
    assert!(world.later_events(log).is_empty());
    asks(&world, "eve", "den").await;
    ann.approve_join_requests(approve("den", &["eve"])).await.expect("in");
}

async fn approving_lets_in_all_or_none(db: Db) {
    let world = World::new(db);
    let rules = pb::RosterRules { join: pb::JoinRule::Request.into(), capacity: 3, ..rules() };
    let log = world.open_as("acme", RoomKind::Group, "den", rules, &[("ann", Owner)]).await;
    for user in ["bob", "cleo", "dora"] {
        asks(&world, user, "den").await;
    }
    let mut ann = world.user("ann").requests;
    let missing = ann.approve_join_requests(approve("den", &["bob", "eve"])).await;
    refused_naming(missing, Reason::JoinRequestNotFound, "eve");
    let full = ann.approve_join_requests(approve("den", &["bob", "cleo", "dora"])).await;
    refused(full, Reason::RoomFull);
    assert!(world.later_events(log).is_empty());
    let reply = ann.approve_join_requests(approve("den", &["dora", "bob", "ann"])).await;
    let reply = reply.expect("in").into_inner();
    let added: Vec<_> = reply.added.into_iter().map(|added| added.user_id).collect();
    assert_eq!(
        (added, reply.already_member_user_ids),
        (strings(&["bob", "dora"]), strings(&["ann"]))
    );
    assert_eq!(world.later_events(log).len(), 1);
    assert_eq!(listed(&world.user("ann"), "den").await.len(), 1);
    // Whoever is added has no request any more.
    let request = pb::RemoveMembersRequest {
        room_id: "den".to_owned(),
        user_ids: strings(&["bob"]),
        ..Default::default()
    };
    let mut members = world.user("ann").members;
    members.remove_members(request).await.expect("removed");
    members.add_members(add("den", &["cleo"])).await.expect("added");
    assert!(listed(&world.user("ann"), "den").await.is_empty());
}

async fn a_ban_ends_requests_and_beats_them(db: Db) {
    let world = World::new(db);
    asked(&world, "den", &[("ann", Owner)]).await;
    asks(&world, "bob", "den").await;
    let mut ann = world.user("ann");
    ann.moderation.ban_users(ban("den", &["bob"])).await.expect("banned");
    let approved = ann.requests.approve_join_requests(approve("den", &["bob"])).await;
    refused_naming(approved, Reason::JoinRequestNotFound, "bob");
    let again = world.user("bob").requests.request_to_join(ask("den")).await;
    refused_naming(again, Reason::Banned, "bob");
}

async fn who_may_add_may_approve(db: Db) {
    let world = World::new(db);
    let closed = pb::RosterRules {
        join: pb::JoinRule::Request.into(),
        add: pb::MemberRule::Admins.into(),
        ..rules()
    };
    let members = [("ann", Owner), ("bob", Admin), ("cleo", Member)];
    world.open_as("acme", RoomKind::Channel, "news", closed, &members).await;
    for user in ["u1", "u2", "u3"] {
        asks(&world, user, "news").await;
    }
    for (user, reason) in [("cleo", Reason::NotAllowed), ("eve", Reason::NotAMember)] {
        for mut client in [world.user(user).requests, world.service_for(user).requests] {
            refused(client.approve_join_requests(approve("news", &["u1"])).await, reason);
            refused(client.deny_join_requests(deny("news", &["u1"])).await, reason);
            refused(client.list_join_requests(list("news")).await, reason);
        }
    }
    for mut other in [world.user_of("other", "ann").requests, world.service_of("other").requests] {
        let approved = other.approve_join_requests(approve("news", &["u1"])).await;
        refused(approved, Reason::RoomNotFound);
        refused(other.deny_join_requests(deny("news", &["u1"])).await, Reason::RoomNotFound);
        refused(other.list_join_requests(list("news")).await, Reason::RoomNotFound);
    }
    let mut strange = world.user_of("other", "u1").requests;
    refused(strange.request_to_join(ask("news")).await, Reason::RoomNotFound);
    refused(strange.withdraw_join_request(withdraw("news")).await, Reason::RoomNotFound);
    for (mut client, user) in
        [(world.user("ann"), "u1"), (world.user("bob"), "u2"), (world.service(), "u3")]
    {
        let approved = client.requests.approve_join_requests(approve("news", &[user])).await;
        approved.expect("in");
    }
    let mut service = world.service().requests;
    refused(service.request_to_join(ask("news")).await, Reason::UserRequired);
    refused(service.withdraw_join_request(withdraw("news")).await, Reason::UserRequired);
    refused(service.list_join_requests(list("")).await, Reason::UserRequired);
    world.service_for("u4").requests.request_to_join(ask("news")).await.expect("asked");
    assert_eq!(listed(&world.service(), "news").await.len(), 1);
}

async fn direct_and_live_rooms_take_no_requests(db: Db) {
    let world = World::new(db);
    world.direct("pair", ["ann", "bob"]).await;
    live(&world, "lounge", 60).await;
    for (room, reason) in [("pair", Reason::DirectRoom), ("lounge", Reason::LiveRoom)] {
        let mut ann = world.user("ann").requests;
        refused(ann.request_to_join(ask(room)).await, reason);
        refused(ann.withdraw_join_request(withdraw(room)).await, reason);
        for mut client in [ann, world.service().requests] {
            refused(client.approve_join_requests(approve(room, &["bob"])).await, reason);
            refused(client.deny_join_requests(deny(room, &["bob"])).await, reason);
            refused(client.list_join_requests(list(room)).await, reason);
        }
    }
    let mut eve = world.user("eve").requests;
    refused(eve.request_to_join(ask("pair")).await, Reason::RoomNotFound);
}

async fn a_request_is_over_when_the_room_is(db: Db) {
    let world = World::new(db);
    let log = asked(&world, "den", &[("ann", Owner)]).await;
    asks(&world, "bob", "den").await;
    close(&world, log).await;
    assert!(listed(&world.user("bob"), "").await.is_empty());
    refused(world.user("bob").requests.request_to_join(ask("den")).await, Reason::RoomNotFound);
    asked(&world, "den", &[("ann", Owner)]).await;
    assert!(listed(&world.user("ann"), "den").await.is_empty());
}

async fn a_repeat_gets_the_first_reply(db: Db) {
    let world = World::new(db);
    let log = asked(&world, "den", &[("ann", Owner)]).await;
    asks(&world, "bob", "den").await;
    asks(&world, "eve", "den").await;
    let mut ann = world.user("ann").requests;
    let first =
        pb::ApproveJoinRequestsRequest { request_id: "r1".to_owned(), ..approve("den", &["bob"]) };
    let second =
        pb::DenyJoinRequestsRequest { request_id: "r2".to_owned(), ..deny("den", &["eve"]) };
    for _ in 0..2 {
        let reply = ann.approve_join_requests(first.clone()).await.expect("in").into_inner();
        assert_eq!(reply.added.len(), 1);
        let reply = ann.deny_join_requests(second.clone()).await.expect("denied").into_inner();
        assert_eq!(reply.denied_user_ids, ["eve"]);
    }
    let other = pb::ApproveJoinRequestsRequest { user_ids: strings(&["eve"]), ..first };
    refused(ann.approve_join_requests(other).await, Reason::RequestIdReused);
    assert_eq!(world.later_events(log).len(), 1);
}

async fn requests_are_listed_a_page_at_a_time(db: Db) {
    let world = World::new(db);
    for room in ["a", "b", "c"] {
        asked(&world, room, &[("ann", Owner), ("bob", Member)]).await;
        asks(&world, "u0", room).await;
    }
    let users = ["u0", "u1", "u2", "u3", "u4"];
    for user in &users[1..] {
        asks(&world, user, "b").await;
    }
    for (caller, room, expected) in [("ann", "b", &users[..]), ("u0", "", &["a", "b", "c"])] {
        let mut client = world.user(caller).requests;
        let mut request = pb::ListJoinRequestsRequest { page_size: 2, ..list(room) };
        let mut found = Vec::new();
        loop {
            let page = client.list_join_requests(request.clone()).await.expect("a page");
            let page = page.into_inner();
            found.extend(
                page.join_requests
                    .into_iter()
                    .map(|found| if room.is_empty() { found.room_id } else { found.user_id }),
            );
            request.page_token = page.next_page_token;
            if request.page_token.is_empty() {
                break;
            }
            let mut bob = world.user("bob").requests;
            violates(bob.list_join_requests(request.clone()).await, "page_token");
        }
        assert_eq!(found, expected);
    }
}

async fn a_room_and_a_user_have_a_bounded_number(db: Db) {
    let world = World::new(db.clone());
    let log = asked(&world, "den", &[("ann", Owner)]).await;
    let update = "UPDATE rosters SET asking = $2 WHERE log_id = $1";
    let fill = async |asking: i64| {
        db.write(update).bind(log.0).bind(asking).execute().await.expect("filled");
    };
    fill(999).await;
    asks(&world, "bob", "den").await;
    let refusal = world.user("eve").requests.request_to_join(ask("den")).await;
    let refusal = refused(refusal, Reason::TooManyJoinRequests);
    let info = refusal.get_details_error_info().expect("error info");
    assert!(info.metadata.is_empty(), "it is the room");
    fill(1).await;
    for room in 0..100 {
        let put = "INSERT INTO pending (log_id, kind, user_id, tenant_id, room_id, actor_id, text,
                                        create_time)
                   VALUES ($1, 2, 'eve', 'acme', $2, '', '', 1)";
        let put = db.write(put).bind(Uuid::now_v7()).bind(format!("room {room}"));
        put.execute().await.expect("put");
    }
    let refusal = world.user("eve").requests.request_to_join(ask("den")).await;
    refused_naming(refusal, Reason::TooManyJoinRequests, "eve");
}

async fn bad_fields_are_named(db: Db) {
    let world = World::new(db);
    asked(&world, "den", &[("ann", Owner)]).await;
    let mut ann = world.user("ann").requests;
    for bad in bad_ids() {
        violates(ann.request_to_join(ask(&bad)).await, "room_id");
        violates(ann.withdraw_join_request(withdraw(&bad)).await, "room_id");
        violates(ann.approve_join_requests(approve(&bad, &["bob"])).await, "room_id");
        violates(ann.deny_join_requests(deny(&bad, &["bob"])).await, "room_id");
        violates(ann.approve_join_requests(approve("den", &[&bad])).await, "user_ids[0]");
        violates(ann.deny_join_requests(deny("den", &[&bad])).await, "user_ids[0]");
        // An empty one asks for the caller's own.
        if !bad.is_empty() {
            violates(ann.list_join_requests(list(&bad)).await, "room_id");
        }
    }
    let many: Vec<_> = (0..101).map(|user| format!("u{user}")).collect();
    let many: Vec<_> = many.iter().map(String::as_str).collect();
    for users in [&[][..], &many] {
        violates(ann.approve_join_requests(approve("den", users)).await, "user_ids");
        violates(ann.deny_join_requests(deny("den", users)).await, "user_ids");
    }
    violates(ann.approve_join_requests(approve("den", &["a", "a"])).await, "user_ids[1]");
    violates(ann.deny_join_requests(deny("den", &["a", "a"])).await, "user_ids[1]");
    for text in ["a\0".to_owned(), "é".repeat(501)] {
        let request = pb::RequestToJoinRequest { text, ..ask("den") };
        violates(ann.request_to_join(request).await, "text");
    }
    let request = pb::ListJoinRequestsRequest { page_size: -1, ..list("den") };
    violates(ann.list_join_requests(request).await, "page_size");
    let request = pb::ListJoinRequestsRequest { page_token: "x".to_owned(), ..list("den") };
    violates(ann.list_join_requests(request).await, "page_token");
}
