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

/// And back: once a later version has added to every schema, this one starts on it again, replica by
/// replica, whichever service goes first.
#[tokio::test]
async fn a_version_comes_back_onto_the_schema_of_a_later_one() {
    let mut cluster = Cluster::start(2).await;
    let traffic = Traffic::start(&cluster, Plan::default()).await;
    traffic.flows(100).await;
    for schema in ["message", "membership", "room", "presence"] {
        let later = format!(
            "INSERT INTO parlance_{schema}._sqlx_migrations
                 (version, description, success, checksum, execution_time)
             VALUES (900, 'of a later version', TRUE, '', 0)"
        );
        cluster.database.run(&later).await;
    }
    for table in ["message.members", "membership.members", "room.rooms"] {
        let add = format!("ALTER TABLE parlance_{table} ADD COLUMN later BIGINT DEFAULT 0");
        cluster.database.run(&add).await;
    }
    traffic.flows(100).await;
    for (number, kinds) in [(0, Kind::ALL.to_vec()), (1, Kind::ALL.into_iter().rev().collect())] {
        for kind in kinds {
            let replica = kind.replica(number);
            cluster.stop(replica).await;
            cluster.restart(replica).await;
            traffic.flows(50).await;
        }
    }
    for kind in Kind::ALL {
        assert_eq!(cluster.logged(kind, "the schema is newer than this program"), 2);
    }
    traffic.judge(&cluster).await;
    cluster.finish().await;
}
