//! Users who are blocked and told nothing of it.

use parlance_db::Db;
use parlance_proto::membership::v1 as pb;
use parlance_proto::message::v1::Hiding;
use parlance_types::LogId;

use super::blocks::{block, block_beside_opening, changes, is, listed, of_own, of_peers, unblock};
use crate::harness::{Member, Owner, World, strings};

parlance_db::test_on_each_db!(
    parlance_membership::MIGRATIONS =>
        who_is_blocked_silently_is_told_of_as_hidden,
        a_block_is_taken_back_as_it_was_set,
        a_direct_room_that_is_opened_later_hides_whom_somebody_blocked,
        whoever_comes_back_into_a_direct_room_the_log_is_told,
        a_silent_block_and_the_opening_of_the_direct_room_see_each_other,
);

async fn policy(world: &World, version: i64, silent_blocks: bool) {
    let rules = pb::SetTenantRulesRequest { version, max_users: None, silent_blocks };
    world.rule("acme", rules).await;
}

/// What was said of hidden peers.
fn hidden(world: &World, log_id: LogId) -> Vec<(String, bool)> {
    let hiding: Vec<Hiding> = world.logs.log(log_id).hiding;
    hiding.iter().flat_map(|said| changes(&said.peers)).collect()
}

fn hidden_by(world: &World, user: &str) -> Vec<(String, bool)> {
    let hiding = world.logs.own_log(user).hiding;
    hiding.iter().flat_map(|said| changes(&said.blocks)).collect()
}

/// B-159.
async fn who_is_blocked_silently_is_told_of_as_hidden(db: Db) {
    let world = World::new(db);
    let pair = world.direct("pair", ["ann", "bob"]).await;
    let den = world.group("den", &[("ann", Owner), ("bob", Member)]).await;
    policy(&world, 1, true).await;
    block(&world, "ann", "bob").await.expect("blocked");
    block(&world, "ann", "bob").await.expect("it is so already");
    assert_eq!(hidden_by(&world, "ann"), [is("bob", true)]);
    assert_eq!(hidden(&world, pair), [is("bob", true)]);
    assert!(of_own(&world, "ann").is_empty() && world.logs.log(pair).silent.is_empty());
    assert!(world.logs.log(den).hiding.is_empty());
    assert_eq!(listed(&world, "ann").await, ["bob"]);

    unblock(&world, "ann", "bob").await;
    assert_eq!(hidden(&world, pair), [is("bob", true), is("bob", false)]);
    assert_eq!(of_own(&world, "ann"), [is("bob", false)]);
    assert!(listed(&world, "ann").await.is_empty());
}

async fn a_block_is_taken_back_as_it_was_set(db: Db) {
    let world = World::new(db);
    let pair = world.direct("pair", ["ann", "bob"]).await;
    block(&world, "ann", "bob").await.expect("blocked");
    policy(&world, 1, true).await;
    // It stays what it was, though it is asked for again.
    block(&world, "ann", "bob").await.expect("it is so already");
    block(&world, "bob", "ann").await.expect("blocked");
    policy(&world, 2, false).await;
    for (user, other) in [("bob", "ann"), ("ann", "bob")] {
        unblock(&world, user, other).await;
    }
    assert_eq!(of_peers(&world.logs.log(pair).silent), [is("bob", true), is("bob", false)]);
    assert_eq!(hidden(&world, pair), [is("ann", true), is("ann", false)]);
    block(&world, "bob", "ann").await.expect("blocked");
    assert_eq!(of_peers(&world.logs.log(pair).silent).last(), Some(&is("ann", true)));
}

async fn a_direct_room_that_is_opened_later_hides_whom_somebody_blocked(db: Db) {
    let world = World::new(db);
    world.know("acme", &["ann", "bob", "cleo"]).await;
    policy(&world, 1, true).await;
    block(&world, "ann", "bob").await.expect("blocked");
    policy(&world, 2, false).await;
    block(&world, "bob", "ann").await.expect("blocked");
    let pair = world.direct("pair", ["ann", "bob"]).await;
    assert_eq!(hidden(&world, pair), [is("bob", true)]);
    assert_eq!(of_peers(&world.logs.log(pair).silent), [is("ann", true)]);
    let other = world.direct("other", ["ann", "cleo"]).await;
    assert!(hidden(&world, other).is_empty());
}

async fn whoever_comes_back_into_a_direct_room_the_log_is_told(db: Db) {
    let world = World::new(db);
    let pair = world.direct("pair", ["ann", "bob"]).await;
    policy(&world, 1, true).await;
    block(&world, "ann", "bob").await.expect("blocked");
    for (user, told) in [("bob", 2), ("ann", 3)] {
        let leave = pb::LeaveRoomRequest { room_id: "pair".to_owned(), ..Default::default() };
        world.user(user).members.leave_room(leave).await.expect("left");
        let back = pb::EnsureMembersRequest {
            log_id: pair.0.to_string(),
            user_ids: strings(&[user]),
            readmit_removed: true,
        };
        world.room_service("acme", None).rosters.ensure_members(back).await.expect("back");
        assert_eq!(hidden(&world, pair), vec![is("bob", true); told], "{user}");
    }
    assert!(world.logs.log(pair).silent.is_empty());
}

async fn a_silent_block_and_the_opening_of_the_direct_room_see_each_other(db: Db) {
    let world = World::new(db);
    policy(&world, 1, true).await;
    for round in 0..20 {
        let (log_id, bob) = block_beside_opening(&world, round).await;
        assert_eq!(hidden(&world, log_id), [is(&bob, true)]);
    }
}
