//! S6 and S7: the CPU time of the server per delivery, beside a bare tonic stream.

use futures::future::join_all;

use super::fresh_id;
use crate::audience::Audience;
use crate::blaster::Blaster;
use crate::caller::Caller;
use crate::measured::Measured;
use crate::plan::Plan;
use crate::process::cpu;
use crate::report::{Figure, Goal, Spread};
use crate::rounds::interleave;

/// Streams, and how many of them share a connection.
const STREAMS: usize = 200;
const EACH: usize = 20;

/// Events of a burst.
const BURST: usize = 32;

/// The room that is listened to, and one alike that is not.
const LOUD: &str = "loud";
const QUIET: &str = "quiet";

pub(crate) async fn measure(plan: &Plan, suite: &Measured) {
    for room in [LOUD, QUIET] {
        suite.room(room, STREAMS).await;
    }
    let tokens = suite.listeners(STREAMS);
    let sender = suite.senders(1).await.swap_remove(0);
    let ours = Audience::open(&suite.address(0), LOUD, &tokens, EACH).await;
    let burst = Suite { process: suite.process_id(0), sender, audience: ours };
    burst.delivers(1, 1).await;
    let blaster = Blaster::start(burst.audience.frame_bytes()).await;
    let audience = Audience::open(&blaster.address, LOUD, &tokens, EACH).await;
    let mut bare = Bare { blaster, audience };
    let figures = [
        ("S6", "one at a time", plan.singles, 1, 1.25, 1.1),
        ("S7", "bursts of 32", plan.bursts, BURST, 1.6, 1.25),
    ];
    for (id, what, times, size, target, stretch) in figures {
        if !plan.has(&[id]) {
            continue;
        }
        burst.delivers(times / 5 + 1, size).await;
        bare.delivers(times / 5 + 1, size).await;
        let rounds = interleave(what, plan.rounds, 2, async |kind| match kind {
            0 => bare.delivers(times, size).await,
            _ => burst.delivers(times, size).await,
        });
        let rounds = rounds.await;
        let each =
            |kind: usize, of: fn(&Costs) -> f64| rounds.iter().map(move |round| of(&round[kind]));
        let ratio = each(1, Costs::delivery).zip(each(0, Costs::delivery));
        let (ours, bare) =
            (Spread::of(each(1, Costs::delivery)), Spread::of(each(0, Costs::delivery)));
        let append = Spread::of(each(1, Costs::append));
        let figure = Figure {
            id,
            what: format!("server CPU per delivery, {what}"),
            ratio: Spread::of(ratio.map(|(ours, bare)| ours / bare)),
            target: Some(Goal::AtMost(target)),
            stretch: Some(Goal::AtMost(stretch)),
            absolute: format!("{ours:.2} us, bare tonic {bare:.2} us; append alone {append:.0} us"),
        };
        figure.print();
    }
    bare.blaster.finish().await;
}

/// What a round cost the server.
#[derive(Clone, Copy, Debug)]
struct Costs {
    /// Microseconds with everybody listening, and with nobody.
    loud: f64,
    quiet: f64,
    events: usize,
}

impl Costs {
    /// Microseconds per delivery to one stream.
    fn delivery(&self) -> f64 {
        (self.loud - self.quiet) / count(self.events * STREAMS)
    }

    /// Microseconds per event that nobody listens to.
    fn append(&self) -> f64 {
        self.quiet / count(self.events)
    }
}

#[expect(clippy::cast_precision_loss, reason = "a cost for people to read")]
const fn count(events: usize) -> f64 {
    events as f64
}

/// The suite with its listeners.
#[derive(Debug)]
struct Suite {
    process: u32,
    sender: Caller,
    audience: Audience,
}

impl Suite {
    /// Bursts one after the other: each begins when the one before was delivered.
    async fn delivers(&self, times: usize, size: usize) -> Costs {
        let begin = cpu(self.process);
        for _ in 0..times {
            self.burst(QUIET, size).await;
        }
        let between = cpu(self.process);
        for _ in 0..times {
            self.audience.hears(size, self.burst(LOUD, size)).await;
        }
        let (loud, quiet) = (cpu(self.process) - between, between - begin);
        Costs { loud, quiet, events: times * size }
    }

    /// Sends so many at once on one connection, so that they arrive together.
    async fn burst(&self, room: &str, size: usize) {
        let sends = (0..size).map(|_| self.sender.send(room, fresh_id()));
        for sent in join_all(sends).await {
            sent.expect("sent");
        }
    }
}

/// The bare server with the same listeners.
#[derive(Debug)]
struct Bare {
    blaster: Blaster,
    audience: Audience,
}

impl Bare {
    async fn delivers(&mut self, times: usize, size: usize) -> Costs {
        let process = self.blaster.process_id();
        let begin = cpu(process);
        for _ in 0..times {
            self.blaster.quiet(size).await;
        }
        let between = cpu(process);
        for _ in 0..times {
            self.audience.hears(size, self.blaster.loud(size)).await;
        }
        let (loud, quiet) = (cpu(process) - between, between - begin);
        Costs { loud, quiet, events: times * size }
    }
}
