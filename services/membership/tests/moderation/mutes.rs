//! MuteMembers, UnmuteMembers, ListMutes.

use parlance_db::Db;
use parlance_proto::membership::v1 as pb;
use parlance_proto::message::v1::event::Body;
use parlance_proto::message::v1::{Event, MemberMute};
use parlance_rpc::Reason;
use prost_types::Timestamp;

use super::bans::ban;
use crate::harness::{
    Admin, Member, Owner, World, add, bad_ids, join, refused, refused_naming, strings, violates,
};

parlance_db::test_on_each_db!(
    parlance_membership::MIGRATIONS =>
        a_mute_is_one_event_whose_effects_name_who_is_silent,
        a_mute_stays_with_who_leaves_and_comes_back,
        a_mute_that_ended_stays_with_nobody,
        lifting_a_mute_tells_whose_it_was,
        owners_and_admins_mute_and_members_never,
        all_are_members_or_none_is_muted,
        a_direct_room_has_nobody_to_mute_them,
        a_repeat_gets_the_first_reply,
        mutes_and_bans_are_listed_apart,
        bad_fields_are_named,
);

/// The second at which every test begins.
const NOW: i64 = 1000;

const SECOND: i64 = 1_000_000;

/// The last second of the year 9999.
const LAST: i64 = 253_402_300_799;

fn mute(room: &str, users: &[&str]) -> pb::MuteMembersRequest {
    pb::MuteMembersRequest {
        room_id: room.to_owned(),
        user_ids: strings(users),
        ..Default::default()
    }
}

fn until(request: pb::MuteMembersRequest, seconds: i64) -> pb::MuteMembersRequest {
    pb::MuteMembersRequest { until: Some(Timestamp { seconds, nanos: 0 }), ..request }
}

fn unmute(room: &str, users: &[&str]) -> pb::UnmuteMembersRequest {
    pb::UnmuteMembersRequest {
        room_id: room.to_owned(),
        user_ids: strings(users),
        ..Default::default()
    }
}

fn mutes(room: &str) -> pb::ListMutesRequest {
    pb::ListMutesRequest { room_id: room.to_owned(), ..Default::default() }
}

/// Who an event makes silent, and until which second.
fn silent(event: &Event) -> Vec<(String, Option<i64>)> {
    let mutes = event.effects.clone().expect("effects").mutes.into_iter();
    mutes.map(|MemberMute { user_id, until }| (user_id, until.map(|at| at.seconds))).collect()
}

/// B-161.
async fn a_mute_is_one_event_whose_effects_name_who_is_silent(db: Db) {
    let world = World::new(db);
    let log = world.group("den", &[("ann", Owner), ("bob", Member), ("cleo", Member)]).await;
    let mut ann = world.user("ann").moderation;
    let request = pb::MuteMembersRequest {
        reason: "caps".to_owned(),
        ..until(mute("den", &["cleo", "bob"]), NOW + 60)
    };
    ann.mute_members(request.clone()).await.expect("muted");
    ann.mute_members(request).await.expect("as they were");
    ann.mute_members(mute("den", &["bob"])).await.expect("until further notice");
    let events = world.later_events(log);
    assert_eq!(events.len(), 2, "what changes nothing is no event");
    assert_eq!(events[0].actor_id, "ann");
    let of = |user: &str, second| (user.to_owned(), Some(second));
    assert_eq!(silent(&events[0]), [of("cleo", NOW + 60), of("bob", NOW + 60)]);
    assert_eq!(silent(&events[1]), [of("bob", LAST)]);
    let Some(Body::MembersMuted(told)) = &events[0].body else { panic!("{events:?}") };
    assert_eq!((told.user_ids.clone(), &*told.reason), (strings(&["cleo", "bob"]), "caps"));
    assert_eq!(told.until, Some(Timestamp { seconds: NOW + 60, nanos: 0 }));
    let Some(Body::MembersMuted(told)) = &events[1].body else { panic!("{events:?}") };
    assert_eq!(told.until, None);
    assert_eq!(world.roles("den").await.len(), 3);
}

async fn a_mute_stays_with_who_leaves_and_comes_back(db: Db) {
    let world = World::new(db);
    let log = world.channel("news", &[("ann", Owner), ("bob", Member), ("cleo", Member)]).await;
    let mut ann = world.user("ann");
    ann.moderation.mute_members(until(mute("news", &["bob"]), NOW + 60)).await.expect("muted");
    for user in ["bob", "cleo"] {
        let leave = pb::LeaveRoomRequest { room_id: "news".to_owned(), ..Default::default() };
        world.user(user).members.leave_room(leave).await.expect("left");
    }
    ann.members.add_members(add("news", &["cleo", "bob"])).await.expect("added");
    let ban = ban("news", &["bob"]);
    ann.moderation.ban_users(ban).await.expect("banned");
    let unban = pb::UnbanUsersRequest {
        room_id: "news".to_owned(),
        user_ids: strings(&["bob"]),
        ..Default::default()
    };
    ann.moderation.unban_users(unban).await.expect("lifted");
    world.user("bob").members.join_room(join("news")).await.expect("joined");
    let events = world.later_events(log);
    let came: Vec<_> =
        events.iter().filter(|e| matches!(e.body, Some(Body::MembersJoined(_)))).collect();
    for event in came {
        assert_eq!(silent(event), [("bob".to_owned(), Some(NOW + 60))]);
    }
}

