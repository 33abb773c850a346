use std::time::Duration;

use parlance_cluster::{Cluster, Plan, Traffic};

/// Redis dies, comes back empty, forgets, cuts its clients and hangs, in turn, under load.
/// Hints are lost by the hundred; no event is, and streams do not even slow down much.
#[tokio::test]
async fn whatever_redis_does_costs_no_event() {
    let mut cluster = Cluster::start(2).await;
    let traffic = Traffic::start(&cluster, Plan::default()).await;
    traffic.flows(100).await;
    for _ in 0..crate::rounds(2) {
        cluster.redis.kill().await;
        traffic.flows(150).await;
        keeps_up(&traffic, &cluster).await;
        cluster.redis.restart().await;
        traffic.flows(100).await;
        cluster.redis.flush().await;
        cluster.redis.cut().await;
        traffic.flows(100).await;
        cluster.redis.pause().await;
        traffic.flows(150).await;
        keeps_up(&traffic, &cluster).await;
        cluster.redis.resume().await;
        traffic.flows(100).await;
    }
    let healed = cluster.healing().await;
    assert!(healed.disturbances > 0 && healed.polls > 0, "{healed:?}");
    assert!(healed.hints_dropped > 0 && healed.head_checks_healed > 0, "{healed:?}");
    assert_eq!(healed.resets, 0, "nothing was rewound");
    traffic.judge(&cluster).await;
    cluster.finish().await;
}

/// One of three masters dies and comes back, while hints go over sharded pub/sub.
#[tokio::test]
async fn a_redis_cluster_that_loses_a_node_costs_no_event() {
    let mut cluster = Cluster::on_redis_cluster(2).await;
    let traffic = Traffic::start(&cluster, Plan::default()).await;
    traffic.flows(150).await;
    for _ in 0..crate::rounds(1) {
        cluster.redis.kill().await;
        traffic.flows(150).await;
        keeps_up(&traffic, &cluster).await;
        cluster.redis.restart().await;
        traffic.flows(150).await;
        cluster.redis.cut().await;
        traffic.flows(100).await;
    }
    let healed = cluster.healing().await;
    assert!(healed.disturbances > 0 && healed.polls > 0, "{healed:?}");
    traffic.judge(&cluster).await;
    cluster.finish().await;
}

/// Streams on both replicas come as far as the logs are now, whatever state Redis is in.
async fn keeps_up(traffic: &Traffic, cluster: &Cluster) {
    for room in &traffic.rooms {
        let head = cluster.database.log(room).await.head;
        for viewer in traffic.viewers() {
            let there = viewer.reaches(room, head, Duration::from_secs(5)).await;
            assert!(there, "{} is behind {head} of {room}", viewer.user);
        }
    }
}
