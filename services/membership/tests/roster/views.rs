//! RosterService, as services see it that own no rooms.

use parlance_db::Db;
use parlance_proto::membership::v1 as pb;
use parlance_rpc::Reason;

use crate::harness::{Member, Owner, World, bad_ids, refused, strings, violates};

parlance_db::test_on_each_db!(
    parlance_membership::MIGRATIONS =>
        the_members_of_a_room_come_all_or_as_a_number,
        whose_actor_may_not_see_the_members_is_refused,
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
