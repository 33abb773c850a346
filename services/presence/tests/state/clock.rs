//! A Redis whose clock is set right: nobody is online for as long as it was wrong.

use std::time::Duration;

use parlance_presence::session::{Active, Device, Lease, Session, Status, User, fresh_id};
use parlance_presence::state::conformance::{Bed as _, DOUBT};
use parlance_presence::state::{MAX_SESSIONS, Opened, Seen};
use parlance_rpc::testing::eventually;
use parlance_types::{Resource, TenantId, UserId};
use tokio::time::Instant;

const HOUR: Duration = Duration::from_hours(1);

fn ann() -> User {
    (TenantId::new("acme"), UserId::new("ann"))
}

fn device(resource: &str) -> Device {
    Device { user: ann(), resource: Resource::parse(resource.to_owned()).expect("a resource") }
}

fn online() -> Session {
    let lease = Lease::stored(Duration::from_mins(1));
    Session { active: Active::Online, status: Status::default(), lease }
}

async fn seen(bed: &super::Redis) -> Seen {
    let seen = bed.sessions().of_users(&[ann()]).await.expect("an answer");
    seen.into_iter().next().flatten().expect("one per user")
}

async fn settled(bed: &super::Redis) {
    eventually(|| async { seen(bed).await.complete }).await;
}

async fn open(bed: &super::Redis, resource: &str) {
    let (device, fresh) = (device(resource), fresh_id());
    let opened = bed.sessions().open(&device, &online(), &fresh).await.expect("an answer");
    assert_eq!(opened, Opened::Done(fresh), "{resource}");
}

#[tokio::test]
async fn a_session_that_was_opened_an_hour_ahead_ends_with_the_jump() {
    let bed = super::redis_space().await;
    settled(&bed).await;
    for number in 0..MAX_SESSIONS {
        open(&bed, &format!("device {number}")).await;
    }
    bed.set_back(HOUR).await;
    let began = Instant::now();
    assert_eq!(seen(&bed).await, Seen::default(), "not online, and not known to be offline");
    let renewed = bed.sessions().renew(&device("device 0")).await.expect("an answer");
    assert_eq!(renewed, None, "its device opens it again");
    open(&bed, "another").await;
    assert_eq!(seen(&bed).await.sessions, [online()], "none of the others takes a place");
    bed.sessions().close(&device("another")).await.expect("closed");
    settled(&bed).await;
    assert!(began.elapsed() >= DOUBT.lasts / 2);
    bed.clear().await;
}

#[tokio::test]
async fn a_small_step_back_ends_no_session() {
    let bed = super::redis_space().await;
    settled(&bed).await;
    open(&bed, "phone").await;
    bed.set_back(DOUBT.gap / 2).await;
    assert_eq!(seen(&bed).await.sessions, [online()]);
    let renewed = bed.sessions().renew(&device("phone")).await.expect("an answer");
    assert_eq!(renewed.map(|(_, session)| session), Some(online()));
    bed.clear().await;
}
