//! BanUsers, UnbanUsers, ListBans.

use parlance_db::Db;
use parlance_proto::membership::v1 as pb;
use parlance_proto::message::v1::event::Body;
use parlance_proto::message::v1::{Event, RoomKind};
use parlance_rpc::Reason;
use parlance_types::LogId;
use prost_types::Timestamp;
use tonic_types::StatusExt as _;

use crate::harness::{
    Admin, Member, Owner, World, add, bad_ids, effects, join, refused, refused_naming, rules,
    strings, violates,
};

parlance_db::test_on_each_db!(
    parlance_membership::MIGRATIONS =>
        a_ban_takes_members_out_and_keeps_all_out,
        no_way_leads_around_a_ban,
        a_ban_ends_by_itself,
        a_ban_is_replaced_by_the_next_one,
        lifting_a_ban_opens_the_door_and_nothing_else,
        owners_and_admins_ban_and_members_never,
        only_owners_ban_owners_and_admins,
        the_last_owners_are_not_banned_from_others,
        a_service_bans_everywhere_and_strangers_nowhere,
        who_is_banned_must_exist,
        a_direct_room_has_its_two_users,
        a_repeat_gets_the_first_reply,
        bans_are_listed_a_page_at_a_time,
        a_ban_is_of_one_life_of_the_room,
        bad_fields_are_named,
);

/// The second at which every test begins.
const NOW: i64 = 1000;

const SECOND: i64 = 1_000_000;

pub(crate) fn ban(room: &str, users: &[&str]) -> pb::BanUsersRequest {
    pb::BanUsersRequest { room_id: room.to_owned(), user_ids: strings(users), ..Default::default() }
}

fn until(request: pb::BanUsersRequest, seconds: i64) -> pb::BanUsersRequest {
    pb::BanUsersRequest { until: Some(Timestamp { seconds, nanos: 0 }), ..request }
}

fn unban(room: &str, users: &[&str]) -> pb::UnbanUsersRequest {
    pb::UnbanUsersRequest {
        room_id: room.to_owned(),
        user_ids: strings(users),
        ..Default::default()
    }
}

fn bans(room: &str) -> pb::ListBansRequest {
    pb::ListBansRequest { room_id: room.to_owned(), page_size: 100, ..Default::default() }
}

fn ensure(log: LogId, user: &str) -> pb::EnsureMembersRequest {
    pb::EnsureMembersRequest {
        log_id: log.0.to_string(),
        user_ids: strings(&[user]),
        readmit_removed: true,
    }
}

/// The bodies of the last events of a log.
fn bodies(world: &World, log: LogId) -> Vec<Body> {
    world.later_events(log).into_iter().filter_map(|event: Event| event.body).collect()
}

/// B-161.
async fn a_ban_takes_members_out_and_keeps_all_out(db: Db) {
    let world = World::new(db);
    let log = world.channel("news", &[("ann", Owner), ("bob", Member)]).await;
    world.know("acme", &["eve"]).await;
    let request = pb::BanUsersRequest {
        reason: "spam".to_owned(),
        ..until(ban("news", &["eve", "bob"]), NOW + 60)
    };
    let banned = world.user("ann").moderation.ban_users(request).await.expect("banned");
    assert_eq!(banned.into_inner().removed_user_ids, ["bob"]);
    let events = world.later_events(log);
    assert_eq!(events.len(), 1);
    assert_eq!((effects(&events[0]).1, &*events[0].actor_id), (strings(&["bob"]), "ann"));
    let Some(Body::MembersBanned(told)) = &events[0].body else { panic!("{events:?}") };
    assert_eq!(told.user_ids, ["eve", "bob"]);
    assert_eq!((told.until, &*told.reason), (Some(Timestamp { seconds: 1060, nanos: 0 }), "spam"));
    assert_eq!(world.roles("news").await, [("ann".to_owned(), Owner)]);
    for user in ["bob", "eve"] {
        let joined = world.user(user).members.join_room(join("news")).await;
        refused_naming(joined, Reason::Banned, user);
    }
}

