//! RosterService.

use parlance_db::Db;
use parlance_proto::membership::v1 as pb;
use parlance_proto::message::v1::event::Body;
use parlance_proto::message::v1::{Event, MemberGrant, RoomKind};
use parlance_rpc::Reason;
use parlance_types::LogId;
use prost::Message as _;
use uuid::Uuid;

use crate::harness::{
    Admin, Member, Owner, World, add, created, effects, grants, join, opening, refused,
    refused_naming, rules, strings, violates,
};

parlance_db::test_on_each_db!(
    parlance_membership::MIGRATIONS =>
        opening_creates_the_log_with_its_first_two_events,
        a_room_without_members_begins_with_one_event,
        opening_again_has_no_effect,
        an_open_room_id_is_taken_and_a_closed_one_is_free,
        two_openings_at_once_make_one_room,
        first_members_must_exist_unless_they_come_into_being,
        first_members_must_fit,
        a_check_changes_nothing,
        ensured_members_come_back_whatever_the_rules_say,
        a_removed_user_comes_back_only_if_readmitted,
        ensuring_keeps_to_the_capacity,
        later_rules_win,
        closing_is_the_last_event_and_ends_everything,
        roles_are_read_per_log,
        the_service_is_internal,
        bad_fields_are_named,
);

fn new_log() -> LogId {
    LogId(Uuid::now_v7())
}

fn ensure(log: LogId, users: &[&str], readmit_removed: bool) -> pb::EnsureMembersRequest {
    let log_id = log.0.to_string();
    pb::EnsureMembersRequest { log_id, user_ids: strings(users), readmit_removed }
}

fn close(log: LogId) -> pb::CloseRosterRequest {
    pb::CloseRosterRequest { log_id: log.0.to_string() }
}

async fn opening_creates_the_log_with_its_first_two_events(db: Db) {
    let world = World::new(db);
    let log = new_log();
    let mut room = world.room_service("acme", Some("ann"));
    let request = opening(log, "den", &[("ann", Owner), ("bob", Member)]);
    room.rosters.open_roster(request).await.expect("opened");
    let stored = world.logs.log(log);
    assert_eq!(stored.events[0], created());
    assert_eq!(stored.events.len(), 2);
    assert_eq!(stored.events[1].actor_id, "ann");
    let first = [("ann".to_owned(), Owner), ("bob".to_owned(), Member)];
    assert_eq!(effects(&stored.events[1]).0, first);
    assert_eq!(
        (stored.identity.room_id.as_str(), stored.identity.kind()),
        ("den", RoomKind::Group)
    );
    assert_eq!(world.logs.calls(), [(log, vec![1])]);
    assert_eq!(world.roles("den").await, first);
}

async fn a_room_without_members_begins_with_one_event(db: Db) {
    let world = World::new(db);
    let log = world.group("den", &[]).await;
    assert_eq!(world.logs.log(log).events, [created()]);
    world.know("acme", &["ann"]).await;
    world.service().members.add_members(add("den", &["ann"])).await.expect("added");
    assert_eq!(world.roles("den").await, [("ann".to_owned(), Owner)]);
}

async fn opening_again_has_no_effect(db: Db) {
    let world = World::new(db);
    let log = world.group("den", &[("ann", Owner)]).await;
    let mut room = world.room_service("acme", None);
    let request = opening(log, "den", &[("ann", Owner), ("bob", Member)]);
    room.rosters.open_roster(request).await.expect("OK");
    assert_eq!(world.logs.log(log).events.len(), 2);
    assert_eq!(world.roles("den").await, [("ann".to_owned(), Owner)]);
    let get = pb::GetUserRequest { user_id: "bob".to_owned() };
    refused(world.service().users.get_user(get).await, Reason::UserNotFound);
}

async fn an_open_room_id_is_taken_and_a_closed_one_is_free(db: Db) {
    let world = World::new(db);
    let log = world.group("den", &[("ann", Owner)]).await;
    let mut room = world.room_service("acme", None);
    let taken = room.rosters.open_roster(opening(new_log(), "den", &[("bob", Owner)])).await;
    refused(taken, Reason::RoomIdTaken);
    // A log has one room.
    let other = room.rosters.open_roster(opening(log, "lair", &[("bob", Owner)])).await;
    refused(other, Reason::RoomIdTaken);
    room.rosters.close_roster(close(log)).await.expect("closed");
    room.rosters.open_roster(opening(new_log(), "den", &[("bob", Owner)])).await.expect("opened");
    assert_eq!(world.roles("den").await, [("bob".to_owned(), Owner)]);
}

