//! G7: sends while Redis is away.

use std::sync::Arc;
use std::time::Duration;

use parlance_cluster::{Cluster, Kind};
use tokio::time::{Instant, sleep};

use super::sends::{hot, told};
use crate::audience::Audience;
use crate::measured::Measured;
use crate::plan::Plan;
use crate::report::{Figure, Goal, Spread};
use crate::rounds::interleave;

const ROOM: &str = "outage";

/// How long replicas may take to see that Redis came or went.
const PATIENCE: Duration = Duration::from_secs(30);

pub(crate) async fn measure(plan: &Plan, suite: &mut Measured) {
    suite.room(ROOM, 2).await;
    let senders = Arc::new(suite.senders(suite.replicas()).await);
    let tokens = suite.listeners(2);
    // So that there is something to look for while hints do not come.
    let one = Audience::open(&suite.address(0), ROOM, &tokens[..1], 1).await;
    let other = Audience::open(&suite.address(1), ROOM, &tokens[1..], 1).await;
    let Measured::Distributed(cluster) = suite else { return };
    hot(&senders, ROOM, plan.sends / 3).await;
    let mut up = true;
    let rounds = interleave("outage", plan.rounds, 2, async |kind| {
        if up != (kind == 0) {
            up = kind == 0;
            turn(cluster, up).await;
        }
        hot(&senders, ROOM, plan.sends).await
    });
    let rounds = rounds.await;
    if !up {
        turn(cluster, true).await;
    }
    drop((one, other));
    let kind = |kind: usize| rounds.iter().map(move |round| round[kind].per_second);
    let (healthy, away) = (Spread::of(kind(0)), Spread::of(kind(1)));
    let failed: usize = rounds.iter().flatten().map(|round| round.failed).sum();
    let figure = Figure {
        id: "G7",
        what: "sends without Redis / with it".to_owned(),
        ratio: Spread::of(kind(1).zip(kind(0)).map(|(away, healthy)| away / healthy)),
        target: Some(Goal::AtLeast(0.95)),
        stretch: None,
        absolute: format!("{away:.0} sends/s, {healthy:.0} with Redis{}", told(failed)),
    };
    figure.print();
}

/// Starts or kills Redis, and waits until both replicas have seen it.
async fn turn(cluster: &mut Cluster, up: bool) {
    if up {
        cluster.redis.restart().await;
    } else {
        cluster.redis.kill().await;
    }
    let end = Instant::now() + PATIENCE;
    for replica in 0..2 {
        while cluster.bus_is_up(Kind::Message.replica(replica)).await != up {
            assert!(Instant::now() < end, "replica {replica} does not see Redis");
            sleep(Duration::from_millis(50)).await;
        }
    }
}
