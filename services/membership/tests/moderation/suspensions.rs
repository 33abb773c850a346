//! SuspendUser, ReinstateUser, ListSuspendedUsers.

use parlance_db::Db;
use parlance_outbox::testing::Health;
use parlance_proto::membership::v1 as pb;
use parlance_proto::message::v1::{MemberRole, RoomKind};
use parlance_rpc::Reason;
use parlance_types::LogId;
use prost_types::Timestamp;
use tonic_types::StatusExt as _;
use uuid::Uuid;

use crate::harness::{
    Clients, Member, Owner, World, add, bad_ids, eventually, join, named, opening, refused,
    refused_naming, rules, strings, violates,
};

parlance_db::test_on_each_db!(
    parlance_membership::MIGRATIONS =>
        a_suspension_is_told_in_the_own_log_of_its_user,
        nobody_lets_in_who_is_suspended,
        every_call_of_who_is_suspended_is_refused,
        a_suspension_ends_by_itself_or_is_lifted,
        services_and_operators_suspend_and_users_never,
        a_repeat_gets_the_first_reply,
        a_suspension_waits_for_the_logs,
        suspended_users_are_listed_a_page_at_a_time,
        bad_fields_are_named,
);

/// The second at which every test begins.
const NOW: i64 = 1000;

const SECOND: i64 = 1_000_000;

fn suspend(user: &str) -> pb::SuspendUserRequest {
    pb::SuspendUserRequest { user_id: user.to_owned(), ..Default::default() }
}

fn until(seconds: i64, user: &str) -> pb::SuspendUserRequest {
    pb::SuspendUserRequest { until: Some(Timestamp { seconds, nanos: 0 }), ..suspend(user) }
}

fn reinstate(user: &str) -> pb::ReinstateUserRequest {
    pb::ReinstateUserRequest { user_id: user.to_owned(), ..Default::default() }
}

/// What the own log of a user was told: until when, in seconds.
fn told(world: &World, user: &str) -> Vec<Option<i64>> {
    let silent = world.logs.own_log(user).silent.into_iter();
    silent
        .map(|said| said.suspension.expect("a suspension").until.map(|until| until.seconds))
        .collect()
}

async fn a_suspension_is_told_in_the_own_log_of_its_user(db: Db) {
    let world = World::new(db);
    world.know("acme", &["bob"]).await;
    let mut service = world.service().moderation;
    service.suspend_user(until(NOW + 60, "bob")).await.expect("suspended");
    service.suspend_user(suspend("bob")).await.expect("for ever");
    let lifted = service.reinstate_user(reinstate("bob")).await.expect("lifted").into_inner();
    assert!(lifted.reinstated);
    let last = 253_402_300_799;
    assert_eq!(told(&world, "bob"), [Some(NOW + 60), Some(last), None]);
    assert!(world.logs.own_log("bob").events.is_empty());
    let again = service.reinstate_user(reinstate("bob")).await.expect("no effect").into_inner();
    assert!(!again.reinstated);
    assert_eq!(told(&world, "bob").len(), 3);
}

