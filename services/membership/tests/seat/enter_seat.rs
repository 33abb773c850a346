//! EnterSeat and LeaveSeat.

use parlance_db::Db;
use parlance_outbox::testing::Health;
use parlance_proto::membership::v1 as pb;
use parlance_proto::message::v1::publish_notice_request::Notice;
use parlance_proto::message::v1::{PublishNoticeRequest, SeatEndCause};
use parlance_rpc::Reason;

use super::rooms::{
    MOST, Plan, SECOND, all_seats, enter, entering, leave, live, new_log, session, story, switch,
    try_enter,
};
use crate::harness::{Member, Owner, World, add, close, join, refused, rules, strings, violates};

parlance_db::test_on_each_db!(
    parlance_membership::MIGRATIONS =>
        a_user_is_in_while_one_of_their_devices_is,
        who_comes_first_owns_the_room_and_who_comes_back_is_who_they_were,
        entering_again_has_no_effect_and_writes_nothing,
        a_newer_session_takes_the_seat_over,
        the_last_one_ends_the_room_that_waits_for_nobody,
        a_single_device_takes_the_place_of_the_one_before,
        a_device_that_lost_its_place_is_told,
        a_room_takes_as_many_users_as_its_capacity,
        a_user_is_in_so_many_live_rooms_at_most,
        who_was_removed_does_not_come_back,
        a_banned_user_is_out_with_all_devices,
        where_members_are_added_only_those_who_were_in_come_back,
        a_live_room_is_not_joined,
        all_devices_of_a_user_leave_by_leaving_the_room,
        an_ended_room_takes_nobody,
        what_the_log_did_not_hear_of_is_told_before_an_answer,
        rooms_of_another_tenant_are_not_there,
        bad_fields_are_named,
        the_service_is_internal,
);

/// B-027.
async fn a_user_is_in_while_one_of_their_devices_is(db: Db) {
    let world = World::new(db);
    let den = live(&world, "den", 60).await;
    for device in ["phone", "laptop"] {
        let membership = enter(&world, "ann", den, device).await;
        assert_eq!((membership.room_id.as_str(), membership.user_id.as_str()), ("den", "ann"));
    }
    assert!(!leave(&world, "ann", den, "phone").await);
    assert_eq!(story(&world, den), ["created", "ann joined"]);
    assert_eq!(world.roles("den").await, [("ann".to_owned(), Owner)]);
    for _ in 0..2 {
        assert!(!leave(&world, "ann", den, "laptop").await);
    }
    assert_eq!(story(&world, den), ["created", "ann joined", "ann left: LEFT"]);
    assert!(world.roles("den").await.is_empty() && all_seats(&world).await.is_empty());
}

async fn who_comes_first_owns_the_room_and_who_comes_back_is_who_they_were(db: Db) {
    let world = World::new(db);
    let den = live(&world, "den", 60).await;
    assert_eq!(enter(&world, "ann", den, "a").await.role(), Owner);
    assert_eq!(enter(&world, "bob", den, "b").await.role(), Member);
    // Nobody has to name a successor.
    leave(&world, "ann", den, "a").await;
    assert_eq!(world.roles("den").await, [("bob".to_owned(), Member)]);
    assert_eq!(enter(&world, "ann", den, "a").await.role(), Owner);
    leave(&world, "ann", den, "a").await;
    leave(&world, "bob", den, "b").await;
    assert_eq!(enter(&world, "bob", den, "b").await.role(), Owner);
}

async fn entering_again_has_no_effect_and_writes_nothing(db: Db) {
    let world = World::new(db.clone());
    let den = live(&world, "den", 60).await;
    let first = enter(&world, "ann", den, "a").await;
    let before = story(&world, den);
    let versions = async || {
        let select = "SELECT update_time FROM users WHERE tenant_id = 'acme' AND user_id = 'ann'";
        db.read(select).fetch_one::<(i64,)>().await.expect("a user")
    };
    let (_, written) = (before.len(), versions().await);
    world.clock.advance(5 * SECOND);
    let entered: (i64,) =
        db.read("SELECT enter_time FROM seats").fetch_one().await.expect("a seat");
    for _ in 0..3 {
        assert_eq!(enter(&world, "ann", den, "a").await, first);
    }
    assert_eq!((story(&world, den), versions().await), (before, written));
    let after: (i64,) = db.read("SELECT enter_time FROM seats").fetch_one().await.expect("a seat");
    assert_eq!(after, entered);
}

