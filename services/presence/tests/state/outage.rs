//! A Redis that is away, cut off, or forgets its scripts.

use std::time::Duration;

use parlance_presence::domain::{Device, Resource, User};
use parlance_presence::state::conformance::{Bed as _, DOUBT};
use parlance_presence::state::{RedisSessions, Sessions as _};
use parlance_types::{TenantId, UserId};
use tokio::time::Instant;

/// The database whose connections are cut; no other test has its sessions there.
const DATABASE: u32 = 7;

fn ann() -> User {
    (TenantId::new("acme"), UserId::new("ann"))
}

fn phone() -> Device {
    Device { user: ann(), resource: Resource::parse("phone".to_owned()).expect("a resource") }
}

#[tokio::test]
async fn a_redis_that_is_away_is_an_error_in_time_and_never_an_answer() {
    // Taken, so that no Redis is there, and never accepting.
    let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
    let silent = format!("redis://{}", listener.local_addr().expect("an address"));
    for url in ["redis://127.0.0.1:1", &silent] {
        let sessions = RedisSessions::open(url, "outage", DOUBT).expect("opens without a Redis");
        let began = Instant::now();
        assert!(sessions.of_users(&[ann()]).await.is_err());
        assert!(sessions.renew(&phone()).await.is_err());
        assert!(sessions.close(&phone()).await.is_err());
        assert!(sessions.pulse().await.is_err());
        assert!(began.elapsed() < Duration::from_secs(10), "{url}");
    }
}

#[tokio::test]
async fn a_connection_that_is_cut_is_made_again_and_scripts_are_loaded_again() {
    let bed = super::redis_at(format!("{}/{DATABASE}", super::url())).await;
    for _ in 0..3 {
        assert_eq!(bed.sessions().renew(&phone()).await.expect("an answer"), None);
        let mut admin = bed.admin.clone();
        // Those of other tests are gone too: they load theirs again.
        redis::cmd("SCRIPT").arg("FLUSH").query_async::<()>(&mut admin).await.expect("flushed");
        assert_eq!(bed.sessions().renew(&phone()).await.expect("an answer"), None);
        cut(&mut admin).await;
    }
    bed.clear().await;
}

/// Ends the connections to the database, but for the one that asks.
async fn cut(admin: &mut redis::aio::MultiplexedConnection) {
    let own: u64 = redis::cmd("CLIENT").arg("ID").query_async(admin).await.expect("an id");
    let list: String = redis::cmd("CLIENT").arg("LIST").query_async(admin).await.expect("a list");
    let here = list.lines().filter(|line| line.contains(&format!(" db={DATABASE} ")));
    let ids = here.filter_map(|line| line.strip_prefix("id=")?.split(' ').next());
    let mut cuts = 0;
    for id in ids.filter(|id| *id != own.to_string()) {
        let mut kill = redis::cmd("CLIENT");
        kill.arg("KILL").arg("ID").arg(id);
        kill.query_async::<()>(admin).await.expect("killed");
        cuts += 1;
    }
    assert!(cuts > 0, "there was a connection to cut");
}
