//! Tallies, as several replicas add to them.

use parlance_bus::testing::{Proxy, RedisServer, redis_url};
use parlance_bus::{RedisUrl, Tallies};

const SECOND: i64 = 1_000_000_000;

fn open(url: &RedisUrl, service: &str) -> Tallies {
    Tallies::open(url, &crate::tag(), service).expect("an address")
}

/// What is left a moment later: less, but not much.
fn is_about(left: i64, expected: i64) {
    assert!((expected - 5 * SECOND..=expected).contains(&left), "{left} is not {expected}");
}

#[tokio::test]
async fn a_tally_adds_up_what_replicas_used_and_is_paid_for_by_time() {
    for variable in ["TEST_REDIS_URL", "TEST_REDIS_CLUSTER_URL"] {
        let tallies = open(&redis_url(variable), "message");
        let mut last = tallies.add("acme", 100 * SECOND, 100 * SECOND).await.expect("added");
        assert_eq!(last, 100 * SECOND);
        last = tallies.add("acme", 100 * SECOND, -SECOND).await.expect("added");
        is_about(last, 200 * SECOND);
        // Nothing was used: time alone pays.
        while tallies.add("acme", 0, -SECOND).await.expect("read") >= last {}
        // A replica that was alone tells how far it is.
        last = tallies.add("acme", 0, 500 * SECOND).await.expect("added");
        assert_eq!(last, 500 * SECOND);
        // Names are apart, whatever they hold.
        for name in ["other", "{acme}", "}", "acme}"] {
            assert_eq!(tallies.add(name, 7, 7).await.expect("added"), 7, "{name}");
        }
    }
}

#[tokio::test]
async fn what_was_paid_for_a_moment_ago_takes_its_part_of_what_is_told_late() {
    let tallies = open(&redis_url("TEST_REDIS_URL"), "message");
    assert_eq!(tallies.add("acme", SECOND, -SECOND).await.expect("added"), -SECOND);
    let left = tallies.add("acme", 60 * SECOND, -SECOND).await.expect("added");
    is_about(left, 59 * SECOND);
}

#[tokio::test]
async fn services_deployments_and_keys_that_are_none_do_not_meet() {
    let url = redis_url("TEST_REDIS_URL");
    let (message, room) = (open(&url, "message"), open(&url, "room"));
    message.add("acme", SECOND, 90 * SECOND).await.expect("added");
    assert_eq!(room.add("acme", 1, 1).await.expect("added"), 1);
}

#[tokio::test]
async fn a_tally_is_gone_after_it_is_paid_for_and_one_that_was_spoilt_begins_anew() {
    let server = RedisServer::start().await;
    let tallies = Tallies::open(&server.url(), "test", "message").expect("an address");
    tallies.add("acme", 3 * SECOND, 3 * SECOND).await.expect("added");
    let life = server.run(&["PTTL", "parlance:test:rate:message:{acme}"]).await.expect("a time");
    let redis::Value::Int(life) = life else { panic!("{life:?}") };
    assert!((8000..=13_000).contains(&life), "{life}");

    // A clock an hour ahead wrote it; then that server was lost.
    let hour = 3600 * 1_000_000;
    let redis::Value::Array(time) = server.run(&["TIME"]).await.expect("the time") else {
        panic!("no time")
    };
    let redis::Value::BulkString(seconds) = &time[0] else { panic!("{time:?}") };
    let seconds: i64 = String::from_utf8_lossy(seconds).parse().expect("a number");
    let ahead = format!("{} {}", 9 * SECOND, seconds * 1_000_000 + hour);
    server.run(&["SET", "parlance:test:rate:message:{acme}", &ahead]).await.expect("set");
    assert_eq!(tallies.add("acme", SECOND, SECOND).await.expect("added"), 10 * SECOND);

    server.run(&["SET", "parlance:test:rate:message:{acme}", "spoilt"]).await.expect("set");
    assert_eq!(tallies.add("acme", SECOND, SECOND).await.expect("added"), SECOND);
}

#[tokio::test]
async fn after_a_failover_behind_the_address_tallies_are_on_the_new_master() {
    let (master, replica) = (RedisServer::start().await, RedisServer::start().await);
    replica.follow(&master).await;
    let address = Proxy::to(&master.url()).await;
    let tallies = Tallies::open(address.url(), "test", "message").expect("an address");
    tallies.add("acme", 100 * SECOND, 100 * SECOND).await.expect("added");
    replica.until(&["EXISTS", "parlance:test:rate:message:{acme}"], "int(1)").await;
    address.lead_to(&replica.url());
    replica.take_over(&master).await;
    // A replica refuses it whole.
    let left = loop {
        if let Ok(left) = tallies.add("acme", 100 * SECOND, -SECOND).await {
            break left;
        }
    };
    is_about(left, 200 * SECOND);
    let fresh = Tallies::open(&replica.url(), "test", "message").expect("an address");
    is_about(fresh.add("acme", 0, -SECOND).await.expect("read"), 200 * SECOND);
}

#[tokio::test]
async fn without_redis_an_addition_fails_in_time_and_works_when_it_is_back() {
    let mut server = RedisServer::start().await;
    let tallies = Tallies::open(&server.url(), "test", "message").expect("an address");
    tallies.add("acme", 1, 1).await.expect("added");
    server.kill().await;
    let began = std::time::Instant::now();
    assert!(tallies.add("acme", 1, 1).await.is_err());
    assert!(began.elapsed() < std::time::Duration::from_secs(5));
    server.restart().await;
    while tallies.add("acme", 1, SECOND).await.is_err() {
        tokio::task::yield_now().await;
    }
}
