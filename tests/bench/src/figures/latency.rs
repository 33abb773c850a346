//! S8: from a send to its delivery on another replica, beside the hops on the way.

use std::sync::Arc;
use std::time::{Duration, Instant};

use hdrhistogram::Histogram;
use parlance_proto::message::v1 as pb;
use parlance_proto::message::v1::event::Body;
use parlance_proto::message::v1::subscribe_response::Frame;
use parlance_types::{Clock as _, SystemClock};
use tokio::task::JoinSet;
use tonic::Streaming;

use crate::audience::catch_up;
use crate::bare::{Inserts, RedisHop};
use crate::blaster::Blaster;
use crate::caller::{Caller, connect};
use crate::measured::Measured;
use crate::pace::ticks;
use crate::plan::Plan;
use crate::report::{Figure, Goal, Spread};
use crate::rounds::interleave;

/// The time between two sends.
const EVERY: Duration = Duration::from_millis(5);

/// The size of an event's frame, about that of the suite's.
const FRAME: usize = 330;

const ROOM: &str = "timed";

/// The percentiles that are told, and what is aimed at.
const PERCENTILES: [(f64, f64, f64); 2] = [(50.0, 1.5, 1.2), (99.0, 2.5, 1.8)];

/// The percentiles of a round, in microseconds.
type Times = [f64; PERCENTILES.len()];

pub(crate) async fn measure(plan: &Plan, suite: &Measured) {
    suite.room(ROOM, 1).await;
    // A thread with a runtime of its own: what passes from thread to thread within the
    // client would be counted as well.
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let runtime = runtime.expect("a runtime");
    tokio::task::block_in_place(move || {
        std::thread::scope(move |scope| {
            let measuring = scope.spawn(move || runtime.block_on(timed(plan, suite)));
            measuring.join().expect("measured");
        });
    });
}

async fn timed(plan: &Plan, suite: &Measured) {
    let mut hops = Hops::open(suite).await;
    let mut way = Way::open(suite).await;
    let count = usize::try_from(plan.latency.as_millis() / EVERY.as_millis()).expect("few");
    way.times(count / 4).await;
    hops.times(count / 4).await;
    let rounds = interleave("latency", plan.rounds, 2, async |kind| match kind {
        0 => hops.times(count).await,
        _ => way.times(count).await.into(),
    });
    let rounds = rounds.await;
    for (at, (percent, target, stretch)) in PERCENTILES.into_iter().enumerate() {
        let ours = || rounds.iter().map(|round| round[1][0][at]);
        let sum = || rounds.iter().map(|round| round[0].iter().map(|hop| hop[at]).sum::<f64>());
        let hop = |hop: usize| Spread::of(rounds.iter().map(|round| round[0][hop][at])).median;
        let ack = Spread::of(rounds.iter().map(|round| round[1][1][at])).median;
        let parts = hops.names.iter().enumerate();
        let parts = parts.map(|(number, name)| format!("{name} {:.0}", hop(number)));
        let parts: Vec<_> = parts.collect();
        let figure = Figure {
            id: "S8",
            what: format!("send to delivery p{percent} / {}", hops.names.join(" + ")),
            ratio: Spread::of(ours().zip(sum()).map(|(ours, sum)| ours / sum)),
            target: Some(Goal::AtMost(target)),
            stretch: Some(Goal::AtMost(stretch)),
            absolute: format!(
                "{:.0} us, ack {ack:.0} us; {} us",
                Spread::of(ours()),
                parts.join(", ")
            ),
        };
        figure.print();
    }
    hops.close().await;
}

/// A histogram of microseconds.
fn histogram() -> Histogram<u64> {
    Histogram::new_with_bounds(1, 60_000_000, 3).expect("three digits")
}

fn record(histogram: &mut Histogram<u64>, time: Duration) {
    histogram.saturating_record(u64::try_from(time.as_micros()).unwrap_or(u64::MAX));
}

#[expect(clippy::cast_precision_loss, reason = "times for people to read")]
fn times(histogram: &Histogram<u64>) -> Times {
    let at = |percent| histogram.value_at_percentile(percent) as f64;
    PERCENTILES.map(|(percent, ..)| at(percent))
}

/// From a sender on one replica to a stream on another.
struct Way {
    sender: Arc<Caller>,
    stream: Streaming<pb::SubscribeResponse>,
}

