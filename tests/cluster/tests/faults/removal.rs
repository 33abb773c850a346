use std::time::Duration;

use parlance_cluster::history::Frame;
use parlance_cluster::{Cluster, Plan, Traffic, Viewer};

/// B-073.
/// Four streams of one user on both replicas, eight senders; removed in each room
/// in turn, while Redis stands still in half of the rounds. What they got ends at the removal,
/// or before it: streams that are behind skip the rest.
#[tokio::test]
async fn removal_holds_at_once_on_every_stream_of_both_replicas() {
    let cluster = Cluster::start(2).await;
    let rooms = crate::rounds(6);
    let plan = Plan { rooms, senders: 8, viewers: 2, pause: Duration::ZERO, ..Plan::default() };
    let traffic = Traffic::start(&cluster, plan).await;
    let user = "leaver".to_owned();
    cluster.service().know(std::slice::from_ref(&user)).await;
    for room in &traffic.rooms {
        traffic.owner.add(0, room, &user).await.expect("added");
    }
    let watch = |replica| Viewer::start(cluster.user(&user), &user, &traffic.rooms, replica, false);
    let streams: Vec<Viewer> = (0..4).map(watch).collect();
    let mut removed_at = Vec::new();
    for (number, room) in traffic.rooms.iter().enumerate() {
        traffic.flows(60).await;
        if number % 2 == 1 {
            cluster.redis.pause().await;
        }
        // A sender goes too, in the middle of its sends.
        let sender = format!("sender-{number}");
        if number < 8 {
            traffic.owner.remove(number + 1, room, &sender).await.expect("removed");
        }
        traffic.owner.remove(number, room, &user).await.expect("removed");
        removed_at.push(cluster.database.removal(room, &user).await);
        // From the acknowledgement on nothing is accepted, on either replica.
        for replica in [0, 1] {
            let refused = cluster.user(&user).send(replica, room, "late", "late").await;
            assert!(refused.is_err(), "{refused:?}");
        }
        for stream in &streams {
            assert!(stream.is_closed(room, Duration::from_secs(5)).await, "{room} is open");
        }
        if number % 2 == 1 {
            cluster.redis.resume().await;
        }
    }
    traffic.flows(60).await;
    let mut views = Vec::new();
    for stream in streams {
        views.extend(stream.stop().await.0);
    }
    assert_eq!(views.len(), 4 * traffic.rooms.len());
    for view in &views {
        let number = traffic.rooms.iter().position(|room| *room == view.room).expect("a room");
        assert!(view.last_seq() <= removed_at[number], "{}", view.room);
        let closed = Frame::Closed { seq: removed_at[number] };
        assert_eq!(view.frames.last(), Some(&closed), "{}", view.room);
    }
    let healed = cluster.healing().await;
    assert!(healed.head_checks_healed > 0, "{healed:?}");
    traffic.judge_with(&cluster, views).await;
    cluster.finish().await;
}
