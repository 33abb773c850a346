//! What every implementation of [`Sessions`](super::Sessions) must do.
//! [`test_sessions!`](crate::test_sessions) stamps it on one.

use std::time::Duration;

use async_trait::async_trait;
use parlance_types::{Resource, TenantId, UserId};
use tokio::time::{Instant, sleep};

use super::{Doubt, MAX_SESSIONS, Named, Opened, Seen, Sessions};
use crate::session::{Active, Device, Lease, Session, Status, User, fresh_id};

/// How the state under test is to be laid out: short, so that tests are.
pub const DOUBT: Doubt = Doubt { gap: Duration::from_secs(2), lasts: Duration::from_millis(500) };

/// How long a test waits for a state before it has failed.
const PATIENCE: Duration = Duration::from_secs(20);

/// A state of its own for one test.
#[async_trait]
pub trait Bed: Send + Sync {
    fn sessions(&self) -> &dyn Sessions;

    /// Lets the state be lost, as if it came back empty.
    async fn lose(&self);

    /// Removes what the test left.
    async fn clear(&self) {}
}

/// Makes a test of every property, each on a bed of its own.
#[macro_export]
macro_rules! test_sessions {
    ($bed:path) => {
        $crate::test_sessions!($bed =>
            sessions_come_in_the_order_in_which_they_were_set,
            a_session_ends_with_its_lease,
            a_renewed_lease_begins_anew,
            what_is_not_there_cannot_be_renewed,
            a_closed_session_is_gone_and_may_be_closed_again,
            opening_again_replaces_what_was_said,
            sessions_that_live_are_counted,
            a_user_has_a_bounded_number_of_sessions,
            users_are_answered_in_the_order_asked_for,
            equal_ids_of_two_tenants_are_two_users,
            ids_and_statuses_may_hold_whatever_they_like,
            a_state_that_begins_is_complete_after_the_longest_lease_only,
            what_may_have_been_lost_is_in_doubt_for_the_longest_lease,
            a_time_in_which_nothing_could_renew_is_doubt_too,
            a_session_keeps_its_id_until_it_ends,
            what_ended_is_told_until_it_is_forgotten,
            what_was_lost_has_not_ended,
            what_is_not_there_is_gone_once_the_state_is_complete,
        );
    };
    ($bed:path => $($test:ident),+ $(,)?) => {
        $(#[tokio::test]
        async fn $test() {
            let bed = $bed().await;
            $crate::state::conformance::$test(&bed).await;
            $crate::state::conformance::Bed::clear(&bed).await;
        })+
    };
}

fn user_of(tenant: &str, user: &str) -> User {
    (TenantId::new(tenant), UserId::new(user))
}

fn user(user: &str) -> User {
    user_of("acme", user)
}

fn device(of: &User, resource: &str) -> Device {
    let resource = Resource::parse(resource.to_owned()).expect("a resource");
    Device { user: of.clone(), resource }
}

fn session(active: Active, status: &str, lease: Duration) -> Session {
    let status = Status::parse(status.to_owned()).expect("a status");
    Session { active, status, lease: Lease::stored(lease) }
}

fn online(status: &str) -> Session {
    session(Active::Online, status, Duration::from_mins(1))
}

async fn open(bed: &dyn Bed, device: &Device, session: &Session) -> Named {
    let fresh = fresh_id();
    match bed.sessions().open(device, session, &fresh).await.expect("an answer") {
        Opened::Done(id) => Named { device: device.clone(), id },
        Opened::TooMany => panic!("too many sessions"),
    }
}

async fn renew(bed: &dyn Bed, device: &Device) -> Option<Session> {
    let renewed = bed.sessions().renew(device).await.expect("an answer");
    renewed.map(|(_, session)| session)
}

async fn seen(bed: &dyn Bed, user: &User) -> Seen {
    let seen = bed.sessions().of_users(std::slice::from_ref(user)).await.expect("an answer");
    seen.into_iter().next().expect("one per user").expect("it can be reached")
}

async fn until(bed: &dyn Bed, user: &User, holds: impl Fn(&Seen) -> bool) -> Seen {
    let due = Instant::now() + PATIENCE;
    loop {
        let seen = seen(bed, user).await;
        if holds(&seen) {
            return seen;
        }
        assert!(Instant::now() < due, "{seen:?}");
        sleep(Duration::from_millis(20)).await;
    }
}

