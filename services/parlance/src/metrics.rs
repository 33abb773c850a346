//! What a process tells of itself, beside what is measured where it happens. What operators are
//! told by `GetCounters` is counted once, and read here as there.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use parlance_db::{Db, StoreError};
use parlance_follow::{Counters, Hub};
use parlance_outbox::Outbox;
use parlance_rpc::{Health, Tasks, Tls};
use parlance_telemetry::keys;
use parlance_telemetry::metrics::{KeyValue, Metric, counter, fractions, gauge, number};
use tokio::runtime::Handle;

use crate::Part;

/// How often is looked for what waits in an outbox.
const LOOK: Duration = Duration::from_secs(5);

macro_rules! metric {
    ($name:literal, $unit:literal, $what:literal) => {
        Metric { name: $name, unit: $unit, what: $what }
    };
}

const BUILD: Metric = metric!("parlance.build", "", "1, with the program and its version");
const READY: Metric = metric!("parlance.ready", "", "1 if the process is ready, else 0");
const LOST: Metric = metric!("parlance.log.lost", "{line}", "Log lines that nobody took in time");
const RUNS: Metric = metric!(
    "parlance.task.runs",
    "{run}",
    "Runs of a task beside the calls that came to their end"
);
const FAILURES: Metric = metric!("parlance.task.failures", "{run}", "Those of them that failed");
const SINCE: Metric =
    metric!("parlance.task.since", "s", "How long ago the last run of a task ended");
const CONNECTIONS: Metric =
    metric!("parlance.db.connections", "{connection}", "Connections to a database, lent or idle");
const ALLOWED: Metric =
    metric!("parlance.db.connections.most", "{connection}", "How many there may be for reads");
const WANTED: Metric =
    metric!("parlance.db.waiting", "{statement}", "Statements that wait for a connection");
const STREAMS: Metric = metric!("parlance.follow.streams", "{stream}", "Open streams of rooms");
const LOGS: Metric = metric!("parlance.follow.logs", "{log}", "Logs that are followed in memory");
const RINGS: Metric = metric!("parlance.follow.rings", "By", "What the rings of these logs hold");
const BUS: Metric = metric!("parlance.bus.up", "", "1 while the bus carries hints, else 0");
const HINTS: Metric = metric!("parlance.bus.dropped", "{hint}", "Hints that the bus dropped");
const UNKNOWN: Metric =
    metric!("parlance.append.unknown", "{commit}", "Writes run again: their commit was unknown");
const QUEUED: Metric =
    metric!("parlance.append.queued", "{write}", "Messages and changes that wait to be written");
const BACKLOG_LOGS: Metric =
    metric!("parlance.outbox.logs", "{log}", "Logs that wait for changes, of all replicas");
const BACKLOG_FACTS: Metric =
    metric!("parlance.outbox.facts", "{change}", "Changes that wait, of all replicas");
const OLDEST: Metric =
    metric!("parlance.outbox.oldest", "s", "How long the oldest of them has been waiting");
const WATCHES: Metric = metric!("parlance.presence.streams", "{stream}", "Open presence streams");
const WATCHED: Metric =
    metric!("parlance.presence.watched", "{user}", "Users watched by them, each as often as it is");
const SESSIONS: Metric =
    metric!("parlance.presence.sessions", "{session}", "Sessions that live, of all replicas");
const CERTIFICATE_END: Metric = metric!(
    "parlance.tls.certificate.end",
    "s",
    "When the certificate that is shown is over, or one between it and its CA, since 1970"
);
const WORKERS: Metric = metric!("parlance.runtime.workers", "{thread}", "Threads that run tasks");
const ALIVE: Metric = metric!("parlance.runtime.tasks", "{task}", "Tasks of the runtime that live");
const READY_TASKS: Metric =
    metric!("parlance.runtime.queued", "{task}", "Tasks in the queue that all threads share");
const BUSY: Metric = metric!("parlance.runtime.busy", "s", "Time that threads spent on tasks");

type Read<C> = (Metric, fn(&C) -> &AtomicU64);

/// What the read path of message had to heal, and what it gave out.
const FOLLOW: [Read<Counters>; 13] = [
    (metric!("parlance.follow.delivered", "{event}", "Events given to streams"), |c| &c.delivered),
    (metric!("parlance.follow.notices", "{notice}", "Notices given to streams"), |c| &c.noticed),
    (metric!("parlance.follow.gaps", "{hint}", "Hints in front of which events missed"), |c| {
        &c.gaps
    }),
    (metric!("parlance.follow.reorder_waits", "{gap}", "Gaps that were given time"), |c| {
        &c.reorder_waited
    }),
    (metric!("parlance.follow.gaps_healed", "{gap}", "Gaps filled from the database"), |c| {
        &c.gaps_healed
    }),
    (
        metric!("parlance.follow.head_checks_healed", "{log}", "Logs found behind at a head check"),
        |c| &c.head_check_healed,
    ),
    (
        metric!("parlance.follow.users_healed", "{user}", "Users whose rooms were out of date"),
        |c| &c.users_healed,
    ),
    (metric!("parlance.follow.polls", "{look}", "Looks because the bus was away"), |c| &c.polled),
    (metric!("parlance.follow.catch_ups", "{block}", "Blocks read for streams far behind"), |c| {
        &c.blocks_read
    }),
    (metric!("parlance.follow.rings_dropped", "{log}", "Logs forgotten: perhaps rewound"), |c| {
        &c.rings_dropped
    }),
    (metric!("parlance.follow.resets", "{cursor}", "Cursors that were not honoured"), |c| {
        &c.resets
    }),
    (metric!("parlance.bus.disturbances", "{event}", "Times the bus may have lost hints"), |c| {
        &c.disturbed
    }),
    (metric!("parlance.follow.stalled", "{stream}", "Streams ended that nobody read"), |c| {
        &c.stalled
    }),
];

