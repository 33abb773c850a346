use std::time::{Duration, Instant};

use parlance_cluster::checker::check;
use parlance_cluster::history::{Ack, History, Send};
use parlance_cluster::{Cluster, Viewer};

/// B-137.
/// Every room that a user gets while following all rooms is on the stream, from the event
/// that added the user, though it is made on the other replica, and whatever hints do.
#[tokio::test]
async fn fifty_rooms_made_at_once_on_the_other_replica_are_all_followed() {
    let mut cluster = Cluster::start(2).await;
    let user = "anywhere".to_owned();
    cluster.service().know(std::slice::from_ref(&user)).await;
    let owner = cluster.user("owner");
    let first = vec![user.clone()];
    owner.create_group("first", &first).await.expect("a room");
    let streams: Vec<Viewer> =
        (0..2).map(|replica| Viewer::everywhere(cluster.user(&user), &user, replica)).collect();
    for stream in &streams {
        assert!(stream.is_on(Duration::from_secs(5)).await);
    }
    let (mut rooms, mut history) = (Vec::new(), History::default());
    for (round, without_redis) in [false, true].into_iter().enumerate() {
        if without_redis {
            cluster.redis.kill().await;
        }
        let names: Vec<String> = (0..50).map(|room| format!("room-{round}-{room}")).collect();
        let made = names.iter().enumerate().map(|(number, room)| {
            let (owner, first) = (owner.clone(), first.clone());
            async move {
                owner.create_group(room, &first).await.expect("a room");
                let (began, text) = (Instant::now(), format!("hello {room}"));
                let sent = owner.send(number, room, "hello", &text).await.expect("sent");
                let ack = Ack { seq: sent.seq, at: Instant::now() };
                let (sender, request_id) = ("owner".to_owned(), "hello".to_owned());
                let (room, acks) = (room.clone(), vec![ack]);
                Send { room, sender, request_id, text, began, acks, refused: false }
            }
        });
        history.sends.extend(futures::future::join_all(made).await);
        rooms.extend(names);
        for room in &rooms {
            let head = cluster.database.log(room).await.head;
            for stream in &streams {
                let there = stream.reaches(room, head, Duration::from_secs(10)).await;
                assert!(there, "{room} did not come, Redis away: {without_redis}");
            }
        }
    }
    // Some came by the look at who got access, not by a hint.
    let healed = cluster.healing().await;
    assert!(healed.users_healed > 0 && healed.polls > 0, "{healed:?}");
    for stream in streams {
        history.views.extend(stream.stop().await.0);
    }
    let mut logs = Vec::new();
    for room in &rooms {
        logs.push(cluster.database.log(room).await);
    }
    for log in &logs {
        // From the event that added the user on.
        let seen = history.views.iter().filter(|view| view.room == log.room);
        assert!(seen.clone().count() == 2 && seen.clone().all(|view| view.first_seq() == 2));
    }
    history.views.retain(|view| view.room != "first");
    let findings = check(&history, &logs);
    assert!(findings.is_empty(), "{findings:?}");
    cluster.finish().await;
}
