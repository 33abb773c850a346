//! What callers are told while the logs, or the store, are away, and what comes of it.

use parlance_db::Db;
use parlance_outbox::testing::Health;
use parlance_proto::membership::v1 as pb;
use parlance_rpc::Reason;
use tonic_types::StatusExt as _;

use crate::harness::{Member, Owner, World, add, join, opening, refused, strings};

parlance_db::test_on_each_db!(
    parlance_membership::MIGRATIONS =>
        a_change_is_told_as_unavailable_and_the_relay_finishes_it,
        a_retry_gets_the_first_reply_once_it_is_in_the_log,
        an_answer_without_effect_waits_for_what_is_pending,
        a_room_whose_facts_are_in_the_log_still_answers,
        an_opening_is_driven_on_by_its_repeat,
        a_call_that_was_given_up_is_finished,
        a_store_that_is_away_is_told_as_such,
        what_does_not_heal_is_not_told_as_an_outage,
);

async fn a_change_is_told_as_unavailable_and_the_relay_finishes_it(db: Db) {
    let world = World::new(db);
    let log = world.channel("news", &[("ann", Owner)]).await;
    world.logs.set_health(Health::Down);
    let away = world.user("bob").members.join_room(join("news")).await;
    let away = refused(away, Reason::LogUnavailable).get_details_retry_info();
    assert!(away.is_some_and(|info| info.retry_delay.is_some()));
    world.service.run();
    world.logs.set_health(Health::Up);
    world.logs.wait_for(log, |log| log.events.len() == 3).await;
    world.env.tasks.close().await;
    let joined = world.user("bob").members.join_room(join("news")).await.expect("in");
    assert!(joined.into_inner().already_member);
}

async fn a_retry_gets_the_first_reply_once_it_is_in_the_log(db: Db) {
    let world = World::new(db);
    world.know("acme", &["bob"]).await;
    let log = world.group("den", &[("ann", Owner)]).await;
    let request = pb::AddMembersRequest { request_id: "r1".to_owned(), ..add("den", &["bob"]) };
    let mut ann = world.user("ann");
    world.logs.set_health(Health::Down);
    for _ in 0..2 {
        let away = ann.members.add_members(request.clone()).await;
        refused(away, Reason::LogUnavailable);
    }
    world.logs.set_health(Health::Up);
    let reply = ann.members.add_members(request).await.expect("added").into_inner();
    assert_eq!(reply.added[0].user_id, "bob");
    assert!(reply.already_member_user_ids.is_empty());
    assert_eq!(world.later_events(log).len(), 1);
}

async fn an_answer_without_effect_waits_for_what_is_pending(db: Db) {
    let world = World::new(db);
    let log = world.channel("news", &[("ann", Owner)]).await;
    let mut bob = world.user("bob");
    world.logs.set_health(Health::Down);
    for _ in 0..2 {
        refused(bob.members.join_room(join("news")).await, Reason::LogUnavailable);
    }
    world.logs.set_health(Health::Up);
    assert!(bob.members.join_room(join("news")).await.expect("in").into_inner().already_member);
    assert_eq!(world.later_events(log).len(), 1);
}

async fn a_room_whose_facts_are_in_the_log_still_answers(db: Db) {
    let world = World::new(db);
    world.channel("news", &[("ann", Owner)]).await;
    world.logs.set_health(Health::Down);
    let again = world.user("ann").members.join_room(join("news")).await.expect("nothing to send");
    assert!(again.into_inner().already_member);
    assert_eq!(world.roles("news").await.len(), 1);
}

async fn an_opening_is_driven_on_by_its_repeat(db: Db) {
    let world = World::new(db);
    let log = parlance_types::LogId(uuid::Uuid::now_v7());
    let mut room = world.room_service("acme", None);
    let request = opening(log, "den", &[("ann", Owner), ("bob", Member)]);
    world.logs.set_health(Health::Down);
    refused(room.rosters.open_roster(request.clone()).await, Reason::LogUnavailable);
    world.logs.set_health(Health::Up);
    room.rosters.open_roster(request).await.expect("opened");
    assert_eq!(world.logs.log(log).events.len(), 2);
    let close = pb::CloseRosterRequest { log_id: log.0.to_string() };
    world.logs.set_health(Health::Mute);
    refused(room.rosters.close_roster(close.clone()).await, Reason::LogUnavailable);
    world.logs.set_health(Health::Up);
    room.rosters.close_roster(close).await.expect("closed");
    assert_eq!(world.logs.log(log).events.len(), 3);
}

async fn a_call_that_was_given_up_is_finished(db: Db) {
    let world = World::new(db);
    world.know("acme", &["bob"]).await;
    let log = world.group("den", &[("ann", Owner)]).await;
    world.logs.set_health(Health::Hanging);
    let mut ann = world.user("ann");
    let arrived = world.logs.arrived();
    tokio::select! {
        added = ann.members.add_members(add("den", &["bob"])) => panic!("{added:?}"),
        () = world.logs.wait_for_more_than(arrived) => {}
    }
    world.logs.set_health(Health::Up);
    // The try that hangs is given up after its own bound, and made again.
    world.logs.wait_for(log, |log| log.events.len() == 3).await;
    let ids: Vec<_> = world.roles("den").await.into_iter().map(|(user, _)| user).collect();
    assert_eq!(ids, strings(&["ann", "bob"]));
}

async fn what_does_not_heal_is_not_told_as_an_outage(db: Db) {
    let world = World::new(db.clone());
    world.channel("news", &[("ann", Owner)]).await;
    world.logs.set_health(Health::Broken);
    refused(world.user("bob").members.join_room(join("news")).await, Reason::Internal);
    // What was decided is in the log once somebody has mended it.
    world.logs.set_health(Health::Up);
    let joined = world.user("bob").members.join_room(join("news")).await.expect("in");
    assert!(joined.into_inner().already_member);

    db.write("DROP TABLE members").execute().await.expect("dropped");
    refused(world.user("cid").members.join_room(join("news")).await, Reason::Internal);
}

async fn a_store_that_is_away_is_told_as_such(db: Db) {
    let world = World::new(db.clone());
    let log = world.channel("news", &[("ann", Owner)]).await;
    db.close().await;
    let mut ann = world.user("ann");
    refused(ann.members.join_room(join("news")).await, Reason::StoreUnavailable);
    let request = pb::GetUserRequest { user_id: "ann".to_owned() };
    refused(ann.users.get_user(request).await, Reason::StoreUnavailable);
    let request = pb::ListRoomMembersRequest { room_id: "news".to_owned(), ..Default::default() };
    refused(ann.members.list_room_members(request).await, Reason::StoreUnavailable);
    let close = pb::CloseRosterRequest { log_id: log.0.to_string() };
    let closed = world.room_service("acme", None).rosters.close_roster(close).await;
    refused(closed, Reason::StoreUnavailable);
}
