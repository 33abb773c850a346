//! Two nodes over one Postgres and one Redis that fails. Head checks come too late:
//! what heals is what the bus noticed.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use parlance_bus::testing::{RedisCluster, RedisServer, until_state};
use parlance_bus::{Options, RedisBus, RedisUrl, State};
use parlance_db::Db;
use parlance_db::testing::on_postgres;
use parlance_message::MIGRATIONS;
use parlance_types::Seq;
use tokio::task::JoinHandle;

use parlance_proto::message::v1 as pb;
use parlance_proto::message::v1::subscribe_response::Frame;

use parlance_rpc::testing::eventually;

use crate::rooms::{Room, group};
use crate::stream::harness::{Node, Reader, all_rooms, hints_only, latest, seqs, text};

/// By when every stream is at the head, whatever happened to Redis: it is noticed
/// within 2 s, and heads are looked at within 300 ms; the rest is for a busy machine.
const BOUND: Duration = Duration::from_secs(6);

/// How long a send may take while Redis fails.
const PROMPT: Duration = Duration::from_secs(2);

/// Two nodes, four streams and a sender on each node.
struct World {
    nodes: Vec<Arc<Node>>,
    buses: Vec<RedisBus>,
    room: Room,
    readers: Vec<JoinHandle<Vec<Seq>>>,
    senders: Vec<JoinHandle<Duration>>,
    sent: Arc<AtomicU64>,
    stop: Arc<AtomicBool>,
}

impl World {
    async fn open(db: &Db, url: &RedisUrl) -> Self {
        let (nodes, buses) = two_nodes(db, url).await;
        let room = group(&*nodes[0], "r", &["ann", "bob"]).await;
        let mut readers = Vec::new();
        for node in &nodes {
            for user in ["ann", "bob"] {
                let mut reader = node.subscribe(user, latest(&["r"])).await;
                reader.live().await;
                readers.push(tokio::spawn(until_last(reader)));
            }
        }
        let (sent, stop) = (Arc::default(), Arc::default());
        let mut world = Self { nodes, buses, room, readers, senders: Vec::new(), sent, stop };
        world.senders = world.nodes.iter().map(|node| world.sender(node)).collect();
        world
    }

    /// Sends until it is told to stop; says how long the slowest took.
    fn sender(&self, node: &Arc<Node>) -> JoinHandle<Duration> {
        let (node, room) = (Arc::clone(node), self.room.clone());
        let (sent, stop) = (Arc::clone(&self.sent), Arc::clone(&self.stop));
        tokio::spawn(async move {
            let mut slowest = Duration::ZERO;
            while !stop.load(Ordering::SeqCst) {
                let began = Instant::now();
                node.send(&room, "x").await;
                slowest = slowest.max(began.elapsed());
                sent.fetch_add(1, Ordering::SeqCst);
                tokio::time::sleep(Duration::from_millis(3)).await;
            }
            slowest
        })
    }

    /// Waits until so many more messages were sent.
    async fn traffic(&self, more: u64) {
        let enough = self.sent.load(Ordering::SeqCst) + more;
        eventually(|| async { self.sent.load(Ordering::SeqCst) >= enough }).await;
    }

    /// Stops the senders, sends one last message, and sees every stream reach it in
    /// time without a loss, a repeat or an inversion.
    async fn settle(mut self) -> Vec<Arc<Node>> {
        self.stop.store(true, Ordering::SeqCst);
        for sender in self.senders.drain(..) {
            let slowest = sender.await.expect("a sender");
            assert!(slowest < PROMPT, "redis was in the way of a send for {slowest:?}");
        }
        let last = self.nodes[0].send(&self.room, "last").await;
        let began = Instant::now();
        for reader in self.readers.drain(..) {
            assert_eq!(reader.await.expect("a reader"), (3..=last).collect::<Vec<_>>());
        }
        let took = began.elapsed();
        assert!(took < BOUND, "streams reached the head after {took:?}");
        self.nodes
    }

    fn healed(&self) -> u64 {
        sum(&self.nodes, |node| &node.hub.counters().head_check_healed)
    }

    fn polled(&self) -> u64 {
        sum(&self.nodes, |node| &node.hub.counters().polled)
    }

    async fn all(&self, state: State) {
        for bus in &self.buses {
            until_state(bus, state).await;
        }
    }
}

async fn two_nodes(db: &Db, url: &RedisUrl) -> (Vec<Arc<Node>>, Vec<RedisBus>) {
    let (mut nodes, mut buses) = (Vec::new(), Vec::new());
    for _ in 0..2 {
        let bus = RedisBus::start(url, Options::default());
        until_state(&bus, State::Up).await;
        nodes.push(Arc::new(Node::start(db, Arc::new(bus.clone()), hints_only()).await));
        buses.push(bus);
    }
    (nodes, buses)
}

