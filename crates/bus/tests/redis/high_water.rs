//! High-water marks, as the replicas of a service raise and read them.

use std::time::{Duration, Instant};

use futures::future::join_all;
use parlance_bus::testing::{Proxy, RedisServer, redis_url};
use parlance_bus::{HighWater, RedisUrl};

fn open(url: &RedisUrl, tag: &str) -> HighWater {
    HighWater::open(url, tag).expect("an address")
}

#[tokio::test]
async fn a_mark_only_rises_and_is_of_one_database() {
    for variable in ["TEST_REDIS_URL", "TEST_REDIS_CLUSTER_URL"] {
        let (url, tag) = (redis_url(variable), crate::tag());
        let (one, other) = (open(&url, &tag), open(&url, &tag));
        assert_eq!(one.of("a").await.expect("read"), None);
        for (to, mark) in [(5, 5), (3, 5), (1 << 50, 1 << 50), (6, 1 << 50)] {
            one.raise("a", to).await.expect("raised");
            assert_eq!(other.of("a").await.expect("read"), Some(mark));
        }
        assert_eq!(other.of("b").await.expect("read"), None);
        assert_eq!(open(&url, &crate::tag()).of("a").await.expect("read"), None);
    }
}

#[tokio::test]
async fn of_several_who_raise_a_mark_at_once_the_highest_wins() {
    for variable in ["TEST_REDIS_URL", "TEST_REDIS_CLUSTER_URL"] {
        let (url, tag) = (redis_url(variable), crate::tag());
        let marks: Vec<_> = (0..4).map(|_| open(&url, &tag)).collect();
        let raise = |to: usize| marks[to % 4].raise("a", i64::try_from(to).expect("small"));
        for raised in join_all((1..=100).rev().map(raise)).await {
            raised.expect("raised");
        }
        assert_eq!(marks[0].of("a").await.expect("read"), Some(100));
    }
}

#[tokio::test]
async fn without_redis_nothing_is_known_in_time_and_marks_are_told_again_when_it_is_back() {
    let mut server = RedisServer::start().await;
    let mark = open(&server.url(), "test");
    mark.raise("a", 7).await.expect("raised");
    server.pause().await;
    let began = Instant::now();
    assert!(mark.of("a").await.is_err());
    assert!(mark.raise("a", 8).await.is_err());
    assert!(began.elapsed() < Duration::from_secs(5));
    server.kill().await;
    assert!(mark.of("a").await.is_err());
    server.restart().await;
    while mark.of("a").await.is_err() {
        tokio::task::yield_now().await;
    }
    assert_eq!(mark.of("a").await.expect("read"), None);
    mark.raise("a", 9).await.expect("raised");
    assert_eq!(mark.of("a").await.expect("read"), Some(9));
}

/// A connection that a firewall or the server itself has ended, as idle ones are.
#[tokio::test]
async fn a_mark_is_read_over_a_new_connection_if_the_old_one_is_gone() {
    let server = RedisServer::start().await;
    let mark = open(&server.url(), "test");
    mark.raise("a", 7).await.expect("raised");
    for _ in 0..5 {
        server.run(&["CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes"]).await.expect("cut");
        assert_eq!(mark.of("a").await.expect("read"), Some(7));
    }
}

#[tokio::test]
async fn a_mark_is_raised_on_the_server_that_took_over_behind_the_address() {
    let (master, replica) = (RedisServer::start().await, RedisServer::start().await);
    replica.follow(&master).await;
    let address = Proxy::to(&master.url()).await;
    let mark = open(address.url(), "test");
    mark.raise("a", 7).await.expect("raised");
    replica.until(&["ZSCORE", "parlance:test:high-water", "a"], "7").await;
    address.lead_to(&replica.url());
    replica.take_over(&master).await;
    while mark.raise("a", 8).await.is_err() {
        tokio::task::yield_now().await;
    }
    assert_eq!(open(&replica.url(), "test").of("a").await.expect("read"), Some(8));
}

#[tokio::test]
async fn what_is_no_mark_is_an_error() {
    let server = RedisServer::start().await;
    let mark = open(&server.url(), "test");
    server.run(&["SET", "parlance:test:high-water", "spoilt"]).await.expect("set");
    assert!(mark.of("a").await.is_err());
    assert!(mark.raise("a", 1).await.is_err());
    server.run(&["DEL", "parlance:test:high-water"]).await.expect("deleted");
    server.run(&["ZADD", "parlance:test:high-water", "inf", "a"]).await.expect("set");
    assert!(mark.of("a").await.is_err());
}
