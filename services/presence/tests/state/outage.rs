//! A Redis that is away, cut off, or forgets its scripts.

use std::time::Duration;

use futures::future::join_all;
use parlance_bus::testing::{Proxy, RedisCluster, RedisServer};
use parlance_presence::session::{Active, Device, Lease, Session, Status, User, fresh_id};
use parlance_presence::state::conformance::{Bed as _, DOUBT};
use parlance_presence::state::{RedisSessions, Seen, Sessions as _};
use parlance_rpc::testing::{eventually, in_time};
use parlance_types::{Resource, TenantId, UserId};
use tokio::time::Instant;

fn ann() -> User {
    (TenantId::new("acme"), UserId::new("ann"))
}

fn phone() -> Device {
    Device { user: ann(), resource: Resource::parse("phone".to_owned()).expect("a resource") }
}

fn session(status: &str) -> Session {
    let status = Status::parse(status.to_owned()).expect("a status");
    Session { active: Active::Online, status, lease: Lease::stored(Duration::from_mins(1)) }
}

#[tokio::test]
async fn a_redis_that_is_away_is_an_error_in_time_and_never_an_answer() {
    // Taken, so that no Redis is there, and never accepting.
    let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
    let silent = format!("redis://{}", listener.local_addr().expect("an address"));
    for text in ["redis://127.0.0.1:1", &silent] {
        let url = text.parse().expect("an address");
        let sessions = RedisSessions::open(&url, "outage", DOUBT).expect("opens without a Redis");
        let began = Instant::now();
        assert!(sessions.of_users(&[ann()]).await.is_err());
        assert!(sessions.renew(&phone()).await.is_err());
        assert!(sessions.close(&phone()).await.is_err());
        assert!(sessions.pulse().await.is_err());
        assert!(began.elapsed() < Duration::from_secs(10), "{text}");
    }
}

#[tokio::test]
async fn a_connection_that_is_cut_is_made_again_and_scripts_are_loaded_again() {
    let server = RedisServer::start().await;
    let bed = super::redis_at(&server.url()).await;
    for _ in 0..3 {
        assert_eq!(bed.sessions().renew(&phone()).await.expect("an answer"), None);
        let mut admin = bed.admins[0].clone();
        redis::cmd("SCRIPT").arg("FLUSH").query_async::<()>(&mut admin).await.expect("flushed");
        assert_eq!(bed.sessions().renew(&phone()).await.expect("an answer"), None);
        cut(&mut admin).await;
    }
    bed.clear().await;
}

/// The address leads to the replica that took over; the connection leads to the old master.
#[tokio::test]
async fn after_a_failover_behind_one_address_sessions_are_kept_on_the_new_master() {
    let (master, replica) = (RedisServer::start().await, RedisServer::start().await);
    replica.follow(&master).await;
    let address = Proxy::to(&master.url()).await;
    let sessions = RedisSessions::open(address.url(), "test", DOUBT).expect("an address");
    let said = session("phone");
    sessions.open(&phone(), &said, &fresh_id()).await.expect("opened");
    replica.until(&["KEYS", "test:presence:*acme*"], "ann").await;
    address.lead_to(&replica.url());
    replica.take_over(&master).await;
    let began = Instant::now();
    eventually(|| async { sessions.renew(&phone()).await.is_ok() }).await;
    let again = sessions.renew(&phone()).await.expect("an answer");
    assert_eq!(again.map(|(_, session)| session), Some(said), "what was copied is there");
    sessions.pulse().await.expect("a sign of life");
    assert!(began.elapsed() < Duration::from_secs(5), "{:?}", began.elapsed());
}

