//! ListUserMemberships.

use parlance_db::Db;
use parlance_proto::membership::v1 as pb;
use parlance_rpc::Reason;

use crate::harness::{Clients, Member, Owner, World, bad_ids, refused, strings, violates};

parlance_db::test_on_each_db!(
    parlance_membership::MIGRATIONS =>
        pages_hold_every_room_once_by_id,
        rooms_left_or_closed_are_not_listed,
        users_see_their_own_and_services_everybodys,
        rooms_in_common_are_those_in_which_all_are,
        rooms_in_common_are_found_behind_many_others,
        a_token_is_bound_to_its_query,
        bad_fields_are_named,
);

fn list(user: &str) -> pb::ListUserMembershipsRequest {
    pb::ListUserMembershipsRequest { user_id: user.to_owned(), ..Default::default() }
}

async fn page(
    clients: &mut Clients,
    request: pb::ListUserMembershipsRequest,
) -> (Vec<String>, String) {
    let page = clients.members.list_user_memberships(request).await.expect("a page").into_inner();
    let ids = page.memberships.into_iter().map(|membership| membership.room_id).collect();
    (ids, page.next_page_token)
}

/// B-057, B-060.
async fn pages_hold_every_room_once_by_id(db: Db) {
    let world = World::new(db);
    let mut rooms: Vec<_> = (0..12).map(|n| format!("room {n}")).collect();
    for room in &rooms {
        world.group(room, &[("ann", Owner)]).await;
    }
    rooms.sort();
    let mut ann = world.user("ann");
    let (mut walked, token) = page(&mut ann, list("")).await;
    assert_eq!(walked.len(), 10);
    let request = pb::ListUserMembershipsRequest { page_token: token, ..list("") };
    let (rest, token) = page(&mut ann, request).await;
    walked.extend(rest);
    assert_eq!((walked, token), (rooms, String::new()));
}

fn with(others: &[&str]) -> pb::ListUserMembershipsRequest {
    pb::ListUserMembershipsRequest { with_user_ids: strings(others), ..list("") }
}

/// B-062.
async fn rooms_in_common_are_those_in_which_all_are(db: Db) {
    let world = World::new(db);
    let (bob, cleo) = (("bob", Member), ("cleo", Member));
    world.group("a", &[("ann", Owner), bob]).await;
    world.group("b", &[("ann", Owner), bob, cleo]).await;
    world.group("c", &[("ann", Owner), cleo]).await;
    world.group("d", &[("bob", Owner), cleo]).await;
    let closed = world.group("e", &[("ann", Owner), bob]).await;
    crate::harness::close(&world, closed).await;
    world.direct("f", ["ann", "bob"]).await;
    let mut ann = world.user("ann");
    assert_eq!(page(&mut ann, with(&["bob"])).await, (strings(&["a", "b", "f"]), String::new()));
    assert_eq!(page(&mut ann, with(&["bob", "cleo"])).await.0, ["b"]);
    assert!(page(&mut ann, with(&["bob", "nobody"])).await.0.is_empty());
    let leave = pb::LeaveRoomRequest { room_id: "a".to_owned(), ..Default::default() };
    world.user("bob").members.leave_room(leave).await.expect("left");
    assert_eq!(page(&mut ann, with(&["bob"])).await.0, ["b", "f"]);
    let of_bob = pb::ListUserMembershipsRequest { user_id: "bob".to_owned(), ..with(&["cleo"]) };
    assert_eq!(page(&mut world.service(), of_bob).await.0, ["b", "d"]);
    let one = pb::ListUserMembershipsRequest { page_size: 1, ..with(&["bob"]) };
    let (first, page_token) = page(&mut ann, one.clone()).await;
    let (second, page_token) =
        page(&mut ann, pb::ListUserMembershipsRequest { page_token, ..one.clone() }).await;
    assert_eq!((&*first, &*second), (&strings(&["b"])[..], &strings(&["f"])[..]));
    // There may be more behind the last one.
    let end = page(&mut ann, pb::ListUserMembershipsRequest { page_token, ..one.clone() }).await;
    assert_eq!(end, (Vec::new(), String::new()));
    let other = pb::ListUserMembershipsRequest { with_user_ids: strings(&["cleo"]), ..one };
    let (_, page_token) = page(&mut ann, other).await;
    let mixed = pb::ListUserMembershipsRequest { page_token, ..with(&["bob"]) };
    violates(ann.members.list_user_memberships(mixed).await, "page_token");
    for (bad, at) in [(&["bob", "ann"][..], 1), (&["bob", "bob"], 1), (&["x\0"], 0)] {
        let refused = ann.members.list_user_memberships(with(bad)).await;
        violates(refused, &format!("with_user_ids[{at}]"));
    }
    let many: Vec<_> = (0..11).map(|n| n.to_string()).collect();
    let many: Vec<_> = many.iter().map(String::as_str).collect();
    violates(ann.members.list_user_memberships(with(&many)).await, "with_user_ids");
}

