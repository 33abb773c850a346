//! A device that is no longer in a live room, on its user's streams.

use parlance_db::{Db, test_on_each_db};
use parlance_proto::message::v1 as pb;
use parlance_proto::message::v1::publish_notice_request::Notice as Told;
use parlance_proto::message::v1::subscribe_response::Frame;

use crate::harness::{TENANT, World, violates};
use crate::rooms::{group, plan};
use crate::stream::harness::{Mood, Reader, hints_only, two_nodes};

test_on_each_db!(parlance_message::MIGRATIONS =>
    every_stream_of_the_user_is_told_and_no_other,
    bad_input_is_refused_by_name,
);

async fn told(reader: &mut Reader) -> (String, pb::SeatEndCause) {
    let Frame::Notice(notice) = reader.next().await else { panic!("a notice") };
    let Some(pb::notice::Notice::SeatEnded(seat)) = notice.notice else { panic!("{notice:?}") };
    let cause = seat.cause();
    (seat.resource, cause)
}

async fn every_stream_of_the_user_is_told_and_no_other(db: Db) {
    let (_, here, there) = two_nodes(&db, Mood::Reliable, hints_only()).await;
    let room = plan("r").kind(pb::RoomKind::Live).members(&["ann", "bob"]).make(&here).await;
    let (mut one, mut other) = (here.follow("ann").await, there.follow("ann").await);
    let (mut bob, mut far) = (here.follow("bob").await, there.follow("bob").await);
    for resource in ["phone", "laptop"] {
        let cause = pb::SeatEndCause::Replaced.into();
        let seat = pb::SeatEndedNotice { resource: resource.to_owned(), cause };
        here.publish(&room, "ann", Told::SeatEnded(seat)).await;
        let lost = (resource.to_owned(), pb::SeatEndCause::Replaced);
        for stream in [&mut one, &mut other] {
            assert_eq!(told(stream).await, lost);
        }
    }
    // What waits for a stream comes behind one event, or before it.
    for _ in 0..2 {
        let seq = here.send(&room, "next").await;
        for stream in [&mut bob, &mut far] {
            assert_eq!(stream.event().await.seq, seq, "bob was told nothing");
        }
    }
}

async fn bad_input_is_refused_by_name(db: Db) {
    let world = World::open(db).await;
    group(&world, "lobby", &["ann"]).await;
    let mut membership = world.internal(TENANT);
    let mut refuse = async |resource: &str, cause: i32, field: &str| {
        let seat = pb::SeatEndedNotice { resource: resource.to_owned(), cause };
        let request = pb::PublishNoticeRequest {
            room_id: "lobby".to_owned(),
            user_id: "ann".to_owned(),
            notice: Some(Told::SeatEnded(seat)),
        };
        violates(membership.notices.publish_notice(request).await, field);
    };
    refuse("", 1, "seat_ended.resource").await;
    refuse(&"x".repeat(129), 1, "seat_ended.resource").await;
    for cause in [0, 99] {
        refuse("phone", cause, "seat_ended.cause").await;
    }
}