async fn a_mute_that_ended_stays_with_nobody(db: Db) {
    let world = World::new(db);
    let log = world.channel("news", &[("ann", Owner), ("bob", Member)]).await;
    let mut ann = world.user("ann");
    ann.moderation.mute_members(until(mute("news", &["bob"]), NOW + 60)).await.expect("muted");
    let leave = pb::LeaveRoomRequest { room_id: "news".to_owned(), ..Default::default() };
    world.user("bob").members.leave_room(leave).await.expect("left");
    world.clock.advance(60 * SECOND);
    world.user("bob").members.join_room(join("news")).await.expect("joined");
    assert!(silent(&world.later_events(log)[2]).is_empty());
    let listed = ann.moderation.list_mutes(mutes("news")).await.expect("mutes").into_inner();
    assert!(listed.mutes.is_empty());
}

async fn lifting_a_mute_tells_whose_it_was(db: Db) {
    let world = World::new(db);
    let log = world.group("den", &[("ann", Owner), ("bob", Member), ("cleo", Member)]).await;
    let mut ann = world.user("ann");
    ann.moderation.mute_members(mute("den", &["bob"])).await.expect("muted");
    let leave = pb::LeaveRoomRequest { room_id: "den".to_owned(), ..Default::default() };
    world.user("bob").members.leave_room(leave).await.expect("left");
    for expected in [&["bob"][..], &[]] {
        let lifted = ann.moderation.unmute_members(unmute("den", &["cleo", "bob"])).await;
        assert_eq!(lifted.expect("lifted").into_inner().unmuted_user_ids, expected);
    }
    let events = world.later_events(log);
    assert_eq!(events.len(), 3);
    assert_eq!(silent(&events[2]), [("bob".to_owned(), None)]);
    let Some(Body::MembersUnmuted(told)) = &events[2].body else { panic!("{events:?}") };
    assert_eq!(told.user_ids, ["bob"]);
}

async fn owners_and_admins_mute_and_members_never(db: Db) {
    let world = World::new(db);
    let members = [("o1", Owner), ("o2", Owner), ("a1", Admin), ("a2", Admin), ("m1", Member)];
    let log = world.group("den", &members).await;
    for (user, target) in [("m1", "o1"), ("m1", "a1"), ("a1", "a2"), ("a1", "o1")] {
        let muted = world.user(user).moderation.mute_members(mute("den", &[target])).await;
        refused(muted, Reason::NotAllowed);
    }
    refused(
        world.user("m1").moderation.unmute_members(unmute("den", &["a1"])).await,
        Reason::NotAllowed,
    );
    refused(world.user("m1").moderation.list_mutes(mutes("den")).await, Reason::NotAllowed);
    let mut eve = world.user("eve").moderation;
    refused(eve.mute_members(mute("den", &["m1"])).await, Reason::NotAMember);
    refused(eve.unmute_members(unmute("den", &["m1"])).await, Reason::NotAMember);
    refused(eve.list_mutes(mutes("den")).await, Reason::NotAMember);
    let mut other = world.service_of("other").moderation;
    refused(other.mute_members(mute("den", &["m1"])).await, Reason::RoomNotFound);
    refused(other.unmute_members(unmute("den", &["m1"])).await, Reason::RoomNotFound);
    refused(other.list_mutes(mutes("den")).await, Reason::RoomNotFound);
    assert!(world.later_events(log).is_empty());
    world.user("a1").moderation.mute_members(mute("den", &["m1"])).await.expect("a member");
    world.user("o1").moderation.mute_members(mute("den", &["o2", "a1"])).await.expect("both");
    world.service().moderation.mute_members(mute("den", &["o1"])).await.expect("everybody");
    // Who is muted moderates on.
    world.user("a1").moderation.unmute_members(unmute("den", &["m1"])).await.expect("lifted");
}

async fn all_are_members_or_none_is_muted(db: Db) {
    let world = World::new(db);
    let log = world.group("den", &[("ann", Owner), ("bob", Member)]).await;
    world.know("acme", &["eve"]).await;
    let muted = world.user("ann").moderation.mute_members(mute("den", &["bob", "eve"])).await;
    refused_naming(muted, Reason::MemberNotFound, "eve");
    assert!(world.later_events(log).is_empty());
}