async fn rooms_in_common_are_found_behind_many_others(db: Db) {
    let world = World::new(db);
    for room in 0..120 {
        world.group(&format!("{room:0>3}"), &[("ann", Owner)]).await;
    }
    world.group("x", &[("ann", Owner), ("bob", Member)]).await;
    assert_eq!(page(&mut world.user("ann"), with(&["bob"])).await.0, ["x"]);
}

async fn rooms_left_or_closed_are_not_listed(db: Db) {
    let world = World::new(db);
    let closed = world.group("a", &[("ann", Owner)]).await;
    for room in ["b", "c"] {
        world.group(room, &[("ann", Member), ("bob", Owner)]).await;
    }
    let mut ann = world.user("ann");
    let leave = pb::LeaveRoomRequest { room_id: "b".to_owned(), ..Default::default() };
    ann.members.leave_room(leave).await.expect("left");
    let close = pb::CloseRosterRequest { log_id: closed.0.to_string() };
    world.room_service("acme", None).rosters.close_roster(close).await.expect("closed");
    assert_eq!(page(&mut ann, list("")).await.0, ["c"]);
    // A new life of the id is another room.
    world.group("a", &[("bob", Owner)]).await;
    assert_eq!(page(&mut ann, list("")).await.0, ["c"]);
}

async fn users_see_their_own_and_services_everybodys(db: Db) {
    let world = World::new(db);
    world.group("den", &[("ann", Owner)]).await;
    assert_eq!(page(&mut world.user("ann"), list("ann")).await.0, ["den"]);
    assert_eq!(page(&mut world.service(), list("ann")).await.0, ["den"]);
    for mut other in [world.user("bob"), world.service_for("bob")] {
        refused(other.members.list_user_memberships(list("ann")).await, Reason::NotAllowed);
    }
    refused(world.service().members.list_user_memberships(list("")).await, Reason::UserRequired);
    assert!(page(&mut world.service(), list("nobody")).await.0.is_empty());
}

async fn a_token_is_bound_to_its_query(db: Db) {
    let world = World::new(db);
    for room in ["a", "b"] {
        world.group(room, &[("ann", Owner), ("bob", Owner)]).await;
    }
    let request = pb::ListUserMembershipsRequest { page_size: 1, ..list("ann") };
    let (_, page_token) = page(&mut world.service(), request).await;
    let own = pb::ListUserMembershipsRequest { page_token: page_token.clone(), ..list("ann") };
    assert_eq!(page(&mut world.service(), own.clone()).await.0, strings(&["b"]));
    violates(world.user("ann").members.list_user_memberships(own).await, "page_token");
    let other = pb::ListUserMembershipsRequest { page_token, ..list("bob") };
    violates(world.service().members.list_user_memberships(other).await, "page_token");
}

async fn bad_fields_are_named(db: Db) {
    let world = World::new(db);
    for mut caller in [world.user("ann"), world.service()] {
        // Left empty, it means the caller.
        for user_id in bad_ids().into_iter().filter(|id| !id.is_empty()) {
            violates(caller.members.list_user_memberships(list(&user_id)).await, "user_id");
        }
        for page_size in [-1, i32::MIN] {
            let request = pb::ListUserMembershipsRequest { page_size, ..list("ann") };
            violates(caller.members.list_user_memberships(request).await, "page_size");
        }
        for page_token in ["x".to_owned(), "a\0b".to_owned(), "x".repeat(100_000)] {
            let request = pb::ListUserMembershipsRequest { page_token, ..list("ann") };
            violates(caller.members.list_user_memberships(request).await, "page_token");
        }
    }
}
