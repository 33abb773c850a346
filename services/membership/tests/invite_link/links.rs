//! CreateInviteLink, RevokeInviteLink, ListInviteLinks, JoinByLink.

use parlance_db::Db;
use parlance_proto::membership::v1 as pb;
use parlance_proto::message::v1::RoomKind;
use parlance_proto::message::v1::event::Body;
use parlance_rpc::Reason;
use prost_types::Timestamp;

use crate::harness::{
    Admin, Clients, Member, Owner, World, bad_ids, close, effects, eventually, join, refused,
    refused_naming, rules, strings, violates,
};
use crate::moderation::bans::ban;
use crate::seat::rooms::live;

parlance_db::test_on_each_db!(
    parlance_membership::MIGRATIONS =>
        whoever_holds_a_link_comes_in,
        a_link_overrules_every_join_rule,
        a_link_overrules_no_ban_no_removal_and_no_capacity,
        a_link_ends_with_its_last_use,
        a_link_ends_at_its_time,
        a_link_is_revoked,
        a_link_ends_with_the_room,
        owners_and_admins_make_links,
        direct_and_live_rooms_have_no_links,
        the_database_holds_no_token,
        links_are_listed_a_page_at_a_time,
        a_room_has_a_bounded_number_that_ended_ones_leave,
        bad_fields_are_named,
);

/// The second at which every test begins.
const NOW: i64 = 1000;

const SECOND: i64 = 1_000_000;

fn create(room: &str) -> pb::CreateInviteLinkRequest {
    pb::CreateInviteLinkRequest { room_id: room.to_owned(), ..Default::default() }
}

pub(super) fn uses(room: &str, max_uses: i32) -> pb::CreateInviteLinkRequest {
    pb::CreateInviteLinkRequest { max_uses, ..create(room) }
}

fn until(room: &str, seconds: i64) -> pb::CreateInviteLinkRequest {
    let expire_time = Some(Timestamp { seconds, nanos: 0 });
    pb::CreateInviteLinkRequest { expire_time, ..create(room) }
}

/// Makes a link; its id and its token.
pub(super) async fn made(by: &Clients, request: pb::CreateInviteLinkRequest) -> (String, String) {
    let reply = by.links.clone().create_invite_link(request).await.expect("made").into_inner();
    (reply.link.expect("a link").link_id, reply.token)
}

pub(super) fn by(token: &str) -> pb::JoinByLinkRequest {
    pb::JoinByLinkRequest { token: token.to_owned() }
}

fn revoke(room: &str, link_id: &str) -> pb::RevokeInviteLinkRequest {
    pb::RevokeInviteLinkRequest { room_id: room.to_owned(), link_id: link_id.to_owned() }
}

fn list(room: &str) -> pb::ListInviteLinksRequest {
    pb::ListInviteLinksRequest { room_id: room.to_owned(), page_size: 100, ..Default::default() }
}

pub(super) async fn listed(caller: &Clients, room: &str) -> Vec<pb::InviteLink> {
    let page = caller.links.clone().list_invite_links(list(room)).await.expect("a page");
    page.into_inner().links
}

async fn leave(client: &mut Clients, room: &str) {
    let leave = pb::LeaveRoomRequest { room_id: room.to_owned(), ..Default::default() };
    client.members.leave_room(leave).await.expect("left");
}

