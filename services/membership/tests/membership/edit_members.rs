//! EditMembers.

use parlance_db::Db;
use parlance_proto::membership::v1 as pb;
use parlance_rpc::Reason;
use parlance_types::LogId;
use uuid::Uuid;

use crate::harness::{
    Admin, Member, Owner, World, bad_ids, effects, refused, refused_naming, strings, violates,
};
use crate::seat::rooms::{enter, live};

parlance_db::test_on_each_db!(
    parlance_membership::MIGRATIONS =>
        members_go_and_come_in_one_step,
        doing_it_again_has_no_effect,
        what_adding_or_removing_refuses_refuses_all,
        who_goes_makes_room_for_who_comes,
        it_is_of_one_life_of_the_room,
        nobody_is_put_into_a_live_room,
        editing_is_internal,
        bad_fields_are_named,
);

async fn nobody_is_put_into_a_live_room(db: Db) {
    let world = World::new(db);
    let den = live(&world, "den", 60).await;
    for user in ["ann", "bob"] {
        enter(&world, user, den, "phone").await;
    }
    world.know("acme", &["eve"]).await;
    let mut for_ann = world.room_service("acme", Some("ann")).edits;
    refused(for_ann.edit_members(edit(den, &["eve"], &["bob"])).await, Reason::LiveRoom);
    for_ann.edit_members(edit(den, &[], &["bob"])).await.expect("removed");
    assert_eq!(world.roles("den").await, [("ann".to_owned(), Owner)]);
}

fn edit(log_id: LogId, add: &[&str], remove: &[&str]) -> pb::EditMembersRequest {
    pb::EditMembersRequest {
        room_id: "den".to_owned(),
        log_id: log_id.0.to_string(),
        add_user_ids: strings(add),
        remove_user_ids: strings(remove),
    }
}

async fn members_go_and_come_in_one_step(db: Db) {
    let world = World::new(db);
    let log = world.group("den", &[("ann", Owner), ("bob", Member), ("cleo", Admin)]).await;
    world.know("acme", &["dan", "eve"]).await;
    let mut for_ann = world.room_service("acme", Some("ann"));
    for_ann.edits.edit_members(edit(log, &["eve", "dan"], &["bob", "cleo"])).await.expect("edited");
    let events = world.later_events(log);
    assert_eq!(events.len(), 2);
    assert_eq!(effects(&events[0]).1, ["bob", "cleo"]);
    let came = ["eve", "dan"].map(|user| (user.to_owned(), Member));
    assert_eq!(effects(&events[1]).0, came);
    assert!(events.iter().all(|event| event.actor_id == "ann"));
    let there: Vec<_> = world.roles("den").await.into_iter().map(|(user, _)| user).collect();
    assert_eq!(there, ["ann", "dan", "eve"]);
}

async fn doing_it_again_has_no_effect(db: Db) {
    let world = World::new(db);
    let log = world.group("den", &[("ann", Owner), ("bob", Member)]).await;
    world.know("acme", &["dan"]).await;
    let mut for_ann = world.room_service("acme", Some("ann"));
    for _ in 0..2 {
        for_ann.edits.edit_members(edit(log, &["dan"], &["bob"])).await.expect("edited");
        assert_eq!(world.later_events(log).len(), 2);
    }
}

