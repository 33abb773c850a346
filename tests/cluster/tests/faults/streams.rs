use std::time::{Duration, Instant};

use parlance_cluster::{Client, Cluster, Kind, Plan, Traffic, Viewer};
use parlance_proto::message::v1::subscribe_response::Frame;
use parlance_proto::message::v1::{Cursor, RoomCursor, SubscribeRequest, SubscribeResponse};
use tonic::Streaming;

/// A user, and how many streams each of them opens.
const USERS: usize = 20;
const STREAMS_EACH: usize = 50;

/// How much a replica may grow while streams that nobody reads fall behind.
const GROWTH: u64 = 64 * 1024 * 1024;

/// B-132, B-144.
/// One replica dies, and all of its streams come to the other one at once.
#[tokio::test]
async fn a_thousand_streams_move_to_the_other_replica() {
    let mut cluster = Cluster::start(2).await;
    // Each message is delivered a thousand times.
    let pause = Duration::from_millis(200);
    let plan = Plan { rooms: 1, senders: 2, viewers: 2, marks: 0, pause, ..Plan::default() };
    let mut traffic = Traffic::start(&cluster, plan).await;
    let room = traffic.rooms[0].clone();
    let users: Vec<String> = (0..USERS).map(|number| format!("crowd-{number}")).collect();
    cluster.service().know(&users).await;
    for user in &users {
        traffic.owner.add(0, &room, user).await.expect("added");
    }
    let mut crowd = Vec::new();
    for user in &users {
        let client = cluster.user(user);
        for _ in 0..STREAMS_EACH {
            let rooms = [room.clone()];
            crowd.push(Viewer::start(client.clone(), user, &rooms, 0, false));
        }
    }
    all_reach(&crowd, &room, cluster.database.log(&room).await.head).await;
    traffic.flows(20).await;
    let died = Instant::now();
    cluster.kill(Kind::Message.replica(0)).await;
    traffic.flows(5).await;
    all_reach(&crowd, &room, cluster.database.log(&room).await.head).await;
    println!("{} streams went on within {:.1?}", crowd.len(), died.elapsed());
    cluster.restart(Kind::Message.replica(0)).await;
    let head = cluster.database.log(&room).await.head;
    all_reach(&crowd, &room, head).await;
    traffic.join(crowd);
    traffic.judge(&cluster).await;
    cluster.finish().await;
}

async fn all_reach(crowd: &[Viewer], room: &str, head: i64) {
    for (number, viewer) in crowd.iter().enumerate() {
        let there = viewer.reaches(room, head, Duration::from_secs(20)).await;
        assert!(there, "stream {number} of {} is not at {head}", crowd.len());
    }
}

/// B-099.
/// Nobody reads some streams for as long as twenty megabytes pass. Others are as far as ever,
/// the replica does not grow, and whoever reads in the end gets all of it in order.
#[tokio::test]
async fn streams_that_nobody_reads_delay_nobody_and_miss_nothing() {
    let cluster = Cluster::start(2).await;
    let user = "sleeper".to_owned();
    cluster.service().know(std::slice::from_ref(&user)).await;
    let plan = Plan { rooms: 1, pause: Duration::ZERO, padding: 3500, marks: 0, ..Plan::default() };
    let traffic = Traffic::start(&cluster, plan).await;
    let room = traffic.rooms[0].clone();
    traffic.owner.add(0, &room, &user).await.expect("added");
    let replica = Kind::Message.replica(0);
    traffic.flows(100).await;
    let mut sleepers = Vec::new();
    for _ in 0..8 {
        // Of connections of their own: what nobody reads fills a connection's window too.
        let client = cluster.user(&user);
        let stream = client.subscribe(0, from(&room, &Cursor::default())).await;
        sleepers.push((client, stream.expect("a stream")));
    }
    let before = cluster.resident(replica);
    traffic.flows(crate::rounds(5000)).await;
    let head = cluster.database.log(&room).await.head;
    for viewer in traffic.viewers() {
        assert!(viewer.reaches(&room, head, Duration::from_secs(10)).await, "{}", viewer.user);
    }
    let grown = cluster.resident(replica).saturating_sub(before);
    assert!(grown < GROWTH, "the replica grew by {} MiB", grown / 1024 / 1024);
    for (client, stream) in sleepers {
        wakes(&client, stream, &room, head).await;
    }
    let healed = cluster.healing().await;
    assert!(healed.catch_up_blocks > 0, "{healed:?}");
    traffic.judge(&cluster).await;
    cluster.finish().await;
}

/// Reads what a stream had to tell, and goes on from there if it was ended meanwhile.
async fn wakes(client: &Client, mut stream: Streaming<SubscribeResponse>, room: &str, head: i64) {
    let mut cursor = Cursor::default();
    while cursor.seq < head {
        let frame = stream.message().await.ok().flatten().and_then(|told| told.frame);
        match frame {
            Some(Frame::Attached(attached)) => {
                assert_eq!(attached.resume_from, cursor.seq);
                cursor.epoch = attached.epoch;
            }
            Some(Frame::Event(event)) => {
                let event = event.event.expect("an event");
                assert_eq!(event.seq, cursor.seq + 1, "in order, and none twice");
                cursor.move_to(event.seq, event.time);
            }
            Some(Frame::Skipped(_) | Frame::Reset(_) | Frame::Closed(_)) => {
                panic!("all of it is visible: {frame:?}")
            }
            Some(Frame::GoAway(_)) | None => {
                stream = client.subscribe(0, from(room, &cursor)).await.expect("a stream");
            }
            Some(_) => {}
        }
    }
}

fn from(room: &str, cursor: &Cursor) -> SubscribeRequest {
    let (room_id, cursor) = (room.to_owned(), Some(cursor.clone()));
    let rooms = vec![RoomCursor { room_id, cursor }];
    SubscribeRequest { rooms, ..SubscribeRequest::default() }
}
