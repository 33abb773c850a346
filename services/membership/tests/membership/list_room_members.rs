//! ListRoomMembers.

use parlance_db::Db;
use parlance_proto::membership::v1 as pb;
use parlance_proto::message::v1::MemberRole;
use parlance_rpc::Reason;
use parlance_types::Query;

use crate::harness::{Admin, Clients, Member, Owner, World, bad_ids, refused, strings, violates};

parlance_db::test_on_each_db!(
    parlance_membership::MIGRATIONS =>
        pages_hold_every_member_once_in_byte_order,
        a_walk_survives_who_comes_and_goes,
        users_and_roles_filter,
        only_members_and_services_see_the_list,
        a_token_is_bound_to_its_query,
        a_forged_token_is_refused,
        a_token_of_an_old_life_is_refused,
        bad_fields_are_named,
);

fn list(room: &str) -> pb::ListRoomMembersRequest {
    pb::ListRoomMembersRequest { room_id: room.to_owned(), ..Default::default() }
}

async fn page(
    clients: &mut Clients,
    request: pb::ListRoomMembersRequest,
) -> (Vec<String>, String, i64) {
    let page = clients.members.list_room_members(request).await.expect("a page").into_inner();
    let ids = page.members.into_iter().map(|member| member.user_id).collect();
    (ids, page.next_page_token, page.total_size)
}

/// B-057, B-077, B-080.
async fn pages_hold_every_member_once_in_byte_order(db: Db) {
    let world = World::new(db);
    let mut names: Vec<_> = (0..23).map(|n| format!("user {n}")).collect();
    names.extend(strings(&["B", "a", "é", "z"]));
    let members: Vec<_> = names.iter().map(|name| (name.as_str(), Member)).collect();
    world.group("den", &members).await;
    names.sort();
    let mut ann = world.user("a");
    let (first, token, total) = page(&mut ann, list("den")).await;
    assert_eq!((first.len(), total), (10, 27));
    assert!(!token.is_empty());
    let (mut walked, mut token) = (Vec::new(), String::new());
    loop {
        let request = pb::ListRoomMembersRequest { page_size: 9, page_token: token, ..list("den") };
        let (ids, next, _) = page(&mut ann, request).await;
        walked.extend(ids);
        token = next;
        if token.is_empty() {
            break;
        }
    }
    assert_eq!(walked, names);
    let request = pb::ListRoomMembersRequest { page_size: 5000, ..list("den") };
    assert_eq!(page(&mut ann, request).await.0.len(), 27);
}

async fn a_walk_survives_who_comes_and_goes(db: Db) {
    let world = World::new(db);
    let members = ["a", "b", "c", "d"].map(|user| (user, Owner));
    world.group("den", &members).await;
    let mut ann = world.user("a");
    let request = pb::ListRoomMembersRequest { page_size: 2, ..list("den") };
    let (_, token, _) = page(&mut ann, request.clone()).await;
    // Whom the token stands on leaves.
    let leave = pb::LeaveRoomRequest { room_id: "den".to_owned(), ..Default::default() };
    world.user("b").members.leave_room(leave).await.expect("left");
    let request = pb::ListRoomMembersRequest { page_token: token, ..request };
    assert_eq!(page(&mut ann, request).await, (strings(&["c", "d"]), String::new(), 3));
}

/// B-061, B-081.
async fn users_and_roles_filter(db: Db) {
    let world = World::new(db);
    world.group("den", &[("a", Owner), ("b", Admin), ("c", Member), ("d", Member)]).await;
    let mut ann = world.user("a");
    let filtered = |users: &[&str], roles: &[MemberRole]| pb::ListRoomMembersRequest {
        user_ids: strings(users),
        roles: roles.iter().map(|role| (*role).into()).collect(),
        ..list("den")
    };
    for (users, roles, found) in [
        (&["c", "x", "a"][..], &[][..], &["a", "c"][..]),
        (&[], &[Member], &["c", "d"]),
        (&[], &[Owner, Admin], &["a", "b"]),
        (&["a", "b", "c"], &[Admin, Member], &["b", "c"]),
        (&["x"], &[], &[]),
    ] {
        let (ids, token, total) = page(&mut ann, filtered(users, roles)).await;
        assert_eq!((ids, token, total), (strings(found), String::new(), 4));
    }
    let paged = pb::ListRoomMembersRequest { page_size: 1, ..filtered(&["c", "d"], &[Member]) };
    let (first, token, _) = page(&mut ann, paged.clone()).await;
    let second = pb::ListRoomMembersRequest { page_token: token, ..paged };
    assert_eq!((first, page(&mut ann, second).await.0), (strings(&["c"]), strings(&["d"])));
}

