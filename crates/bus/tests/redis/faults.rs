//! What a bus tells when its Redis fails.

use std::time::{Duration, Instant};

use bytes::Bytes;
use parlance_bus::testing::{
    PATIENCE, Proxy, RedisCluster, RedisServer, next, payload, redis_url, until_disturbed,
    until_state,
};
use parlance_bus::{Bus, Heard, Options, RedisBus, RedisUrl, State};

/// By when a node knows that its Redis hangs: a canary, or an answer to one, is missed.
const NOTICED: Duration = Duration::from_secs(5);

async fn up(url: &RedisUrl) -> RedisBus {
    let bus = RedisBus::start(url, Options::default());
    until_state(&bus, State::Up).await;
    bus
}

/// Publishes until it is heard: a bus that is up may have to notice first that it is not. What
/// was published before may come late, as often as it was tried.
async fn carries_again(from: &RedisBus, to: &RedisBus, text: &'static str) {
    let mut heard = to.subscribe();
    until_state(from, State::Up).await;
    until_state(to, State::Up).await;
    let (again, began) = (Duration::from_millis(100), Instant::now());
    loop {
        assert!(began.elapsed() < PATIENCE, "{text}");
        from.publish(0, text.into());
        if tokio::time::timeout(again, payload(&mut heard)).await.is_ok_and(|heard| heard == text) {
            return;
        }
    }
}

#[tokio::test]
async fn a_redis_that_dies_is_noticed_and_the_one_that_comes_is_used() {
    let mut server = RedisServer::start().await;
    let (here, there) = (up(&server.url()).await, up(&server.url()).await);
    let mut heard = there.subscribe();
    here.publish(0, "before".into());
    assert_eq!(payload(&mut heard).await, "before");

    server.kill().await;
    until_state(&here, State::Down).await;
    until_disturbed(&mut heard).await;
    let began = Instant::now();
    for _ in 0..10_000 {
        here.publish(0, Bytes::from_static(b"nobody hears it"));
    }
    assert!(began.elapsed() < Duration::from_secs(1), "publishing does not wait");
    assert!(here.dropped() >= 10_000);

    server.restart().await;
    until_disturbed(&mut heard).await;
    carries_again(&here, &there, "after").await;
}

#[tokio::test]
async fn a_bus_starts_without_its_redis() {
    let mut server = RedisServer::start().await;
    server.kill().await;
    let bus = RedisBus::start(&server.url(), Options::default());
    let mut heard = bus.subscribe();
    assert_eq!(*bus.state().borrow(), State::Down);
    bus.publish(0, "nobody hears it".into());
    assert_eq!(bus.dropped(), 1);
    server.restart().await;
    assert_eq!(next(&mut heard).await, Heard::Disturbed);
    carries_again(&bus, &bus, "after").await;
}

#[tokio::test]
async fn clients_that_are_cut_are_disturbed_and_come_back() {
    let server = RedisServer::start().await;
    let (here, there) = (up(&server.url()).await, up(&server.url()).await);
    for _ in 0..3 {
        let mut heard = there.subscribe();
        for kind in ["normal", "pubsub"] {
            server.run(&["CLIENT", "KILL", "TYPE", kind]).await.expect("cut");
        }
        until_disturbed(&mut heard).await;
        carries_again(&here, &there, "after").await;
    }
}

#[tokio::test]
async fn a_redis_that_hangs_is_noticed_by_its_canary() {
    let server = RedisServer::start().await;
    let (here, there) = (up(&server.url()).await, up(&server.url()).await);
    server.pause().await;
    let mut heard = there.subscribe();
    let began = Instant::now();
    until_state(&there, State::Down).await;
    until_disturbed(&mut heard).await;
    assert!(began.elapsed() < NOTICED);
    server.resume().await;
    carries_again(&here, &there, "after").await;
}

#[tokio::test]
async fn a_subscription_that_is_refused_is_not_taken_for_one() {
    let server = RedisServer::start().await;
    let bus = up(&server.url()).await;
    // Commands work, its channels do not; Redis cuts those who hear them.
    server.run(&["ACL", "SETUSER", "default", "resetchannels"]).await.expect("forbid");
    until_state(&bus, State::Down).await;
    let began = Instant::now();
    while began.elapsed() < Duration::from_millis(600) {
        assert_eq!(*bus.state().borrow(), State::Down);
        tokio::task::yield_now().await;
    }
    server.run(&["ACL", "SETUSER", "default", "allchannels"]).await.expect("allow");
    carries_again(&bus, &bus, "after").await;
}

/// The address leads to the replica that took over; connections that there are lead to the
/// old master. What is published there goes to nobody on the new one.
#[tokio::test]
async fn after_a_failover_behind_one_address_the_new_master_is_used() {
    let (master, replica) = (RedisServer::start().await, RedisServer::start().await);
    replica.follow(&master).await;
    let address = Proxy::to(&master.url()).await;
    let (here, there) = (up(address.url()).await, up(address.url()).await);
    let mut heard = there.subscribe();
    here.publish(0, "before".into());
    assert_eq!(payload(&mut heard).await, "before");

    address.lead_to(&replica.url());
    replica.take_over(&master).await;
    until_disturbed(&mut heard).await;
    let fresh = up(&replica.url()).await;
    carries_again(&here, &fresh, "to the new master").await;
    carries_again(&fresh, &there, "from the new master").await;
    carries_again(&here, &there, "over the new master").await;
}