async fn what_adding_or_removing_refuses_refuses_all(db: Db) {
    let world = World::new(db);
    let log = world.group("den", &[("ann", Owner), ("bob", Member), ("cleo", Admin)]).await;
    world.know("acme", &["dan", "eve"]).await;
    let by = |user: Option<&str>| world.room_service("acme", user).edits;
    let reply = by(Some("ann")).edit_members(edit(log, &["ghost"], &["bob"])).await;
    refused_naming(reply, Reason::UserNotFound, "ghost");
    let reply = by(Some("ann")).edit_members(edit(log, &["dan"], &["eve"])).await;
    refused_naming(reply, Reason::MemberNotFound, "eve");
    let reply = by(None).edit_members(edit(log, &["dan"], &["ann"])).await;
    refused(reply, Reason::LastOwner);
    for (user, reason) in [("bob", Reason::NotAllowed), ("eve", Reason::NotAMember)] {
        refused(by(Some(user)).edit_members(edit(log, &["dan"], &["cleo"])).await, reason);
    }
    refused(by(Some("cleo")).edit_members(edit(log, &[], &["ann"])).await, Reason::NotAllowed);
    assert!(world.later_events(log).is_empty());
    // A member may add where the rule says so, and who is away already is no exception.
    by(Some("bob")).edit_members(edit(log, &["dan"], &[])).await.expect("added");
    by(None).edit_members(edit(log, &[], &["dan"])).await.expect("removed");
    refused(by(Some("bob")).edit_members(edit(log, &[], &["dan"])).await, Reason::NotAllowed);
}

async fn who_goes_makes_room_for_who_comes(db: Db) {
    let world = World::new(db);
    let log = world.group("den", &[("ann", Owner), ("bob", Member)]).await;
    world.know("acme", &["dan", "eve"]).await;
    let rules = pb::SetRosterRulesRequest {
        log_id: log.0.to_string(),
        rules: Some(pb::RosterRules { capacity: 2, ..crate::harness::rules() }),
        rules_version: 2,
    };
    let mut backend = world.room_service("acme", None);
    backend.rosters.set_roster_rules(rules).await.expect("set");
    let reply = backend.edits.edit_members(edit(log, &["dan", "eve"], &["bob"])).await;
    refused(reply, Reason::RoomFull);
    backend.edits.edit_members(edit(log, &["dan"], &["bob"])).await.expect("edited");
    assert_eq!(world.roles("den").await.len(), 2);
}

async fn it_is_of_one_life_of_the_room(db: Db) {
    let world = World::new(db);
    world.group("den", &[("ann", Owner)]).await;
    world.know("acme", &["dan"]).await;
    let earlier = LogId(Uuid::now_v7());
    let mut for_ann = world.room_service("acme", Some("ann"));
    let reply = for_ann.edits.edit_members(edit(earlier, &["dan"], &[])).await;
    refused(reply, Reason::RoomNotFound);
    let mut other = world.room_service("other", None);
    refused(other.edits.edit_members(edit(earlier, &["dan"], &[])).await, Reason::RoomNotFound);
}

async fn editing_is_internal(db: Db) {
    let world = World::new(db);
    let log = world.group("den", &[("ann", Owner), ("bob", Member)]).await;
    for mut client in [world.user("ann"), world.service_for("ann"), world.service()] {
        refused(client.edits.edit_members(edit(log, &[], &["bob"])).await, Reason::NotAllowed);
    }
}

async fn bad_fields_are_named(db: Db) {
    let world = World::new(db);
    let log = world.group("den", &[("ann", Owner), ("bob", Member)]).await;
    let mut for_ann = world.room_service("acme", Some("ann")).edits;
    for bad in bad_ids() {
        let request = pb::EditMembersRequest { room_id: bad.clone(), ..edit(log, &["bob"], &[]) };
        violates(for_ann.edit_members(request).await, "room_id");
        let request = edit(log, &[&bad], &[]);
        violates(for_ann.edit_members(request).await, "add_user_ids[0]");
        let request = edit(log, &[], &["bob", &bad]);
        violates(for_ann.edit_members(request).await, "remove_user_ids[1]");
    }
    let request = pb::EditMembersRequest { log_id: "no".to_owned(), ..edit(log, &[], &[]) };
    violates(for_ann.edit_members(request).await, "log_id");
    violates(for_ann.edit_members(edit(log, &["x"], &["x"])).await, "remove_user_ids[0]");
    violates(for_ann.edit_members(edit(log, &[], &["bob", "ann"])).await, "remove_user_ids[1]");
}
