use std::time::Duration;

use parlance_cluster::client::{add, adding};
use parlance_cluster::postgres::Postgres;
use parlance_cluster::{Cluster, Kind};
use tokio::time::{sleep, timeout};
use tonic::Code;

/// Waits until every replica says that it is ready, or that it is not.
async fn until_all(cluster: &Cluster, ready: bool) {
    let wait = async {
        for name in cluster.names() {
            while cluster.serving(name).await != ready {
                sleep(Duration::from_millis(50)).await;
            }
        }
    };
    timeout(Duration::from_mins(1), wait).await.expect("all say so in time");
}

#[tokio::test]
async fn a_process_is_not_ready_without_its_database_and_is_once_it_is_back() {
    let postgres = Postgres::start().await;
    let cluster = Cluster::beside(2, &postgres).await;
    for _ in 0..crate::rounds(1) {
        postgres.end().await;
        until_all(&cluster, false).await;
        postgres.begin().await;
        until_all(&cluster, true).await;
    }
    cluster.finish().await;
}

/// Else one outage would spread by health checks, from service to service.
#[tokio::test]
async fn a_process_without_the_service_below_it_is_ready() {
    let mut cluster = Cluster::start(2).await;
    let user = "guest".to_owned();
    cluster.service().know(std::slice::from_ref(&user)).await;
    let owner = cluster.user("owner");
    owner.create_group("room", &[]).await.expect("a room");
    for below in [Kind::Message, Kind::Membership] {
        for replica in [0, 1] {
            cluster.kill(below.replica(replica)).await;
        }
        // Its callers are told call by call.
        if below == Kind::Message {
            let request = adding("room", &user, "while message is away");
            let refused = owner.once((Kind::Membership, 0), request, add).await;
            let code = refused.expect_err("message is away").code();
            assert!([Code::Unavailable, Code::DeadlineExceeded].contains(&code), "{code}");
        }
        // Longer than it takes until a database that is away is noticed.
        sleep(Duration::from_secs(5)).await;
        for name in cluster.names().into_iter().filter(|name| name.0 > below) {
            assert!(cluster.serving(name).await, "{name} without {below:?}");
        }
    }
    cluster.finish().await;
}
