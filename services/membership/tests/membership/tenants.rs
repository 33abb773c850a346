//! Two tenants that use the same ids.

use parlance_db::Db;
use parlance_proto::membership::v1 as pb;
use parlance_proto::message::v1::RoomKind;
use parlance_rpc::Reason;

use crate::harness::{Member, Owner, World, add, join, named, opening, refused, rules, strings};

parlance_db::test_on_each_db!(
    parlance_membership::MIGRATIONS =>
        equal_ids_in_two_tenants_are_different_things,
        rooms_and_logs_of_other_tenants_are_not_there,
);

/// B-176.
async fn equal_ids_in_two_tenants_are_different_things(db: Db) {
    let world = World::new(db);
    let (acme, other) = (
        world.group("den", &[("ann", Owner), ("bob", Member)]).await,
        world.open_as("other", RoomKind::Group, "den", rules(), &[("ann", Member)]).await,
    );
    let stored = pb::User { name: "Ann of acme".to_owned(), ..named("ann") };
    let request = pb::UpsertUserRequest { user: Some(stored) };
    world.user("ann").users.upsert_user(request).await.expect("written");
    let mut there = world.user_of("other", "ann");
    let request = pb::GetUserRequest { user_id: "ann".to_owned() };
    let seen = there.users.get_user(request).await.expect("read").into_inner();
    assert_eq!(seen.user.expect("user").name, "");
    let leave = pb::LeaveRoomRequest {
        room_id: "den".to_owned(),
        request_id: "r1".to_owned(),
        ..Default::default()
    };
    there.members.leave_room(leave).await.expect("left");
    assert_eq!(world.roles("den").await.len(), 2);
    assert!(world.later_events(acme).is_empty());
    assert_eq!(world.later_events(other).len(), 1);
    // The same request id of the same user id is another request.
    let leave = pb::LeaveRoomRequest {
        room_id: "den".to_owned(),
        successor_user_id: "bob".to_owned(),
        request_id: "r1".to_owned(),
    };
    world.user("ann").members.leave_room(leave).await.expect("left");
    assert_eq!(world.roles("den").await, [("bob".to_owned(), Owner)]);
    let list = pb::ListUserMembershipsRequest::default();
    let mine = there.members.list_user_memberships(list).await.expect("read").into_inner();
    assert!(mine.memberships.is_empty());
}

/// B-065, B-176.
async fn rooms_and_logs_of_other_tenants_are_not_there(db: Db) {
    let world = World::new(db);
    let log = world.channel("news", &[("ann", Owner)]).await;
    let mut eve = world.user_of("other", "ann");
    refused(eve.members.join_room(join("news")).await, Reason::RoomNotFound);
    let mut service = world.service_of("other");
    refused(service.members.add_members(add("news", &["ann"])).await, Reason::RoomNotFound);
    let list = pb::ListRoomMembersRequest { room_id: "news".to_owned(), ..Default::default() };
    refused(service.members.list_room_members(list).await, Reason::RoomNotFound);

    let mut rooms = world.room_service("other", None);
    let log_id = log.0.to_string();
    let close = pb::CloseRosterRequest { log_id: log_id.clone() };
    refused(rooms.rosters.close_roster(close).await, Reason::LogNotFound);
    let ensure = pb::EnsureMembersRequest {
        log_id: log_id.clone(),
        user_ids: strings(&["ann"]),
        readmit_removed: true,
    };
    refused(rooms.rosters.ensure_members(ensure).await, Reason::LogNotFound);
    let set = pb::SetRosterRulesRequest {
        log_id: log_id.clone(),
        rules: Some(rules()),
        rules_version: 9,
    };
    refused(rooms.rosters.set_roster_rules(set).await, Reason::LogNotFound);
    let open = rooms.rosters.open_roster(opening(log, "news", &[("ann", Owner)])).await;
    refused(open, Reason::RoomIdTaken);
    let roles = pb::BatchGetRolesRequest { log_ids: vec![log_id], user_id: "ann".to_owned() };
    let roles = rooms.rosters.batch_get_roles(roles).await.expect("read").into_inner().roles;
    assert_eq!(roles, [0]);
}
