//! L1: sends while live rooms end by themselves.

use std::time::{Duration, Instant};

use futures::{StreamExt as _, stream};
use parlance_cluster::{Client, Kind};
use parlance_proto::room::v1::live_room_service_client::LiveRoomServiceClient;
use parlance_proto::room::v1::{EnterRoomRequest, LeaveRoomRequest, NewLiveRoom};
use tokio::time::sleep;

use super::fresh_id;
use super::sends::told;
use crate::caller::{Caller, connect};
use crate::load::{Rate, rate};
use crate::measured::Measured;
use crate::plan::Plan;
use crate::report::{Figure, Goal, Spread};
use crate::rounds::interleave;

const ROOM: &str = "unhurried";

/// How many live rooms end in a round, and how many users make them, each one after the other.
const ENDINGS: usize = 2000;
const USERS: usize = 16;

/// How often it is looked whether all have ended.
const LOOK: Duration = Duration::from_millis(100);

/// What sends came to, and how many rooms ended in a second beside them.
struct Round {
    sends: Rate,
    endings: f64,
}

pub(crate) async fn measure(plan: &Plan, suite: &Measured) {
    let Measured::Distributed(cluster) = suite else { return };
    suite.room(ROOM, 1).await;
    let sender = Caller::new(connect(&suite.address(0)).await, &suite.token("sender-0"));
    let rounds = interleave("endings", plan.endings, 2, async |kind| {
        if kind == 0 {
            return Round { sends: sends(&sender, plan.latency).await, endings: 0.0 };
        }
        make(suite, &fresh_id()).await;
        let began = Instant::now();
        cluster.database.end_live_rooms().await;
        let all_ended = async {
            while cluster.database.ending_live_rooms().await > 0 {
                sleep(LOOK).await;
            }
            began.elapsed()
        };
        let (sends, took) = tokio::join!(sends(&sender, plan.latency), all_ended);
        Round { sends, endings: per_second(took) }
    });
    print(&rounds.await);
}

#[expect(clippy::cast_precision_loss, reason = "a rate for people to read")]
fn per_second(took: Duration) -> f64 {
    ENDINGS as f64 / took.as_secs_f64()
}

fn print(rounds: &[Vec<Round>]) {
    let time = |round: &Round| 1e6 / round.sends.per_second;
    let times = |kind: usize| Spread::of(rounds.iter().map(|round| time(&round[kind])));
    let failed: usize = rounds.iter().flatten().map(|round| round.sends.failed).sum();
    let figure = Figure {
        id: "L1",
        what: format!("a send beside {ENDINGS} live rooms that end / alone"),
        ratio: Spread::of(rounds.iter().map(|round| time(&round[1]) / time(&round[0]))),
        target: Some(Goal::AtMost(2.0)),
        stretch: Some(Goal::AtMost(1.5)),
        absolute: format!(
            "{:.0} us, {:.0} us alone; {:.0} rooms/s{}",
            times(1),
            times(0),
            Spread::of(rounds.iter().map(|round| round[1].endings)),
            told(failed)
        ),
    };
    figure.print();
}

/// One send after the other.
async fn sends(sender: &Caller, length: Duration) -> Rate {
    let sender = sender.clone();
    rate(1, length, move |_, _| {
        let sender = sender.clone();
        async move { sender.send(ROOM, fresh_id()).await.is_ok() }
    })
    .await
}

/// Makes live rooms that wait for somebody, with nobody in them.
async fn make(suite: &Measured, run: &str) {
    eprintln!("making {ENDINGS} live rooms");
    let users = (0..USERS).map(|number| async move {
        let user = suite.user(&format!("guest-{number}"));
        for room in (number..ENDINGS).step_by(USERS) {
            pass_through(&user, format!("{run} {room}")).await;
        }
    });
    stream::iter(users).buffer_unordered(USERS).collect::<()>().await;
}

async fn pass_through(user: &Client, room_id: String) {
    let hour = prost_types::Duration { seconds: 3600, nanos: 0 };
    let resource = "phone".to_owned();
    let request = EnterRoomRequest {
        room_id: room_id.clone(),
        resource: resource.clone(),
        session_id: "any".to_owned(),
        create_if_missing: true,
        room: Some(NewLiveRoom { destroy_delay: Some(hour), ..NewLiveRoom::default() }),
    };
    let enter = |channel, request| async move {
        LiveRoomServiceClient::new(channel).enter_room(request).await
    };
    user.call((Kind::Room, 0), request, enter).await.expect("entered");
    let leave = |channel, request| async move {
        LiveRoomServiceClient::new(channel).leave_room(request).await
    };
    let request = LeaveRoomRequest { room_id, resource };
    user.call((Kind::Room, 0), request, leave).await.expect("left");
}