async fn until_last(mut reader: Reader) -> Vec<Seq> {
    let mut events = Vec::new();
    loop {
        if let Frame::Event(event) = reader.next().await {
            let event = event.event.expect("an event");
            let last = text(&event) == Some("last");
            events.push(event);
            if last {
                return seqs(&events);
            }
        }
    }
}

fn sum(nodes: &[Arc<Node>], counter: impl Fn(&Node) -> &AtomicU64) -> u64 {
    nodes.iter().map(|node| counter(node).load(Ordering::Relaxed)).sum()
}

#[tokio::test]
async fn events_cross_nodes_by_hints_alone() {
    on_postgres(MIGRATIONS, async |db: Db| {
        let server = RedisServer::start().await;
        let world = World::open(&db, &server.url()).await;
        world.traffic(300).await;
        let nodes = world.settle().await;
        assert_eq!(sum(&nodes, |node| &node.hub.counters().polled), 0);
        assert!(nodes.iter().all(|node| node.hub.hints_dropped() == 0));
    })
    .await;
}

#[tokio::test]
async fn streams_go_on_while_redis_is_dead() {
    on_postgres(MIGRATIONS, async |db: Db| {
        let mut server = RedisServer::start().await;
        let world = World::open(&db, &server.url()).await;
        world.traffic(50).await;
        server.kill().await;
        world.all(State::Down).await;
        world.traffic(200).await;
        // It never comes back.
        let nodes = world.settle().await;
        for node in nodes {
            let counters = node.hub.counters();
            assert!(counters.polled.load(Ordering::Relaxed) > 0);
            assert!(counters.head_check_healed.load(Ordering::Relaxed) > 0);
            assert!(counters.disturbed.load(Ordering::Relaxed) > 0);
            assert!(node.hub.hints_dropped() > 0);
            assert!(!node.hub.bus_is_up());
        }
    })
    .await;
}

#[tokio::test]
async fn redis_is_used_again_when_it_was_restarted() {
    on_postgres(MIGRATIONS, async |db: Db| {
        let mut server = RedisServer::start().await;
        let world = World::open(&db, &server.url()).await;
        for _ in 0..3 {
            world.traffic(50).await;
            server.kill().await;
            world.all(State::Down).await;
            world.traffic(50).await;
            server.restart().await;
            world.all(State::Up).await;
        }
        world.traffic(50).await;
        let polled = world.polled();
        assert!(polled > 0 && world.healed() > 0);
        world.traffic(50).await;
        assert_eq!(world.polled(), polled, "hints do again");
        world.settle().await;
    })
    .await;
}

#[tokio::test]
async fn connections_that_are_cut_lose_nothing() {
    on_postgres(MIGRATIONS, async |db: Db| {
        let server = RedisServer::start().await;
        let world = World::open(&db, &server.url()).await;
        let disturbed = || sum(&world.nodes, |node| &node.hub.counters().disturbed);
        for _ in 0..5 {
            world.all(State::Up).await;
            world.traffic(30).await;
            let before = disturbed();
            for kind in ["pubsub", "normal"] {
                server.run(&["CLIENT", "KILL", "TYPE", kind]).await.expect("cut");
            }
            // Both nodes notice, while the traffic goes on.
            eventually(|| async { disturbed() >= before + 2 }).await;
        }
        world.settle().await;
    })
    .await;
}

#[tokio::test]
async fn what_nodes_tell_again_after_a_cut_takes_nothing_back() {
    on_postgres(MIGRATIONS, async |db: Db| {
        let server = RedisServer::start().await;
        let (nodes, buses) = two_nodes(&db, &server.url()).await;
        let room = group(&*nodes[0], "r", &["ann", "bob", "cid"]).await;
        let mut readers = Vec::new();
        for node in &nodes {
            readers.push(node.follow("ann").await);
        }
        let disturbed = || sum(&nodes, |node| &node.hub.counters().disturbed);
        let mut last = 0;
        for round in 0..3 {
            for node in &nodes {
                last = node.send(&room, "x").await;
                node.mark_read(&room, "bob", last).await;
            }
            let (begins, stops) = (&nodes[round % 2], &nodes[(round + 1) % 2]);
            begins.typing(&room, "cid", Duration::from_mins(5)).await;
            stops.typing(&room, "cid", Duration::ZERO).await;
            let before = disturbed();
            server.run(&["CLIENT", "KILL", "TYPE", "pubsub"]).await.expect("cut");
            eventually(|| async { disturbed() >= before + 2 }).await;
            for bus in &buses {
                until_state(bus, State::Up).await;
            }
        }
        nodes[0].send(&room, "last").await;
        for reader in &mut readers {
            let (mut read, mut events) = (0, 0);
            // A receipt may come behind an event that is later than it.
            while read < last || events < 7 {
                match reader.next().await {
                    Frame::Event(_) => events += 1,
                    Frame::Notice(notice) => {
                        let Some(pb::notice::Notice::Receipt(told)) = notice.notice else {
                            continue;
                        };
                        assert!(told.read_seq > read, "{} after {read}", told.read_seq);
                        read = told.read_seq;
                    }
                    other => panic!("{other:?}"),
                }
            }
        }
        // Who begins now is told of nobody who types.
        let mut late = nodes[1].follow("ann").await;
        late.marks("r").await;
        let seq = nodes[0].send(&room, "later").await;
        assert_eq!(late.event().await.seq, seq);
    })
    .await;
}