async fn a_direct_room_has_nobody_to_mute_them(db: Db) {
    let world = World::new(db);
    world.direct("pair", ["ann", "bob"]).await;
    let mut service = world.service().moderation;
    refused(service.mute_members(mute("pair", &["bob"])).await, Reason::DirectRoom);
    refused(service.unmute_members(unmute("pair", &["bob"])).await, Reason::DirectRoom);
    refused(service.list_mutes(mutes("pair")).await, Reason::DirectRoom);
}

async fn a_repeat_gets_the_first_reply(db: Db) {
    let world = World::new(db);
    let log = world.group("den", &[("ann", Owner), ("bob", Member)]).await;
    let mut ann = world.user("ann").moderation;
    let id = |id: &str| id.to_owned();
    let request = pb::MuteMembersRequest { request_id: id("r1"), ..mute("den", &["bob"]) };
    ann.mute_members(request.clone()).await.expect("muted");
    for _ in 0..2 {
        let request = pb::UnmuteMembersRequest { request_id: id("r2"), ..unmute("den", &["bob"]) };
        let lifted = ann.unmute_members(request).await.expect("lifted").into_inner();
        assert_eq!(lifted.unmuted_user_ids, ["bob"]);
    }
    ann.mute_members(request.clone()).await.expect("a repeat");
    assert_eq!(world.later_events(log).len(), 2);
    let other = pb::MuteMembersRequest { reason: id("other"), ..request };
    refused(ann.mute_members(other).await, Reason::RequestIdReused);
}

async fn mutes_and_bans_are_listed_apart(db: Db) {
    let world = World::new(db);
    world
        .group("den", &[("ann", Owner), ("bob", Member), ("cleo", Member), ("dora", Member)])
        .await;
    let mut ann = world.user("ann").moderation;
    ann.mute_members(until(mute("den", &["bob", "cleo"]), NOW + 60)).await.expect("muted");
    ann.ban_users(ban("den", &["dora"])).await.expect("banned");
    let mut request = pb::ListMutesRequest { page_size: 1, ..mutes("den") };
    let mut found = Vec::new();
    for _ in 0..2 {
        let page = ann.list_mutes(request.clone()).await.expect("a page").into_inner();
        request.page_token = page.next_page_token;
        found.extend(page.mutes);
    }
    assert_eq!(request.page_token, "");
    let users: Vec<_> = found.iter().map(|mute| mute.user_id.as_str()).collect();
    assert_eq!(users, ["bob", "cleo"]);
    let first = &found[0];
    assert_eq!(first.until, Some(Timestamp { seconds: NOW + 60, nanos: 0 }));
    assert_eq!(
        (&*first.actor_id, first.create_time),
        ("ann", Some(Timestamp { seconds: NOW, nanos: 0 }))
    );
    // A token is of one list.
    let page = ann.list_mutes(pb::ListMutesRequest { page_size: 1, ..mutes("den") }).await;
    let page_token = page.expect("a page").into_inner().next_page_token;
    let room_id = "den".to_owned();
    let bans = pb::ListBansRequest { room_id, page_token, page_size: 1 };
    violates(ann.list_bans(bans).await, "page_token");
}

async fn bad_fields_are_named(db: Db) {
    let world = World::new(db);
    let log = world.group("den", &[("ann", Owner), ("bob", Member)]).await;
    let mut ann = world.user("ann").moderation;
    for bad in bad_ids() {
        violates(ann.mute_members(mute(&bad, &["bob"])).await, "room_id");
        violates(ann.unmute_members(unmute(&bad, &["bob"])).await, "room_id");
        violates(ann.list_mutes(mutes(&bad)).await, "room_id");
        violates(ann.mute_members(mute("den", &[&bad])).await, "user_ids[0]");
        violates(ann.unmute_members(unmute("den", &[&bad])).await, "user_ids[0]");
    }
    violates(ann.mute_members(mute("den", &[])).await, "user_ids");
    violates(ann.unmute_members(unmute("den", &[])).await, "user_ids");
    violates(ann.mute_members(mute("den", &["bob", "ann"])).await, "user_ids[1]");
    violates(ann.unmute_members(unmute("den", &["bob", "bob"])).await, "user_ids[1]");
    for seconds in [-1, NOW, LAST + 1] {
        violates(ann.mute_members(until(mute("den", &["bob"]), seconds)).await, "until");
    }
    let request = pb::MuteMembersRequest { reason: "a\0".to_owned(), ..mute("den", &["bob"]) };
    violates(ann.mute_members(request).await, "reason");
    violates(
        ann.list_mutes(pb::ListMutesRequest { page_size: -1, ..mutes("den") }).await,
        "page_size",
    );
    assert!(world.later_events(log).is_empty());
}