/// B-063, B-080, B-202.
async fn only_members_and_services_see_the_list(db: Db) {
    let world = World::new(db);
    world.channel("news", &[("ann", Owner)]).await;
    world.direct("pair", ["ann", "bob"]).await;
    let mut eve = world.user("eve");
    refused(eve.members.list_room_members(list("news")).await, Reason::NotAMember);
    refused(eve.members.list_room_members(list("pair")).await, Reason::RoomNotFound);
    refused(eve.members.list_room_members(list("nowhere")).await, Reason::RoomNotFound);
    for room in ["news", "pair"] {
        world.service().members.list_room_members(list(room)).await.expect("a service may");
    }
}

async fn a_token_is_bound_to_its_query(db: Db) {
    let world = World::new(db);
    let members = ["a", "b", "c"].map(|user| (user, Owner));
    world.group("den", &members).await;
    world.group("lair", &members).await;
    let mut ann = world.user("a");
    let request = pb::ListRoomMembersRequest { page_size: 1, ..list("den") };
    let (_, page_token, _) = page(&mut ann, request).await;
    let with = |request: pb::ListRoomMembersRequest| pb::ListRoomMembersRequest {
        page_token: page_token.clone(),
        ..request
    };
    let others = [
        list("lair"),
        pb::ListRoomMembersRequest { user_ids: strings(&["b"]), ..list("den") },
        pb::ListRoomMembersRequest { roles: vec![Owner.into()], ..list("den") },
    ];
    for other in others {
        violates(ann.members.list_room_members(with(other)).await, "page_token");
    }
    let mut bob = world.user("b");
    violates(bob.members.list_room_members(with(list("den"))).await, "page_token");
    // The size may change.
    let request = pb::ListRoomMembersRequest { page_size: 7, ..with(list("den")) };
    assert_eq!(page(&mut ann, request).await.0, ["b", "c"]);
}

async fn a_forged_token_is_refused(db: Db) {
    let world = World::new(db);
    let log = world.group("den", &[("a", Owner)]).await;
    // What a token is bound to is no secret.
    let query = Query::new(&["ListRoomMembers", "acme", "a", &log.to_string(), ""]);
    for (after, well) in [("a", true), ("a\0b", false), ("", false)] {
        let request = pb::ListRoomMembersRequest { page_token: query.token(after), ..list("den") };
        let listed = world.user("a").members.list_room_members(request).await;
        if well {
            assert!(listed.expect("a page").into_inner().members.is_empty());
        } else {
            violates(listed, "page_token");
        }
    }
}

async fn a_token_of_an_old_life_is_refused(db: Db) {
    let world = World::new(db);
    let members = ["a", "b", "c"].map(|user| (user, Owner));
    let log = world.group("den", &members).await;
    let mut ann = world.user("a");
    let request = pb::ListRoomMembersRequest { page_size: 1, ..list("den") };
    let (_, page_token, _) = page(&mut ann, request).await;
    let close = pb::CloseRosterRequest { log_id: log.0.to_string() };
    world.room_service("acme", None).rosters.close_roster(close).await.expect("closed");
    refused(ann.members.list_room_members(list("den")).await, Reason::RoomNotFound);
    world.group("den", &members).await;
    let request = pb::ListRoomMembersRequest { page_token, ..list("den") };
    violates(ann.members.list_room_members(request).await, "page_token");
}

async fn bad_fields_are_named(db: Db) {
    let world = World::new(db);
    world.group("den", &[("ann", Owner)]).await;
    let mut ann = world.user("ann");
    for bad in bad_ids() {
        violates(ann.members.list_room_members(list(&bad)).await, "room_id");
        let request = pb::ListRoomMembersRequest { user_ids: vec![bad], ..list("den") };
        violates(ann.members.list_room_members(request).await, "user_ids[0]");
    }
    let request = pb::ListRoomMembersRequest { page_size: -1, ..list("den") };
    violates(ann.members.list_room_members(request).await, "page_size");
    let request = pb::ListRoomMembersRequest { page_token: "%%%".to_owned(), ..list("den") };
    violates(ann.members.list_room_members(request).await, "page_token");
    for (roles, field) in [(vec![1, 0], "roles[1]"), (vec![9], "roles[0]"), (vec![1; 4], "roles")] {
        let request = pb::ListRoomMembersRequest { roles, ..list("den") };
        violates(ann.members.list_room_members(request).await, field);
    }
    let many: Vec<_> = (0..101).map(|n| n.to_string()).collect();
    for (user_ids, field) in [(many, "user_ids"), (strings(&["a", "a"]), "user_ids[1]")] {
        let request = pb::ListRoomMembersRequest { user_ids, ..list("den") };
        violates(ann.members.list_room_members(request).await, field);
    }
}