async fn two_openings_at_once_make_one_room(db: Db) {
    let world = World::new(db);
    let (mut one, mut two) = (world.room_service("acme", None), world.room_service("acme", None));
    let (one, two) = tokio::join!(
        one.rosters.open_roster(opening(new_log(), "den", &[("ann", Owner), ("bob", Owner)])),
        two.rosters.open_roster(opening(new_log(), "den", &[("bob", Owner), ("ann", Owner)]))
    );
    let (well, taken): (Vec<_>, Vec<_>) = [one, two].into_iter().partition(Result::is_ok);
    assert_eq!((well.len(), taken.len()), (1, 1));
    for result in taken {
        refused(result, Reason::RoomIdTaken);
    }
}

async fn first_members_must_exist_unless_they_come_into_being(db: Db) {
    let world = World::new(db);
    let log = new_log();
    let mut room = world.room_service("acme", None);
    let request = pb::OpenRosterRequest {
        ensure_user_ids: strings(&["ann"]),
        ..opening(log, "den", &[("ann", Owner), ("bob", Member)])
    };
    refused_naming(room.rosters.open_roster(request.clone()).await, Reason::UserNotFound, "bob");
    // Nothing came of it, Ann neither.
    let get = pb::GetUserRequest { user_id: "ann".to_owned() };
    refused(world.service().users.get_user(get.clone()).await, Reason::UserNotFound);
    assert!(world.logs.calls().is_empty());
    world.know("acme", &["bob"]).await;
    room.rosters.open_roster(request).await.expect("opened");
    world.service().users.get_user(get).await.expect("Ann is here");
}

async fn first_members_must_fit(db: Db) {
    let world = World::new(db);
    let mut room = world.room_service("acme", None);
    let tight = pb::RosterRules { capacity: 1, ..rules() };
    let request = pb::OpenRosterRequest {
        rules: Some(tight),
        ..opening(new_log(), "den", &[("ann", Owner), ("bob", Member)])
    };
    refused(room.rosters.open_roster(request).await, Reason::RoomFull);
    // The creator and 100 others.
    let names: Vec<_> = (0..102).map(|n| format!("user {n}")).collect();
    let members: Vec<_> = names.iter().map(|name| (name.as_str(), Member)).collect();
    let large = pb::RosterRules { capacity: 1000, ..rules() };
    let request = |count: usize| pb::OpenRosterRequest {
        rules: Some(large),
        ..opening(new_log(), "hall", &members[..count])
    };
    violates(room.rosters.open_roster(request(102)).await, "members");
    room.rosters.open_roster(request(101)).await.expect("opened");
}

async fn a_check_changes_nothing(db: Db) {
    let world = World::new(db);
    let mut room = world.room_service("acme", None);
    let check = |ensure: &[&str], capacity: i32| pb::CheckRosterRequest {
        rules: Some(pb::RosterRules { capacity, ..rules() }),
        members: grants(&[("ann", Owner), ("bob", Member)]),
        ensure_user_ids: strings(ensure),
    };
    let missing = room.rosters.check_roster(check(&["ann"], 9)).await;
    refused_naming(missing, Reason::UserNotFound, "bob");
    refused(room.rosters.check_roster(check(&["ann", "bob"], 1)).await, Reason::RoomFull);
    room.rosters.check_roster(check(&["ann", "bob"], 2)).await.expect("fine");
    let get = pb::GetUserRequest { user_id: "ann".to_owned() };
    refused(world.service().users.get_user(get).await, Reason::UserNotFound);
    let none = pb::CheckRosterRequest { rules: Some(rules()), ..Default::default() };
    room.rosters.check_roster(none).await.expect("fine");
}

/// B-006.
async fn ensured_members_come_back_whatever_the_rules_say(db: Db) {
    let world = World::new(db);
    let members = grants(&[("ann", Owner), ("bob", Owner)]);
    let log = new_log();
    let mut room = world.room_service("acme", Some("ann"));
    let request = pb::OpenRosterRequest {
        kind: RoomKind::Direct.into(),
        members,
        ensure_user_ids: strings(&["ann", "bob"]),
        ..opening(log, "pair", &[])
    };
    room.rosters.open_roster(request).await.expect("opened");
    let leave = pb::LeaveRoomRequest { room_id: "pair".to_owned(), ..Default::default() };
    world.user("bob").members.leave_room(leave).await.expect("left");
    for _ in 0..2 {
        let both = ensure(log, &["ann", "bob"], true);
        room.rosters.ensure_members(both).await.expect("both are in");
    }
    assert_eq!(world.roles("pair").await, [("ann".to_owned(), Owner), ("bob".to_owned(), Owner)],);
    let events = world.later_events(log);
    assert_eq!(events.len(), 2);
    assert_eq!(effects(&events[1]).0, [("bob".to_owned(), Owner)]);
    assert_eq!(events[1].actor_id, "ann");
}

