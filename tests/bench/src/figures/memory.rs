//! S9: the memory of the server per idle subscription, beside a bare tonic stream.

use crate::audience::Audience;
use crate::blaster::Blaster;
use crate::measured::Measured;
use crate::plan::Plan;
use crate::process::memory;
use crate::report::{Figure, Goal, Spread};
use crate::rounds::interleave;

/// Users with two streams each, and how many of the streams share a connection. A room
/// takes at most 1,000 members.
const USERS: usize = 950;
const STREAMS: usize = 2 * USERS;
const EACH: usize = 100;

/// The size of an event's frame: none is sent.
const FRAME: usize = 330;

const ROOM: &str = "idle";

pub(crate) async fn measure(plan: &Plan, suite: &mut Measured) {
    suite.room(ROOM, USERS).await;
    let tokens = [suite.listeners(USERS), suite.listeners(USERS)].concat();
    let rounds = interleave("memory", plan.memory, 2, async |kind| {
        if kind == 0 {
            let blaster = Blaster::start(FRAME).await;
            let each = per_stream(blaster.process_id(), &blaster.address, &tokens).await;
            blaster.finish().await;
            return each;
        }
        // Memory that was used before would be used again, and not be seen.
        suite.restart().await;
        per_stream(suite.process_id(0), &suite.address(0), &tokens).await
    });
    let rounds = rounds.await;
    let kind = |kind: usize| rounds.iter().map(move |round| round[kind]);
    let (ours, bare) = (Spread::of(kind(1)), Spread::of(kind(0)));
    let figure = Figure {
        id: "S9",
        what: format!("memory per idle subscription of {STREAMS}"),
        ratio: Spread::of(kind(1).zip(kind(0)).map(|(ours, bare)| ours / bare)),
        target: Some(Goal::AtMost(0.95)),
        stretch: Some(Goal::AtMost(0.85)),
        absolute: format!("{ours:.1} KiB, bare tonic {bare:.1} KiB; {EACH} on a connection"),
    };
    figure.print();
}

/// KiB for each of the streams; the first ones are not counted, so that what a process
/// needs once is not.
#[expect(clippy::cast_precision_loss, reason = "a size for people to read")]
async fn per_stream(process: u32, address: &str, tokens: &[String]) -> f64 {
    let (first, others) = tokens.split_at(EACH);
    let first = Audience::open(address, ROOM, first, EACH).await;
    let before = memory(process).await;
    let others = Audience::open(address, ROOM, others, EACH).await;
    let after = memory(process).await;
    let streams = others.len();
    drop((first, others));
    (after as f64 - before as f64) / 1024.0 / streams as f64
}
