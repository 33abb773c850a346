//! The append beside bare inserts of one row, on both databases, in one run.
//!
//! Rounds are interleaved (A B B A), so that a machine that is busy for a while slows
//! both. A is an autocommit insert into a table of its own, on 16 connections; B is
//! `Store::send`. Postgres is the server that `TEST_POSTGRES_URL` names, with its
//! settings; without it only SQLite is measured.
//!
//! At the end one message after the other is sent by a tenant whose neighbour keeps 960 edits
//! in flight.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use futures::future::join_all;
use parlance_db::testing::{TestSchema, on_sqlite};
use parlance_db::{Db, Location};
use parlance_log::{
    Actor, Fact, FactBatch, LogIdentity, Options, Priority, RoomKind, Source, Store,
};
use parlance_message::MIGRATIONS;
use parlance_message::message::{Content, Draft, Edit};
use parlance_proto::message::v1 as pb;
use parlance_rpc::Tasks;
use parlance_types::{LogId, MessageId, RoomId, SystemClock, TenantId, UserId};
use prost::Message as _;
use uuid::Uuid;

const ROUND: Duration = Duration::from_millis(1200);
const CONNECTIONS: usize = 16;
const ROOMS: usize = 1000;
const FLOOD: usize = 960;
const FLOODED_ROOMS: usize = 8;
const QUIET_ROOMS: usize = 12;

#[tokio::main]
async fn main() {
    println!("rates are messages a second, times milliseconds; median (least to most)\n");
    println!("SQLite");
    on_sqlite(MIGRATIONS, compare).await;
    if std::env::var_os("TEST_POSTGRES_URL").is_none() {
        println!("\nPostgres: not measured, TEST_POSTGRES_URL is not set");
        return;
    }
    println!("\nPostgres");
    let schema = TestSchema::new();
    let Location::Postgres { url, schema: name, .. } = schema.location() else {
        unreachable!("a schema is in Postgres")
    };
    let connections = u32::try_from(CONNECTIONS).expect("few");
    let location = Location::Postgres { url, schema: name, connections };
    let db = Db::open(&location, MIGRATIONS).await.expect("open Postgres");
    compare(db.clone()).await;
    db.close().await;
    schema.drop().await;
}

/// Measures every shape of load on one database.
async fn compare(db: Db) {
    let bare = "CREATE TABLE bare (id TEXT PRIMARY KEY, payload TEXT NOT NULL)";
    db.write(bare).execute().await.expect("a table");
    let clock = Arc::new(SystemClock);
    let tasks = Tasks::default();
    let store = Store::open(db.clone(), clock, Options::default(), Arc::new(drop), &tasks);
    let store = store.await.expect("a store");
    let logs = join_all((0..ROOMS).map(|room| create(&store, "bench", room))).await;

    let (bare, sent) = interleave(
        async || run(1, async |_| insert(&db).await).await,
        async || {
            run(1, async |_| {
                send(&store, "bench", logs[0]).await;
            })
            .await
        },
    )
    .await;
    for (what, rounds) in [("insert", bare), ("message", sent)] {
        let p50 = Spread::of(rounds.iter().map(|round| round.percentile(50)));
        let p99 = Spread::of(rounds.iter().map(|round| round.percentile(99)));
        println!("  one quiet {what:<8}       p50 {p50:.2}   p99 {p99:.2}");
    }
    for (what, in_flight, rooms) in [
        ("one hot room, 64 in flight", 64, 1),
        ("one hot room, 256 in flight", 256, 1),
        ("1000 rooms, 256 in flight", 256, ROOMS),
    ] {
        let (bare, sent) = interleave(
            async || run(CONNECTIONS, async |_| insert(&db).await).await,
            async || {
                run(in_flight, async |n| {
                    send(&store, "bench", logs[n % rooms]).await;
                })
                .await
            },
        )
        .await;
        let a = Spread::of(bare.iter().map(Round::rate));
        let b = Spread::of(sent.iter().map(Round::rate));
        let ratio = Spread::of(bare.iter().zip(&sent).map(|(a, b)| b.rate() / a.rate()));
        println!("  {what:<28} bare {a:.0}   append {b:.0}   ratio {ratio:.2}");
    }
    beside_a_flood(&store).await;
    store.close().await;
}

/// The messages of one tenant, alone and beside a user of another who keeps edits in flight.
async fn beside_a_flood(store: &Store) {
    let flooded = join_all((0..FLOODED_ROOMS).map(|room| create(store, "loud", room))).await;
    let quiet = join_all((0..QUIET_ROOMS).map(|room| create(store, "quiet", room))).await;
    let messages =
        join_all((0..FLOOD).map(|n| send(store, "loud", flooded[n % FLOODED_ROOMS]))).await;
    let one = async || {
        let sent = AtomicUsize::new(0);
        run(1, async |_| {
            let n = sent.fetch_add(1, Ordering::Relaxed);
            send(store, "quiet", quiet[n % QUIET_ROOMS]).await;
        })
        .await
    };
    let alone = one().await;
    let done = AtomicBool::new(false);
    let edits = messages.iter().map(async |message_id| {
        let mut edits = 0;
        while !done.load(Ordering::Relaxed) && edits < 1000 {
            edit(store, *message_id).await;
            edits += 1;
        }
        edits
    });
    let beside = async {
        let beside = one().await;
        done.store(true, Ordering::Relaxed);
        beside
    };
    let began = Instant::now();
    let (edits, beside) = tokio::join!(join_all(edits), beside);
    let edits: usize = edits.into_iter().sum();
    for (what, round) in [("alone", alone), ("beside 960 edits in flight", beside)] {
        let (p50, p99) = (round.percentile(50), round.percentile(99));
        println!("  one message {what:<27} p50 {p50:.2}   p99 {p99:.2}");
    }
    let millis = usize::try_from(began.elapsed().as_millis()).unwrap_or(usize::MAX);
    println!("  edits a second meanwhile     {}", edits * 1000 / millis.max(1));
}