/// B-204.
pub async fn sessions_come_in_the_order_in_which_they_were_set(bed: &dyn Bed) {
    let (ann, away) = (user("ann"), session(Active::Away, "b", Duration::from_mins(1)));
    open(bed, &device(&ann, "phone"), &online("a")).await;
    open(bed, &device(&ann, "laptop"), &away).await;
    assert_eq!(seen(bed, &ann).await.sessions, [online("a"), away.clone()]);
    open(bed, &device(&ann, "phone"), &online("c")).await;
    assert_eq!(seen(bed, &ann).await.sessions, [away, online("c")]);
}

pub async fn a_session_ends_with_its_lease(bed: &dyn Bed) {
    let ann = user("ann");
    until(bed, &ann, |seen| seen.complete).await;
    let lease = Duration::from_millis(300);
    let began = Instant::now();
    open(bed, &device(&ann, "phone"), &session(Active::Online, "", lease)).await;
    open(bed, &device(&ann, "laptop"), &online("")).await;
    let seen = until(bed, &ann, |seen| seen.sessions.len() == 1).await;
    assert!(began.elapsed() >= lease && seen.complete, "{seen:?}");
    bed.sessions().close(&device(&ann, "laptop")).await.expect("closed");
    until(bed, &ann, |seen| seen.sessions.is_empty()).await;
}

pub async fn a_renewed_lease_begins_anew(bed: &dyn Bed) {
    let (ann, lease) = (user("ann"), Duration::from_secs(2));
    let (phone, said) = (device(&ann, "phone"), session(Active::Away, "x y", lease));
    open(bed, &phone, &said).await;
    let until = Instant::now() + lease * 2;
    while Instant::now() < until {
        assert_eq!(renew(bed, &phone).await, Some(said.clone()));
        sleep(lease / 10).await;
    }
}

pub async fn what_is_not_there_cannot_be_renewed(bed: &dyn Bed) {
    let ann = user("ann");
    assert_eq!(renew(bed, &device(&ann, "never")).await, None);
    let lease = Duration::from_millis(100);
    open(bed, &device(&ann, "ended"), &session(Active::Online, "", lease)).await;
    until(bed, &ann, |seen| seen.sessions.is_empty()).await;
    assert_eq!(renew(bed, &device(&ann, "ended")).await, None);
    assert!(seen(bed, &ann).await.sessions.is_empty());
}

pub async fn a_closed_session_is_gone_and_may_be_closed_again(bed: &dyn Bed) {
    let ann = user("ann");
    let phone = device(&ann, "phone");
    open(bed, &phone, &online("")).await;
    for _ in 0..2 {
        bed.sessions().close(&phone).await.expect("closed");
        assert!(seen(bed, &ann).await.sessions.is_empty());
        assert_eq!(renew(bed, &phone).await, None);
    }
}

pub async fn sessions_that_live_are_counted(bed: &dyn Bed) {
    let count = async || bed.sessions().count().await.expect("an answer");
    assert_eq!(count().await, 0);
    let devices = ["ann", "ben", "cid"].map(|name| device(&user(name), "phone"));
    for device in &devices {
        open(bed, device, &online("")).await;
    }
    open(bed, &devices[0], &online("again")).await;
    assert_eq!(count().await, 3);
    bed.sessions().close(&devices[1]).await.expect("closed");
    assert_eq!(count().await, 2);
    bed.lose().await;
    assert_eq!(count().await, 0);
}

pub async fn opening_again_replaces_what_was_said(bed: &dyn Bed) {
    let ann = user("ann");
    for said in [online("a"), session(Active::Away, "", Duration::from_secs(30))] {
        for _ in 0..2 {
            open(bed, &device(&ann, "phone"), &said).await;
            assert_eq!(seen(bed, &ann).await.sessions, std::slice::from_ref(&said));
        }
    }
}

pub async fn a_user_has_a_bounded_number_of_sessions(bed: &dyn Bed) {
    let ann = user("ann");
    let nth = |n: usize| device(&ann, &format!("device {n}"));
    for n in 0..MAX_SESSIONS {
        open(bed, &nth(n), &online("")).await;
    }
    let (nth_more, fresh) = (nth(MAX_SESSIONS), fresh_id());
    let more = bed.sessions().open(&nth_more, &online(""), &fresh).await.expect("an answer");
    assert_eq!(more, Opened::TooMany);
    open(bed, &nth(0), &online("again")).await;
    bed.sessions().close(&nth(1)).await.expect("closed");
    open(bed, &nth(MAX_SESSIONS), &online("")).await;
    assert_eq!(seen(bed, &ann).await.sessions.len(), MAX_SESSIONS);
}

