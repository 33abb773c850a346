//! SetTenantRules and GetTenantUse: how many users a tenant may have.

use futures::future::join_all;
use parlance_db::Db;
use parlance_proto::membership::v1 as pb;
use parlance_proto::message::v1::RoomKind;
use parlance_rpc::Reason;
use parlance_types::LogId;
use tonic::{Code, Response, Status};
use tonic_types::StatusExt as _;
use uuid::Uuid;

use crate::harness::{
    Member, Owner, World, add, eventually, join, named, opening, refused, rules, strings, violates,
};

parlance_db::test_on_each_db!(
    parlance_membership::MIGRATIONS =>
        a_user_too_many_does_not_come_into_being,
        every_way_into_being_is_counted_once,
        a_batch_is_refused_whole,
        of_many_first_calls_at_once_so_many_pass_as_may,
        batches_that_cross_do_not_wait_in_circles,
        the_latest_rules_hold_whatever_order_they_come_in,
        users_that_were_on_their_way_are_counted_a_minute_later,
        a_limit_that_is_taken_away_is_none,
        rules_are_for_the_suite_and_what_is_wrong_is_named,
);

pub(crate) fn limited(version: i64, max_users: Option<i64>) -> pb::SetTenantRulesRequest {
    pb::SetTenantRulesRequest { version, max_users, silent_blocks: false }
}

const HOUR: prost_types::Duration = prost_types::Duration { seconds: 3600, nanos: 0 };

async fn used(world: &World, tenant: &str) -> Option<i64> {
    let mut tenants = world.room_service(tenant, None).tenants;
    let used = tenants.get_tenant_use(pb::GetTenantUseRequest {}).await;
    used.expect("told").into_inner().users
}

async fn first_call(world: &World, user: &str) -> Result<Response<()>, Status> {
    let list = pb::ListUserMembershipsRequest::default();
    Ok(world.user(user).members.list_user_memberships(list).await?.map(drop))
}

async fn exists(world: &World, user: &str) -> bool {
    let request = pb::BatchGetUsersRequest { user_ids: strings(&[user]) };
    let found = world.service().users.batch_get_users(request).await.expect("users");
    !found.into_inner().users.is_empty()
}

#[track_caller]
fn too_many<T: std::fmt::Debug>(result: Result<Response<T>, Status>, most: &str) {
    let status = refused(result, Reason::QuotaExceeded);
    assert_eq!(status.code(), Code::ResourceExhausted);
    let info = status.get_details_error_info().expect("error info");
    assert_eq!(info.metadata.get("limit").map(String::as_str), Some("users"));
    assert_eq!(info.metadata.get("most").map(String::as_str), Some(most));
}

async fn a_user_too_many_does_not_come_into_being(db: Db) {
    let world = World::new(db);
    world.know("acme", &["ann", "bob"]).await;
    assert_eq!(used(&world, "acme").await, None, "nothing is counted for nothing");
    assert_eq!(world.rule("acme", limited(1, Some(3))).await, 1);
    assert_eq!(used(&world, "acme").await, Some(2));
    first_call(&world, "cleo").await.expect("the third");
    for _ in 0..2 {
        too_many(first_call(&world, "dan").await, "3");
    }
    assert!(!exists(&world, "dan").await);
    assert_eq!(used(&world, "acme").await, Some(3));
    // Those who are there go on, and another tenant is none of this one's.
    world.know("acme", &["ann", "cleo"]).await;
    first_call(&world, "ann").await.expect("is there");
    world.know("other", &["dan", "eve", "finn", "gil"]).await;
    // A limit below what there is takes nobody away.
    world.rule("acme", limited(2, Some(0))).await;
    first_call(&world, "cleo").await.expect("is there");
    too_many(first_call(&world, "dan").await, "0");
}