/// One node of three dies and comes back empty: its users cannot be told meanwhile, and are in
/// doubt afterwards; the others notice nothing.
#[tokio::test]
async fn a_node_of_a_cluster_that_dies_takes_only_its_own_users_with_it() {
    let (mut cluster, bed, users) = cluster_with_users().await;
    cluster.nodes[0].kill().await;
    let mut away = Vec::new();
    let ask = |user| bed.sessions().of_users(std::slice::from_ref(user));
    for (user, answer) in users.iter().zip(join_all(users.iter().map(ask)).await) {
        match answer {
            Ok(seen) => {
                let seen = seen[0].as_ref().expect("an answer");
                assert!(seen.complete, "{user:?} is on a node that lives");
            }
            Err(_) => away.push(user.clone()),
        }
    }
    assert!(!away.is_empty() && away.len() < users.len(), "{} of {}", away.len(), users.len());
    // Asked for together, those of the nodes that live are told.
    let all = bed.sessions().of_users(&users).await.expect("an answer");
    for (user, seen) in users.iter().zip(all) {
        assert_eq!(seen.is_none(), away.contains(user), "{user:?}");
    }
    assert!(bed.sessions().of_users(&away).await.is_err(), "none can be told");
    assert!(bed.sessions().pulse().await.is_err(), "not every shard heard it");
    cluster.nodes[0].restart().await;
    let seen = in_time(async {
        loop {
            let seen = bed.sessions().of_users(&away).await.unwrap_or_default();
            let seen: Vec<_> = seen.into_iter().flatten().collect();
            if seen.len() == away.len() {
                return seen;
            }
        }
    })
    .await;
    assert!(seen.iter().all(|seen| !seen.complete), "what was lost is in doubt");
    settled(&bed, &users).await;
}

/// One node of three stands still: its users cannot be told, and the others are told at once,
/// by a process too that starts meanwhile.
#[tokio::test]
async fn a_node_of_a_cluster_that_stands_still_holds_up_only_its_own_users() {
    let (cluster, bed, users) = cluster_with_users().await;
    cluster.nodes[0].pause().await;
    let told = |seen: &[Option<Seen>]| seen.iter().flatten().count();
    let seen = bed.sessions().of_users(&users).await.expect("an answer");
    assert!((1..users.len()).contains(&told(&seen)), "{} of {}", told(&seen), users.len());
    // Those who are asked for again and again do not hold up the others.
    for _ in 0..3 {
        let again = bed.sessions().of_users(&users).await.expect("an answer");
        assert_eq!(told(&again), told(&seen));
    }
    let late = RedisSessions::open(&cluster.url(), &bed.space, DOUBT).expect("an address");
    eventually(|| async {
        let found = late.of_users(&users).await.unwrap_or_default();
        told(&found) == told(&seen)
    })
    .await;
    cluster.nodes[0].resume().await;
    settled(&bed, &users).await;
}

/// A cluster over whose nodes users are spread, none of them in doubt.
async fn cluster_with_users() -> (RedisCluster, super::Redis, Vec<User>) {
    let cluster = RedisCluster::start().await;
    close_no_slots(&cluster).await;
    let bed = super::redis_at(&cluster.url()).await;
    let user = |number| (TenantId::new("acme"), UserId::new(format!("user-{number}")));
    let users: Vec<User> = (0..64).map(user).collect();
    settled(&bed, &users).await;
    (cluster, bed, users)
}

/// Slots without a server do not close the others.
pub(crate) async fn close_no_slots(cluster: &RedisCluster) {
    for node in &cluster.nodes {
        let serve = ["CONFIG", "SET", "cluster-require-full-coverage", "no"];
        node.run(&serve).await.expect("set");
    }
}

/// Waits until nobody is in doubt.
async fn settled(bed: &super::Redis, users: &[User]) {
    eventually(|| async {
        let seen = bed.sessions().of_users(users).await;
        let complete = |seen: &Option<Seen>| seen.as_ref().is_some_and(|seen| seen.complete);
        seen.is_ok_and(|seen| seen.iter().all(complete))
    })
    .await;
}

/// Ends the connections to a server, but for the one that asks.
async fn cut(admin: &mut redis::aio::MultiplexedConnection) {
    let own: u64 = redis::cmd("CLIENT").arg("ID").query_async(admin).await.expect("an id");
    let list: String = redis::cmd("CLIENT").arg("LIST").query_async(admin).await.expect("a list");
    let ids = list.lines().filter_map(|line| line.strip_prefix("id=")?.split(' ').next());
    let mut cuts = 0;
    for id in ids.filter(|id| *id != own.to_string()) {
        let mut kill = redis::cmd("CLIENT");
        kill.arg("KILL").arg("ID").arg(id);
        kill.query_async::<()>(admin).await.expect("killed");
        cuts += 1;
    }
    assert!(cuts > 0, "there was a connection to cut");
}