async fn a_newer_session_takes_the_seat_over(db: Db) {
    let world = World::new(db);
    let den = live(&world, "den", 60).await;
    enter(&world, "ann", den, "a").await;
    let request = pb::EnterSeatRequest { session_id: "a 2".to_owned(), ..entering(den, "a") };
    let mut seats = world.room_service("acme", Some("ann")).seats;
    seats.enter_seat(request).await.expect("entered");
    let seat = (den, "ann".to_owned(), "a".to_owned(), "a 2".to_owned());
    assert_eq!(all_seats(&world).await, [seat]);
    assert_eq!(story(&world, den), ["created", "ann joined"]);
}

/// B-022.
async fn the_last_one_ends_the_room_that_waits_for_nobody(db: Db) {
    let world = World::new(db);
    let den = live(&world, "den", 0).await;
    enter(&world, "ann", den, "a").await;
    enter(&world, "bob", den, "b").await;
    assert!(!leave(&world, "ann", den, "a").await);
    let calls = world.logs.calls().len();
    assert!(leave(&world, "bob", den, "b").await);
    let told =
        ["created", "ann joined", "bob joined", "ann left: LEFT", "bob left: LEFT", "closed"];
    assert_eq!(story(&world, den), told);
    // The end is one step with the leaving.
    assert_eq!(world.logs.calls().len(), calls + 1);
    // A repeat says the same.
    assert!(leave(&world, "bob", den, "b").await);
    assert_eq!(story(&world, den), told);
    refused(try_enter(&world, "ann", den, "a").await, Reason::LogNotFound);
    // The id is free.
    live(&world, "den", 0).await;
}

async fn a_single_device_takes_the_place_of_the_one_before(db: Db) {
    let world = World::new(db);
    let den = Plan { single_device: true, ..Plan::default() }.open(&world, "den").await;
    enter(&world, "ann", den, "phone").await;
    enter(&world, "bob", den, "phone").await;
    enter(&world, "ann", den, "laptop").await;
    let seats: Vec<_> =
        all_seats(&world).await.into_iter().map(|(_, who, at, _)| (who, at)).collect();
    let seat = |who: &str, at: &str| (who.to_owned(), at.to_owned());
    assert_eq!(seats, [seat("ann", "laptop"), seat("bob", "phone")]);
    // Leaving with the device that was put out leaves nothing.
    assert!(!leave(&world, "ann", den, "phone").await);
    assert_eq!(story(&world, den), ["created", "ann joined", "bob joined"]);
}

/// Who enters by a repeat, or beside another device, takes nobody's place. A notice that does
/// not arrive keeps nobody out.
async fn a_device_that_lost_its_place_is_told(db: Db) {
    let world = World::new(db);
    let den = Plan { single_device: true, ..Plan::default() }.open(&world, "den").await;
    let hall = live(&world, "hall", 0).await;
    for at in ["phone", "phone", "laptop"] {
        enter(&world, "ann", den, at).await;
        enter(&world, "ann", hall, at).await;
    }
    enter(&world, "bob", hall, "tablet").await;
    enter(&world, "bob", den, "phone").await;
    switch(&world, "bob", hall, den, "tablet").await.expect("switched");
    let told: Vec<_> = world.logs.notices().into_iter().map(told).collect();
    let lost = |who: &str| ("den".to_owned(), who.to_owned(), "phone".to_owned());
    assert_eq!(told, [lost("ann"), lost("bob")]);
    world.logs.set_health(Health::Down);
    enter(&world, "ann", den, "tv").await;
    assert_eq!(world.logs.notices().len(), told.len());
}