#[tokio::test]
async fn a_redis_that_hangs_is_in_nobodys_way() {
    on_postgres(MIGRATIONS, async |db: Db| {
        let server = RedisServer::start().await;
        let world = World::open(&db, &server.url()).await;
        world.traffic(50).await;
        server.pause().await;
        world.traffic(50).await;
        world.all(State::Down).await;
        let healed = world.healed();
        eventually(|| async { world.polled() > 0 && world.healed() > healed }).await;
        world.traffic(50).await;
        server.resume().await;
        world.all(State::Up).await;
        world.traffic(50).await;
        world.settle().await;
    })
    .await;
}

#[tokio::test]
async fn a_cluster_that_loses_a_node_loses_no_event() {
    on_postgres(MIGRATIONS, async |db: Db| {
        let mut cluster = RedisCluster::start().await;
        let world = World::open(&db, &cluster.url()).await;
        for victim in 0..3 {
            world.traffic(30).await;
            cluster.nodes[victim].kill().await;
            world.all(State::Down).await;
            world.traffic(50).await;
            cluster.nodes[victim].restart().await;
            cluster.formed().await;
            world.all(State::Up).await;
        }
        world.traffic(30).await;
        assert!(world.polled() > 0 && world.healed() > 0);
        world.settle().await;
    })
    .await;
}

/// B-073.
#[tokio::test]
async fn a_removal_is_obeyed_on_every_node_though_redis_hangs() {
    on_postgres(MIGRATIONS, async |db: Db| {
        let server = RedisServer::start().await;
        let world = World::open(&db, &server.url()).await;
        for round in 0..6 {
            let user = format!("guest-{round}");
            world.room.join(&user).await;
            let mut guests = Vec::new();
            for node in world.nodes.iter().chain(&world.nodes) {
                let mut reader = node.subscribe(&user, latest(&["r"])).await;
                reader.attached().await;
                guests.push(tokio::spawn(async move { reader.rest().await }));
            }
            world.traffic(20).await;
            if round % 2 == 0 {
                server.pause().await;
            }
            let removed = world.room.on(&*world.nodes[round % 2]).leave(&user).await;
            let began = Instant::now();
            for guest in guests {
                let mut frames = guest.await.expect("a guest");
                let Some(Frame::Closed(closed)) = frames.pop() else {
                    panic!("closed is the last")
                };
                assert_eq!((closed.seq, closed.reason()), (removed, pb::ClosedReason::Removed));
                let events = frames.into_iter().filter_map(|frame| match frame {
                    Frame::Event(event) => event.event,
                    _ => None,
                });
                assert!(events.map(|event| event.seq).all(|seq| seq <= removed));
            }
            assert!(began.elapsed() < BOUND);
            server.resume().await;
            world.all(State::Up).await;
        }
        world.settle().await;
    })
    .await;
}

#[tokio::test]
async fn new_rooms_are_found_with_and_without_redis() {
    on_postgres(MIGRATIONS, async |db: Db| {
        let mut server = RedisServer::start().await;
        let (nodes, buses) = two_nodes(&db, &server.url()).await;
        let mut reader = nodes[1].subscribe("ann", all_rooms(pb::StreamStart::FromJoin)).await;
        for round in 0..2 {
            let mut missing: Vec<_> = (0..50).map(|room| format!("{round}-{room}")).collect();
            for room in &missing {
                group(&*nodes[0], room, &["ann"]).await;
            }
            let began = Instant::now();
            while !missing.is_empty() {
                if let Frame::Attached(attached) = reader.next().await {
                    missing.retain(|room| *room != attached.room_id);
                }
            }
            assert!(began.elapsed() < BOUND);
            server.kill().await;
            for bus in &buses {
                until_state(bus, State::Down).await;
            }
        }
        assert!(nodes[1].hub.counters().users_healed.load(Ordering::Relaxed) > 0);
    })
    .await;
}
