use std::time::Duration;

use parlance_cluster::{Cluster, Plan, Traffic};

/// B-098.
/// Every second message goes to both replicas at once, with one request id.
#[tokio::test]
async fn senders_on_both_replicas_share_rooms_and_request_ids() {
    let cluster = Cluster::start(2).await;
    let plan = Plan { senders: 8, twins: 2, pause: Duration::ZERO, ..Plan::default() };
    let traffic = Traffic::start(&cluster, plan).await;
    traffic.flows(crate::rounds(1500)).await;
    traffic.judge(&cluster).await;
    cluster.finish().await;
}
