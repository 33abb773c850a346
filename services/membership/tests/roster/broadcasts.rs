//! The roster of a broadcast, in which everybody is and nobody is told from others.

use parlance_db::Db;
use parlance_proto::membership::v1 as pb;
use parlance_proto::message::v1::RoomKind;
use parlance_rpc::Reason;
use parlance_types::LogId;
use uuid::Uuid;

use crate::harness::{
    Admin, Clients, Member, World, add, close, created, join, opening, refused, rules, strings,
    violates,
};

parlance_db::test_on_each_db!(
    parlance_membership::MIGRATIONS =>
        it_is_opened_and_closed_without_members,
        everybody_is_told_that_no_members_are_kept,
        the_room_service_is_told_the_same,
        it_is_in_nobodys_memberships,
);

async fn broadcast(world: &World, room: &str) -> LogId {
    world.open_as("acme", RoomKind::Broadcast, room, rules(), &[]).await
}

async fn it_is_opened_and_closed_without_members(db: Db) {
    let world = World::new(db);
    let log = broadcast(&world, "news").await;
    let stored = world.logs.log(log);
    assert_eq!((stored.events, stored.identity.kind()), (vec![created()], RoomKind::Broadcast));
    let with_members = pb::OpenRosterRequest {
        kind: RoomKind::Broadcast.into(),
        ..opening(LogId(Uuid::now_v7()), "more", &[("ann", Member)])
    };
    let opened = world.room_service("acme", None).rosters.open_roster(with_members).await;
    violates(opened, "members");

    close(&world, log).await;
    let events = world.logs.log(log).events;
    assert!(events[1].effects.as_ref().is_some_and(|effects| effects.closed));
    broadcast(&world, "news").await;
}

/// Everything that is asked about a room's members, or changes them.
async fn refuses_all(mut by: Clients) {
    let room_id = || "news".to_owned();
    let (bob, reason) = (|| strings(&["bob"]), Reason::BroadcastRoom);
    refused(by.members.add_members(add("news", &["bob"])).await, reason);
    let remove =
        pb::RemoveMembersRequest { room_id: room_id(), user_ids: bob(), ..Default::default() };
    refused(by.members.remove_members(remove).await, reason);
    let set = pb::ChangeRoleRequest {
        room_id: room_id(),
        user_id: "bob".to_owned(),
        role: Admin.into(),
        ..Default::default()
    };
    refused(by.members.change_role(set).await, reason);
    let get = pb::GetMembershipRequest { room_id: room_id(), user_id: "bob".to_owned() };
    refused(by.members.get_membership(get).await, reason);
    let list = pb::ListRoomMembersRequest { room_id: room_id(), ..Default::default() };
    refused(by.members.list_room_members(list).await, reason);

    let ban = pb::BanUsersRequest { room_id: room_id(), user_ids: bob(), ..Default::default() };
    refused(by.moderation.ban_users(ban).await, reason);
    let unban = pb::UnbanUsersRequest { room_id: room_id(), user_ids: bob(), ..Default::default() };
    refused(by.moderation.unban_users(unban).await, reason);
    let mute = pb::MuteMembersRequest { room_id: room_id(), user_ids: bob(), ..Default::default() };
    refused(by.moderation.mute_members(mute).await, reason);
    let unmute =
        pb::UnmuteMembersRequest { room_id: room_id(), user_ids: bob(), ..Default::default() };
    refused(by.moderation.unmute_members(unmute).await, reason);
    let list = pb::ListBansRequest { room_id: room_id(), ..Default::default() };
    refused(by.moderation.list_bans(list).await, reason);
    let list = pb::ListMutesRequest { room_id: room_id(), ..Default::default() };
    refused(by.moderation.list_mutes(list).await, reason);

    let set = pb::UpdateMemberMetadataRequest {
        room_id: room_id(),
        user_id: "bob".to_owned(),
        set: [("seat".to_owned(), "1".to_owned())].into(),
        ..Default::default()
    };
    refused(by.member.update_member_metadata(set).await, reason);
    let get = pb::BatchGetMemberMetadataRequest { room_id: room_id(), user_ids: bob() };
    refused(by.member.batch_get_member_metadata(get).await, reason);
}

async fn everybody_is_told_that_no_members_are_kept(db: Db) {
    let world = World::new(db);
    let log = broadcast(&world, "news").await;
    world.know("acme", &["ann", "bob"]).await;
    for by in [world.user("ann"), world.service_for("ann"), world.service()] {
        refuses_all(by).await;
    }
    let mut ann = world.user("ann");
    refused(ann.members.join_room(join("news")).await, Reason::BroadcastRoom);
    let leave = pb::LeaveRoomRequest { room_id: "news".to_owned(), ..Default::default() };
    refused(ann.members.leave_room(leave).await, Reason::BroadcastRoom);
    assert_eq!(world.logs.log(log).events.len(), 1, "nothing happened");
    let mut eve = world.user_of("globex", "eve");
    refused(eve.members.join_room(join("news")).await, Reason::RoomNotFound);
}

async fn the_room_service_is_told_the_same(db: Db) {
    let world = World::new(db);
    let log = broadcast(&world, "news").await;
    world.know("acme", &["bob"]).await;
    let log_id = || log.0.to_string();
    let mut suite = world.room_service("acme", None);
    let ensure = pb::EnsureMembersRequest {
        log_id: log_id(),
        user_ids: strings(&["bob"]),
        readmit_removed: true,
    };
    refused(suite.rosters.ensure_members(ensure).await, Reason::BroadcastRoom);
    let edit = pb::EditMembersRequest {
        room_id: "news".to_owned(),
        log_id: log_id(),
        add_user_ids: strings(&["bob"]),
        ..Default::default()
    };
    refused(suite.edits.edit_members(edit).await, Reason::BroadcastRoom);
    let get = pb::GetRoomMembersRequest { room_id: "news".to_owned(), max_members: 1000 };
    refused(suite.rosters.get_room_members(get).await, Reason::BroadcastRoom);
    let set =
        pb::SetRosterRulesRequest { log_id: log_id(), rules: Some(rules()), rules_version: 2 };
    suite.rosters.set_roster_rules(set).await.expect("they hold for nobody");
}

async fn it_is_in_nobodys_memberships(db: Db) {
    let world = World::new(db);
    broadcast(&world, "news").await;
    let list = pb::ListUserMembershipsRequest::default();
    let page = world.user("ann").members.list_user_memberships(list).await.expect("a page");
    assert_eq!(page.into_inner().memberships, []);
}