pub async fn users_are_answered_in_the_order_asked_for(bed: &dyn Bed) {
    let users: Vec<User> = (0..300).map(|n| user(&format!("user {n}"))).collect();
    for user in users.iter().step_by(3) {
        open(bed, &device(user, "phone"), &online(user.1.as_str())).await;
    }
    let all = bed.sessions().of_users(&users).await.expect("an answer");
    assert_eq!(all.len(), users.len());
    for (n, (user, seen)) in users.iter().zip(all).enumerate() {
        let seen = seen.expect("it can be reached");
        let statuses: Vec<_> = seen.sessions.iter().map(|s| s.status.as_str()).collect();
        let expected: &[&str] = if n % 3 == 0 { &[user.1.as_str()] } else { &[] };
        assert_eq!(statuses, expected);
    }
    assert_eq!(bed.sessions().of_users(&[]).await.expect("an answer"), []);
}

/// B-176.
pub async fn equal_ids_of_two_tenants_are_two_users(bed: &dyn Bed) {
    let pairs = [("a:b", "c"), ("a", "b:c"), ("a", "c"), ("1:a", "c"), ("1", "a:c")];
    for (tenant, name) in pairs {
        let user = user_of(tenant, name);
        assert!(seen(bed, &user).await.sessions.is_empty(), "{user:?}");
        open(bed, &device(&user, "phone"), &online(tenant)).await;
    }
    bed.sessions().close(&device(&user_of("a", "c"), "phone")).await.expect("closed");
    let left = seen(bed, &user_of("1:a", "c")).await;
    assert_eq!(left.sessions, [online("1:a")]);
}

pub async fn ids_and_statuses_may_hold_whatever_they_like(bed: &dyn Bed) {
    for text in ["{x}", "a b 1 2", "%d %s", "ünï{cö}dé \u{1f600}", "1", "'\"\\"] {
        let user = user_of(text, text);
        open(bed, &device(&user, text), &online(text)).await;
        assert_eq!(seen(bed, &user).await.sessions, [online(text)]);
        assert_eq!(renew(bed, &device(&user, text)).await, Some(online(text)));
    }
}

pub async fn a_state_that_begins_is_complete_after_the_longest_lease_only(bed: &dyn Bed) {
    let began = Instant::now();
    let ann = user("ann");
    assert!(!seen(bed, &ann).await.complete);
    let seen = until(bed, &ann, |seen| seen.complete).await;
    assert!(seen.sessions.is_empty());
    // The bed may be a little older than the test.
    assert!(began.elapsed() >= DOUBT.lasts / 2);
}

pub async fn what_may_have_been_lost_is_in_doubt_for_the_longest_lease(bed: &dyn Bed) {
    let (ann, bob) = (user("ann"), user("bob"));
    open(bed, &device(&ann, "phone"), &online("")).await;
    until(bed, &ann, |seen| seen.complete).await;
    bed.lose().await;
    let began = Instant::now();
    for lost in [&ann, &bob] {
        assert_eq!(seen(bed, lost).await, Seen::default(), "not known to be offline");
    }
    assert_eq!(renew(bed, &device(&ann, "phone")).await, None);
    open(bed, &device(&ann, "phone"), &online("back")).await;
    assert_eq!(seen(bed, &ann).await.sessions, [online("back")]);
    until(bed, &bob, |seen| seen.complete).await;
    assert!(began.elapsed() >= DOUBT.lasts / 2);
}

pub async fn a_time_in_which_nothing_could_renew_is_doubt_too(bed: &dyn Bed) {
    let ann = user("ann");
    until(bed, &ann, |seen| seen.complete).await;
    let lease = DOUBT.gap / 2;
    open(bed, &device(&ann, "phone"), &session(Active::Online, "", lease)).await;
    // Nobody was there to renew it.
    sleep(DOUBT.gap + Duration::from_millis(200)).await;
    assert_eq!(seen(bed, &ann).await, Seen::default(), "not known to be offline");
    bed.sessions().pulse().await.expect("a sign of life");
    until(bed, &ann, |seen| seen.complete).await;
}

/// Sessions that have ended, once there are some.
async fn ended(bed: &dyn Bed, hold: Duration) -> Vec<Named> {
    let due = Instant::now() + PATIENCE;
    loop {
        let ended = bed.sessions().ended(hold).await.expect("an answer");
        if !ended.is_empty() {
            return ended;
        }
        assert!(Instant::now() < due, "nothing ends");
        sleep(Duration::from_millis(20)).await;
    }
}

