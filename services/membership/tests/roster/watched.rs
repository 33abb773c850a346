//! What the room service learns of rosters that it watches.

use parlance_db::Db;
use parlance_proto::membership::v1 as pb;
use parlance_proto::message::v1::RoomKind;
use parlance_rpc::Reason;
use parlance_types::LogId;

use crate::harness::{Member, Owner, World, add, join, refused, rules, strings, violates};

parlance_db::test_on_each_db!(
    parlance_membership::MIGRATIONS =>
        a_watched_roster_tells_who_many_there_are_until_it_is_heard,
        what_happens_after_it_was_told_is_told_again,
        a_roster_is_watched_from_the_rules_on_that_say_so,
        a_closed_roster_tells_nothing,
        a_hundred_are_told_at_once,
        who_comes_back_is_a_member_since_then,
        what_is_told_is_internal_and_bad_fields_are_named,
);

fn leave(room: &str) -> pb::LeaveRoomRequest {
    pb::LeaveRoomRequest { room_id: room.to_owned(), ..Default::default() }
}

fn remove(room: &str, users: &[&str]) -> pb::RemoveMembersRequest {
    let (room_id, user_ids) = (room.to_owned(), strings(users));
    pb::RemoveMembersRequest { room_id, user_ids, ..Default::default() }
}

/// Group rules of a room that is watched.
pub(crate) fn watched() -> pb::RosterRules {
    pb::RosterRules { watched: true, ..rules() }
}

async fn open(world: &World, room: &str) -> LogId {
    let members = [("ann", Owner), ("bob", Member)];
    world.open_as("acme", RoomKind::Group, room, watched(), &members).await
}

pub(crate) async fn changed(world: &World) -> Vec<pb::ChangedRoster> {
    // Of whatever tenant.
    let mut room = world.room_service("another", None).rosters;
    let request = pb::ListChangedRostersRequest {};
    room.list_changed_rosters(request).await.expect("a list").into_inner().rosters
}

pub(crate) async fn heard(world: &World, rosters: Vec<pb::ChangedRoster>) {
    let mut room = world.room_service("another", None).rosters;
    let request = pb::AcknowledgeChangedRostersRequest { rosters };
    room.acknowledge_changed_rosters(request).await.expect("noted");
}

async fn a_watched_roster_tells_who_many_there_are_until_it_is_heard(db: Db) {
    let world = World::new(db);
    let log = open(&world, "den").await;
    world.group("other", &[("ann", Owner)]).await;
    for _ in 0..2 {
        let told = changed(&world).await;
        assert_eq!((told.len(), told[0].member_count), (1, 2));
        assert_eq!(told[0].log_id, log.0.to_string());
    }
    for _ in 0..2 {
        let told = changed(&world).await;
        if !told.is_empty() {
            heard(&world, told).await;
        }
        assert!(changed(&world).await.is_empty());
    }
    world.know("acme", &["cid"]).await;
    world.user("ann").members.add_members(add("den", &["cid"])).await.expect("added");
    let told = changed(&world).await;
    assert_eq!(told[0].member_count, 3);
    heard(&world, told).await;
    for count in [2, 1] {
        let gone = if count == 2 {
            world.user("ann").members.remove_members(remove("den", &["cid"])).await.map(drop)
        } else {
            world.user("bob").members.leave_room(leave("den")).await.map(drop)
        };
        gone.expect("gone");
        let told = changed(&world).await;
        assert_eq!(told[0].member_count, count);
        heard(&world, told).await;
    }
}

async fn what_happens_after_it_was_told_is_told_again(db: Db) {
    let world = World::new(db);
    open(&world, "den").await;
    let before = changed(&world).await;
    world.user("bob").members.leave_room(leave("den")).await.expect("left");
    // Whoever heard of less takes nothing away, whenever they say so.
    heard(&world, before.clone()).await;
    let told = changed(&world).await;
    assert_eq!(told[0].member_count, 1);
    assert!(told[0].changes > before[0].changes);
    let ahead = pb::ChangedRoster { changes: told[0].changes + 1, ..told[0].clone() };
    heard(&world, vec![ahead]).await;
    assert_eq!(changed(&world).await, told, "nobody can have heard of what was not yet");
    heard(&world, told.clone()).await;
    heard(&world, before).await;
    assert!(changed(&world).await.is_empty());
}

async fn a_roster_is_watched_from_the_rules_on_that_say_so(db: Db) {
    let world = World::new(db);
    let log = world.channel("news", &[("ann", Owner)]).await;
    let mut room = world.room_service("acme", None).rosters;
    let anyone = || pb::RosterRules { join: pb::JoinRule::Anyone.into(), ..rules() };
    let set = |rules: pb::RosterRules, rules_version| pb::SetRosterRulesRequest {
        log_id: log.0.to_string(),
        rules: Some(rules),
        rules_version,
    };
    world.user("bob").members.join_room(join("news")).await.expect("joined");
    assert!(changed(&world).await.is_empty());
    let yes = || pb::RosterRules { watched: true, ..anyone() };
    room.set_roster_rules(set(yes(), 2)).await.expect("set");
    let told = changed(&world).await;
    assert_eq!(told[0].member_count, 2, "it tells what there is");
    heard(&world, told).await;
    // Rules that are known already say nothing; later ones do.
    room.set_roster_rules(set(yes(), 2)).await.expect("a repeat");
    assert!(changed(&world).await.is_empty());
    room.set_roster_rules(set(yes(), 3)).await.expect("set");
    assert_eq!(changed(&world).await.len(), 1);
    room.set_roster_rules(set(anyone(), 4)).await.expect("set");
    assert!(changed(&world).await.is_empty());
    world.user("cid").members.join_room(join("news")).await.expect("joined");
    assert!(changed(&world).await.is_empty());
    room.set_roster_rules(set(yes(), 5)).await.expect("set");
    assert_eq!(changed(&world).await[0].member_count, 3);
}