async fn nobody_lets_in_who_is_suspended(db: Db) {
    let world = World::new(db);
    let log = world.channel("news", &[("ann", Owner)]).await;
    world.know("acme", &["bob", "cleo"]).await;
    world.service().moderation.suspend_user(suspend("bob")).await.expect("suspended");
    let mut ann = world.user("ann").members;
    let added = ann.add_members(add("news", &["cleo", "bob"])).await;
    refused_naming(added, Reason::Suspended, "bob");
    let added = world.service().members.add_members(add("news", &["bob"])).await;
    refused_naming(added, Reason::Suspended, "bob");
    let ensure = pb::EnsureMembersRequest {
        log_id: log.0.to_string(),
        user_ids: strings(&["bob"]),
        readmit_removed: true,
    };
    for actor in [Some("ann"), Some("bob"), None] {
        let mut room = world.room_service("acme", actor).rosters;
        refused_naming(room.ensure_members(ensure.clone()).await, Reason::Suspended, "bob");
    }
    // Nor does any kind of room begin with them.
    let mut room = world.room_service("acme", Some("ann")).rosters;
    for kind in [RoomKind::Group, RoomKind::Channel, RoomKind::Direct] {
        let members: [(&str, MemberRole); 2] = [("ann", Member), ("bob", Member)];
        let open = pb::OpenRosterRequest {
            kind: kind.into(),
            ..opening(LogId(Uuid::now_v7()), "new", &members)
        };
        let check = pb::CheckRosterRequest {
            rules: Some(rules()),
            members: open.members.clone(),
            ensure_user_ids: Vec::new(),
        };
        refused_naming(room.check_roster(check).await, Reason::Suspended, "bob");
        refused_naming(room.open_roster(open).await, Reason::Suspended, "bob");
    }
    assert_eq!(world.roles("news").await, [("ann".to_owned(), Owner)]);
}

async fn calls_are_refused(mut bob: Clients, world: &World) {
    let joined = bob.members.join_room(join("news")).await;
    let told = refused(joined, Reason::Suspended).get_details_error_info().expect("error info");
    assert_eq!(told.metadata["until"], "1970-01-01T00:17:40Z");
    assert!(!told.metadata.contains_key("user_id"));
    let leave = pb::LeaveRoomRequest { room_id: "news".to_owned(), ..Default::default() };
    refused(bob.members.leave_room(leave).await, Reason::Suspended);
    refused(bob.members.add_members(add("news", &["ann"])).await, Reason::Suspended);
    let list = pb::ListRoomMembersRequest { room_id: "news".to_owned(), ..Default::default() };
    refused(bob.members.list_room_members(list).await, Reason::Suspended);
    let get = pb::GetUserRequest { user_id: "ann".to_owned() };
    refused(bob.users.get_user(get).await, Reason::Suspended);
    let upsert = pb::UpsertUserRequest { user: Some(named("bob")) };
    refused(bob.users.upsert_user(upsert).await, Reason::Suspended);
    let block = pb::BlockUserRequest { user_id: "ann".to_owned() };
    refused(bob.blocks.block_user(block).await, Reason::Suspended);
    refused(
        bob.blocks.list_blocked_users(pb::ListBlockedUsersRequest::default()).await,
        Reason::Suspended,
    );
    // What the other services ask on behalf of the user.
    let mut suite = world.room_service("acme", Some("bob"));
    refused(suite.rosters.ensure_user(pb::EnsureUserRequest {}).await, Reason::Suspended);
    let roles = pb::BatchGetRolesRequest {
        log_ids: vec![Uuid::now_v7().to_string()],
        user_id: "bob".to_owned(),
    };
    refused_naming(suite.rosters.batch_get_roles(roles).await, Reason::Suspended, "bob");
    let enter = pb::EnterSeatRequest {
        log_id: Uuid::now_v7().to_string(),
        resource: "phone".to_owned(),
        session_id: "s1".to_owned(),
        max_rooms: 5,
    };
    refused_naming(suite.seats.enter_seat(enter).await, Reason::Suspended, "bob");
}

async fn every_call_of_who_is_suspended_is_refused(db: Db) {
    let world = World::new(db);
    world.channel("news", &[("ann", Owner), ("bob", Member)]).await;
    let mut service = world.service().moderation;
    service.suspend_user(until(NOW + 60, "bob")).await.expect("suspended");
    calls_are_refused(world.user("bob"), &world).await;
    calls_are_refused(world.service_for("bob"), &world).await;
    // They stay where they were, and others act on them.
    assert_eq!(world.roles("news").await.len(), 2);
    let remove = pb::RemoveMembersRequest {
        room_id: "news".to_owned(),
        user_ids: strings(&["bob"]),
        ..Default::default()
    };
    world.user("ann").members.remove_members(remove).await.expect("removed");
}

