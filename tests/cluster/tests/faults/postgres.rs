use std::time::Duration;

use parlance_cluster::postgres::Postgres;
use parlance_cluster::{Cluster, Plan, Traffic};
use tokio::time::{sleep, timeout};

/// B-095.
/// Postgres ends without a checkpoint, recovers, and everything goes on by itself;
/// no history is rewound, so no cursor is reset.
#[tokio::test]
async fn crashing_postgres_loses_nothing() {
    let postgres = Postgres::start().await;
    let cluster = Cluster::beside(2, &postgres).await;
    let traffic = Traffic::start(&cluster, Plan::default()).await;
    for _ in 0..crate::rounds(3) {
        traffic.flows(100).await;
        postgres.crash().await;
        traffic.flows(20).await;
        postgres.end().await;
        // The length of the fault, not a wait for something.
        sleep(Duration::from_secs(2)).await;
        postgres.begin().await;
    }
    traffic.flows(100).await;
    traffic.judge(&cluster).await;
    cluster.finish().await;
}

/// Every connection of every replica at once, under load, with appends on the way whose commit
/// nobody can know then: they are run again, and found done or not.
#[tokio::test]
async fn cutting_every_connection_to_the_database_loses_nothing() {
    let cluster = Cluster::start(2).await;
    let traffic = Traffic::start(&cluster, Plan::default()).await;
    for _ in 0..crate::rounds(5) {
        traffic.flows(100).await;
        let held = cluster.database.hold(&traffic.rooms[0]).await;
        let waits = async {
            while cluster.database.waiting().await == 0 {
                sleep(Duration::from_millis(10)).await;
            }
        };
        timeout(Duration::from_secs(4), waits).await.expect("an append waits");
        assert!(cluster.database.cut_connections().await > 0);
        // Its connection is gone too, and the lock with it.
        drop(held);
    }
    traffic.flows(100).await;
    let healed = cluster.healing().await;
    assert!(healed.unknown_commits > 0, "{healed:?}");
    traffic.judge(&cluster).await;
    cluster.finish().await;
}