async fn no_way_leads_around_a_ban(db: Db) {
    let world = World::new(db);
    let log = world.channel("news", &[("ann", Owner), ("bob", Member)]).await;
    let mut ann = world.user("ann");
    ann.moderation.ban_users(ban("news", &["bob"])).await.expect("banned");
    world.know("acme", &["cleo"]).await;
    let joined = world.user("bob").members.join_room(join("news")).await;
    let told = refused(joined, Reason::Banned).get_details_error_info().expect("error info");
    assert!(!told.metadata.contains_key("until"), "the ban does not end");
    let (mut members, mut service) = (ann.members.clone(), world.service().members);
    refused_naming(members.add_members(add("news", &["cleo", "bob"])).await, Reason::Banned, "bob");
    refused_naming(service.add_members(add("news", &["bob"])).await, Reason::Banned, "bob");
    for actor in [Some("bob"), None] {
        let mut room = world.room_service("acme", actor).rosters;
        refused_naming(room.ensure_members(ensure(log, "bob")).await, Reason::Banned, "bob");
    }
    assert_eq!(world.later_events(log).len(), 1, "cleo is not in, either");
}

async fn a_ban_ends_by_itself(db: Db) {
    let world = World::new(db);
    let log = world.channel("news", &[("ann", Owner), ("bob", Member)]).await;
    let mut ann = world.user("ann");
    ann.moderation.ban_users(until(ban("news", &["bob"]), NOW + 60)).await.expect("banned");
    world.clock.advance(60 * SECOND - 1);
    let joined = world.user("bob").members.join_room(join("news")).await;
    let told = refused(joined, Reason::Banned).get_details_error_info().expect("error info");
    assert_eq!(told.metadata["until"], "1970-01-01T00:17:40Z");
    world.clock.advance(1);
    assert!(
        ann.moderation.list_bans(bans("news")).await.expect("bans").into_inner().bans.is_empty()
    );
    world.user("bob").members.join_room(join("news")).await.expect("joined");
    assert_eq!(world.later_events(log).len(), 2, "nothing tells of the end of a ban");
}

async fn a_ban_is_replaced_by_the_next_one(db: Db) {
    let world = World::new(db);
    let log = world.channel("news", &[("ann", Owner), ("bob", Member)]).await;
    let mut ann = world.user("ann");
    ann.moderation.ban_users(until(ban("news", &["bob"]), NOW + 60)).await.expect("banned");
    ann.moderation.ban_users(until(ban("news", &["bob"]), NOW + 60)).await.expect("as it was");
    assert_eq!(world.later_events(log).len(), 1, "what changes nothing is no event");
    let longer = ann.moderation.ban_users(ban("news", &["bob"])).await.expect("for ever");
    assert!(longer.into_inner().removed_user_ids.is_empty());
    let listed = ann.moderation.list_bans(bans("news")).await.expect("bans").into_inner().bans;
    assert_eq!((listed.len(), listed[0].until), (1, None));
    let Some(Body::MembersBanned(told)) = bodies(&world, log).pop() else { panic!("a ban") };
    assert_eq!((told.user_ids, told.until), (strings(&["bob"]), None));
}

async fn lifting_a_ban_opens_the_door_and_nothing_else(db: Db) {
    let world = World::new(db);
    let log = world.channel("news", &[("ann", Owner), ("bob", Member), ("cleo", Admin)]).await;
    let mut ann = world.user("ann");
    ann.moderation.ban_users(ban("news", &["bob"])).await.expect("banned");
    let request = unban("news", &["ann", "bob"]);
    let lifted = world.user("cleo").moderation.unban_users(request).await.expect("lifted");
    assert_eq!(lifted.into_inner().unbanned_user_ids, ["bob"]);
    let Some(Body::MembersUnbanned(told)) = bodies(&world, log).pop() else { panic!("its end") };
    assert_eq!(told.user_ids, ["bob"]);
    let again = ann.moderation.unban_users(unban("news", &["bob"])).await.expect("none");
    assert!(again.into_inner().unbanned_user_ids.is_empty());
    assert_eq!(world.later_events(log).len(), 2);
    assert_eq!(world.roles("news").await.len(), 2);
    world.user("bob").members.join_room(join("news")).await.expect("joined");
}

async fn owners_and_admins_ban_and_members_never(db: Db) {
    let world = World::new(db);
    let members = [("ann", Owner), ("bob", Admin), ("cleo", Member), ("x", Member), ("y", Member)];
    let open = pb::RosterRules { remove: pb::MemberRule::Members.into(), ..rules() };
    world.open_as("acme", RoomKind::Group, "den", open, &members).await;
    let mut cleo = world.user("cleo").moderation;
    refused(cleo.ban_users(ban("den", &["x"])).await, Reason::NotAllowed);
    refused(cleo.unban_users(unban("den", &["x"])).await, Reason::NotAllowed);
    refused(cleo.list_bans(bans("den")).await, Reason::NotAllowed);
    for (user, goes) in [("ann", "x"), ("bob", "y")] {
        let mut user = world.user(user).moderation;
        user.ban_users(ban("den", &[goes])).await.expect("banned");
        user.list_bans(bans("den")).await.expect("bans");
        user.unban_users(unban("den", &[goes])).await.expect("lifted");
    }
}

