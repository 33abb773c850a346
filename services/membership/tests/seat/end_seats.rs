//! EndSeats.

use parlance_db::Db;
use parlance_outbox::testing::Health;
use parlance_proto::membership::v1 as pb;
use parlance_proto::message::v1::LeaveCause;
use parlance_rpc::Reason;

use super::rooms::{all_seats, end, enter, entering, held, live, session, story};
use crate::harness::{World, close, refused, violates};

parlance_db::test_on_each_db!(
    parlance_membership::MIGRATIONS =>
        a_session_that_ends_leaves_all_its_rooms,
        many_who_leave_a_room_are_one_event,
        a_seat_of_a_newer_session_stays,
        another_device_keeps_its_user_in,
        seats_of_a_room_that_was_deleted_are_gone_without_a_word,
        what_the_logs_did_not_hear_of_reaches_them_by_itself,
        bad_fields_are_named,
);

async fn a_session_that_ends_leaves_all_its_rooms(db: Db) {
    let world = World::new(db);
    let (den, tea) = (live(&world, "den", 0).await, live(&world, "tea", 60).await);
    for room in [den, tea] {
        enter(&world, "ann", room, "a").await;
        enter(&world, "bob", room, "a").await;
    }
    for _ in 0..2 {
        end(&world, vec![held("ann", "a", &session("a"))]).await;
        for room in [den, tea] {
            assert_eq!(story(&world, room)[2..], ["bob joined", "ann left: LEASE_ENDED"]);
            assert_eq!(world.logs.log(room).events[3].actor_id, "");
        }
    }
    let cause = LeaveCause::Left.into();
    let sessions = vec![held("bob", "a", &session("a"))];
    let mut seats = world.room_service("acme", None).seats;
    seats.end_seats(pb::EndSeatsRequest { sessions, cause }).await.expect("ended");
    assert_eq!(story(&world, den)[4..], ["bob left: LEFT", "closed"]);
    assert_eq!(story(&world, tea)[4..], ["bob left: LEFT"]);
    assert!(all_seats(&world).await.is_empty());
}

async fn many_who_leave_a_room_are_one_event(db: Db) {
    let world = World::new(db);
    let den = live(&world, "den", 0).await;
    let users: Vec<_> = (0..100).map(|n| format!("user {n:02}")).collect();
    for user in &users {
        enter(&world, user, den, "a").await;
    }
    end(&world, users.iter().map(|user| held(user, "a", &session("a"))).collect()).await;
    let told = story(&world, den);
    assert_eq!(
        told[101..],
        [format!("{} left: LEASE_ENDED", users.join(" and ")), "closed".into()]
    );
}

async fn a_seat_of_a_newer_session_stays(db: Db) {
    let world = World::new(db);
    let (den, tea) = (live(&world, "den", 0).await, live(&world, "tea", 0).await);
    for room in [den, tea] {
        enter(&world, "ann", room, "a").await;
    }
    let request = pb::EnterSeatRequest { session_id: "a 2".to_owned(), ..entering(den, "a") };
    world.room_service("acme", Some("ann")).seats.enter_seat(request).await.expect("entered");
    end(&world, vec![held("ann", "a", &session("a"))]).await;
    assert_eq!(story(&world, den), ["created", "ann joined"]);
    assert_eq!(story(&world, tea)[2..], ["ann left: LEASE_ENDED", "closed"]);
    end(&world, vec![held("ann", "a", "a 2")]).await;
    assert_eq!(story(&world, den)[2..], ["ann left: LEASE_ENDED", "closed"]);
}

async fn another_device_keeps_its_user_in(db: Db) {
    let world = World::new(db);
    let den = live(&world, "den", 0).await;
    for device in ["a", "b"] {
        enter(&world, "ann", den, device).await;
    }
    end(&world, vec![held("ann", "a", &session("a"))]).await;
    assert_eq!(story(&world, den), ["created", "ann joined"]);
    let both = ["a", "b"].map(|device| held("ann", device, &session(device)));
    end(&world, both.to_vec()).await;
    assert_eq!(story(&world, den)[2..], ["ann left: LEASE_ENDED", "closed"]);
}

async fn seats_of_a_room_that_was_deleted_are_gone_without_a_word(db: Db) {
    let world = World::new(db);
    let den = live(&world, "den", 0).await;
    enter(&world, "ann", den, "a").await;
    close(&world, den).await;
    end(&world, vec![held("ann", "a", &session("a"))]).await;
    assert_eq!(story(&world, den), ["created", "ann joined", "closed"]);
    assert!(all_seats(&world).await.is_empty());
}

async fn what_the_logs_did_not_hear_of_reaches_them_by_itself(db: Db) {
    let world = World::new(db);
    let den = live(&world, "den", 0).await;
    enter(&world, "ann", den, "a").await;
    world.logs.set_health(Health::Down);
    let cause = LeaveCause::LeaseEnded.into();
    let request = pb::EndSeatsRequest { sessions: vec![held("ann", "a", &session("a"))], cause };
    let mut seats = world.room_service("acme", None).seats;
    refused(seats.end_seats(request.clone()).await, Reason::LogUnavailable);
    world.logs.set_health(Health::Up);
    seats.end_seats(request).await.expect("ended");
    world.service.run();
    world.logs.wait_for(den, |log| log.closed).await;
    assert_eq!(story(&world, den)[2..], ["ann left: LEASE_ENDED", "closed"]);
    world.env.tasks.close().await;
}

async fn bad_fields_are_named(db: Db) {
    let world = World::new(db);
    let mut seats = world.room_service("acme", None).seats;
    let good = held("ann", "a", "1");
    let cause: i32 = LeaveCause::LeaseEnded.into();
    let many = (0..101).map(|n| held("ann", "a", &n.to_string())).collect();
    for (field, sessions, cause) in [
        ("sessions", vec![], cause),
        ("sessions", many, cause),
        ("sessions[1].user_id", vec![good.clone(), held("", "a", "1")], cause),
        ("sessions[0].resource", vec![held("ann", "", "1")], cause),
        ("sessions[0].session_id", vec![held("ann", "a", "")], cause),
        ("sessions[1]", vec![good.clone(), good.clone()], cause),
        ("cause", vec![good.clone()], 0),
        ("cause", vec![good.clone()], LeaveCause::Switched.into()),
        ("cause", vec![good], 77),
    ] {
        let request = pb::EndSeatsRequest { sessions, cause };
        violates(seats.end_seats(request).await, field);
    }
}
