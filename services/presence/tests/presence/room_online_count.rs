//! `GetRoomOnlineCount`.

use parlance_proto::message::v1::RoomKind;
use parlance_proto::presence::v1 as pb;
use parlance_rpc::{Principal, Reason};
use parlance_types::UserId;

use crate::harness::{Client, World, opening, refused, violates};

crate::test_in_each_mode!(
    members_are_counted_by_what_they_are,
    members_and_services_count_and_nobody_else,
    a_room_with_too_many_members_is_refused,
    nobody_is_counted_in_a_broadcast,
);

fn of(room_id: &str) -> pb::GetRoomOnlineCountRequest {
    pb::GetRoomOnlineCountRequest { room_id: room_id.to_owned() }
}

async fn count(client: &mut Client) -> [i32; 4] {
    let reply =
        client.presence.get_room_online_count(of("tea")).await.expect("counted").into_inner();
    [reply.online_count, reply.away_count, reply.unknown_count, reply.member_count]
}

async fn members_are_counted_by_what_they_are(world: World) -> World {
    world.room("tea", RoomKind::Group, &["bob", "cid", "dan"]).await;
    world.settle().await;
    for (user, resource) in [("ann", "phone"), ("ann", "laptop"), ("bob", "phone")] {
        world.open(user, resource).await;
    }
    world.open("eve", "phone").await;
    let availability = pb::Availability::Away.into();
    let away = pb::OpenSessionRequest { availability, ..opening("phone") };
    world.user("cid").sessions.open_session(away).await.expect("opened");
    assert_eq!(count(&mut world.user("ann")).await, [2, 1, 0, 4]);
    world.lose().await;
    world.open("ann", "phone").await;
    assert_eq!(count(&mut world.user("ann")).await, [1, 0, 3, 4], "lost is not offline");
    world
}

async fn members_and_services_count_and_nobody_else(world: World) -> World {
    world.room("tea", RoomKind::Group, &["bob"]).await;
    world.settle().await;
    for mut client in [world.user("ann"), world.user("bob"), world.backend()] {
        assert_eq!(count(&mut client).await, [0, 0, 0, 2]);
    }
    for user in ["eve", "nobody"] {
        let mut eve = world.user(user);
        refused(eve.presence.get_room_online_count(of("tea")).await, Reason::NotAMember);
        refused(eve.presence.get_room_online_count(of("no")).await, Reason::RoomNotFound);
        let mut for_eve = world.service_for(user);
        refused(for_eve.presence.get_room_online_count(of("tea")).await, Reason::NotAMember);
    }
    for principal in [Principal::User(UserId::new("ann")), Principal::Service] {
        let mut other = world.client("other", principal);
        refused(other.presence.get_room_online_count(of("tea")).await, Reason::RoomNotFound);
    }
    violates(world.user("ann").presence.get_room_online_count(of("")).await, "room_id");
    world
}

async fn a_room_with_too_many_members_is_refused(world: World) -> World {
    world.room("tea", RoomKind::Channel, &[]).await;
    world.settle().await;
    world.fill("tea", 1000).await;
    assert_eq!(count(&mut world.user("ann")).await, [0, 0, 0, 1000]);
    world.fill("tea", 1001).await;
    let reply = world.user("ann").presence.get_room_online_count(of("tea")).await;
    refused(reply, Reason::RoomTooLarge);
    world
}

async fn nobody_is_counted_in_a_broadcast(world: World) -> World {
    world.room("tea", RoomKind::Broadcast, &[]).await;
    world.settle().await;
    for mut client in [world.user("ann"), world.backend()] {
        refused(client.presence.get_room_online_count(of("tea")).await, Reason::BroadcastRoom);
    }
    world
}