async fn a_removed_user_comes_back_only_if_readmitted(db: Db) {
    let world = World::new(db);
    let log = world.channel("news", &[("ann", Owner), ("bob", Admin)]).await;
    let mut room = world.room_service("acme", Some("cleo"));
    // Cleo comes into being, as a member.
    room.rosters.ensure_members(ensure(log, &["cleo"], false)).await.expect("in");
    let remove = pb::RemoveMembersRequest {
        room_id: "news".to_owned(),
        user_ids: strings(&["bob"]),
        ..Default::default()
    };
    world.user("ann").members.remove_members(remove).await.expect("removed");
    let out = room.rosters.ensure_members(ensure(log, &["bob"], false)).await;
    refused(out, Reason::RemovedFromRoom);
    room.rosters.ensure_members(ensure(log, &["bob"], true)).await.expect("back");
    let roles =
        [("ann".to_owned(), Owner), ("bob".to_owned(), Member), ("cleo".to_owned(), Member)];
    assert_eq!(world.roles("news").await, roles);
}

async fn ensuring_keeps_to_the_capacity(db: Db) {
    let world = World::new(db);
    let tight = pb::RosterRules { capacity: 1, ..rules() };
    let log = world.open_as("acme", RoomKind::Channel, "news", tight, &[("ann", Owner)]).await;
    let mut room = world.room_service("acme", None);
    room.rosters.ensure_members(ensure(log, &["ann"], false)).await.expect("in already");
    refused(room.rosters.ensure_members(ensure(log, &["bob"], false)).await, Reason::RoomFull);
    let missing = room.rosters.ensure_members(ensure(new_log(), &["bob"], false)).await;
    refused(missing, Reason::LogNotFound);
}

async fn later_rules_win(db: Db) {
    let world = World::new(db);
    let log = world.group("den", &[("ann", Owner)]).await;
    let mut room = world.room_service("acme", None);
    let set = |log: LogId, join: pb::JoinRule, rules_version: i64| pb::SetRosterRulesRequest {
        log_id: log.0.to_string(),
        rules: Some(pb::RosterRules { join: join.into(), ..rules() }),
        rules_version,
    };
    let (anyone, added) = (pb::JoinRule::Anyone, pb::JoinRule::AddedOnly);
    room.rosters.set_roster_rules(set(log, anyone, 3)).await.expect("set");
    world.user("bob").members.join_room(join("den")).await.expect("joined");
    for late in [2, 3] {
        room.rosters.set_roster_rules(set(log, added, late)).await.expect("too late");
        world.user(&format!("late {late}")).members.join_room(join("den")).await.expect("joined");
    }
    room.rosters.set_roster_rules(set(log, added, 4)).await.expect("set");
    refused(world.user("dora").members.join_room(join("den")).await, Reason::JoinRestricted);
    let missing = room.rosters.set_roster_rules(set(new_log(), added, 4)).await;
    refused(missing, Reason::LogNotFound);
}

async fn closing_is_the_last_event_and_ends_everything(db: Db) {
    let world = World::new(db);
    let log = world.group("den", &[("ann", Owner), ("bob", Member)]).await;
    let mut room = world.room_service("acme", Some("ann"));
    for _ in 0..2 {
        room.rosters.close_roster(close(log)).await.expect("closed");
    }
    let events = world.later_events(log);
    assert_eq!(events.len(), 1);
    assert!(events[0].effects.as_ref().expect("effects").closed);
    assert_eq!(events[0].actor_id, "ann");
    assert!(matches!(events[0].body, Some(Body::RoomClosed(_))));
    let mut ann = world.user("ann");
    refused(ann.members.add_members(add("den", &["bob"])).await, Reason::RoomNotFound);
    let ended = room.rosters.ensure_members(ensure(log, &["cleo"], true)).await;
    refused(ended, Reason::LogNotFound);
    refused(room.rosters.close_roster(close(new_log())).await, Reason::LogNotFound);
}