/// Runs A B B A; each A is paired with the B beside it.
async fn interleave(
    a: impl AsyncFn() -> Round,
    b: impl AsyncFn() -> Round,
) -> ([Round; 2], [Round; 2]) {
    let first_a = a().await;
    let first_b = b().await;
    let second_b = b().await;
    let second_a = a().await;
    ([first_a, second_a], [first_b, second_b])
}

/// What one round measured.
struct Round {
    took: Duration,
    /// Milliseconds, ascending.
    latencies: Vec<f64>,
}

impl Round {
    #[expect(clippy::cast_precision_loss, reason = "a rate for people to read")]
    fn rate(&self) -> f64 {
        self.latencies.len() as f64 / self.took.as_secs_f64()
    }

    fn percentile(&self, percent: usize) -> f64 {
        self.latencies[(self.latencies.len() - 1) * percent / 100]
    }
}

/// Keeps so many calls in flight for the length of a round.
async fn run(in_flight: usize, call: impl AsyncFn(usize)) -> Round {
    let began = Instant::now();
    let workers = (0..in_flight).map(async |worker| {
        let mut latencies = Vec::new();
        let mut n = worker;
        while began.elapsed() < ROUND {
            let call_began = Instant::now();
            call(n).await;
            latencies.push(call_began.elapsed().as_secs_f64() * 1000.0);
            n += in_flight;
        }
        latencies
    });
    let mut latencies: Vec<f64> = join_all(workers).await.into_iter().flatten().collect();
    latencies.sort_by(f64::total_cmp);
    Round { took: began.elapsed(), latencies }
}

/// Median, least and most.
struct Spread {
    median: f64,
    least: f64,
    most: f64,
}

impl Spread {
    fn of(values: impl Iterator<Item = f64>) -> Self {
        let mut values: Vec<f64> = values.collect();
        values.sort_by(f64::total_cmp);
        let (least, most) = (values[0], values[values.len() - 1]);
        let half = values.len() / 2;
        let median = f64::midpoint(values[(values.len() - 1) / 2], values[half]);
        Self { median, least, most }
    }
}

impl std::fmt::Display for Spread {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let digits = f.precision().unwrap_or(2);
        let Self { median, least, most } = self;
        write!(f, "{median:.digits$} ({least:.digits$} to {most:.digits$})")
    }
}

const TEXT: &str = "Shall we meet at the station at ten, or is half past better for you?";

async fn insert(db: &Db) {
    let insert = "INSERT INTO bare (id, payload) VALUES ($1, $2)";
    let id = Uuid::now_v7().to_string();
    db.write(insert).bind(id).bind(TEXT).execute().await.expect("inserted");
}

fn ann(tenant: &str) -> Actor {
    Actor { tenant_id: TenantId::new(tenant), user: Some(UserId::new("ann")) }
}

fn content() -> Content {
    let content = Content::parse(String::new(), TEXT.to_owned(), BTreeMap::new(), None);
    content.expect("a content")
}

async fn send(store: &Store, tenant: &str, log_id: LogId) -> MessageId {
    let draft = Draft {
        content: content(),
        request_id: None,
        uncounted: false,
        expire_after: None,
        origin: None,
        priority: Priority::Normal,
    };
    let sent = store.append(draft.entry(log_id, ann(tenant))).await;
    sent.expect("sent").message_id
}

async fn edit(store: &Store, message_id: MessageId) {
    let (actor, content) = (ann("loud"), content());
    let edit = Edit { actor, message_id, request: None.into(), content, instead: None };
    store.run(edit).await.expect("edited");
}

async fn create(store: &Store, tenant: &str, room: usize) -> LogId {
    let log_id = LogId(Uuid::now_v7());
    let ann = pb::MemberGrant { user_id: "ann".to_owned(), role: pb::MemberRole::Owner.into() };
    let effects = pb::Effects { gained: vec![ann], ..pb::Effects::default() };
    let event = pb::Event { effects: Some(effects), ..pb::Event::default() }.encode_to_vec();
    let batch = FactBatch {
        tenant_id: TenantId::new(tenant),
        log_id,
        source: Source::Membership,
        facts: vec![Fact { version: 1, events: vec![event.into()], silent: None }],
        identity: Some(LogIdentity::Room {
            room_id: RoomId::new(room.to_string()),
            kind: RoomKind::Group,
        }),
    };
    store.apply(batch).await.expect("a room");
    log_id
}
