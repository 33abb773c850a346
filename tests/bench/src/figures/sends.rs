//! S1, S2 and S3: durable sends a second beside bare inserts.

use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::task::JoinSet;

use super::fresh_id;
use crate::bare::Inserts;
use crate::caller::Caller;
use crate::load::{Rate, rate};
use crate::measured::{Measured, ROOMS, SENDERS, numbered};
use crate::plan::Plan;
use crate::process::cpu;
use crate::report::{Figure, Goal, Spread};
use crate::rounds::interleave;

/// Sends in flight.
pub(crate) const IN_FLIGHT: usize = 128;

/// Sends that wait for their answers on each of the streams of S3.
const OPEN: usize = 128;

/// The room that everybody writes to.
const HOT: &str = "hot";

/// What a round of calls came to, and the CPU time that it took, in microseconds: of
/// the message processes, and of this one.
struct Round {
    rate: Rate,
    times: [f64; 2],
}

fn times(suite: &Measured) -> [f64; 2] {
    let servers = (0..suite.replicas()).map(|replica| cpu(suite.process_id(replica)));
    [servers.sum(), cpu(std::process::id())]
}

fn difference(end: [f64; 2], begin: [f64; 2]) -> [f64; 2] {
    [end[0] - begin[0], end[1] - begin[1]]
}

pub(crate) async fn measure(plan: &Plan, suite: &Measured) {
    suite.room(HOT, 0).await;
    suite.many_rooms().await;
    let inserts = Inserts::open(suite).await;
    let senders = Arc::new(suite.senders(suite.replicas()).await);
    let step = async |kind: usize, length: Duration| match kind {
        0 => inserts.rate(length).await,
        1 => hot(&senders, HOT, length).await,
        2 => spread(&senders, length).await,
        _ => streamed(&senders, length).await,
    };
    for kind in 0..4 {
        step(kind, plan.sends / 3).await;
    }
    let rounds = interleave("sends", plan.rounds, 4, async |kind| {
        let begin = times(suite);
        let rate = step(kind, plan.sends).await;
        Round { rate, times: difference(times(suite), begin) }
    });
    let rounds = rounds.await;
    let many = format!("{ROOMS} rooms");
    let streams = format!("{many}, streamed");
    for (kind, id, what, target, stretch) in [
        (1, "S1", "one hot room", 0.8, 1.2),
        (2, "S2", many.as_str(), 0.6, 0.8),
        (3, "S3", streams.as_str(), 1.2, 2.0),
    ] {
        let per_second = |kind: usize| rounds.iter().map(move |round| round[kind].rate.per_second);
        let ratio = Spread::of(per_second(kind).zip(per_second(0)).map(|(sent, bare)| sent / bare));
        let (sent, bare) = (Spread::of(per_second(kind)), Spread::of(per_second(0)));
        let failed: usize = rounds.iter().map(|round| round[kind].rate.failed).sum();
        let each = |at: usize| {
            Spread::of(rounds.iter().map(|round| round[kind].times[at] / round[kind].rate.done))
        };
        let figure = Figure {
            id,
            what: format!("{what} / {}", inserts.name()),
            ratio,
            target: Some(Goal::AtLeast(target)),
            stretch: Some(Goal::AtLeast(stretch)),
            absolute: format!(
                "{sent:.0} sends/s, {bare:.0} inserts/s; CPU of a send: message {:.0} us, client \
                 {:.0} us{}",
                each(0),
                each(1),
                told(failed)
            ),
        };
        figure.print();
    }
    inserts.close().await;
}

/// Says how many calls failed, if any did.
pub(crate) fn told(failed: usize) -> String {
    if failed == 0 { String::new() } else { format!("; {failed} sends FAILED") }
}

/// Everybody sends to one room.
pub(crate) async fn hot(senders: &Arc<Vec<Caller>>, room: &'static str, length: Duration) -> Rate {
    let senders = Arc::clone(senders);
    rate(IN_FLIGHT, length, move |worker, _| {
        let sender = senders[worker % SENDERS].clone();
        async move { sender.send(room, fresh_id()).await.is_ok() }
    })
    .await
}

/// Everybody sends to the rooms of their own, one after the other.
async fn spread(senders: &Arc<Vec<Caller>>, length: Duration) -> Rate {
    let senders = Arc::clone(senders);
    rate(IN_FLIGHT, length, move |worker, number| {
        let sender = worker % SENDERS;
        // Workers of one sender begin at different rooms.
        let begin = worker / SENDERS * (ROOMS / IN_FLIGHT);
        let room = own_room(sender, begin + number);
        let sender = senders[sender].clone();
        async move { sender.send(&room, fresh_id()).await.is_ok() }
    })
    .await
}

/// A room of a sender's own; numbers beyond the last begin anew.
fn own_room(sender: usize, number: usize) -> String {
    numbered(sender + SENDERS * (number % (ROOMS / SENDERS)))
}

/// The same on one stream of each.
#[expect(clippy::cast_precision_loss, reason = "a rate for people to read")]
async fn streamed(senders: &Arc<Vec<Caller>>, length: Duration) -> Rate {
    let began = Instant::now();
    let mut streams = JoinSet::new();
    for (number, sender) in senders.iter().cloned().enumerate() {
        streams.spawn(async move {
            let mut sent = 0;
            let next = || {
                sent += 1;
                (own_room(number, sent), fresh_id())
            };
            sender.pour(OPEN, began + length, next).await.expect("a stream of sends")
        });
    }
    let (mut done, mut failed) = (0, 0);
    for (stored, refused) in streams.join_all().await {
        done += stored;
        failed += refused;
    }
    let done = done as f64;
    Rate { per_second: done / began.elapsed().as_secs_f64(), done, failed }
}