/// Which device of whom lost its seat where.
fn told(notice: PublishNoticeRequest) -> (String, String, String) {
    let Some(Notice::SeatEnded(seat)) = notice.notice else { panic!("{notice:?}") };
    assert_eq!(seat.cause(), SeatEndCause::Replaced);
    (notice.room_id, notice.user_id, seat.resource)
}

async fn a_room_takes_as_many_users_as_its_capacity(db: Db) {
    let world = World::new(db);
    let den = Plan { capacity: 2, ..Plan::default() }.open(&world, "den").await;
    enter(&world, "ann", den, "a").await;
    enter(&world, "bob", den, "b").await;
    refused(try_enter(&world, "cleo", den, "c").await, Reason::RoomFull);
    // Devices are not counted.
    enter(&world, "bob", den, "another").await;
    leave(&world, "ann", den, "a").await;
    enter(&world, "cleo", den, "c").await;
}

/// B-055.
async fn a_user_is_in_so_many_live_rooms_at_most(db: Db) {
    let world = World::new(db);
    let mut rooms = Vec::new();
    for room in 0..=MOST {
        rooms.push(live(&world, &format!("room {room}"), 0).await);
    }
    let (last, first) = rooms.split_last().expect("rooms");
    let mut ann = world.room_service("acme", Some("ann")).seats;
    let check = pb::CheckSeatLimitRequest { max_rooms: MOST };
    for room in first {
        ann.check_seat_limit(check).await.expect("one more");
        enter(&world, "ann", *room, "a").await;
    }
    refused(ann.check_seat_limit(check).await, Reason::RoomLimit);
    refused(try_enter(&world, "ann", *last, "a").await, Reason::RoomLimit);
    refused(try_enter(&world, "ann", *last, "b").await, Reason::RoomLimit);
    assert_eq!(story(&world, *last), ["created"]);
    // Neither one more device in one of them nor another user is one more room.
    enter(&world, "ann", first[0], "b").await;
    enter(&world, "bob", *last, "b").await;
    close(&world, first[1]).await;
    enter(&world, "ann", *last, "a").await;
}

async fn who_was_removed_does_not_come_back(db: Db) {
    let world = World::new(db);
    let den = live(&world, "den", 0).await;
    enter(&world, "ann", den, "a").await;
    for device in ["b", "c"] {
        enter(&world, "bob", den, device).await;
    }
    let remove = |user: &str| pb::RemoveMembersRequest {
        room_id: "den".to_owned(),
        user_ids: strings(&[user]),
        ..Default::default()
    };
    world.user("ann").members.remove_members(remove("bob")).await.expect("removed");
    refused(try_enter(&world, "bob", den, "b").await, Reason::RemovedFromRoom);
    assert_eq!(all_seats(&world).await.len(), 1);
    assert_eq!(story(&world, den)[2..], ["bob joined", "bob left: REMOVED"]);
    // Even the owner, by a service; and the room ends.
    enter(&world, "cleo", den, "c").await;
    world.service().members.remove_members(remove("ann")).await.expect("removed");
    assert_eq!(world.roles("den").await, [("cleo".to_owned(), Member)]);
    world.service().members.remove_members(remove("cleo")).await.expect("removed");
    let end = ["cleo joined", "ann left: REMOVED", "cleo left: REMOVED", "closed"];
    assert_eq!(story(&world, den)[4..], end);
}

async fn a_banned_user_is_out_with_all_devices(db: Db) {
    let world = World::new(db);
    let den = live(&world, "den", 0).await;
    enter(&world, "ann", den, "a").await;
    for device in ["b", "c"] {
        enter(&world, "bob", den, device).await;
    }
    let ban = |user: &str| pb::BanUsersRequest {
        room_id: "den".to_owned(),
        user_ids: strings(&[user]),
        ..Default::default()
    };
    world.user("ann").moderation.ban_users(ban("bob")).await.expect("banned");
    refused(try_enter(&world, "bob", den, "b").await, Reason::Banned);
    assert_eq!(all_seats(&world).await.len(), 1);
    assert!(!world.logs.log(den).closed);
    world.service().moderation.ban_users(ban("ann")).await.expect("banned");
    assert_eq!(story(&world, den).last().expect("an event"), "closed");
    assert!(all_seats(&world).await.is_empty());
}