async fn only_owners_ban_owners_and_admins(db: Db) {
    let world = World::new(db);
    let members = [("o1", Owner), ("o2", Owner), ("a1", Admin), ("a2", Admin), ("m1", Member)];
    let log = world.group("den", &members).await;
    let mut admin = world.user("a1").moderation;
    refused(admin.ban_users(ban("den", &["a2"])).await, Reason::NotAllowed);
    refused(admin.ban_users(ban("den", &["m1", "o1"])).await, Reason::NotAllowed);
    assert!(world.later_events(log).is_empty());
    admin.ban_users(ban("den", &["m1"])).await.expect("a member");
    world.user("o1").moderation.ban_users(ban("den", &["a2", "o2"])).await.expect("both");
}

async fn the_last_owners_are_not_banned_from_others(db: Db) {
    let world = World::new(db);
    world.group("den", &[("ann", Owner), ("bob", Member)]).await;
    let mut service = world.service().moderation;
    refused(service.ban_users(ban("den", &["ann"])).await, Reason::LastOwner);
    service.ban_users(ban("den", &["ann", "bob"])).await.expect("nobody remains");
}

async fn a_service_bans_everywhere_and_strangers_nowhere(db: Db) {
    let world = World::new(db);
    let log = world.group("den", &[("ann", Owner), ("bob", Admin), ("cleo", Member)]).await;
    for mut stranger in [world.user("eve").moderation, world.service_for("eve").moderation] {
        refused(stranger.ban_users(ban("den", &["bob"])).await, Reason::NotAMember);
        refused(stranger.unban_users(unban("den", &["bob"])).await, Reason::NotAMember);
        refused(stranger.list_bans(bans("den")).await, Reason::NotAMember);
    }
    for mut other in [world.user_of("other", "ann"), world.service_of("other")] {
        refused(other.moderation.ban_users(ban("den", &["bob"])).await, Reason::RoomNotFound);
        refused(other.moderation.unban_users(unban("den", &["ann"])).await, Reason::RoomNotFound);
        refused(other.moderation.list_bans(bans("den")).await, Reason::RoomNotFound);
    }
    let as_cleo = world.service_for("cleo").moderation.ban_users(ban("den", &["bob"])).await;
    refused(as_cleo, Reason::NotAllowed);
    world.service().moderation.ban_users(ban("den", &["bob"])).await.expect("banned");
    assert_eq!(world.later_events(log)[0].actor_id, "");
    let listed = world.service().moderation.list_bans(bans("den")).await.expect("bans");
    assert_eq!(listed.into_inner().bans[0].actor_id, "");
}

async fn who_is_banned_must_exist(db: Db) {
    let world = World::new(db);
    let log = world.group("den", &[("ann", Owner), ("bob", Member)]).await;
    let nobody = world.user("ann").moderation.ban_users(ban("den", &["bob", "nobody"])).await;
    refused_naming(nobody, Reason::UserNotFound, "nobody");
    assert!(world.later_events(log).is_empty());
}

async fn a_direct_room_has_its_two_users(db: Db) {
    let world = World::new(db);
    world.direct("pair", ["ann", "bob"]).await;
    for mut caller in [world.user("ann").moderation, world.service().moderation] {
        refused(caller.ban_users(ban("pair", &["bob"])).await, Reason::DirectRoom);
        refused(caller.unban_users(unban("pair", &["bob"])).await, Reason::DirectRoom);
        refused(caller.list_bans(bans("pair")).await, Reason::DirectRoom);
    }
    let stranger = world.user("eve").moderation.ban_users(ban("pair", &["bob"])).await;
    refused(stranger, Reason::RoomNotFound);
}

async fn a_repeat_gets_the_first_reply(db: Db) {
    let world = World::new(db);
    let log = world.channel("news", &[("ann", Owner), ("bob", Member)]).await;
    let mut ann = world.user("ann").moderation;
    let id = || "r1".to_owned();
    let request = pb::BanUsersRequest { request_id: id(), ..until(ban("news", &["bob"]), NOW + 9) };
    for _ in 0..2 {
        let banned = ann.ban_users(request.clone()).await.expect("banned");
        assert_eq!(banned.into_inner().removed_user_ids, ["bob"]);
        // Also when the ban has long ended.
        world.clock.advance(10 * SECOND);
    }
    let other = pb::BanUsersRequest { reason: "other".to_owned(), ..request };
    refused(ann.ban_users(other).await, Reason::RequestIdReused);
    assert_eq!(world.later_events(log).len(), 1);
}