/// What the outbox of a service had to heal.
const OUTBOX: [Read<parlance_outbox::Counters>; 4] = [
    (metric!("parlance.outbox.relayed", "{log}", "Logs that the relay finished"), |c| &c.relayed),
    (
        metric!("parlance.outbox.failures", "{drive}", "Tries to write into a log that failed"),
        |c| &c.failed_drives,
    ),
    (metric!("parlance.outbox.lost", "{log}", "Logs that had lost changes"), |c| &c.lost_by_logs),
    (metric!("parlance.outbox.overtaken", "{log}", "Logs with changes not known here"), |c| {
        &c.overtaken
    }),
];

/// Tells what a process is and how it is doing.
pub(crate) fn of_process(part: Part, health: &Health, tasks: &Tasks) {
    let version = KeyValue::new(keys::VERSION, env!("CARGO_PKG_VERSION"));
    let build = [KeyValue::new(keys::PROGRAM, part.program()), version];
    gauge(&BUILD, move |take| take.observe(1.0, &build));
    let health = health.clone();
    gauge(&READY, move |take| take.observe(f64::from(u8::from(health.is_ready())), &[]));
    counter(&LOST, |take| take.observe(parlance_telemetry::lost(), &[]));
    of_tasks(tasks);
    of_runtime();
}

fn of_tasks(tasks: &Tasks) {
    let named = |name| [KeyValue::new(keys::TASK, name)];
    let reported = tasks.clone();
    counter(&RUNS, move |take| {
        reported.report().into_iter().for_each(|(name, run)| take.observe(run.count, &named(name)));
    });
    let reported = tasks.clone();
    counter(&FAILURES, move |take| {
        let all = reported.report().into_iter();
        all.for_each(|(name, run)| take.observe(run.failures, &named(name)));
    });
    let reported = tasks.clone();
    gauge(&SINCE, move |take| {
        for (name, run) in reported.report() {
            if let Some(last) = run.last {
                take.observe(last.elapsed().as_secs_f64(), &named(name));
            }
        }
    });
}

fn of_runtime() {
    let runtime = Handle::current().metrics();
    let (workers, alive, queued) = (runtime.clone(), runtime.clone(), runtime.clone());
    gauge(&WORKERS, move |take| take.observe(measure(workers.num_workers()), &[]));
    gauge(&ALIVE, move |take| take.observe(measure(alive.num_alive_tasks()), &[]));
    gauge(&READY_TASKS, move |take| take.observe(measure(queued.global_queue_depth()), &[]));
    fractions(&BUSY, move |take| {
        let busy = (0..runtime.num_workers()).map(|at| runtime.worker_total_busy_duration(at));
        take.observe(busy.sum::<Duration>().as_secs_f64(), &[]);
    });
}

/// Tells until when the process has a certificate to show, as long as it has one.
pub(crate) fn of_certificates(tls: &Tls) {
    let tls = tls.clone();
    gauge(&CERTIFICATE_END, move |take| {
        if let Some(ends) = tls.ends().and_then(|ends| u64::try_from(ends).ok()) {
            take.observe(number(ends), &[]);
        }
    });
}

/// Tells of the connections of a service to its database.
pub(crate) fn of_database(service: &'static str, db: &Db) {
    let named = move |pool, state: Option<&'static str>| {
        let place = [KeyValue::new(keys::SERVICE, service), KeyValue::new(keys::POOL, pool)];
        place.into_iter().chain(state.map(|state| KeyValue::new(keys::STATE, state)))
    };
    let (most, waiting, pools) = (db.clone(), db.clone(), db.clone());
    gauge(&ALLOWED, move |take| {
        let named: Vec<_> = named("read", None).collect();
        take.observe(measure(most.read_connections()), &named);
    });
    gauge(&WANTED, move |take| {
        for (pool, in_use) in waiting.pools() {
            take.observe(measure(in_use.waiting), &named(pool, None).collect::<Vec<_>>());
        }
    });
    gauge(&CONNECTIONS, move |take| {
        for (pool, in_use) in pools.pools() {
            for (state, count) in [("lent", in_use.lent), ("idle", in_use.idle)] {
                take.observe(measure(count), &named(pool, Some(state)).collect::<Vec<_>>());
            }
        }
    });
}