async fn every_way_into_being_is_counted_once(db: Db) {
    let world = World::new(db);
    world.rule("acme", limited(1, Some(6))).await;
    let service = |user| world.room_service("acme", user).rosters;
    world
        .user("u1")
        .users
        .upsert_user(pb::UpsertUserRequest { user: Some(named("u1")) })
        .await
        .expect("made");
    world.know("acme", &["u1", "u2"]).await;
    service(Some("u3")).ensure_user(pb::EnsureUserRequest {}).await.expect("made");
    let channel = world.channel("news", &[("u1", Owner), ("u4", Member)]).await;
    let ensure = |users: &[&str]| pb::EnsureMembersRequest {
        log_id: channel.0.to_string(),
        user_ids: strings(users),
        readmit_removed: false,
    };
    service(None).ensure_members(ensure(&["u1", "u5"])).await.expect("made");
    let seat = |user: &str| pb::OpenRosterRequest {
        kind: RoomKind::Live.into(),
        rules: Some(pb::RosterRules { join: pb::JoinRule::Anyone.into(), ..rules() }),
        ensure_user_ids: Vec::new(),
        live: Some(pb::LiveRoster {
            seat: Some(pb::FirstSeat {
                resource: "phone".to_owned(),
                session_id: "1".to_owned(),
                max_rooms: 5,
                from_log_id: String::new(),
            }),
            ..Default::default()
        }),
        ..opening(LogId(Uuid::now_v7()), &format!("of {user}"), &[(user, Owner)])
    };
    service(Some("u6")).open_roster(seat("u6")).await.expect("made");
    assert_eq!(used(&world, "acme").await, Some(6));

    // The seventh does not come in by any of them.
    let upsert = pb::UpsertUserRequest { user: Some(named("u7")) };
    too_many(world.service().users.upsert_user(upsert).await, "6");
    too_many(service(Some("u7")).ensure_user(pb::EnsureUserRequest {}).await, "6");
    too_many(service(None).ensure_members(ensure(&["u7"])).await, "6");
    let roster = opening(LogId(Uuid::now_v7()), "den", &[("u1", Owner), ("u7", Member)]);
    too_many(service(None).open_roster(roster.clone()).await, "6");
    too_many(service(Some("u7")).open_roster(seat("u7")).await, "6");
    too_many(first_call(&world, "u7").await, "6");
    let lounge = LogId(Uuid::now_v7());
    let live = pb::LiveRoster { empty_timeout: Some(HOUR), ..Default::default() };
    let waits = pb::OpenRosterRequest {
        kind: RoomKind::Live.into(),
        live: Some(live),
        rules: Some(pb::RosterRules { join: pb::JoinRule::Anyone.into(), ..rules() }),
        ..opening(lounge, "lounge", &[])
    };
    service(None).open_roster(waits).await.expect("opened");
    let enter = pb::EnterSeatRequest {
        log_id: lounge.0.to_string(),
        resource: "phone".to_owned(),
        session_id: "1".to_owned(),
        max_rooms: 5,
    };
    too_many(world.room_service("acme", Some("u7")).seats.enter_seat(enter).await, "6");
    too_many(world.user("u7").members.join_room(join("news")).await, "6");
    refused(world.user("u1").members.add_members(add("news", &["u7"])).await, Reason::UserNotFound);
    assert_eq!(used(&world, "acme").await, Some(6));
    // A room that was refused for it is opened once there may be more.
    world.rule("acme", limited(2, Some(7))).await;
    service(None).open_roster(roster).await.expect("opened");
    assert_eq!(used(&world, "acme").await, Some(7));
}

async fn a_batch_is_refused_whole(db: Db) {
    let world = World::new(db);
    world.know("acme", &["a"]).await;
    world.rule("acme", limited(1, Some(3))).await;
    let batch = |users: &[&str]| pb::BatchUpsertUsersRequest {
        users: users.iter().map(|user| pb::User { name: "N".to_owned(), ..named(user) }).collect(),
    };
    let mut backend = world.service().users;
    too_many(backend.batch_upsert_users(batch(&["a", "b", "c", "d"])).await, "3");
    assert!(!exists(&world, "b").await);
    backend.batch_upsert_users(batch(&["a", "b", "c"])).await.expect("as many as may be");
    backend.batch_upsert_users(batch(&["a", "b", "c"])).await.expect("they are there");
    assert_eq!(used(&world, "acme").await, Some(3));
}

async fn of_many_first_calls_at_once_so_many_pass_as_may(db: Db) {
    let world = World::new(db.clone());
    let beside = world.replica(db);
    world.rule("acme", limited(1, Some(5))).await;
    // Each of ten users calls twice at once, on two replicas.
    let calls = (0..20).map(|n| {
        let on = if n % 2 == 0 { &world } else { &beside };
        async move { first_call(on, &format!("user {}", n / 2)).await.is_ok() }
    });
    join_all(calls).await;
    let mut there = 0;
    for n in 0..10 {
        there += i64::from(exists(&world, &format!("user {n}")).await);
    }
    assert_eq!((there, used(&world, "acme").await), (5, Some(5)));
    let calls = (10..30).map(|n| {
        let world = &world;
        async move { first_call(world, &format!("user {n}")).await.is_ok() }
    });
    assert!(!join_all(calls).await.contains(&true));
    assert_eq!(used(&world, "acme").await, Some(5));
}

