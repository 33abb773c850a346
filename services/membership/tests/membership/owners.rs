//! Who owns a group that was empty.

use futures::future::join_all;
use parlance_db::Db;
use parlance_proto::membership::v1 as pb;
use parlance_proto::message::v1::{MemberRole, RoomKind};

use crate::harness::{Member, Owner, World, add, effects, join, rules, strings};

parlance_db::test_on_each_db!(
    parlance_membership::MIGRATIONS =>
        the_first_user_added_to_an_empty_group_owns_it,
        a_user_who_joins_an_empty_group_owns_it,
        of_many_who_come_at_once_one_owns_an_empty_group,
        nobody_comes_to_own_a_channel_or_a_direct_room,
);

fn anyone() -> pb::RosterRules {
    pb::RosterRules { join: pb::JoinRule::Anyone.into(), ..rules() }
}

async fn leaves(world: &World, user: &str, room: &str) {
    let leave = pb::LeaveRoomRequest { room_id: room.to_owned(), ..Default::default() };
    world.user(user).members.leave_room(leave).await.expect("left");
}

fn roles(of: &[(&str, MemberRole)]) -> Vec<(String, MemberRole)> {
    of.iter().map(|(user, role)| ((*user).to_owned(), *role)).collect()
}

async fn the_first_user_added_to_an_empty_group_owns_it(db: Db) {
    let world = World::new(db);
    world.know("acme", &["bob", "cleo"]).await;
    let log = world.group("den", &[("ann", Owner)]).await;
    leaves(&world, "ann", "den").await;
    let added = world.service().members.add_members(add("den", &["cleo", "bob"])).await;
    let told: Vec<_> = added.expect("added").into_inner().added.into_iter().collect();
    let told: Vec<_> = told.iter().map(|m| (m.user_id.clone(), m.role())).collect();
    assert_eq!(told, roles(&[("bob", Member), ("cleo", Owner)]));
    assert_eq!(world.roles("den").await, told);
    // One fact tells of both.
    let events = world.later_events(log);
    assert_eq!(events.len(), 2);
    assert_eq!(effects(&events[1]).0, roles(&[("cleo", Owner), ("bob", Member)]));
    // There is an owner now: who comes later is a member.
    world.service().members.add_members(add("den", &["ann"])).await.expect("added");
    assert_eq!(
        world.roles("den").await,
        roles(&[("ann", Member), ("bob", Member), ("cleo", Owner)])
    );
}

async fn a_user_who_joins_an_empty_group_owns_it(db: Db) {
    let world = World::new(db);
    world.open_as("acme", RoomKind::Group, "den", anyone(), &[]).await;
    for user in ["ann", "bob"] {
        let joined = world.user(user).members.join_room(join("den")).await.expect("joined");
        let role = joined.into_inner().membership.expect("a membership").role();
        assert_eq!(role, if user == "ann" { Owner } else { Member });
    }
    assert_eq!(world.roles("den").await, roles(&[("ann", Owner), ("bob", Member)]));
}

async fn of_many_who_come_at_once_one_owns_an_empty_group(db: Db) {
    let world = World::new(db);
    let log = world.open_as("acme", RoomKind::Group, "den", anyone(), &[]).await;
    let users: Vec<_> = (0..8).map(|number| format!("user {number}")).collect();
    let come = users.iter().map(|user| async {
        if user.ends_with(['0', '1', '2']) {
            let request = pb::EnsureMembersRequest {
                log_id: log.0.to_string(),
                user_ids: strings(&[user]),
                readmit_removed: false,
            };
            let mut room = world.room_service("acme", None);
            room.rosters.ensure_members(request).await.map(drop)
        } else {
            world.user(user).members.join_room(join("den")).await.map(drop)
        }
    });
    join_all(come).await.into_iter().collect::<Result<(), _>>().expect("all came");
    let owners = world.roles("den").await.into_iter().filter(|(_, role)| *role == Owner);
    assert_eq!(owners.count(), 1);
}

async fn nobody_comes_to_own_a_channel_or_a_direct_room(db: Db) {
    let world = World::new(db);
    world.channel("news", &[]).await;
    world.user("ann").members.join_room(join("news")).await.expect("joined");
    assert_eq!(world.roles("news").await, roles(&[("ann", Member)]));
    let log = world.direct("pair", ["ann", "bob"]).await;
    leaves(&world, "ann", "pair").await;
    leaves(&world, "bob", "pair").await;
    let request = pb::EnsureMembersRequest {
        log_id: log.0.to_string(),
        user_ids: strings(&["ann", "bob"]),
        readmit_removed: true,
    };
    world.room_service("acme", None).rosters.ensure_members(request).await.expect("in again");
    assert_eq!(world.roles("pair").await, roles(&[("ann", Member), ("bob", Member)]));
}
