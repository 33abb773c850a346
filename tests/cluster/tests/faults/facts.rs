use std::time::Duration;

use parlance_cluster::client::{add, adding, remove};
use parlance_cluster::{Client, Cluster, Kind};
use tokio::time::{sleep, timeout};
use tonic::Code;

/// What was decided while message was away is in the log once it is back, once:
/// whoever asks, and with whichever request id.
#[tokio::test]
async fn facts_wait_for_message_and_are_told_once() {
    let mut cluster = Cluster::start(2).await;
    let users = ["same", "anew", "never", "gone"].map(str::to_owned);
    cluster.service().know(&users).await;
    let owner = cluster.user("owner");
    for round in 0..crate::rounds(3) {
        let room = format!("room-{round}");
        owner.create_group(&room, &users[3..]).await.expect("a room");
        let before = cluster.database.log(&room).await.head;
        for replica in [0, 1] {
            cluster.kill(Kind::Message.replica(replica)).await;
        }
        let away = |code| [Code::Unavailable, Code::DeadlineExceeded].contains(&code);
        let first = |user: &str| format!("first {room} {user}");
        for (number, user) in users[..3].iter().enumerate() {
            let (at, request) = ((Kind::Membership, number), adding(&room, user, &first(user)));
            let refused = owner.once(at, request, add).await.expect_err("message is away");
            assert!(away(refused.code()), "{refused}");
        }
        let removal = Client::removal(&room, "gone", &first("gone"));
        let refused = owner.once((Kind::Membership, 0), removal.clone(), remove).await;
        assert!(away(refused.expect_err("message is away").code()));
        for replica in [0, 1] {
            cluster.restart(Kind::Message.replica(replica)).await;
        }
        // One caller asks again as before, one anew, and one never comes back.
        let same = adding(&room, "same", &first("same"));
        owner.call((Kind::Membership, 1), same, add).await.expect("the first reply");
        let anew = adding(&room, "anew", &format!("second {room}"));
        owner.call((Kind::Membership, 0), anew, add).await.expect("no effect");
        owner.call((Kind::Membership, 1), removal, remove).await.expect("the first reply");
        let log = cluster.database.log(&room).await;
        assert_eq!(log.head, before + 4, "each decision is one event");
        let told = log.entries.iter().filter(|entry| entry.seq > before);
        let told: Vec<&String> =
            told.flat_map(|entry| entry.gained.iter().chain(&entry.lost)).collect();
        assert_eq!(told, users.iter().collect::<Vec<_>>(), "in the order of the decisions");
    }
    let outbox = cluster.outbox().await;
    assert!(outbox.failed_drives > 0, "{outbox:?}");
    assert_eq!((outbox.backlog_logs, outbox.backlog_facts), (0, 0));
    relayed(&mut cluster, &owner).await;
    cluster.finish().await;
}

/// A decision that nobody asks about again is brought into the log by the relay.
async fn relayed(cluster: &mut Cluster, owner: &Client) {
    let room = "forgotten";
    owner.create_group(room, &[]).await.expect("a room");
    let before = cluster.outbox().await.relayed;
    for replica in [0, 1] {
        cluster.kill(Kind::Message.replica(replica)).await;
    }
    let request = adding(room, "same", "once");
    owner.once((Kind::Membership, 0), request, add).await.expect_err("message is away");
    assert_eq!(cluster.outbox().await.backlog_facts, 1);
    for replica in [0, 1] {
        cluster.restart(Kind::Message.replica(replica)).await;
    }
    let done = async {
        while cluster.outbox().await.backlog_facts > 0 {
            sleep(Duration::from_millis(50)).await;
        }
    };
    timeout(Duration::from_secs(40), done).await.expect("the relay finishes");
    let log = cluster.database.log(room).await;
    assert_eq!(log.entries.last().expect("an event").gained, ["same"]);
    assert!(cluster.outbox().await.relayed > before);
}