const HOLD: Duration = Duration::from_mins(1);

pub async fn a_session_keeps_its_id_until_it_ends(bed: &dyn Bed) {
    let ann = user("ann");
    let (phone, laptop) = (device(&ann, "phone"), device(&ann, "laptop"));
    let first = open(bed, &phone, &online("a")).await;
    assert_ne!(open(bed, &laptop, &online("")).await.id, first.id);
    assert_eq!(open(bed, &phone, &online("b")).await, first);
    let renewed = bed.sessions().renew(&phone).await.expect("an answer");
    assert_eq!(renewed, Some((first.id.clone(), online("b"))));
    bed.sessions().close(&phone).await.expect("closed");
    assert_ne!(open(bed, &phone, &online("c")).await, first);
}

pub async fn what_ended_is_told_until_it_is_forgotten(bed: &dyn Bed) {
    let (ann, bob) = (user_of("a:1", "ann"), user("bob"));
    let short = session(Active::Online, "", Duration::from_millis(50));
    until(bed, &ann, |seen| seen.complete).await;
    let ran_out = open(bed, &device(&ann, "phone"), &short).await;
    let again = Duration::from_millis(30);
    assert_eq!(ended(bed, again).await, std::slice::from_ref(&ran_out));
    assert_eq!(ended(bed, HOLD).await, std::slice::from_ref(&ran_out), "nobody has heard of it");
    assert_eq!(bed.sessions().ended(HOLD).await.expect("an answer"), [], "somebody hears of it");
    let next = open(bed, &device(&ann, "phone"), &online("")).await;
    bed.sessions().forget(&[ran_out]).await.expect("forgotten");

    let first = open(bed, &device(&bob, "phone"), &online("")).await;
    until(bed, &bob, |seen| seen.complete).await;
    for session in [&first, &next] {
        bed.sessions().close(&session.device).await.expect("closed");
        bed.sessions().close(&session.device).await.expect("closed before");
    }
    let mut both = ended(bed, Duration::ZERO).await;
    both.sort_by_key(|ended| ended.id != first.id);
    assert_eq!(both, [first, next]);
    bed.sessions().forget(&both).await.expect("forgotten");
    bed.sessions().forget(&both).await.expect("forgotten before");
    assert_eq!(bed.sessions().ended(HOLD).await.expect("an answer"), []);
}

pub async fn what_was_lost_has_not_ended(bed: &dyn Bed) {
    let ann = user("ann");
    let short = session(Active::Online, "", Duration::from_millis(50));
    let ran_out = open(bed, &device(&ann, "phone"), &short).await;
    let told = ended(bed, HOLD).await;
    assert!(seen(bed, &ann).await.complete, "not before");
    assert_eq!(told, [ran_out]);
    bed.lose().await;
    open(bed, &device(&ann, "phone"), &short).await;
    let told = ended(bed, HOLD).await;
    assert!(seen(bed, &ann).await.complete, "not before");
    assert_eq!(told.len(), 1, "{told:?}");
}

pub async fn what_is_not_there_is_gone_once_the_state_is_complete(bed: &dyn Bed) {
    let (ann, bob) = (user("ann"), user("bob"));
    let lives = open(bed, &device(&ann, "phone"), &online("")).await;
    let closed = open(bed, &device(&bob, "phone"), &online("")).await;
    bed.sessions().close(&closed.device).await.expect("closed");
    let other = Named { id: fresh_id(), ..lives.clone() };
    let never = Named { device: device(&user("eve"), "phone"), id: fresh_id() };
    let all = vec![lives, closed.clone(), other.clone(), never.clone()];
    let before = bed.sessions().gone(all.clone()).await.expect("an answer");
    assert!(before.is_empty() || seen(bed, &ann).await.complete);
    until(bed, &ann, |seen| seen.complete).await;
    until(bed, &bob, |seen| seen.complete).await;
    until(bed, &user("eve"), |seen| seen.complete).await;
    let mut gone = bed.sessions().gone(all).await.expect("an answer");
    gone.sort_by_key(|named| named.device.user.1.clone());
    assert_eq!(gone, [other, closed, never]);
    bed.lose().await;
    let doubted = bed.sessions().gone(gone).await.expect("an answer");
    assert!(doubted.is_empty() || seen(bed, &ann).await.complete);
}