/// Tells of the logs of message, and of those who follow them.
pub(crate) fn of_message(message: &parlance_message::Service) {
    for (metric, read) in FOLLOW {
        let hub = message.hub().clone();
        counter(&metric, move |take| {
            take.observe(read(hub.counters()).load(Ordering::Relaxed), &[]);
        });
    }
    let gauge_of = |metric, read: fn(&Hub) -> f64| {
        let hub = message.hub().clone();
        gauge(metric, move |take| take.observe(read(&hub), &[]));
    };
    gauge_of(&STREAMS, |hub| measure(hub.open_streams()));
    gauge_of(&LOGS, |hub| measure(hub.logs()));
    gauge_of(&RINGS, |hub| measure(hub.ring_bytes()));
    gauge_of(&BUS, |hub| f64::from(u8::from(hub.bus_is_up())));
    let hub = message.hub().clone();
    counter(&HINTS, move |take| take.observe(hub.hints_dropped(), &[]));
    let (unknown, queued) = (message.store().clone(), message.store().clone());
    counter(&UNKNOWN, move |take| take.observe(unknown.unknown_commits(), &[]));
    gauge(&QUEUED, move |take| take.observe(measure(queued.waiting()), &[]));
}

/// Stands for a number that nobody could count.
const NOT_SEEN: u64 = u64::MAX;

/// Tells of the streams of presence, and of sessions. These are in Redis, so they are counted now
/// and then, by a task that is there only if somebody wants to know. Where they cannot be counted
/// nothing is told.
pub(crate) fn of_presence(presence: &parlance_presence::Service, tasks: &Tasks) {
    let (streams, watched) = (presence.clone(), presence.clone());
    gauge(&WATCHES, move |take| take.observe(measure(streams.open_streams().0), &[]));
    gauge(&WATCHED, move |take| take.observe(measure(watched.open_streams().1), &[]));
    if !parlance_telemetry::metrics::is_on() {
        return;
    }
    let sessions = Arc::new(AtomicU64::new(NOT_SEEN));
    let (told, presence) = (Arc::clone(&sessions), presence.clone());
    gauge(&SESSIONS, move |take| {
        let seen = told.load(Ordering::Relaxed);
        if seen != NOT_SEEN {
            take.observe(number(seen), &[]);
        }
    });
    tasks.every("presence measure", LOOK, Arc::default(), move || {
        let (presence, sessions) = (presence.clone(), Arc::clone(&sessions));
        async move {
            let counted = presence.count_sessions().await;
            sessions.store(*counted.as_ref().unwrap_or(&NOT_SEEN), Ordering::Relaxed);
            counted.map(drop)
        }
    });
}

/// What one look at an outbox found.
#[derive(Debug, Default)]
struct Seen {
    logs: AtomicU64,
    facts: AtomicU64,
    /// In milliseconds.
    oldest: AtomicU64,
}

/// Tells of the changes of a service on their way into logs. What waits is in the database, so it
/// is looked for now and then, by a task that is there only if somebody wants to know.
pub(crate) fn of_outbox(service: &'static str, outbox: &Outbox, tasks: &Tasks) {
    if !parlance_telemetry::metrics::is_on() {
        return;
    }
    let named = [KeyValue::new(keys::SERVICE, service)];
    for (metric, read) in OUTBOX {
        let (outbox, named) = (outbox.clone(), named.clone());
        counter(&metric, move |take| {
            take.observe(read(outbox.counters()).load(Ordering::Relaxed), &named);
        });
    }
    let seen = Arc::new(Seen::default());
    let gauge_of = |metric, read: fn(&Seen) -> f64| {
        let (seen, named) = (Arc::clone(&seen), named.clone());
        gauge(metric, move |take| take.observe(read(&seen), &named));
    };
    gauge_of(&BACKLOG_LOGS, |seen| number(seen.logs.load(Ordering::Relaxed)));
    gauge_of(&BACKLOG_FACTS, |seen| number(seen.facts.load(Ordering::Relaxed)));
    gauge_of(&OLDEST, |seen| number(seen.oldest.load(Ordering::Relaxed)) / 1000.0);
    let outbox = outbox.clone();
    tasks.every("outbox measure", LOOK, Arc::default(), move || {
        let (outbox, seen) = (outbox.clone(), Arc::clone(&seen));
        async move { seen.look(&outbox).await }
    });
}

impl Seen {
    async fn look(&self, outbox: &Outbox) -> Result<(), StoreError> {
        let (backlog, oldest) = (outbox.backlog().await?, outbox.oldest().await?);
        let count = |count: i64| u64::try_from(count).unwrap_or_default();
        self.logs.store(count(backlog.logs), Ordering::Relaxed);
        self.facts.store(count(backlog.facts), Ordering::Relaxed);
        let oldest = u64::try_from(oldest.as_millis()).unwrap_or(u64::MAX);
        self.oldest.store(oldest, Ordering::Relaxed);
        Ok(())
    }
}

fn measure(count: usize) -> f64 {
    number(count as u64)
}
