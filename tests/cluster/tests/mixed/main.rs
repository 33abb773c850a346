//! What an upgrade goes through: an older version beside this one, on one database.

use std::path::PathBuf;

use parlance_cluster::{Cluster, Kind, Plan, Traffic};

/// The programs of the older version.
fn older() -> PathBuf {
    let folder = std::env::var_os("TEST_PARLANCE_OLDER_PROGRAMS");
    folder.expect("TEST_PARLANCE_OLDER_PROGRAMS names a folder: see `make mixed`").into()
}

/// The replicas of each service are upgraded one after the other. Between the two both versions
/// serve the same rooms and streams, and the new one is killed: nothing is lost, nothing comes
/// twice, and no stream stops at what it does not know.
#[tokio::test]
async fn two_versions_share_rooms_and_streams() {
    let mut cluster = Cluster::of_older(2, &older()).await;
    let traffic = Traffic::start(&cluster, Plan::default()).await;
    traffic.flows(100).await;
    for number in [0, 1] {
        for kind in Kind::ALL {
            let replica = kind.replica(number);
            cluster.upgrade(replica).await;
            traffic.flows(100).await;
            cluster.kill(replica).await;
            traffic.flows(50).await;
            cluster.restart(replica).await;
        }
    }
    traffic.flows(100).await;
    traffic.judge(&cluster).await;
    cluster.finish().await;
}