impl Way {
    async fn open(suite: &Measured) -> Self {
        let token = suite.token("sender-0");
        let sender = Arc::new(Caller::new(connect(&suite.address(0)).await, &token));
        let listener = Caller::new(connect(&suite.address(1)).await, &suite.listeners(1)[0]);
        let mut stream = listener.follow(ROOM).await;
        catch_up(&mut stream).await;
        Self { sender, stream }
    }

    /// Sends by the clock, whether what was sent before has arrived or not, and takes
    /// the time from when each should have been sent: to its arrival, and to its
    /// acknowledgement.
    async fn times(&mut self, count: usize) -> [Times; 2] {
        let mut ticks = ticks(count, EVERY);
        let run = super::fresh_id();
        let (mut sends, mut due, mut arrived) = (JoinSet::new(), Vec::new(), 0);
        let (mut arrivals, mut acks) = (histogram(), histogram());
        while arrived < count {
            tokio::select! {
                Some((number, at)) = ticks.recv() => {
                    due.push(at);
                    let (sender, id) = (Arc::clone(&self.sender), format!("{run} {number} "));
                    sends.spawn(async move {
                        sender.send(ROOM, id).await.expect("sent");
                        at.elapsed()
                    });
                }
                frame = self.stream.message() => {
                    let now = Instant::now();
                    let frame = frame.expect("a frame").expect("a frame");
                    if let Some(number) = number(&frame) {
                        record(&mut arrivals, now - due[number]);
                        arrived += 1;
                    }
                }
            }
        }
        for ack in sends.join_all().await {
            record(&mut acks, ack);
        }
        [times(&arrivals), times(&acks)]
    }
}

/// Which send of its round an event is.
fn number(frame: &pb::SubscribeResponse) -> Option<usize> {
    let Some(Frame::Event(event)) = &frame.frame else { return None };
    let Some(Body::MessageSent(sent)) = event.event.as_ref()?.body.as_ref() else { return None };
    sent.content.as_ref()?.text.split(' ').nth(1)?.parse().ok()
}

/// Each hop on the way, bare.
struct Hops {
    names: Vec<&'static str>,
    inserts: Inserts,
    redis: Option<RedisHop>,
    blaster: Blaster,
    stream: Streaming<pb::SubscribeResponse>,
}

impl Hops {
    async fn open(suite: &Measured) -> Self {
        let blaster = Blaster::start(FRAME).await;
        let listener = Caller::new(connect(&blaster.address).await, "nobody");
        let mut stream = listener.follow(ROOM).await;
        catch_up(&mut stream).await;
        let (names, redis) = match suite {
            Measured::Distributed(cluster) => {
                let url = cluster.redis.url();
                (vec!["commit", "Redis", "stream"], Some(RedisHop::open(&url).await))
            }
            Measured::Embedded(_) => (vec!["commit", "stream"], None),
        };
        Self { names, inserts: Inserts::open(suite).await, redis, blaster, stream }
    }

    /// One of each at every tick.
    async fn times(&mut self, count: usize) -> Vec<Times> {
        let mut ticks = ticks(count, EVERY);
        let (mut commits, mut passes, mut streams) = (histogram(), histogram(), histogram());
        while ticks.recv().await.is_some() {
            let began = Instant::now();
            self.inserts.insert().await;
            record(&mut commits, began.elapsed());
            if let Some(redis) = &mut self.redis {
                let began = Instant::now();
                redis.pass().await;
                record(&mut passes, began.elapsed());
            }
            record(&mut streams, self.stream_hop().await);
        }
        let mut all = vec![times(&commits)];
        all.extend(self.redis.is_some().then(|| times(&passes)));
        all.push(times(&streams));
        all
    }

    /// From the making of an event to its arrival.
    async fn stream_hop(&mut self) -> Duration {
        let Self { blaster, stream, .. } = self;
        let arrive = async {
            let frame = stream.message().await.expect("a frame").expect("a frame");
            (frame, SystemClock.now())
        };
        let ((), (frame, now)) = tokio::join!(blaster.loud(1), arrive);
        let Some(Frame::Event(event)) = frame.frame else { panic!("not an event") };
        let made = event.event.and_then(|event| event.time).expect("a time");
        let made = made.seconds * 1_000_000 + i64::from(made.nanos / 1000);
        Duration::from_micros(u64::try_from(now - made).unwrap_or(0))
    }

    async fn close(self) {
        self.inserts.close().await;
        self.blaster.finish().await;
    }
}
