use std::time::Duration;

use parlance_cluster::client::{add, adding};
use parlance_cluster::postgres::Postgres;
use parlance_cluster::{Client, Cluster, Kind, Plan, Traffic, Viewer};
use parlance_proto::message::v1::message_service_client::MessageServiceClient;
use parlance_proto::message::v1::{MessageContent, SendMessageRequest};
use parlance_rpc::Reason;
use tokio::time::{sleep, timeout};
use tonic::{Code, Status};

/// What a call has that says nothing else: who waits for it is told before.
const DEADLINE: Duration = Duration::from_secs(10);

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

/// Somebody makes transactions read only for a while, without a restart: what would write is refused
/// in words and is worth repeating, what reads goes on, and afterwards everything does.
#[tokio::test]
async fn while_a_postgres_only_reads_writes_are_refused_and_reads_go_on() {
    let postgres = Postgres::start().await;
    let cluster = Cluster::beside(2, &postgres).await;
    let mut traffic = Traffic::start(&cluster, Plan::default()).await;
    cluster.service().know(&["guest".to_owned()]).await;
    traffic.flows(100).await;
    let room = traffic.rooms[0].clone();
    traffic.owner.create_group("beside", &[]).await.expect("a room");
    let mut late = Vec::new();
    for round in 0..crate::rounds(1) {
        postgres.reads_only(true).await;
        for replica in [0, 1] {
            is_an_outage(&until_refused(&traffic.owner, replica, round).await);
        }
        let adding = adding(&room, "guest", "while nothing is written");
        let added = traffic.owner.once((Kind::Membership, 0), adding, add).await;
        is_an_outage(&added.expect_err("nothing is written"));
        assert!(!traffic.owner.messages(&room).await.is_empty());
        let head = cluster.database.log(&room).await.head;
        let viewer = Viewer::start(traffic.owner.clone(), "owner", &traffic.rooms, round, false);
        assert!(viewer.reaches(&room, head, Duration::from_secs(10)).await, "it reads");
        late.push(viewer);
        for name in cluster.names() {
            assert!(cluster.serving(name).await, "{name} still reads");
        }
        postgres.reads_only(false).await;
        traffic.flows(100).await;
    }
    traffic.join(late);
    traffic.judge(&cluster).await;
    cluster.finish().await;
}

/// What is said to a message once nothing is written any more; what came before that is stored.
async fn until_refused(client: &Client, replica: usize, round: usize) -> Status {
    let refused = async {
        for number in 0.. {
            let content =
                MessageContent { text: "only read".to_owned(), ..MessageContent::default() };
            let request = SendMessageRequest {
                room_id: "beside".to_owned(),
                content: Some(content),
                request_id: format!("only read {round} {replica} {number}"),
                ..SendMessageRequest::default()
            };
            let rpc = |channel, request| async move {
                MessageServiceClient::new(channel).send_message(request).await
            };
            if let Err(status) =
                client.once_within(DEADLINE, (Kind::Message, replica), request, rpc).await
            {
                return status;
            }
        }
        unreachable!("numbers do not end")
    };
    timeout(Duration::from_secs(30), refused).await.expect("refused in time")
}

fn is_an_outage(status: &Status) {
    assert_eq!(status.code(), Code::Unavailable, "{status}");
    assert_eq!(Reason::of(status), Some(Reason::StoreUnavailable), "{status}");
    let details = String::from_utf8_lossy(status.details());
    assert!(details.contains("google.rpc.RetryInfo"), "{status}");
}
