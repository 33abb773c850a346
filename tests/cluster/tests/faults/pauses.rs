use std::time::Duration;

use parlance_cluster::{Cluster, Kind, Plan, Traffic};
use tokio::time::{sleep, timeout};

/// How long the test waits for both replicas to hold a batch: a held send gives up after 2 s and
/// comes again a second later, so that they do not always wait at the same time.
const PATIENCE: Duration = Duration::from_secs(20);

/// It stops with batches in its hands that are committed while it stands still, and goes on with
/// them when their senders have long gone to the other replica.
#[tokio::test]
async fn a_message_replica_that_stands_still_for_ten_seconds_stops_nobody() {
    let cluster = Cluster::start(2).await;
    let plan = Plan { senders: 8, pause: Duration::ZERO, ..Plan::default() };
    let traffic = Traffic::start(&cluster, plan).await;
    for round in 0..crate::rounds(1) {
        traffic.flows(200).await;
        let name = Kind::Message.replica(round % 2);
        let held = cluster.database.hold(&traffic.rooms[0]).await;
        let both = async {
            while cluster.database.waiting().await < 2 {
                sleep(Duration::from_millis(10)).await;
            }
        };
        timeout(PATIENCE, both).await.expect("a batch of each replica waits");
        cluster.pause(name).await;
        held.release().await;
        // The length of the fault, not a wait for something.
        sleep(Duration::from_secs(10)).await;
        // Facts too find the replica that answers.
        let guest = format!("guest-{round}");
        cluster.service().know(std::slice::from_ref(&guest)).await;
        traffic.owner.add(round, &traffic.rooms[0], &guest).await.expect("added");
        // Half of the sends find the silent one first, and wait for it.
        traffic.flows(20).await;
        cluster.resume(name).await;
        traffic.flows(200).await;
    }
    traffic.judge(&cluster).await;
    cluster.finish().await;
}
