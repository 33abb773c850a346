use parlance_cluster::{Cluster, Kind, Plan, Traffic};

/// B-095, B-099, B-132.
/// A replica of each service is killed in turn, and started again while its twin
/// serves; then the other one.
#[tokio::test]
async fn killing_any_replica_loses_nothing() {
    let mut cluster = Cluster::start(2).await;
    let traffic = Traffic::start(&cluster, Plan::default()).await;
    for round in 0..crate::rounds(2) {
        for kind in Kind::ALL {
            traffic.flows(100).await;
            let name = kind.replica(round % 2);
            cluster.kill(name).await;
            traffic.flows(50).await;
            // With one replica dead no caller notices: these are tried once.
            let twin = (round + 1) % 2;
            let user = format!("guest {round} {kind:?}");
            cluster.service().know(std::slice::from_ref(&user)).await;
            if kind != Kind::Membership {
                traffic.owner.add(twin, &traffic.rooms[0], &user).await.expect("added");
            }
            let room = format!("{user} room");
            traffic.owner.create_group(&room, &[user]).await.expect("a room");
            cluster.restart(name).await;
        }
    }
    traffic.judge(&cluster).await;
    cluster.finish().await;
}

/// Internal calls go to the replica that lives: nobody who calls a service above
/// gets an error, though nothing is tried again here.
#[tokio::test]
async fn a_dead_replica_below_costs_no_caller_an_error() {
    let mut cluster = Cluster::start(2).await;
    let users: Vec<String> = (0..40).map(|number| format!("user-{number}")).collect();
    cluster.service().know(&users).await;
    let owner = cluster.user("owner");
    owner.create_group("room", &[]).await.expect("a room");
    for dead in [0, 1] {
        cluster.kill(Kind::Message.replica(dead)).await;
        for (number, user) in users.iter().skip(dead).step_by(2).enumerate() {
            owner.add_once(number, "room", user).await.expect("added at the first try");
        }
        cluster.restart(Kind::Message.replica(dead)).await;
    }
    cluster.kill(Kind::Membership.replica(0)).await;
    for number in 0..20 {
        let room = format!("room-{number}");
        owner.create_once(number, &room).await.expect("created at the first try");
    }
    cluster.finish().await;
}

/// B-132.
#[tokio::test]
async fn rolling_every_replica_loses_nothing() {
    let mut cluster = Cluster::start(2).await;
    let traffic = Traffic::start(&cluster, Plan::default()).await;
    traffic.flows(100).await;
    for _ in 0..crate::rounds(1) {
        cluster.roll().await;
    }
    traffic.flows(100).await;
    traffic.judge(&cluster).await;
    cluster.finish().await;
}
