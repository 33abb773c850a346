//! OpenRoster of live rooms.

use parlance_db::Db;
use parlance_outbox::testing::Health;
use parlance_proto::membership::v1 as pb;
use parlance_proto::message::v1::RoomKind;
use parlance_rpc::Reason;

use super::rooms::{MOST, Plan, all_seats, enter, live, new_log, seconds, session, story};
use crate::harness::{Member, Owner, World, grants, opening, refused, rules, violates};

parlance_db::test_on_each_db!(
    parlance_membership::MIGRATIONS =>
        a_live_room_begins_with_its_first_device,
        a_device_goes_to_a_new_room_in_one_step,
        what_is_refused_makes_no_room,
        bad_fields_are_named,
);

async fn a_live_room_begins_with_its_first_device(db: Db) {
    let world = World::new(db);
    let den = new_log();
    let mut room = world.room_service("acme", Some("ann")).rosters;
    let request = Plan::default().entered(den, "den", "ann", "a", None);
    for _ in 0..2 {
        room.open_roster(request.clone()).await.expect("opened");
    }
    let stored = world.logs.log(den);
    assert_eq!(stored.identity.kind(), RoomKind::Live);
    assert_eq!(stored.events[1].actor_id, "ann");
    assert_eq!(story(&world, den), ["created", "ann joined"]);
    assert_eq!(world.logs.calls().len(), 1);
    assert_eq!(world.roles("den").await, [("ann".to_owned(), Owner)]);
    assert_eq!(all_seats(&world).await, [(den, "ann".to_owned(), "a".to_owned(), session("a"))]);
}

async fn a_device_goes_to_a_new_room_in_one_step(db: Db) {
    let world = World::new(db);
    let tea = live(&world, "tea", 0).await;
    enter(&world, "ann", tea, "a").await;
    let den = new_log();
    let mut room = world.room_service("acme", Some("ann")).rosters;
    let request = Plan::default().entered(den, "den", "ann", "a", Some(tea));
    world.logs.set_health(Health::Down);
    refused(room.open_roster(request.clone()).await, Reason::LogUnavailable);
    world.logs.set_health(Health::Up);
    let calls = world.logs.calls().len();
    for _ in 0..2 {
        room.open_roster(request.clone()).await.expect("opened");
    }
    assert_eq!(story(&world, den), ["created", "ann joined"]);
    assert_eq!(story(&world, tea)[1..], ["ann joined", "ann left: SWITCHED", "closed"]);
    // The new room is told first.
    let told: Vec<_> = world.logs.calls()[calls..].iter().map(|(log, _)| *log).collect();
    assert_eq!(told, [den, tea]);
    assert_eq!(all_seats(&world).await.len(), 1);
}

async fn what_is_refused_makes_no_room(db: Db) {
    let world = World::new(db);
    let (den, tea) = (new_log(), live(&world, "tea", 0).await);
    enter(&world, "bob", tea, "b").await;
    let mut room = world.room_service("acme", Some("ann")).rosters;
    let from = |from| Plan::default().entered(den, "den", "ann", "a", Some(from));
    refused(room.open_roster(from(tea)).await, Reason::SeatNotFound);
    refused(room.open_roster(from(new_log())).await, Reason::SeatNotFound);
    let mut rooms = Vec::new();
    for n in 0..MOST {
        rooms.push(live(&world, &format!("room {n}"), 0).await);
        enter(&world, "ann", rooms[rooms.len() - 1], "a").await;
    }
    refused(room.open_roster(from(rooms[0])).await, Reason::RoomLimit);
    let alone = Plan::default().entered(den, "den", "ann", "a", None);
    refused(room.open_roster(alone).await, Reason::RoomLimit);
    assert!(world.logs.log(den).events.is_empty());
    assert_eq!(story(&world, rooms[0]), ["created", "ann joined"]);
    live(&world, "den", 0).await;
}

async fn bad_fields_are_named(db: Db) {
    let world = World::new(db);
    let mut room = world.room_service("acme", Some("ann")).rosters;
    let good = Plan::default().entered(new_log(), "den", "ann", "a", None);
    let live = good.live.clone().expect("live");
    let seat = live.seat.clone().expect("a seat");
    let with = |live: pb::LiveRoster| pb::OpenRosterRequest { live: Some(live), ..good.clone() };
    let seated = |seat: pb::FirstSeat| with(pb::LiveRoster { seat: Some(seat), ..live.clone() });
    let late = Some(seconds(3 * 3600 + 1));
    for (field, request) in [
        ("live", pb::OpenRosterRequest { live: None, ..good.clone() }),
        ("live", pb::OpenRosterRequest { kind: RoomKind::Group.into(), ..good.clone() }),
        ("live.destroy_delay", with(pb::LiveRoster { destroy_delay: late, ..live.clone() })),
        (
            "live.destroy_delay",
            with(pb::LiveRoster { destroy_delay: Some(seconds(-1)), ..live.clone() }),
        ),
        ("live.empty_timeout", with(pb::LiveRoster { empty_timeout: late, ..live.clone() })),
        ("members", with(pb::LiveRoster { seat: None, ..live.clone() })),
        ("members", pb::OpenRosterRequest { members: grants(&[("bob", Member)]), ..good.clone() }),
        ("live.seat.resource", seated(pb::FirstSeat { resource: String::new(), ..seat.clone() })),
        (
            "live.seat.session_id",
            seated(pb::FirstSeat { session_id: String::new(), ..seat.clone() }),
        ),
        ("live.seat.max_rooms", seated(pb::FirstSeat { max_rooms: 0, ..seat.clone() })),
        (
            "live.seat.from_log_id",
            seated(pb::FirstSeat { from_log_id: "x".to_owned(), ..seat.clone() }),
        ),
    ] {
        let request = pb::OpenRosterRequest {
            ensure_user_ids: request.members.iter().map(|member| member.user_id.clone()).collect(),
            ..request
        };
        violates(room.open_roster(request).await, field);
    }
    let mut nobody = world.room_service("acme", None).rosters;
    violates(nobody.open_roster(good).await, "live.seat");
    let group = pb::OpenRosterRequest {
        rules: Some(rules()),
        live: Some(live),
        ..opening(new_log(), "den", &[("ann", Owner)])
    };
    violates(room.open_roster(group).await, "live");
}
