//! ListSeats.

use parlance_db::Db;
use parlance_proto::membership::v1 as pb;

use super::rooms::{Plan, all_seats, end, enter, entering, held, live, session};
use crate::harness::{World, violates};

parlance_db::test_on_each_db!(
    parlance_membership::MIGRATIONS =>
        a_walk_comes_by_every_seat_of_every_tenant_once,
        a_walk_goes_on_where_a_seat_has_ended,
        bad_fields_are_named,
);

async fn a_walk_comes_by_every_seat_of_every_tenant_once(db: Db) {
    let world = World::new(db);
    let mut expected = Vec::new();
    for room in ["den", "tea"] {
        let log = live(&world, room, 0).await;
        for user in ["ann", "bob", "cleo"] {
            for device in ["a", "b"] {
                enter(&world, user, log, device).await;
                expected.push((log, user.to_owned(), device.to_owned(), session(device)));
            }
        }
    }
    let other = Plan { tenant: "globex", ..Plan::default() }.open(&world, "den").await;
    let mut seats = world.room_service("globex", Some("ann")).seats;
    seats.enter_seat(entering(other, "a")).await.expect("entered");
    expected.push((other, "ann".to_owned(), "a".to_owned(), session("a")));
    assert_eq!(all_seats(&world).await, expected);
    let request = pb::ListSeatsRequest { page_size: 5000, ..Default::default() };
    let page = seats.list_seats(request).await.expect("a page").into_inner();
    assert_eq!(page.seats.len(), expected.len());
    let last = page.seats.last().expect("a seat");
    assert_eq!(
        (last.tenant_id.as_str(), last.enter_time.expect("a time").seconds),
        ("globex", 1000)
    );
}

async fn a_walk_goes_on_where_a_seat_has_ended(db: Db) {
    let world = World::new(db);
    let den = live(&world, "den", 0).await;
    for user in ["ann", "bob", "cleo"] {
        enter(&world, user, den, "a").await;
    }
    let mut seats = world.room_service("acme", None).seats;
    let request = pb::ListSeatsRequest { page_size: 2, ..Default::default() };
    let page = seats.list_seats(request.clone()).await.expect("a page").into_inner();
    end(&world, vec![held("bob", "a", &session("a"))]).await;
    let request = pb::ListSeatsRequest { page_token: page.next_page_token, ..request };
    let rest = seats.list_seats(request).await.expect("a page").into_inner();
    assert_eq!(rest.seats.len(), 1);
    assert_eq!((rest.seats[0].user_id.as_str(), rest.next_page_token.as_str()), ("cleo", ""));
}

async fn bad_fields_are_named(db: Db) {
    let world = World::new(db);
    let mut seats = world.room_service("acme", None).seats;
    let request = pb::ListSeatsRequest { page_size: -1, ..Default::default() };
    violates(seats.list_seats(request).await, "page_size");
    let request = pb::ListSeatsRequest { page_token: "x".to_owned(), ..Default::default() };
    violates(seats.list_seats(request).await, "page_token");
    let told = |log_ids: Vec<String>| pb::AcknowledgeEndedRostersRequest { log_ids };
    violates(seats.acknowledge_ended_rosters(told(vec![])).await, "log_ids");
    let bad = told(vec!["x".to_owned()]);
    violates(seats.acknowledge_ended_rosters(bad).await, "log_ids[0]");
}
