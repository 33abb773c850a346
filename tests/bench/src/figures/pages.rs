//! P1 and P2: pages of messages beside bare selects of the same rows.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use super::fresh_id;
use crate::caller::{Caller, connect};
use crate::load::{Rate, rate};
use crate::measured::{Measured, SENDERS, listener};
use crate::plan::Plan;
use crate::process::cpu;
use crate::report::{Figure, Goal, Spread};
use crate::rounds::interleave;
use crate::selects::Selects;

/// Users who read, each on a connection of its own.
const READERS: usize = 32;

/// Messages of the room, and of a page.
const MESSAGES: usize = 5000;
const PAGE: usize = 50;

/// Sends in flight while the room is filled.
const FILLING: usize = 64;

const ROOM: &str = "read";

/// What a round came to, and the CPU time that it took, in microseconds: of the message
/// processes, of Postgres, and of this process.
struct Round {
    rate: Rate,
    servers: f64,
    database: f64,
    client: f64,
}

pub(crate) async fn measure(plan: &Plan, suite: &Measured) {
    suite.room(ROOM, READERS).await;
    fill(suite).await;
    let readers = Arc::new(readers(suite).await);
    let selects = Selects::open(suite, ROOM, READERS).await;
    let step = async |kind: usize, length: Duration| match kind {
        0 => selects.rate(length, PAGE, before).await,
        _ => pages(&readers, length).await,
    };
    for kind in 0..2 {
        step(kind, plan.sends / 3).await;
    }
    let rounds = interleave("pages", plan.rounds, 2, async |kind| {
        let backends = selects.backends().await;
        let (servers, client) = (servers(suite), cpu(std::process::id()));
        let rate = step(kind, plan.sends).await;
        Round {
            rate,
            servers: self::servers(suite) - servers,
            client: cpu(std::process::id()) - client,
            database: spent(&backends, &selects.backends().await),
        }
    });
    print(&rounds.await);
    selects.close().await;
}

fn print(rounds: &[Vec<Round>]) {
    let spread = |kind: usize, of: fn(&Round) -> f64| {
        Spread::of(rounds.iter().map(|round| of(&round[kind])))
    };
    let ratio = |page: fn(&Round) -> f64, bare: fn(&Round) -> f64| {
        Spread::of(rounds.iter().map(|round| page(&round[1]) / bare(&round[0])))
    };
    let per_second = |round: &Round| round.rate.per_second;
    let failed: usize = rounds.iter().flatten().map(|round| round.rate.failed).sum();
    let failed = if failed == 0 { String::new() } else { format!("; {failed} FAILED") };
    Figure {
        id: "P1",
        what: format!("pages of {PAGE}, {READERS} readers / bare selects"),
        ratio: ratio(per_second, per_second),
        target: Some(Goal::AtLeast(0.4)),
        stretch: Some(Goal::AtLeast(0.5)),
        absolute: format!(
            "{:.0} pages/s, {:.0} selects/s{failed}",
            spread(1, per_second),
            spread(0, per_second)
        ),
    }
    .print();
    let server = |round: &Round| round.servers / round.rate.done;
    let database = |round: &Round| round.database / round.rate.done;
    let client = |round: &Round| round.client / round.rate.done;
    Figure {
        id: "P2",
        what: "server CPU per page / client CPU per select".to_owned(),
        ratio: ratio(server, client),
        target: Some(Goal::AtMost(2.0)),
        stretch: Some(Goal::AtMost(1.5)),
        absolute: format!(
            "{:.0} us, Postgres {:.0} us, reader {:.0} us; of a select {:.0} us, Postgres {:.0} us",
            spread(1, server),
            spread(1, database).median,
            spread(1, client).median,
            spread(0, client),
            spread(0, database).median
        ),
    }
    .print();
}

/// The CPU time of the message processes.
fn servers(suite: &Measured) -> f64 {
    (0..suite.replicas()).map(|replica| cpu(suite.process_id(replica))).sum()
}

/// What processes took between two looks; some may have begun since the first.
fn spent(begin: &BTreeMap<i32, f64>, end: &BTreeMap<i32, f64>) -> f64 {
    end.iter().map(|(process, time)| time - begin.get(process).unwrap_or(&0.0)).sum()
}

async fn fill(suite: &Measured) {
    eprintln!("sending {MESSAGES} messages");
    let senders = Arc::new(suite.senders(suite.replicas()).await);
    let mut sends = tokio::task::JoinSet::new();
    for worker in 0..FILLING {
        let sender = senders[worker % SENDERS].clone();
        sends.spawn(async move {
            for _ in (worker..MESSAGES).step_by(FILLING) {
                sender.send(ROOM, fresh_id()).await.expect("sent");
            }
        });
    }
    sends.join_all().await;
}

/// Every reader, by turns on a connection to each replica.
async fn readers(suite: &Measured) -> Vec<Caller> {
    let mut readers = Vec::new();
    for number in 0..READERS {
        let channel = connect(&suite.address(number)).await;
        readers.push(Caller::new(channel, &suite.token(&listener(number))));
    }
    readers
}

/// Below which place a reader reads next: pages all over the room, in no order.
fn before(reader: usize, number: usize) -> i64 {
    let pages = MESSAGES / PAGE - 1;
    let page = (reader * 37 + number * 61) % pages;
    i64::try_from(MESSAGES - page * PAGE).expect("a place")
}

async fn pages(readers: &Arc<Vec<Caller>>, length: Duration) -> Rate {
    let readers = Arc::clone(readers);
    rate(READERS, length, move |reader, number| {
        let caller = readers[reader].clone();
        let before = before(reader, number);
        async move {
            let page = caller.page(ROOM, before, PAGE).await;
            page.is_ok_and(|messages| messages == PAGE)
        }
    })
    .await
}
