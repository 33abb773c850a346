//! A hook that is away, hangs, or answers nonsense.

use std::time::Duration;

use futures::future::join_all;
use parlance_db::{Db, test_on_each_db};
use parlance_message::hook::{OnFailure, Options};
use parlance_rpc::testing::{eventually, in_time};
use parlance_rpc::{Principal, Reason};
use parlance_types::UserId;
use tokio::time::Instant;
use tonic_types::StatusExt as _;

use super::checks::{named, sent};
use super::judge::{FAILURES, Judge, asking};
use crate::harness::{Client, TENANT, World, caller, get, refused, saying, send, words};
use crate::rooms::{group, plan};

test_on_each_db!(parlance_message::MIGRATIONS =>
    a_hook_that_fails_refuses_for_now_or_lets_pass,
    what_a_hook_makes_of_one_message_says_nothing_of_others,
    a_hook_that_is_silent_is_left_alone_until_it_works,
    a_hook_that_hangs_for_one_tenant_is_asked_for_others,
    messages_that_wait_for_a_hook_hold_up_none_that_do_not,
);

/// B-162.
async fn a_hook_that_fails_refuses_for_now_or_lets_pass(db: Db) {
    let judge = Judge::default();
    let world = judge.world(db, OnFailure::Closed).await;
    group(&world, "lobby", &["ann"]).await;
    let mut ann = world.user("ann");
    for failure in FAILURES {
        let answer = ann.messages.send_message(named(failure, failure)).await;
        let status = refused(answer, Reason::HookUnavailable);
        assert!(status.get_details_retry_info().is_some(), "{failure}");
    }
    let first = send(&mut ann, "lobby", "hello").await;
    // The same messages, as another node takes them: none was stored.
    let open = judge.world(world.service.store().db().clone(), OnFailure::Open).await;
    let mut ann = open.user("ann");
    for (failure, seq) in FAILURES.into_iter().zip(first.seq + 1..) {
        let sent = sent(&mut ann, named(failure, failure)).await;
        assert_eq!(sent.seq, seq);
        assert_eq!(words(&get(&mut ann, &sent.message_id).await), Some(failure));
    }
    refused(ann.messages.send_message(saying("lobby", "bad")).await, Reason::HookRefused);
}

async fn what_a_hook_makes_of_one_message_says_nothing_of_others(db: Db) {
    let judge = Judge::default();
    let world = judge.world(db, OnFailure::Closed).await;
    group(&world, "lobby", &["ann"]).await;
    let mut ann = world.user("ann");
    for _ in 0..10 {
        let answer = ann.messages.send_message(saying("lobby", "dies")).await;
        refused(answer, Reason::HookUnavailable);
    }
    send(&mut ann, "lobby", "hello").await;
    assert_eq!(judge.asked().len(), 11);
}

async fn a_hook_that_is_silent_is_left_alone_until_it_works(db: Db) {
    let judge = Judge::default();
    let world = judge.world(db, OnFailure::Closed).await;
    group(&world, "lobby", &["ann"]).await;
    let mut ann = world.user("ann");
    judge.is_away(true);
    for _ in 0..10 {
        let answer = ann.messages.send_message(saying("lobby", "hello")).await;
        refused(answer, Reason::HookUnavailable);
    }
    assert_eq!(judge.asked().len(), 5);
    judge.is_away(false);
    eventually(|| async {
        let mut ann = world.user("ann");
        ann.messages.send_message(saying("lobby", "hello")).await.is_ok()
    })
    .await;
    assert_eq!(judge.asked().len(), 6, "one attempt");
    send(&mut ann, "lobby", "hello").await;
}

/// Longer than any test: nothing that hangs is given up in it.
const FOREVER: Duration = Duration::from_mins(5);

/// A client of a user that waits as long as that.
fn patient(world: &World, user_id: &str) -> Client {
    let caller = caller(TENANT, Principal::User(UserId::new(user_id)));
    world.with(Some(caller), Some(Instant::now() + FOREVER))
}

/// How many messages of a tenant a hook is asked for at once.
const AT_ONCE: usize = 32;

async fn a_hook_that_hangs_for_one_tenant_is_asked_for_others(db: Db) {
    let judge = Judge::default();
    let world = asking(db, Options { deadline: FOREVER, ..judge.options(OnFailure::Closed) }).await;
    let names: Vec<_> = (0..2 * AT_ONCE).map(|n| format!("ann {n}")).collect();
    group(&world, "lobby", &names.iter().map(String::as_str).collect::<Vec<_>>()).await;
    plan("lobby").of_tenant("globex").members(&["bob"]).make(&world).await;
    let hanging = names.iter().map(|name| {
        let mut client = patient(&world, name);
        async move { client.messages.send_message(saying("lobby", "hangs")).await }
    });
    let all_hang = async {
        eventually(|| async { judge.asked().len() == AT_ONCE }).await;
        let mut bob = world.client("globex", Principal::User(UserId::new("bob")));
        for _ in 0..5 {
            in_time(send(&mut bob, "lobby", "hello")).await;
        }
    };
    tokio::select! {
        _ = join_all(hanging) => panic!("nothing answers"),
        () = all_hang => {}
    }
    assert_eq!(judge.texts().iter().filter(|text| *text == "hangs").count(), AT_ONCE);
}

/// No lock, no writer and no connection is held.
async fn messages_that_wait_for_a_hook_hold_up_none_that_do_not(db: Db) {
    let judge = Judge::default();
    let world = asking(db, Options { deadline: FOREVER, ..judge.options(OnFailure::Closed) }).await;
    group(&world, "lobby", &["ann", "bob"]).await;
    let hanging = (0..AT_ONCE / 2).map(|_| {
        let mut ann = patient(&world, "ann");
        async move { ann.messages.send_message(saying("lobby", "hangs")).await }
    });
    let others = async {
        eventually(|| async { judge.asked().len() == AT_ONCE / 2 }).await;
        let sent = in_time(send(&mut world.user("bob"), "lobby", "hello")).await;
        in_time(send(&mut world.backend(), "lobby", "hello")).await;
        in_time(get(&mut world.user("ann"), &sent.message_id)).await;
    };
    tokio::select! {
        _ = join_all(hanging) => panic!("nothing answers"),
        () = others => {}
    }
}
