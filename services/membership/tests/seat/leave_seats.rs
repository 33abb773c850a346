//! LeaveSeats.

use parlance_db::Db;
use parlance_proto::membership::v1 as pb;

use super::rooms::{all_seats, enter, live, story};
use crate::harness::{World, close};

parlance_db::test_on_each_db!(
    parlance_membership::MIGRATIONS =>
        a_device_leaves_all_its_rooms_and_no_other_does,
);

/// B-026, B-027, B-028.
async fn a_device_leaves_all_its_rooms_and_no_other_does(db: Db) {
    let world = World::new(db);
    let rooms = [
        live(&world, "den", 0).await,
        live(&world, "tea", 60).await,
        live(&world, "hall", 0).await,
        live(&world, "gone", 0).await,
    ];
    let [den, tea, hall, gone] = rooms;
    for room in rooms {
        enter(&world, "ann", room, "phone").await;
    }
    enter(&world, "ann", hall, "laptop").await;
    enter(&world, "bob", tea, "phone").await;
    close(&world, gone).await;
    let leave = async || {
        let request = pb::LeaveSeatsRequest { resource: "phone".to_owned() };
        let mut seats = world.room_service("acme", Some("ann")).seats;
        let left = seats.leave_seats(request).await.expect("left").into_inner().left;
        left.into_iter().map(|left| (left.room_id, left.ended)).collect::<Vec<_>>()
    };
    let mut left = leave().await;
    left.sort();
    let expected = [("den", true), ("hall", false), ("tea", false)];
    assert_eq!(left, expected.map(|(room, ended)| (room.to_owned(), ended)));
    assert_eq!(story(&world, den)[2..], ["ann left: LEFT", "closed"]);
    assert_eq!(story(&world, tea)[2..], ["bob joined", "ann left: LEFT"]);
    assert_eq!(story(&world, hall), ["created", "ann joined"]);
    assert!(leave().await.is_empty());
    let still = all_seats(&world).await.into_iter().filter(|(log, ..)| *log != gone);
    let still: Vec<_> = still.map(|(_, who, device, _)| format!("{who} {device}")).collect();
    assert_eq!(still, ["bob phone", "ann laptop"]);
}
