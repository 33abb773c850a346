//! An older version beside this one, on one database: what an upgrade goes through.

use std::path::PathBuf;

use parlance_cluster::{Cluster, Kind, Plan, Traffic};

/// The programs of the older version.
fn older() -> PathBuf {
    let folder = std::env::var_os("TEST_PARLANCE_OLDER_PROGRAMS");
    folder.expect("TEST_PARLANCE_OLDER_PROGRAMS names a folder: see `make mixed`").into()
}

/// Both versions serve the same rooms and streams, and either goes on while the other is killed
/// or rolled: nothing is lost, nothing comes twice, and no stream stops at what it does not know.
#[tokio::test]
async fn two_versions_share_rooms_and_streams() {
    let mut cluster = Cluster::beside_older(&older()).await;
    let traffic = Traffic::start(&cluster, Plan::default()).await;
    traffic.flows(300).await;
    for number in [0, 1] {
        for kind in Kind::ALL {
            cluster.kill(kind.replica(number)).await;
            traffic.flows(50).await;
            cluster.restart(kind.replica(number)).await;
        }
    }
    cluster.roll().await;
    traffic.flows(300).await;
    traffic.judge(&cluster).await;
    cluster.finish().await;
}