async fn where_members_are_added_only_those_who_were_in_come_back(db: Db) {
    let world = World::new(db);
    let den = live(&world, "den", 60).await;
    enter(&world, "ann", den, "a").await;
    enter(&world, "bob", den, "b").await;
    leave(&world, "bob", den, "b").await;
    let set = pb::SetRosterRulesRequest {
        log_id: den.0.to_string(),
        rules: Some(rules()),
        rules_version: 2,
    };
    world.room_service("acme", None).rosters.set_roster_rules(set).await.expect("set");
    enter(&world, "bob", den, "b").await;
    refused(try_enter(&world, "cleo", den, "c").await, Reason::JoinRestricted);
}

async fn a_live_room_is_not_joined(db: Db) {
    let world = World::new(db);
    world.know("acme", &["bob"]).await;
    let den = live(&world, "den", 60).await;
    enter(&world, "ann", den, "a").await;
    refused(world.user("bob").members.join_room(join("den")).await, Reason::LiveRoom);
    refused(world.user("ann").members.add_members(add("den", &["bob"])).await, Reason::LiveRoom);
    let ensure = pb::EnsureMembersRequest {
        log_id: den.0.to_string(),
        user_ids: strings(&["bob"]),
        readmit_removed: true,
    };
    let ensured = world.room_service("acme", None).rosters.ensure_members(ensure).await;
    refused(ensured, Reason::LiveRoom);
    let list = pb::ListRoomMembersRequest { room_id: "den".to_owned(), ..Default::default() };
    refused(world.user("bob").members.list_room_members(list).await, Reason::NotAMember);
    assert_eq!(story(&world, den), ["created", "ann joined"]);
    // Nor is another kind of room entered.
    let group = world.group("tea", &[("ann", Owner)]).await;
    refused(try_enter(&world, "bob", group, "b").await, Reason::LogNotFound);
}

async fn all_devices_of_a_user_leave_by_leaving_the_room(db: Db) {
    let world = World::new(db);
    let den = live(&world, "den", 0).await;
    for device in ["a", "b"] {
        enter(&world, "ann", den, device).await;
    }
    let leave = pb::LeaveRoomRequest { room_id: "den".to_owned(), ..Default::default() };
    world.user("ann").members.leave_room(leave).await.expect("left");
    assert_eq!(story(&world, den), ["created", "ann joined", "ann left: LEFT", "closed"]);
    assert!(all_seats(&world).await.is_empty());
}

async fn an_ended_room_takes_nobody(db: Db) {
    let world = World::new(db);
    let den = live(&world, "den", 60).await;
    enter(&world, "ann", den, "a").await;
    close(&world, den).await;
    refused(try_enter(&world, "ann", den, "a").await, Reason::LogNotFound);
    refused(try_enter(&world, "bob", den, "b").await, Reason::LogNotFound);
    refused(try_enter(&world, "bob", new_log(), "b").await, Reason::LogNotFound);
    assert!(leave(&world, "ann", den, "a").await);
    assert_eq!(story(&world, den), ["created", "ann joined", "closed"]);
    world.service.run();
    crate::harness::eventually(|| async { all_seats(&world).await.is_empty() }).await;
    world.env.tasks.close().await;
}