async fn roles_are_read_per_log(db: Db) {
    let world = World::new(db);
    let den = world.group("den", &[("ann", Owner), ("bob", Admin)]).await;
    let lair = world.group("lair", &[("ann", Owner)]).await;
    let mut room = world.room_service("acme", None);
    let request = pb::BatchGetRolesRequest {
        log_ids: [new_log(), den, lair, den].iter().map(|log| log.0.to_string()).collect(),
        user_id: "bob".to_owned(),
    };
    let asked = [0, Admin.into(), 0, Admin.into()];
    let roles = room.rosters.batch_get_roles(request.clone()).await.expect("read").into_inner();
    assert_eq!(roles.roles, asked);
    // A closed log still tells who was what.
    room.rosters.close_roster(close(den)).await.expect("closed");
    let roles = room.rosters.batch_get_roles(request).await.expect("read").into_inner();
    assert_eq!(roles.roles, asked);
}

async fn the_service_is_internal(db: Db) {
    let world = World::new(db);
    let log = world.group("den", &[("ann", Owner)]).await;
    for mut outside in [world.user("ann"), world.service()] {
        refused(outside.rosters.close_roster(close(log)).await, Reason::NotAllowed);
        let open = outside.rosters.open_roster(opening(new_log(), "x", &[])).await;
        refused(open, Reason::NotAllowed);
    }
}

async fn bad_fields_are_named(db: Db) {
    let world = World::new(db);
    let mut room = world.room_service("acme", None);
    let good = opening(new_log(), "den", &[("ann", Owner)]);
    let with_rules =
        |rules: pb::RosterRules| pb::OpenRosterRequest { rules: Some(rules), ..good.clone() };
    let member = |user: &str, role: i32| MemberGrant { user_id: user.to_owned(), role };
    let numbered = Event { seq: 1, ..created() }.encode_to_vec();
    let bodiless = Event::default().encode_to_vec();
    for (field, request) in [
        ("log_id", pb::OpenRosterRequest { log_id: "x".to_owned(), ..good.clone() }),
        ("room_id", pb::OpenRosterRequest { room_id: "a\n".to_owned(), ..good.clone() }),
        ("kind", pb::OpenRosterRequest { kind: 0, ..good.clone() }),
        ("kind", pb::OpenRosterRequest { kind: 77, ..good.clone() }),
        ("rules", pb::OpenRosterRequest { rules: None, ..good.clone() }),
        ("rules.join", with_rules(pb::RosterRules { join: 0, ..rules() })),
        ("rules.add", with_rules(pb::RosterRules { add: 3, ..rules() })),
        ("rules.remove", with_rules(pb::RosterRules { remove: 0, ..rules() })),
        ("rules.capacity", with_rules(pb::RosterRules { capacity: 0, ..rules() })),
        ("rules_version", pb::OpenRosterRequest { rules_version: -1, ..good.clone() }),
        (
            "members[0].user_id",
            pb::OpenRosterRequest { members: vec![member("", 1)], ..good.clone() },
        ),
        (
            "members[0].role",
            pb::OpenRosterRequest { members: vec![member("a", 0)], ..good.clone() },
        ),
        (
            "members[1].user_id",
            pb::OpenRosterRequest { members: vec![member("a", 1), member("a", 2)], ..good.clone() },
        ),
        (
            "ensure_user_ids[0]",
            pb::OpenRosterRequest { ensure_user_ids: strings(&["eve"]), ..good.clone() },
        ),
        ("created_event", pb::OpenRosterRequest { created_event: vec![255], ..good.clone() }),
        ("created_event", pb::OpenRosterRequest { created_event: numbered, ..good.clone() }),
        ("created_event", pb::OpenRosterRequest { created_event: bodiless, ..good.clone() }),
    ] {
        violates(room.rosters.open_roster(request).await, field);
    }
    violates(room.rosters.ensure_members(ensure(new_log(), &[], true)).await, "user_ids");
    let roles = |log_ids: Vec<String>, user: &str| pb::BatchGetRolesRequest {
        log_ids,
        user_id: user.to_owned(),
    };
    let log = new_log().0.to_string();
    for (request, field) in [
        (roles(vec![], "ann"), "log_ids"),
        (roles(vec![log.clone(); 101], "ann"), "log_ids"),
        (roles(vec![log.clone(), "x".to_owned()], "ann"), "log_ids[1]"),
        (roles(vec![log], ""), "user_id"),
    ] {
        violates(room.rosters.batch_get_roles(request).await, field);
    }
}
