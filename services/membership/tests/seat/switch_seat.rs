//! SwitchSeat.

use parlance_db::Db;
use parlance_proto::membership::v1 as pb;
use parlance_rpc::Reason;

use super::rooms::{
    MOST, Plan, SECOND, all_seats, enter, leave, live, new_log, story, switch, switching,
};
use crate::harness::{Owner, World, close, refused, strings, violates};

parlance_db::test_on_each_db!(
    parlance_membership::MIGRATIONS =>
        a_device_moves_in_one_step_and_the_new_room_hears_of_it_first,
        a_repeat_has_no_effect,
        an_existing_room_is_entered_whatever_the_limit,
        what_is_refused_has_changed_nothing,
        another_device_stays_where_it_is,
        bad_fields_are_named,
);

/// B-017, B-020, B-214.
async fn a_device_moves_in_one_step_and_the_new_room_hears_of_it_first(db: Db) {
    let world = World::new(db);
    let (tea, den) = (live(&world, "tea", 0).await, live(&world, "den", 60).await);
    for (from, to, ended) in [(tea, den, true), (den, live(&world, "hall", 0).await, false)] {
        enter(&world, "ann", from, "a").await;
        let calls = world.logs.calls().len();
        let moved = switch(&world, "ann", from, to, "a").await.expect("moved").into_inner();
        assert_eq!(
            (moved.membership.expect("a membership").role(), moved.from_ended),
            (Owner, ended)
        );
        let told: Vec<_> = world.logs.calls()[calls..].iter().map(|(log, _)| *log).collect();
        assert_eq!(told, [to, from]);
    }
    assert_eq!(story(&world, tea)[1..], ["ann joined", "ann left: SWITCHED", "closed"]);
    assert_eq!(story(&world, den)[1..], ["ann joined", "ann left: SWITCHED"]);
    // The room that waits ends in its time.
    world.clock.advance(60 * SECOND);
    world.service.run();
    world.logs.wait_for(den, |log| log.closed).await;
    world.env.tasks.close().await;
}

async fn a_repeat_has_no_effect(db: Db) {
    let world = World::new(db);
    let (tea, den) = (live(&world, "tea", 0).await, live(&world, "den", 60).await);
    enter(&world, "ann", tea, "a").await;
    let first = switch(&world, "ann", tea, den, "a").await.expect("moved").into_inner();
    let again = switch(&world, "ann", tea, den, "a").await.expect("moved").into_inner();
    assert_eq!(again, first);
    let mut ann = world.room_service("acme", Some("ann")).seats;
    // The old room is not known any more.
    let unknown = ann.switch_seat(switching(None, den, "a")).await.expect("moved").into_inner();
    assert_eq!(unknown, first);
    assert_eq!(story(&world, den), ["created", "ann joined"]);
    leave(&world, "ann", den, "a").await;
    refused(switch(&world, "ann", tea, den, "a").await, Reason::SeatNotFound);
}

/// B-018.
async fn an_existing_room_is_entered_whatever_the_limit(db: Db) {
    let world = World::new(db);
    let mut rooms = Vec::new();
    for n in 0..MOST {
        rooms.push(live(&world, &format!("room {n}"), 0).await);
        for device in ["a", "b"] {
            enter(&world, "ann", rooms[rooms.len() - 1], device).await;
        }
    }
    let den = live(&world, "den", 0).await;
    switch(&world, "ann", rooms[0], den, "a").await.expect("moved");
    assert_eq!(story(&world, rooms[0]), ["created", "ann joined"]);
}

async fn what_is_refused_has_changed_nothing(db: Db) {
    let world = World::new(db);
    let tea = live(&world, "tea", 0).await;
    let full = Plan { capacity: 1, ..Plan::default() }.open(&world, "full").await;
    enter(&world, "ann", tea, "a").await;
    enter(&world, "bob", full, "b").await;
    refused(switch(&world, "ann", tea, full, "a").await, Reason::RoomFull);
    let den = live(&world, "den", 0).await;
    enter(&world, "bob", den, "b").await;
    enter(&world, "ann", den, "a").await;
    let remove = pb::RemoveMembersRequest {
        room_id: "den".to_owned(),
        user_ids: strings(&["ann"]),
        ..Default::default()
    };
    world.user("bob").members.remove_members(remove).await.expect("removed");
    refused(switch(&world, "ann", tea, den, "a").await, Reason::RemovedFromRoom);
    let ended = live(&world, "ended", 0).await;
    close(&world, ended).await;
    refused(switch(&world, "ann", tea, ended, "a").await, Reason::LogNotFound);
    refused(switch(&world, "ann", tea, new_log(), "a").await, Reason::LogNotFound);
    let hall = live(&world, "hall", 0).await;
    refused(switch(&world, "ann", tea, hall, "another").await, Reason::SeatNotFound);
    refused(switch(&world, "ann", new_log(), hall, "a").await, Reason::SeatNotFound);
    assert_eq!(story(&world, tea), ["created", "ann joined"]);
    assert_eq!(story(&world, hall), ["created"]);
    assert_eq!(all_seats(&world).await.iter().filter(|(_, who, ..)| who == "ann").count(), 1);
}

async fn another_device_stays_where_it_is(db: Db) {
    let world = World::new(db);
    let (tea, den) = (live(&world, "tea", 0).await, live(&world, "den", 0).await);
    for device in ["a", "b"] {
        enter(&world, "ann", tea, device).await;
    }
    for device in ["a", "b"] {
        switch(&world, "ann", tea, den, device).await.expect("moved");
    }
    assert_eq!(story(&world, tea), ["created", "ann joined", "ann left: SWITCHED", "closed"]);
    assert_eq!(story(&world, den), ["created", "ann joined"]);
}

async fn bad_fields_are_named(db: Db) {
    let world = World::new(db);
    let mut ann = world.room_service("acme", Some("ann")).seats;
    let (from, to) = (new_log(), new_log());
    let good = switching(Some(from), to, "a");
    for (field, request) in [
        ("from_log_id", pb::SwitchSeatRequest { from_log_id: "x".to_owned(), ..good.clone() }),
        ("to_log_id", pb::SwitchSeatRequest { to_log_id: String::new(), ..good.clone() }),
        ("to_log_id", switching(Some(to), to, "a")),
        ("resource", pb::SwitchSeatRequest { resource: String::new(), ..good.clone() }),
        ("session_id", pb::SwitchSeatRequest { session_id: String::new(), ..good }),
    ] {
        violates(ann.switch_seat(request).await, field);
    }
}