/// So many connections a server has had.
async fn connections(server: &RedisServer) -> u64 {
    let info = server.run(&["INFO", "stats"]).await.expect("figures");
    let redis::Value::BulkString(info) = info else { panic!("{info:?}") };
    let info = String::from_utf8_lossy(&info).into_owned();
    let count = info.lines().find_map(|line| line.strip_prefix("total_connections_received:"));
    count.expect("a line").trim().parse().expect("a number")
}

/// A master that became a replica, or lost its own, answers as ever what is not written.
#[tokio::test]
async fn a_bus_is_not_up_on_a_server_that_writes_do_not_go_to() {
    let (server, other) = (RedisServer::start().await, RedisServer::start().await);
    let bus = up(&server.url()).await;
    let other = other.url().servers()[0].rsplit_once(':').expect("a port").1.to_owned();
    let spoil = [
        (vec!["REPLICAOF", "127.0.0.1", &other], vec!["REPLICAOF", "NO", "ONE"]),
        (
            vec!["CONFIG", "SET", "min-replicas-to-write", "1"],
            vec!["CONFIG", "SET", "min-replicas-to-write", "0"],
        ),
    ];
    for (spoil, mend) in spoil {
        server.run(&spoil).await.expect("spoilt");
        until_state(&bus, State::Down).await;
        let mut states = bus.state();
        states.mark_unchanged();
        let (tries, began) = (connections(&server).await, Instant::now());
        // Each look is a connection too.
        let mut looks = 0;
        while connections(&server).await < tries + looks + 4 {
            looks += 1;
            assert!(began.elapsed() < PATIENCE, "it tries again");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        assert!(!states.has_changed().expect("a bus"), "it is down all the time");
        server.run(&mend).await.expect("mended");
        carries_again(&bus, &bus, "after").await;
    }
}

#[tokio::test]
async fn a_server_that_refuses_writes_for_another_reason_is_used() {
    let server = RedisServer::start().await;
    let bus = up(&server.url()).await;
    server.run(&["ACL", "SETUSER", "default", "-del"]).await.expect("forbid");
    let states = bus.state();
    server.until(&["INFO", "commandstats"], "cmdstat_del").await;
    let began = Instant::now();
    loop {
        let figures = server.run(&["INFO", "commandstats"]).await.expect("figures");
        let figures = format!("{figures:?}");
        let del = figures.split("cmdstat_del:").nth(1).expect("it was tried");
        let refused = del.split("rejected_calls=").nth(1).expect("a figure");
        let refused = refused.split(',').next().expect("a figure");
        if refused.parse::<u64>().expect("a number") >= 3 {
            break;
        }
        assert!(began.elapsed() < PATIENCE, "{del}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    assert!(!states.has_changed().expect("a bus") && *states.borrow() == State::Up);
    carries_again(&bus, &bus, "after").await;
}

#[tokio::test]
async fn what_a_node_dropped_disturbs_the_others() {
    let server = RedisServer::start().await;
    let there = up(&server.url()).await;
    let here = RedisBus::start(&server.url(), Options { queue: 1, ..Options::default() });
    until_state(&here, State::Up).await;
    let mut heard = there.subscribe();
    while here.dropped() == 0 {
        here.publish(0, Bytes::from_static(b"x"));
    }
    until_disturbed(&mut heard).await;
    assert_eq!(*there.state().borrow(), State::Up);
}

#[tokio::test]
async fn deployments_on_one_redis_do_not_hear_each_other() {
    let url = redis_url("TEST_REDIS_URL");
    let start = |tag: &str| {
        let tag = format!("{tag}-{}", std::process::id());
        RedisBus::start(&url, Options { tag, ..Options::default() })
    };
    let (blue, green) = (start("blue"), start("green"));
    until_state(&blue, State::Up).await;
    until_state(&green, State::Up).await;
    let (mut blues, mut greens) = (blue.subscribe(), green.subscribe());
    green.publish(0, "green".into());
    assert_eq!(payload(&mut greens).await, "green");
    blue.publish(0, "blue".into());
    assert_eq!(payload(&mut blues).await, "blue");
}

#[tokio::test]
async fn a_cluster_that_loses_a_node_is_down_until_it_is_whole() {
    let mut cluster = RedisCluster::start().await;
    let (here, there) = (up(&cluster.url()).await, up(&cluster.url()).await);
    for victim in 0..3 {
        let mut heard = there.subscribe();
        cluster.nodes[victim].kill().await;
        until_disturbed(&mut heard).await;
        until_state(&here, State::Down).await;
        cluster.nodes[victim].restart().await;
        cluster.formed().await;
        carries_again(&here, &there, "after").await;
    }
}

#[tokio::test]
async fn a_cluster_node_that_hangs_is_noticed_by_its_canary() {
    let cluster = RedisCluster::start().await;
    let (here, there) = (up(&cluster.url()).await, up(&cluster.url()).await);
    for victim in &cluster.nodes {
        victim.pause().await;
        let began = Instant::now();
        until_state(&there, State::Down).await;
        assert!(began.elapsed() < NOTICED);
        victim.resume().await;
        cluster.formed().await;
        carries_again(&here, &there, "after").await;
    }
}
