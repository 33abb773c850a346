//! The rooms that a user is no longer in.

use parlance_db::Db;
use parlance_proto::membership::v1 as pb;
use parlance_proto::message::v1::RoomKind;
use parlance_rpc::Reason;
use parlance_types::LogId;

use crate::harness::{Member, Owner, World, add, close, eventually, join, refused, strings};

parlance_db::test_on_each_db!(
    parlance_membership::MIGRATIONS =>
        rooms_that_were_left_are_listed_until_their_user_is_back,
        rooms_that_ended_are_let_go_of,
        a_thousand_are_listed_those_left_last,
        who_may_ask,
);

fn leave(room: &str) -> pb::LeaveRoomRequest {
    pb::LeaveRoomRequest { room_id: room.to_owned(), ..Default::default() }
}

async fn left(world: &World, user: &str) -> Vec<LogId> {
    let mut rosters = world.room_service("acme", Some(user)).rosters;
    let left = rosters.list_left_rosters(pb::ListLeftRostersRequest {}).await.expect("a list");
    let log = |roster: &pb::LeftRoster| roster.log_id.parse().expect("a log");
    left.into_inner().rosters.iter().map(log).collect()
}

async fn rooms_that_were_left_are_listed_until_their_user_is_back(db: Db) {
    let world = World::new(db);
    let members = [("ann", Owner), ("bob", Member)];
    let (den, news) = (world.group("den", &members).await, world.channel("news", &members).await);
    let pair = world.direct("pair", ["ann", "bob"]).await;
    assert!(left(&world, "bob").await.is_empty());
    for room in ["den", "pair"] {
        world.clock.advance(1);
        world.user("bob").members.leave_room(leave(room)).await.expect("left");
    }
    world.clock.advance(1);
    let (room_id, user_ids) = ("news".to_owned(), strings(&["bob"]));
    let remove = pb::RemoveMembersRequest { room_id, user_ids, ..Default::default() };
    world.user("ann").members.remove_members(remove).await.expect("removed");
    assert_eq!(left(&world, "bob").await, [news, pair, den]);
    assert!(left(&world, "ann").await.is_empty());
    world.user("ann").members.add_members(add("den", &["bob"])).await.expect("added");
    assert_eq!(left(&world, "bob").await, [news, pair]);
}

async fn rooms_that_ended_are_let_go_of(db: Db) {
    let world = World::new(db);
    let members = [("ann", Owner), ("bob", Member)];
    let den = world.group("den", &members).await;
    let news = world.channel("news", &members).await;
    for room in ["den", "news"] {
        world.clock.advance(1);
        world.user("bob").members.leave_room(leave(room)).await.expect("left");
    }
    world.user("cid").members.join_room(join("news")).await.expect("joined");
    close(&world, den).await;
    world.service.run();
    eventually(|| async { left(&world, "bob").await == [news] }).await;
    world.env.tasks.close().await;
}

async fn a_thousand_are_listed_those_left_last(db: Db) {
    let world = World::new(db.clone());
    let first = world.group("first", &[("ann", Owner), ("bob", Member)]).await;
    world.user("bob").members.leave_room(leave("first")).await.expect("left");
    assert_eq!(left(&world, "bob").await, [first]);
    for _ in 0..1000 {
        let insert = "INSERT INTO members (log_id, user_id, tenant_id, room_id, role, state,
                                           join_time, leave_time)
                      SELECT $1, user_id, tenant_id, room_id, role, state, join_time,
                             leave_time + 1
                        FROM members WHERE log_id = $2 AND user_id = 'bob'";
        let insert = db.write(insert).bind(uuid::Uuid::now_v7()).bind(first.0);
        insert.execute().await.expect("filled");
    }
    let listed = left(&world, "bob").await;
    assert_eq!(listed.len(), 1000);
    assert!(!listed.contains(&first));
}

async fn who_may_ask(db: Db) {
    let world = World::new(db);
    world.open_as("acme", RoomKind::Group, "den", crate::harness::rules(), &[]).await;
    let ask = pb::ListLeftRostersRequest {};
    let nobody = world.room_service("acme", None).rosters.list_left_rosters(ask).await;
    refused(nobody, Reason::UserRequired);
    refused(world.user("ann").rosters.list_left_rosters(ask).await, Reason::NotAllowed);
}