async fn a_suspension_ends_by_itself_or_is_lifted(db: Db) {
    let world = World::new(db);
    world.channel("news", &[("ann", Owner)]).await;
    world.know("acme", &["bob"]).await;
    let mut service = world.service().moderation;
    let list = pb::ListSuspendedUsersRequest::default();
    service.suspend_user(until(NOW + 60, "bob")).await.expect("suspended");
    world.clock.advance(60 * SECOND - 1);
    refused(world.user("bob").members.join_room(join("news")).await, Reason::Suspended);
    world.clock.advance(1);
    let listed = service.list_suspended_users(list.clone()).await.expect("users").into_inner();
    assert!(listed.users.is_empty());
    world.user("bob").members.join_room(join("news")).await.expect("joined");

    let request = pb::SuspendUserRequest { reason: "spam".to_owned(), ..suspend("bob") };
    service.suspend_user(request).await.expect("suspended");
    let listed = service.list_suspended_users(list).await.expect("users").into_inner();
    let since = Some(Timestamp { seconds: NOW + 60, nanos: 0 });
    let (user_id, reason) = ("bob".to_owned(), "spam".to_owned());
    let bob = pb::SuspendedUser { user_id, until: None, reason, create_time: since };
    assert_eq!(listed.users, [bob]);
    let get = pb::GetUserRequest { user_id: "ann".to_owned() };
    let told = refused(world.user("bob").users.get_user(get.clone()).await, Reason::Suspended);
    let info = told.get_details_error_info().expect("error info");
    assert!(!info.metadata.contains_key("until"), "{info:?}");
    service.reinstate_user(reinstate("bob")).await.expect("lifted");
    world.user("bob").users.get_user(get).await.expect("again");
}

async fn services_and_operators_suspend_and_users_never(db: Db) {
    let world = World::new(db);
    world.know("acme", &["ann", "bob"]).await;
    for user in [world.user("ann"), world.service_for("ann"), world.user("bob")] {
        let mut user = user.moderation;
        refused(user.suspend_user(suspend("bob")).await, Reason::NotAllowed);
        refused(user.reinstate_user(reinstate("bob")).await, Reason::NotAllowed);
        refused(
            user.list_suspended_users(pb::ListSuspendedUsersRequest::default()).await,
            Reason::NotAllowed,
        );
    }
    for caller in [world.service(), world.operator()] {
        let mut caller = caller.moderation;
        caller.suspend_user(suspend("bob")).await.expect("suspended");
        let listed = caller
            .list_suspended_users(pb::ListSuspendedUsersRequest::default())
            .await
            .expect("users");
        assert_eq!(listed.into_inner().users.len(), 1);
        caller.reinstate_user(reinstate("bob")).await.expect("lifted");
        refused_naming(caller.suspend_user(suspend("no")).await, Reason::UserNotFound, "no");
        refused_naming(caller.reinstate_user(reinstate("no")).await, Reason::UserNotFound, "no");
    }
    // Of another tenant's users nothing is known.
    let mut other = world.service_of("other").moderation;
    refused_naming(other.suspend_user(suspend("bob")).await, Reason::UserNotFound, "bob");
    world.know("other", &["bob"]).await;
    other.suspend_user(suspend("bob")).await.expect("suspended");
    let listed = world
        .service()
        .moderation
        .list_suspended_users(pb::ListSuspendedUsersRequest::default())
        .await;
    assert!(listed.expect("users").into_inner().users.is_empty());
    let get = pb::GetUserRequest { user_id: "ann".to_owned() };
    world.user("bob").users.get_user(get).await.expect("another bob");
}