async fn bans_are_listed_a_page_at_a_time(db: Db) {
    let world = World::new(db);
    world.group("den", &[("ann", Owner), ("bob", Admin)]).await;
    let users: Vec<_> = (0..5).map(|user| format!("u{user}")).collect();
    let users: Vec<_> = users.iter().map(String::as_str).collect();
    world.know("acme", &users).await;
    let mut ann = world.user("ann").moderation;
    ann.ban_users(ban("den", &users)).await.expect("banned");
    ann.ban_users(until(ban("den", &users[1..3]), NOW + 1)).await.expect("until then");
    world.clock.advance(SECOND);
    let mut request = pb::ListBansRequest { page_size: 2, ..bans("den") };
    let (mut found, mut pages) = (Vec::new(), 0);
    loop {
        let page = ann.list_bans(request.clone()).await.expect("a page").into_inner();
        found.extend(page.bans.into_iter().map(|ban| (ban.user_id, ban.actor_id)));
        pages += 1;
        request.page_token = page.next_page_token;
        if request.page_token.is_empty() {
            break;
        }
        let mut bob = world.user("bob").moderation;
        violates(bob.list_bans(request.clone()).await, "page_token");
    }
    let ann = || "ann".to_owned();
    assert_eq!(found, ["u0", "u3", "u4"].map(|user| (user.to_owned(), ann())));
    assert_eq!(pages, 3);
}

async fn a_ban_is_of_one_life_of_the_room(db: Db) {
    let world = World::new(db);
    let log = world.channel("news", &[("ann", Owner), ("bob", Member)]).await;
    world.user("ann").moderation.ban_users(ban("news", &["bob"])).await.expect("banned");
    crate::harness::close(&world, log).await;
    let mut ann = world.user("ann").moderation;
    refused(ann.list_bans(bans("news")).await, Reason::RoomNotFound);
    refused(ann.ban_users(ban("news", &["bob"])).await, Reason::RoomNotFound);
    world.channel("news", &[("ann", Owner)]).await;
    world.user("bob").members.join_room(join("news")).await.expect("joined");
}

async fn bad_fields_are_named(db: Db) {
    let world = World::new(db);
    let log = world.group("den", &[("ann", Owner), ("bob", Member)]).await;
    let mut ann = world.user("ann").moderation;
    for bad in bad_ids() {
        violates(ann.ban_users(ban(&bad, &["bob"])).await, "room_id");
        violates(ann.unban_users(unban(&bad, &["bob"])).await, "room_id");
        violates(ann.list_bans(bans(&bad)).await, "room_id");
        violates(ann.ban_users(ban("den", &[&bad])).await, "user_ids[0]");
        violates(ann.unban_users(unban("den", &[&bad])).await, "user_ids[0]");
    }
    let many: Vec<_> = (0..101).map(|user| format!("u{user}")).collect();
    let many: Vec<_> = many.iter().map(String::as_str).collect();
    for users in [&[][..], &many] {
        violates(ann.ban_users(ban("den", users)).await, "user_ids");
        violates(ann.unban_users(unban("den", users)).await, "user_ids");
    }
    violates(ann.ban_users(ban("den", &["a", "a"])).await, "user_ids[1]");
    violates(ann.unban_users(unban("den", &["a", "a"])).await, "user_ids[1]");
    violates(ann.ban_users(ban("den", &["bob", "ann"])).await, "user_ids[1]");
    for seconds in [-1, NOW - 1, NOW, 253_402_300_800] {
        violates(ann.ban_users(until(ban("den", &["bob"]), seconds)).await, "until");
    }
    for reason in ["a\0".to_owned(), "é".repeat(257)] {
        let request = pb::BanUsersRequest { reason, ..ban("den", &["bob"]) };
        violates(ann.ban_users(request).await, "reason");
    }
    violates(
        ann.list_bans(pb::ListBansRequest { page_size: -1, ..bans("den") }).await,
        "page_size",
    );
    let page_token = "x".to_owned();
    let request = pb::ListBansRequest { page_token, ..bans("den") };
    violates(ann.list_bans(request).await, "page_token");
    assert!(world.later_events(log).is_empty());
}