async fn whoever_holds_a_link_comes_in(db: Db) {
    let world = World::new(db);
    let log = world.group("den", &[("ann", Owner)]).await;
    let ann = world.user("ann");
    let request = pb::CreateInviteLinkRequest { max_uses: 7, ..until("den", NOW + 60) };
    let reply = ann.links.clone().create_invite_link(request).await.expect("made").into_inner();
    let (link, token) = (reply.link.expect("a link"), reply.token);
    assert_eq!((link.room_id.as_str(), link.creator_id.as_str()), ("den", "ann"));
    assert_eq!((link.max_uses, link.uses), (7, 0));
    assert_eq!(link.expire_time.expect("an end").seconds, NOW + 60);
    assert_eq!(link.create_time.expect("a time").seconds, NOW);
    assert_eq!(token.len(), 64);
    let mut bob = world.user("bob");
    for already_member in [false, true] {
        let reply = bob.links.join_by_link(by(&token)).await.expect("in").into_inner();
        let membership = reply.membership.expect("a membership");
        assert_eq!((membership.room_id.as_str(), membership.role()), ("den", Member));
        assert_eq!(reply.already_member, already_member);
    }
    assert_eq!(listed(&ann, "den").await[0].uses, 1, "who is in does not use it");
    let events = world.later_events(log);
    assert_eq!((events.len(), events[0].actor_id.as_str()), (1, "bob"));
    assert_eq!(effects(&events[0]).0, [("bob".to_owned(), Member)]);
    assert!(matches!(events[0].body, Some(Body::MembersJoined(_))));
    leave(&mut bob, "den").await;
    bob.links.join_by_link(by(&token)).await.expect("in again");
    assert_eq!(listed(&ann, "den").await[0].uses, 2);
}

async fn a_link_overrules_every_join_rule(db: Db) {
    let world = World::new(db);
    for join in [pb::JoinRule::Anyone, pb::JoinRule::AddedOnly, pb::JoinRule::Request] {
        for kind in [RoomKind::Group, RoomKind::Channel] {
            let rules = pb::RosterRules { join: join.into(), ..rules() };
            let room = format!("{join:?} {kind:?}");
            world.open_as("acme", kind, &room, rules, &[("ann", Owner)]).await;
            let (_, token) = made(&world.user("ann"), create(&room)).await;
            world.user("bob").links.join_by_link(by(&token)).await.expect("in");
            assert_eq!(world.roles(&room).await.len(), 2);
        }
    }
}

async fn a_link_overrules_no_ban_no_removal_and_no_capacity(db: Db) {
    let world = World::new(db);
    let rules = pb::RosterRules { capacity: 3, ..rules() };
    let members = [("ann", Owner), ("cleo", Member), ("dora", Member)];
    world.open_as("acme", RoomKind::Group, "den", rules, &members).await;
    let mut ann = world.user("ann");
    let (_, token) = made(&ann, uses("den", 5)).await;
    refused(world.user("eve").links.join_by_link(by(&token)).await, Reason::RoomFull);
    ann.moderation.ban_users(ban("den", &["cleo"])).await.expect("banned");
    let banned = world.user("cleo").links.join_by_link(by(&token)).await;
    refused_naming(banned, Reason::Banned, "cleo");
    let remove = pb::RemoveMembersRequest {
        room_id: "den".to_owned(),
        user_ids: strings(&["dora"]),
        ..Default::default()
    };
    ann.members.remove_members(remove).await.expect("removed");
    refused(world.user("dora").links.join_by_link(by(&token)).await, Reason::RemovedFromRoom);
    assert_eq!(listed(&ann, "den").await[0].uses, 0, "what is refused is no use");
    world.user("eve").links.join_by_link(by(&token)).await.expect("in");
}

async fn a_link_ends_with_its_last_use(db: Db) {
    let world = World::new(db);
    world.group("den", &[("ann", Owner)]).await;
    let ann = world.user("ann");
    let (_, token) = made(&ann, uses("den", 2)).await;
    for user in ["bob", "cleo", "bob"] {
        world.user(user).links.join_by_link(by(&token)).await.expect("in");
    }
    refused(world.user("eve").links.join_by_link(by(&token)).await, Reason::InviteLinkNotFound);
    assert!(listed(&ann, "den").await.is_empty());
    world.user("cleo").links.join_by_link(by(&token)).await.expect("a repeat");
}

async fn a_link_ends_at_its_time(db: Db) {
    let world = World::new(db);
    world.group("den", &[("ann", Owner)]).await;
    let ann = world.user("ann");
    let (_, token) = made(&ann, until("den", NOW + 60)).await;
    world.clock.advance(60 * SECOND - 1);
    world.user("bob").links.join_by_link(by(&token)).await.expect("in");
    world.clock.advance(1);
    refused(world.user("eve").links.join_by_link(by(&token)).await, Reason::InviteLinkNotFound);
    assert!(listed(&ann, "den").await.is_empty());
}