async fn a_repeat_gets_the_first_reply(db: Db) {
    let world = World::new(db);
    world.know("acme", &["bob"]).await;
    let mut service = world.service().moderation;
    let id = || "r1".to_owned();
    let request = pb::SuspendUserRequest { request_id: id(), ..until(NOW + 9, "bob") };
    for _ in 0..2 {
        service.suspend_user(request.clone()).await.expect("suspended");
        // Also when it has long ended.
        world.clock.advance(10 * SECOND);
    }
    let other = pb::SuspendUserRequest { reason: "other".to_owned(), ..request };
    refused(service.suspend_user(other).await, Reason::RequestIdReused);
    assert_eq!(told(&world, "bob"), [Some(NOW + 9)]);
    service.suspend_user(suspend("bob")).await.expect("suspended");
    let request = pb::ReinstateUserRequest { request_id: "r2".to_owned(), ..reinstate("bob") };
    for _ in 0..2 {
        let lifted = service.reinstate_user(request.clone()).await.expect("lifted");
        assert!(lifted.into_inner().reinstated);
        service.suspend_user(suspend("bob")).await.expect("once more");
    }
    assert_eq!(told(&world, "bob").len(), 5, "a repeat lifts nothing again");
}

async fn a_suspension_waits_for_the_logs(db: Db) {
    let world = World::new(db);
    world.know("acme", &["bob"]).await;
    world.service.run();
    world.logs.set_health(Health::Down);
    let mut service = world.service().moderation;
    refused(service.suspend_user(suspend("bob")).await, Reason::LogUnavailable);
    // It is decided.
    let get = pb::GetUserRequest { user_id: "bob".to_owned() };
    refused(world.user("bob").users.get_user(get).await, Reason::Suspended);
    world.logs.set_health(Health::Up);
    eventually(|| async { told(&world, "bob").len() == 1 }).await;
    service.suspend_user(suspend("bob")).await.expect("as it is");
}

async fn suspended_users_are_listed_a_page_at_a_time(db: Db) {
    let world = World::new(db);
    let users: Vec<_> = (0..5).map(|user| format!("u{user}")).collect();
    let users: Vec<_> = users.iter().map(String::as_str).collect();
    world.know("acme", &users).await;
    let mut service = world.service().moderation;
    for (at, user) in users.iter().enumerate() {
        let request = if (1..3).contains(&at) { until(NOW + 1, user) } else { suspend(user) };
        service.suspend_user(request).await.expect("suspended");
    }
    world.clock.advance(SECOND);
    let mut request = pb::ListSuspendedUsersRequest { page_size: 2, ..Default::default() };
    let (mut found, mut pages) = (Vec::new(), 0);
    loop {
        let page = service.list_suspended_users(request.clone()).await.expect("a page");
        let page = page.into_inner();
        found.extend(page.users.into_iter().map(|user| user.user_id));
        pages += 1;
        request.page_token = page.next_page_token;
        if request.page_token.is_empty() {
            break;
        }
        let mut other = world.service_of("other").moderation;
        violates(other.list_suspended_users(request.clone()).await, "page_token");
    }
    assert_eq!((found, pages), (strings(&["u0", "u3", "u4"]), 3));
}

async fn bad_fields_are_named(db: Db) {
    let world = World::new(db);
    world.know("acme", &["bob"]).await;
    let mut service = world.service().moderation;
    for bad in bad_ids() {
        violates(service.suspend_user(suspend(&bad)).await, "user_id");
        violates(service.reinstate_user(reinstate(&bad)).await, "user_id");
    }
    for seconds in [-1, NOW - 1, NOW, 253_402_300_800] {
        violates(service.suspend_user(until(seconds, "bob")).await, "until");
    }
    for reason in ["a\0".to_owned(), "é".repeat(257)] {
        let request = pb::SuspendUserRequest { reason, ..suspend("bob") };
        violates(service.suspend_user(request).await, "reason");
    }
    let request = pb::ListSuspendedUsersRequest { page_size: -1, ..Default::default() };
    violates(service.list_suspended_users(request).await, "page_size");
    let request =
        pb::ListSuspendedUsersRequest { page_token: "x".to_owned(), ..Default::default() };
    violates(service.list_suspended_users(request).await, "page_token");
    assert!(told(&world, "bob").is_empty());
}
