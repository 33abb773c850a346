//! RosterService, as services see it that own no rooms.

use parlance_db::Db;
use parlance_proto::membership::v1 as pb;
use parlance_rpc::Reason;
use parlance_types::LogId;

use crate::harness::{Member, Owner, World, bad_ids, refused, strings, violates};

parlance_db::test_on_each_db!(
    parlance_membership::MIGRATIONS =>
        the_members_of_a_room_come_all_or_as_a_number,
        whose_actor_may_not_see_the_members_is_refused,
        the_first_members_of_several_rooms_come_at_once,
        seeing_rosters_is_internal,
        bad_fields_are_named,
);

fn members(room: &str, most: i32) -> pb::GetRoomMembersRequest {
    pb::GetRoomMembersRequest { room_id: room.to_owned(), max_members: most }
}

async fn the_members_of_a_room_come_all_or_as_a_number(db: Db) {
    let world = World::new(db);
    world.group("r", &[("ann", Owner), ("bob", Member), ("cid", Member)]).await;
    for actor in [None, Some("ann"), Some("cid")] {
        let mut presence = world.room_service("acme", actor);
        for most in [3, 1000] {
            let seen = presence.rosters.get_room_members(members("r", most)).await;
            let seen = seen.expect("seen").into_inner();
            assert_eq!((seen.user_ids, seen.total_size), (strings(&["ann", "bob", "cid"]), 3));
        }
        let seen = presence.rosters.get_room_members(members("r", 2)).await;
        let seen = seen.expect("seen").into_inner();
        assert_eq!((seen.user_ids, seen.total_size), (Vec::new(), 3));
    }
}

async fn whose_actor_may_not_see_the_members_is_refused(db: Db) {
    let world = World::new(db);
    world.group("r", &[("ann", Owner)]).await;
    world.direct("pair", ["ann", "bob"]).await;
    let mut for_eve = world.room_service("acme", Some("eve")).rosters;
    refused(for_eve.get_room_members(members("r", 10)).await, Reason::NotAMember);
    refused(for_eve.get_room_members(members("pair", 10)).await, Reason::RoomNotFound);
    refused(for_eve.get_room_members(members("none", 10)).await, Reason::RoomNotFound);
    let mut other = world.room_service("other", None).rosters;
    refused(other.get_room_members(members("r", 10)).await, Reason::RoomNotFound);
}

fn first(log_ids: &[LogId], most: i32) -> pb::BatchGetMembersRequest {
    let log_ids = log_ids.iter().map(ToString::to_string).collect();
    pb::BatchGetMembersRequest { log_ids, max_members: most }
}

async fn the_first_members_of_several_rooms_come_at_once(db: Db) {
    let world = World::new(db);
    let one = world.group("r", &[("ann", Owner), ("bob", Member), ("cid", Member)]).await;
    let pair = world.direct("pair", ["ann", "bob"]).await;
    let closed = world.group("closed", &[("ann", Owner)]).await;
    crate::harness::close(&world, closed).await;
    let leave = pb::LeaveRoomRequest { room_id: "r".to_owned(), ..Default::default() };
    world.user("cid").members.leave_room(leave).await.expect("left");
    let nowhere = LogId(uuid::Uuid::now_v7());
    let mut room = world.room_service("acme", Some("ann")).rosters;
    let logs = [pair, nowhere, one, closed];
    let seen = room.batch_get_members(first(&logs, 100)).await.expect("seen").into_inner().rooms;
    let seen: Vec<_> = seen.iter().map(|room| (room.user_ids.join(" "), room.total_size)).collect();
    let both = ("ann bob".to_owned(), 2);
    assert_eq!(seen, [both.clone(), (String::new(), 0), both, (String::new(), 0)]);
    let seen = room.batch_get_members(first(&[one], 1)).await.expect("seen").into_inner().rooms;
    assert_eq!((&*seen[0].user_ids, seen[0].total_size), (&strings(&["ann"])[..], 2));
    let mut other = world.room_service("other", None).rosters;
    let seen = other.batch_get_members(first(&[one], 1)).await.expect("seen").into_inner().rooms;
    assert_eq!(seen[0], pb::GetRoomMembersResponse::default());
    for mut client in [world.user("ann"), world.service_for("ann"), world.service()] {
        refused(client.rosters.batch_get_members(first(&[one], 1)).await, Reason::NotAllowed);
    }
    for most in [0, -1, 101] {
        violates(room.batch_get_members(first(&[one], most)).await, "max_members");
    }
    violates(room.batch_get_members(first(&[], 1)).await, "log_ids");
    violates(room.batch_get_members(first(&[one, one], 1)).await, "log_ids[1]");
}

async fn seeing_rosters_is_internal(db: Db) {
    let world = World::new(db);
    world.group("r", &[("ann", Owner)]).await;
    for mut client in [world.user("ann"), world.service_for("ann"), world.service()] {
        refused(client.rosters.get_room_members(members("r", 10)).await, Reason::NotAllowed);
    }
}

async fn bad_fields_are_named(db: Db) {
    let world = World::new(db);
    let mut presence = world.room_service("acme", None).rosters;
    for bad in bad_ids() {
        violates(presence.get_room_members(members(&bad, 10)).await, "room_id");
    }
    for most in [0, -1, 1001] {
        violates(presence.get_room_members(members("r", most)).await, "max_members");
    }
}