async fn a_link_is_revoked(db: Db) {
    let world = World::new(db);
    world.group("den", &[("ann", Owner), ("bob", Admin)]).await;
    let (link_id, token) = made(&world.user("ann"), create("den")).await;
    let (_, other) = made(&world.user("ann"), create("den")).await;
    for _ in 0..2 {
        world.user("bob").links.revoke_invite_link(revoke("den", &link_id)).await.expect("revoked");
    }
    let mut eve = world.user("eve").links;
    refused(eve.join_by_link(by(&token)).await, Reason::InviteLinkNotFound);
    eve.join_by_link(by(&other)).await.expect("the other one holds");
}

async fn a_link_ends_with_the_room(db: Db) {
    let world = World::new(db.clone());
    let log = world.group("den", &[("ann", Owner)]).await;
    let (_, token) = made(&world.user("ann"), create("den")).await;
    close(&world, log).await;
    let mut bob = world.user("bob").links;
    refused(bob.join_by_link(by(&token)).await, Reason::InviteLinkNotFound);
    world.group("den", &[("ann", Owner)]).await;
    refused(bob.join_by_link(by(&token)).await, Reason::InviteLinkNotFound);
    assert!(listed(&world.user("ann"), "den").await.is_empty());
    world.service.run();
    let left = async || {
        let (count,): (i64,) =
            db.read("SELECT COUNT(*) FROM invite_links").fetch_one().await.expect("a count");
        count
    };
    eventually(async || left().await == 0).await;
}

async fn owners_and_admins_make_links(db: Db) {
    let world = World::new(db);
    world.group("den", &[("ann", Owner), ("bob", Admin), ("cleo", Member)]).await;
    let (link_id, token) = made(&world.user("bob"), create("den")).await;
    made(&world.service(), create("den")).await;
    for (user, reason) in [("cleo", Reason::NotAllowed), ("eve", Reason::NotAMember)] {
        for mut client in [world.user(user).links, world.service_for(user).links] {
            refused(client.create_invite_link(create("den")).await, reason);
            refused(client.revoke_invite_link(revoke("den", &link_id)).await, reason);
            refused(client.list_invite_links(list("den")).await, reason);
        }
    }
    for mut other in [world.user_of("other", "ann").links, world.service_of("other").links] {
        refused(other.create_invite_link(create("den")).await, Reason::RoomNotFound);
        refused(other.revoke_invite_link(revoke("den", &link_id)).await, Reason::RoomNotFound);
        refused(other.list_invite_links(list("den")).await, Reason::RoomNotFound);
    }
    let strange = world.user_of("other", "ann").links.join_by_link(by(&token)).await;
    refused(strange, Reason::InviteLinkNotFound);
    refused(world.service().links.join_by_link(by(&token)).await, Reason::UserRequired);
    world.service_for("eve").links.join_by_link(by(&token)).await.expect("in");
    let creators: Vec<_> =
        listed(&world.service(), "den").await.into_iter().map(|link| link.creator_id).collect();
    assert!(creators.contains(&String::new()) && creators.contains(&"bob".to_owned()));
    // It outlives what its maker may.
    let mut bob = world.user("bob");
    leave(&mut bob, "den").await;
    world.user("dora").links.join_by_link(by(&token)).await.expect("in");
}

async fn direct_and_live_rooms_have_no_links(db: Db) {
    let world = World::new(db);
    world.direct("pair", ["ann", "bob"]).await;
    live(&world, "lounge", 60).await;
    let link_id = "0".repeat(32);
    for (room, reason) in [("pair", Reason::DirectRoom), ("lounge", Reason::LiveRoom)] {
        for mut client in [world.user("ann").links, world.service().links] {
            refused(client.create_invite_link(create(room)).await, reason);
            refused(client.revoke_invite_link(revoke(room, &link_id)).await, reason);
            refused(client.list_invite_links(list(room)).await, reason);
        }
    }
    let mut eve = world.user("eve").links;
    refused(eve.create_invite_link(create("pair")).await, Reason::RoomNotFound);
}

