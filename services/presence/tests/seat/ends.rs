//! Seats in live rooms, which end with the sessions that hold them.

use std::time::Duration;

use parlance_proto::membership::v1::ListSeatsRequest;
use parlance_proto::membership::v1::seat_service_client::SeatServiceClient;
use parlance_proto::message::v1::event::Body;
use parlance_proto::message::v1::subscribe_response::Frame;
use parlance_proto::message::v1::{Event, LeaveCause, SubscribeResponse};
use parlance_proto::presence::v1 as pb;
use parlance_proto::room::v1::live_room_service_client::LiveRoomServiceClient;
use parlance_proto::room::v1::{EnterRoomRequest, NewLiveRoom};
use parlance_rpc::Principal;
use parlance_rpc::testing::called_by;
use parlance_types::UserId;
use tokio::time::Instant;
use tonic::Streaming;

use crate::harness::{Client, DOUBT, World, acme, caller, eventually, next, on, opening};

crate::test_in_each_mode!(
    a_session_that_runs_out_takes_its_seats_along,
    who_closes_a_session_has_left,
    a_reconnect_within_the_lease_is_no_leave,
    the_end_of_an_old_session_leaves_the_seat_of_a_newer_one,
    after_a_loss_who_comes_back_stays_and_who_does_not_leaves,
    another_node_ends_what_a_dead_one_held,
    a_seat_of_a_session_that_never_was_ends,
);

const SHORT: Duration = Duration::from_millis(400);

/// Enters a live room, which waits an hour for whoever comes; creates it if it is not there.
pub(super) async fn enter(world: &World, user: &str, room: &str, resource: &str, session_id: &str) {
    let to = called_by(world.room.public(), acme(user), None);
    let hour = prost_types::Duration { seconds: 3600, nanos: 0 };
    let request = EnterRoomRequest {
        room_id: room.to_owned(),
        resource: resource.to_owned(),
        session_id: session_id.to_owned(),
        create_if_missing: true,
        room: Some(NewLiveRoom { destroy_delay: Some(hour), ..NewLiveRoom::default() }),
    };
    LiveRoomServiceClient::new(to).enter_room(request).await.expect("entered");
}

/// Opens a session that lives for so long, and gives its id.
pub(super) async fn open(client: &mut Client, resource: &str, lease: Duration) -> String {
    let lease = prost_types::Duration::try_from(lease).ok();
    let request = pb::OpenSessionRequest { lease, ..opening(resource) };
    let reply = client.sessions.open_session(request).await.expect("opened").into_inner();
    reply.session.expect("a session").session_id
}

async fn close(world: &World, user: &str, resource: &str) {
    let request = pb::CloseSessionRequest { resource: resource.to_owned() };
    world.user(user).sessions.close_session(request).await.expect("closed");
}

/// The devices that have seats.
async fn seated(world: &World) -> Vec<String> {
    let internal = caller("acme", Principal::Internal(None));
    let mut seats = SeatServiceClient::new(called_by(world.membership.internal(), internal, None));
    let reply = seats.list_seats(ListSeatsRequest::default()).await.expect("seats");
    let seats = reply.into_inner().seats;
    seats.into_iter().map(|seat| format!("{}'s {}", seat.user_id, seat.resource)).collect()
}

async fn until_seated(world: &World, expected: &[&str]) {
    eventually(|| async { seated(world).await == expected }).await;
}

/// The next leave that a stream tells of: who, and why.
async fn left(frames: &mut Streaming<SubscribeResponse>) -> (Vec<String>, LeaveCause) {
    loop {
        if let Some(Frame::Event(told)) = next(frames).await.expect("a frame").frame
            && let Some(Event { body: Some(Body::MembersLeft(left)), .. }) = told.event
        {
            return (left.user_ids.clone(), left.cause());
        }
    }
}

/// A room in which Bob stays and watches who leaves.
async fn watched(world: &World) -> Streaming<SubscribeResponse> {
    world.settle().await;
    let held = open(&mut world.user("bob"), "desk", Duration::from_mins(1)).await;
    enter(world, "bob", "den", "desk", &held).await;
    world.follow("bob", "den").await
}

/// B-089.
async fn a_session_that_runs_out_takes_its_seats_along(world: World) -> World {
    let mut frames = watched(&world).await;
    let held = open(&mut world.user("ann"), "phone", SHORT).await;
    let began = Instant::now();
    for room in ["den", "lounge"] {
        enter(&world, "ann", room, "phone", &held).await;
    }
    assert_eq!(left(&mut frames).await, (vec!["ann".to_owned()], LeaveCause::LeaseEnded));
    assert!(began.elapsed() >= SHORT / 2, "not before");
    until_seated(&world, &["bob's desk"]).await;
    world
}