async fn a_closed_roster_tells_nothing(db: Db) {
    let world = World::new(db);
    let log = open(&world, "den").await;
    assert_eq!(changed(&world).await.len(), 1);
    let close = pb::CloseRosterRequest { log_id: log.0.to_string() };
    world.room_service("acme", None).rosters.close_roster(close).await.expect("closed");
    assert!(changed(&world).await.is_empty());
}

async fn a_hundred_are_told_at_once(db: Db) {
    let world = World::new(db);
    for room in 0..101 {
        open(&world, &format!("room {room}")).await;
    }
    let told = changed(&world).await;
    assert_eq!(told.len(), 100);
    heard(&world, told).await;
    assert_eq!(changed(&world).await.len(), 1);
}

async fn who_comes_back_is_a_member_since_then(db: Db) {
    let world = World::new(db);
    let log = open(&world, "den").await;
    let mut room = world.room_service("acme", None).rosters;
    let mut since = async |users: &[&str]| {
        let (log_id, user_ids) = (log.0.to_string(), strings(users));
        let request = pb::BatchGetJoinTimesRequest { log_id, user_ids };
        let members = room.batch_get_join_times(request).await.expect("known").into_inner();
        let mut members = members.members;
        members.sort_by(|one, other| one.user_id.cmp(&other.user_id));
        members.into_iter().map(|member| (member.user_id, member.join_time)).collect::<Vec<_>>()
    };
    let both = since(&["bob", "nobody", "ann"]).await;
    assert_eq!(both.len(), 2);
    let roles = pb::BatchGetRolesRequest {
        log_ids: vec![log.0.to_string(), LogId(uuid::Uuid::now_v7()).0.to_string()],
        user_id: "bob".to_owned(),
    };
    let mut other = world.room_service("acme", None).rosters;
    let roles = other.batch_get_roles(roles).await.expect("roles").into_inner();
    assert_eq!((roles.join_times.len(), Some(roles.join_times[0])), (2, both[1].1));
    world.user("bob").members.leave_room(leave("den")).await.expect("left");
    assert_eq!(since(&["ann", "bob"]).await, both[..1]);
    world.clock.advance(1);
    world.user("ann").members.add_members(add("den", &["bob"])).await.expect("added");
    let again = since(&["bob"]).await;
    assert_eq!(again[0].0, "bob");
    assert_ne!(again[0].1, both[1].1);

    let ask = |log: LogId, users: Vec<String>| pb::BatchGetJoinTimesRequest {
        log_id: log.0.to_string(),
        user_ids: users,
    };
    violates(other.batch_get_join_times(ask(log, vec![])).await, "user_ids");
    let missing = ask(LogId(uuid::Uuid::now_v7()), strings(&["ann"]));
    refused(other.batch_get_join_times(missing).await, Reason::LogNotFound);
    let mut elsewhere = world.room_service("other", None).rosters;
    let foreign = ask(log, strings(&["ann"]));
    refused(elsewhere.batch_get_join_times(foreign.clone()).await, Reason::LogNotFound);
    refused(world.service().rosters.batch_get_join_times(foreign).await, Reason::NotAllowed);
    let close = pb::CloseRosterRequest { log_id: log.0.to_string() };
    other.close_roster(close).await.expect("closed");
    let closed = other.batch_get_join_times(ask(log, strings(&["ann"]))).await;
    refused(closed, Reason::LogNotFound);
}

async fn what_is_told_is_internal_and_bad_fields_are_named(db: Db) {
    let world = World::new(db);
    let log_id = open(&world, "den").await.0.to_string();
    let known = |rosters| pb::AcknowledgeChangedRostersRequest { rosters };
    let roster =
        |log_id: &str| pb::ChangedRoster { log_id: log_id.to_owned(), ..Default::default() };
    for mut outside in [world.user("ann"), world.service()] {
        let list = outside.rosters.list_changed_rosters(pb::ListChangedRostersRequest {}).await;
        refused(list, Reason::NotAllowed);
        let known = known(vec![roster(&log_id)]);
        refused(outside.rosters.acknowledge_changed_rosters(known).await, Reason::NotAllowed);
    }
    let mut room = world.room_service("acme", None).rosters;
    for (rosters, field) in [
        (vec![], "rosters"),
        (vec![roster(&log_id); 101], "rosters"),
        (vec![roster("x")], "rosters[0].log_id"),
        (vec![roster(&log_id); 2], "rosters[1].log_id"),
    ] {
        violates(room.acknowledge_changed_rosters(known(rosters)).await, field);
    }
}