async fn the_database_holds_no_token(db: Db) {
    let world = World::new(db.clone());
    world.group("den", &[("ann", Owner)]).await;
    let (link_id, token) = made(&world.user("ann"), create("den")).await;
    assert!(!token.contains(&link_id));
    let (log, secret) = token.split_at(32);
    let stored: Vec<(String, String)> =
        db.read("SELECT link_id, creator_id FROM invite_links").fetch_all().await.expect("rows");
    assert_eq!(stored, [(link_id.clone(), "ann".to_owned())]);
    let (requests,): (i64,) =
        db.read("SELECT COUNT(*) FROM requests").fetch_one().await.expect("a count");
    assert_eq!(requests, 0);
    // What stands there opens nothing, nor does half of a token.
    let mut bob = world.user("bob").links;
    for guess in [format!("{log}{link_id}"), format!("{log}{}", "0".repeat(32))] {
        refused(bob.join_by_link(by(&guess)).await, Reason::InviteLinkNotFound);
    }
    violates(bob.join_by_link(by(secret)).await, "token");
}

async fn links_are_listed_a_page_at_a_time(db: Db) {
    let world = World::new(db);
    world.group("den", &[("ann", Owner), ("bob", Admin)]).await;
    let ann = world.user("ann");
    let mut expected = Vec::new();
    for _ in 0..5 {
        expected.push(made(&ann, create("den")).await.0);
    }
    made(&ann, until("den", NOW + 1)).await;
    world.clock.advance(SECOND);
    expected.sort();
    let mut request = pb::ListInviteLinksRequest { page_size: 2, ..list("den") };
    let mut found = Vec::new();
    loop {
        let page = ann.links.clone().list_invite_links(request.clone()).await.expect("a page");
        let page = page.into_inner();
        found.extend(page.links.into_iter().map(|link| link.link_id));
        request.page_token = page.next_page_token;
        if request.page_token.is_empty() {
            break;
        }
        let mut bob = world.user("bob").links;
        violates(bob.list_invite_links(request.clone()).await, "page_token");
    }
    assert_eq!(found, expected);
}

async fn a_room_has_a_bounded_number_that_ended_ones_leave(db: Db) {
    let world = World::new(db);
    world.group("den", &[("ann", Owner)]).await;
    let ann = world.user("ann");
    let (_, token) = made(&ann, uses("den", 1)).await;
    made(&ann, until("den", NOW + 1)).await;
    for _ in 2..50 {
        made(&ann, create("den")).await;
    }
    let mut links = ann.links.clone();
    refused(links.create_invite_link(create("den")).await, Reason::TooManyInviteLinks);
    world.user("bob").links.join_by_link(by(&token)).await.expect("in");
    world.clock.advance(SECOND);
    for _ in 0..2 {
        made(&ann, create("den")).await;
    }
    refused(links.create_invite_link(create("den")).await, Reason::TooManyInviteLinks);
}

async fn bad_fields_are_named(db: Db) {
    let world = World::new(db);
    world.channel("news", &[("ann", Owner)]).await;
    let mut ann = world.user("ann").links;
    let link_id = "0".repeat(32);
    for bad in bad_ids() {
        violates(ann.create_invite_link(create(&bad)).await, "room_id");
        violates(ann.revoke_invite_link(revoke(&bad, &link_id)).await, "room_id");
        violates(ann.list_invite_links(list(&bad)).await, "room_id");
        violates(ann.revoke_invite_link(revoke("news", &bad)).await, "link_id");
        violates(ann.join_by_link(by(&bad)).await, "token");
    }
    for bad in [&link_id, &"g".repeat(64), &"A".repeat(64), &"0".repeat(65)] {
        violates(ann.join_by_link(by(bad)).await, "token");
    }
    for max_uses in [-1, 100_001] {
        violates(ann.create_invite_link(uses("news", max_uses)).await, "max_uses");
    }
    for seconds in [-1, NOW, 253_402_300_800] {
        violates(ann.create_invite_link(until("news", seconds)).await, "expire_time");
    }
    let request = pb::ListInviteLinksRequest { page_size: -1, ..list("news") };
    violates(ann.list_invite_links(request).await, "page_size");
    let request = pb::ListInviteLinksRequest { page_token: "x".to_owned(), ..list("news") };
    violates(ann.list_invite_links(request).await, "page_token");
    world.user("bob").members.join_room(join("news")).await.expect("joined");
}