async fn who_closes_a_session_has_left(world: World) -> World {
    let mut frames = watched(&world).await;
    for resource in ["phone", "laptop"] {
        let held = open(&mut world.user("ann"), resource, Duration::from_mins(1)).await;
        enter(&world, "ann", "den", resource, &held).await;
    }
    close(&world, "ann", "phone").await;
    until_seated(&world, &["ann's laptop", "bob's desk"]).await;
    close(&world, "ann", "laptop").await;
    assert_eq!(left(&mut frames).await, (vec!["ann".to_owned()], LeaveCause::LeaseEnded));
    until_seated(&world, &["bob's desk"]).await;
    world
}

async fn a_reconnect_within_the_lease_is_no_leave(world: World) -> World {
    let mut frames = watched(&world).await;
    let mut ann = world.user("ann");
    let held = open(&mut ann, "phone", Duration::from_mins(1)).await;
    enter(&world, "ann", "den", "phone", &held).await;
    for _ in 0..50 {
        assert_eq!(open(&mut ann, "phone", Duration::from_mins(1)).await, held);
        enter(&world, "ann", "den", "phone", &held).await;
    }
    close(&world, "ann", "phone").await;
    // The first leave that is told is this one.
    assert_eq!(left(&mut frames).await, (vec!["ann".to_owned()], LeaveCause::LeaseEnded));
    world
}

async fn the_end_of_an_old_session_leaves_the_seat_of_a_newer_one(world: World) -> World {
    let mut frames = watched(&world).await;
    let mut ann = world.user("ann");
    for _ in 0..50 {
        let held = open(&mut ann, "phone", Duration::from_mins(1)).await;
        enter(&world, "ann", "den", "phone", &held).await;
        let held_too = open(&mut ann, "tablet", Duration::from_mins(1)).await;
        enter(&world, "ann", "den", "tablet", &held_too).await;
        close(&world, "ann", "phone").await;
        let again = open(&mut ann, "phone", Duration::from_mins(1)).await;
        assert_ne!(again, held);
        // The end of the session before may be told before this, or after.
        enter(&world, "ann", "den", "phone", &again).await;
    }
    close(&world, "ann", "tablet").await;
    until_seated(&world, &["ann's phone", "bob's desk"]).await;
    close(&world, "ann", "phone").await;
    assert_eq!(left(&mut frames).await, (vec!["ann".to_owned()], LeaveCause::LeaseEnded));
    world
}

async fn after_a_loss_who_comes_back_stays_and_who_does_not_leaves(world: World) -> World {
    let mut frames = watched(&world).await;
    for user in ["ann", "eve"] {
        let held = open(&mut world.user(user), "phone", Duration::from_mins(1)).await;
        enter(&world, user, "den", "phone", &held).await;
    }
    let lost = Instant::now();
    world.lose().await;
    for (user, resource) in [("ann", "phone"), ("bob", "desk")] {
        let held = open(&mut world.user(user), resource, Duration::from_mins(1)).await;
        enter(&world, user, "den", resource, &held).await;
    }
    assert_eq!(left(&mut frames).await, (vec!["eve".to_owned()], LeaveCause::LeaseEnded));
    assert!(lost.elapsed() >= DOUBT, "not while it may only have been lost");
    assert_eq!(seated(&world).await, ["ann's phone", "bob's desk"]);
    world
}

async fn another_node_ends_what_a_dead_one_held(mut world: World) -> World {
    let mut frames = watched(&world).await;
    let (dead, tasks) = world.fresh();
    let mut ann = on(&dead, caller("acme", Principal::User(UserId::new("ann"))));
    let held = open(&mut ann, "phone", SHORT).await;
    enter(&world, "ann", "den", "phone", &held).await;
    tasks.close().await;
    drop((ann, dead));
    world.node();
    assert_eq!(left(&mut frames).await, (vec!["ann".to_owned()], LeaveCause::LeaseEnded));
    world
}

async fn a_seat_of_a_session_that_never_was_ends(world: World) -> World {
    let mut frames = watched(&world).await;
    enter(&world, "eve", "den", "phone", "made up").await;
    assert_eq!(left(&mut frames).await, (vec!["eve".to_owned()], LeaveCause::LeaseEnded));
    assert_eq!(seated(&world).await, ["bob's desk"]);
    world
}