async fn what_the_log_did_not_hear_of_is_told_before_an_answer(db: Db) {
    let world = World::new(db);
    let den = live(&world, "den", 0).await;
    world.logs.set_health(Health::Down);
    refused(try_enter(&world, "ann", den, "a").await, Reason::LogUnavailable);
    world.logs.set_health(Health::Up);
    enter(&world, "ann", den, "a").await;
    assert_eq!(story(&world, den), ["created", "ann joined"]);
    world.logs.set_health(Health::Down);
    let request = pb::LeaveSeatRequest { log_id: den.0.to_string(), resource: "a".to_owned() };
    let mut seats = world.room_service("acme", Some("ann")).seats;
    refused(seats.leave_seat(request).await, Reason::LogUnavailable);
    // Whether it has ended is not told before its log knows.
    refused(try_enter(&world, "bob", den, "b").await, Reason::LogUnavailable);
    world.logs.set_health(Health::Up);
    refused(try_enter(&world, "bob", den, "b").await, Reason::LogNotFound);
    assert_eq!(story(&world, den), ["created", "ann joined", "ann left: LEFT", "closed"]);
}

async fn rooms_of_another_tenant_are_not_there(db: Db) {
    let world = World::new(db);
    let den = Plan { tenant: "globex", ..Plan::default() }.open(&world, "den").await;
    let mut seats = world.room_service("globex", Some("ann")).seats;
    seats.enter_seat(entering(den, "a")).await.expect("entered");
    refused(try_enter(&world, "ann", den, "a").await, Reason::LogNotFound);
    let leave = pb::LeaveSeatRequest { log_id: den.0.to_string(), resource: "a".to_owned() };
    let mut stranger = world.room_service("acme", Some("ann")).seats;
    refused(stranger.leave_seat(leave).await, Reason::LogNotFound);
    super::rooms::end(&world, vec![super::rooms::held("ann", "a", &session("a"))]).await;
    let all = pb::LeaveSeatsRequest { resource: "a".to_owned() };
    assert!(stranger.leave_seats(all).await.expect("none").into_inner().left.is_empty());
    assert_eq!(all_seats(&world).await.len(), 1);
}

async fn bad_fields_are_named(db: Db) {
    let world = World::new(db);
    let mut ann = world.room_service("acme", Some("ann")).seats;
    let good = entering(new_log(), "a");
    let long = "x".repeat(129);
    for (field, request) in [
        ("log_id", pb::EnterSeatRequest { log_id: "x".to_owned(), ..good.clone() }),
        ("resource", pb::EnterSeatRequest { resource: String::new(), ..good.clone() }),
        ("resource", pb::EnterSeatRequest { resource: "a\0".to_owned(), ..good.clone() }),
        ("session_id", pb::EnterSeatRequest { session_id: String::new(), ..good.clone() }),
        ("session_id", pb::EnterSeatRequest { session_id: long.clone(), ..good.clone() }),
        ("max_rooms", pb::EnterSeatRequest { max_rooms: 0, ..good.clone() }),
    ] {
        violates(ann.enter_seat(request).await, field);
    }
    let leave = pb::LeaveSeatRequest { log_id: "x".to_owned(), resource: "a".to_owned() };
    violates(ann.leave_seat(leave).await, "log_id");
    let leave = pb::LeaveSeatRequest { log_id: good.log_id.clone(), resource: long.clone() };
    violates(ann.leave_seat(leave).await, "resource");
    violates(ann.leave_seats(pb::LeaveSeatsRequest { resource: long }).await, "resource");
    let check = pb::CheckSeatLimitRequest { max_rooms: -1 };
    violates(ann.check_seat_limit(check).await, "max_rooms");
    let mut nobody = world.room_service("acme", None).seats;
    refused(nobody.enter_seat(good).await, Reason::UserRequired);
}

async fn the_service_is_internal(db: Db) {
    let world = World::new(db);
    let den = live(&world, "den", 0).await;
    for mut outside in [world.user("ann"), world.service(), world.service_for("ann")] {
        refused(outside.seats.enter_seat(entering(den, "a")).await, Reason::NotAllowed);
        let list = pb::ListSeatsRequest::default();
        refused(outside.seats.list_seats(list).await, Reason::NotAllowed);
    }
}