async fn batches_that_cross_do_not_wait_in_circles(db: Db) {
    let world = World::new(db);
    world.rule("acme", limited(1, Some(10_000))).await;
    let rounds = (0..8).map(|round| {
        let world = &world;
        async move {
            let users: Vec<_> = (0..20).map(|n| format!("user {}", (n * 7 + round) % 20)).collect();
            let mut users: Vec<_> = users.iter().map(|user| named(user)).collect();
            users.push(named(&format!("of {round}")));
            let request = pb::BatchUpsertUsersRequest { users };
            world.service().users.batch_upsert_users(request).await.expect("written");
            let room = format!("room {round}");
            world.direct(&room, [&format!("user {round}"), &format!("new {round}")]).await;
        }
    });
    join_all(rounds).await;
    assert_eq!(used(&world, "acme").await, Some(20 + 8 + 8));
}

async fn the_latest_rules_hold_whatever_order_they_come_in(db: Db) {
    let world = World::new(db);
    assert_eq!(world.rule("acme", limited(5, Some(1))).await, 5);
    for earlier in [4, 5] {
        assert_eq!(world.rule("acme", limited(earlier, None)).await, 5);
    }
    first_call(&world, "ann").await.expect("the first");
    too_many(first_call(&world, "bob").await, "1");
    let at_once = (6..16).map(|version| world.rule("acme", limited(version, Some(version))));
    join_all(at_once).await;
    assert_eq!(world.rule("acme", limited(1, None)).await, 15);
    let users: Vec<_> = (0..14).map(|n| format!("user {n}")).collect();
    world.know("acme", &users.iter().map(String::as_str).collect::<Vec<_>>()).await;
    too_many(first_call(&world, "bob").await, "15");
}

async fn users_that_were_on_their_way_are_counted_a_minute_later(db: Db) {
    let world = World::new(db.clone());
    world.know("acme", &["ann", "bob"]).await;
    world.rule("acme", limited(1, Some(2))).await;
    // As if Bob had been on his way.
    let missed = "UPDATE tenants SET users = 1 WHERE tenant_id = 'acme'";
    db.write(missed).execute().await.expect("written");
    world.clock.advance(59_000_000);
    world.service.run();
    let looked = || {
        let done = || {
            let run = world.env.tasks.report().remove("limited tenants");
            run.map_or(0, |run| run.count - run.failures)
        };
        let before = done();
        eventually(move || async move { done() >= before + 2 })
    };
    looked().await;
    assert_eq!(used(&world, "acme").await, Some(1), "not yet");
    world.clock.advance(1_000_000);
    looked().await;
    assert_eq!(used(&world, "acme").await, Some(2));
    too_many(first_call(&world, "cleo").await, "2");
    world.env.tasks.close().await;
}

async fn a_limit_that_is_taken_away_is_none(db: Db) {
    let world = World::new(db);
    world.rule("acme", limited(1, Some(0))).await;
    too_many(first_call(&world, "ann").await, "0");
    world.rule("acme", limited(2, None)).await;
    first_call(&world, "ann").await.expect("made");
    assert_eq!(used(&world, "acme").await, None);
    // Who came meanwhile counts when there is a limit again.
    world.rule("acme", limited(3, Some(1))).await;
    assert_eq!(used(&world, "acme").await, Some(1));
    too_many(first_call(&world, "bob").await, "1");
}

async fn rules_are_for_the_suite_and_what_is_wrong_is_named(db: Db) {
    let world = World::new(db);
    let callers = [world.user("ann"), world.service(), world.operator()];
    for mut caller in callers {
        let set = caller.tenants.set_tenant_rules(limited(1, None)).await;
        assert_eq!(set.expect_err("refused").code(), Code::PermissionDenied);
        let used = caller.tenants.get_tenant_use(pb::GetTenantUseRequest {}).await;
        assert_eq!(used.expect_err("refused").code(), Code::PermissionDenied);
    }
    let mut tenants = world.room_service("acme", None).tenants;
    for version in [0, -1] {
        violates(tenants.set_tenant_rules(limited(version, None)).await, "version");
    }
    violates(tenants.set_tenant_rules(limited(1, Some(-1))).await, "max_users");
    assert_eq!(used(&world, "acme").await, None);
}
