//! How much a tenant may have.

use futures::future::join_all;
use parlance_db::{Db, test_on_each_db};
use parlance_proto::room::v1 as pb;
use parlance_proto::room::v1::live_room_service_client::LiveRoomServiceClient;
use parlance_rpc::testing::{acme, called_by};
use parlance_rpc::{Principal, Reason};
use prost_types::FieldMask;
use tonic::Code;
use tonic_types::StatusExt as _;

use crate::beside_membership::beside;
use crate::harness::{
    Client, Harness, SECOND, channel, create, delete, direct, eventually, group, refused, violates,
};
use crate::roster::Fault;

test_on_each_db!(parlance_room::MIGRATIONS =>
    a_room_too_many_is_refused_until_one_is_gone,
    every_kind_of_room_counts,
    live_rooms_are_limited_apart,
    of_many_at_once_so_many_are_made_as_may_be,
    rooms_that_never_came_to_be_do_not_count,
    what_was_not_seen_when_the_limit_was_set_is_counted_a_minute_later,
    a_limit_that_is_taken_away_is_none,
    a_room_is_for_so_many_members_as_the_tenant_allows,
    what_is_wrong_with_limits_is_named,
);

/// Membership fails, and may be asked again.
const OUTAGE: Fault = Fault::Refuse(Reason::StoreUnavailable);

fn set(limits: pb::TenantLimits) -> pb::SetTenantSettingsRequest {
    pb::SetTenantSettingsRequest {
        settings: Some(pb::TenantSettings { limits: Some(limits), ..Default::default() }),
        update_mask: Some(FieldMask { paths: vec!["limits".to_owned()] }),
    }
}

/// A request to let the tenant have so many rooms.
pub(crate) fn limited(rooms: i64) -> pb::SetTenantSettingsRequest {
    set(pb::TenantLimits { rooms: Some(rooms), ..Default::default() })
}

async fn limit(suite: &Harness, request: pb::SetTenantSettingsRequest) {
    let mut operator = suite.caller("acme", Principal::Operator).settings;
    let wish = request.settings.as_ref().and_then(|settings| settings.limits);
    let set = operator.set_tenant_settings(request).await.expect("set").into_inner();
    assert_eq!(set.settings.expect("settings").limits, wish);
}

/// How many rooms the operators are told of, and how many live ones.
async fn used(suite: &Harness) -> Option<(i64, i64)> {
    let mut operator = suite.caller("acme", Principal::Operator).settings;
    let got = operator.get_tenant_settings(pb::GetTenantSettingsRequest {}).await;
    got.expect("settings").into_inner().r#use.map(|used| (used.rooms, used.live_rooms))
}

/// The room is refused for what the tenant may have.
async fn too_many(client: &Client, request: pb::CreateRoomRequest, limit: &str, most: &str) {
    let status = refused(client.rooms.clone().create_room(request).await, Reason::QuotaExceeded);
    assert_eq!(status.code(), Code::ResourceExhausted);
    let info = status.get_details_error_info().expect("error info");
    assert_eq!(info.metadata.get("limit").map(String::as_str), Some(limit));
    assert_eq!(info.metadata.get("most").map(String::as_str), Some(most));
}

/// B-021.
async fn a_room_too_many_is_refused_until_one_is_gone(db: Db) {
    let suite = Harness::new(db).await;
    let mut ann = suite.user("ann");
    assert_eq!(used(&suite).await, None, "nothing is counted for nothing");
    create(&mut ann, group("a", &[])).await;
    limit(&suite, limited(2)).await;
    assert_eq!(used(&suite).await, Some((1, 0)));
    create(&mut ann, group("b", &[])).await;
    let repeated = pb::CreateRoomRequest { request_id: "r".to_owned(), ..group("c", &[]) };
    too_many(&ann, repeated.clone(), "rooms", "2").await;
    assert_eq!(used(&suite).await, Some((2, 0)));
    let mut other = suite.caller("other", Principal::Service);
    create(&mut other, group("c", &[])).await;

    for _ in 0..2 {
        ann.rooms.delete_room(delete("a", "gone")).await.expect("deleted");
        assert_eq!(used(&suite).await, Some((1, 0)));
    }
    // A refusal is no reply to a request.
    create(&mut ann, repeated).await;
    too_many(&ann, group("d", &[]), "rooms", "2").await;
    // What is there stays, and is found.
    limit(&suite, limited(0)).await;
    ann.rooms.get_room(crate::harness::get("b")).await.expect("there");
    too_many(&ann, group("d", &[]), "rooms", "0").await;
}

async fn every_kind_of_room_counts(db: Db) {
    let suite = Harness::new(db).await;
    let mut ann = suite.user("ann");
    limit(&suite, limited(2)).await;
    ann.rooms.get_or_create_direct_room(direct("bob")).await.expect("made");
    ann.rooms.get_or_create_channel(channel("news")).await.expect("made");
    // What is there already is found.
    ann.rooms.get_or_create_direct_room(direct("bob")).await.expect("found");
    ann.rooms.get_or_create_channel(channel("news")).await.expect("found");
    assert_eq!(used(&suite).await, Some((2, 0)));
    let one_more = ann.rooms.get_or_create_direct_room(direct("cid")).await;
    refused(one_more, Reason::QuotaExceeded);
    refused(ann.rooms.get_or_create_channel(channel("more")).await, Reason::QuotaExceeded);
}

/// B-021.
async fn live_rooms_are_limited_apart(db: Db) {
    Box::pin(beside(db, |suite, _membership| async move {
        limit(&suite, set(pb::TenantLimits { live_rooms: Some(1), ..Default::default() })).await;
        let to = called_by(suite.service.public(), acme("ann"), None);
        let mut live = LiveRoomServiceClient::new(to);
        let enter = |room: &str| pb::EnterRoomRequest {
            room_id: room.to_owned(),
            resource: "phone".to_owned(),
            session_id: "1".to_owned(),
            create_if_missing: true,
            room: None,
        };
        live.enter_room(enter("a")).await.expect("entered");
        refused(live.enter_room(enter("b")).await, Reason::QuotaExceeded);
        create(&mut suite.user("ann"), group("g", &[])).await;
        assert_eq!(used(&suite).await, Some((2, 1)));
        // It ends with its last member.
        let leave = pb::LeaveRoomRequest { room_id: "a".to_owned(), resource: "phone".to_owned() };
        live.leave_room(leave).await.expect("left");
        assert_eq!(used(&suite).await, Some((1, 0)));
        live.enter_room(enter("b")).await.expect("entered");
    }))
    .await;
}

/// B-021.
async fn of_many_at_once_so_many_are_made_as_may_be(db: Db) {
    let suite = Harness::new(db).await;
    let ann = suite.user("ann");
    limit(&suite, limited(5)).await;
    let made = (0..20).map(|n| {
        let mut ann = ann.clone();
        async move {
            let room_id = format!("room {n}");
            let made = ann.rooms.create_room(group(&room_id, &[])).await;
            made.is_ok().then_some(room_id)
        }
    });
    let made: Vec<_> = join_all(made).await.into_iter().flatten().collect();
    assert_eq!((made.len(), used(&suite).await), (5, Some((5, 0))));
    // Deletions and creations at once: never one too many, and the count is right in the end.
    let gone = made.iter().map(|room_id| {
        let mut ann = ann.clone();
        async move { ann.rooms.delete_room(delete(room_id, "")).await.expect("deleted") }
    });
    let more = (20..30).map(|n| {
        let mut ann = ann.clone();
        async move { ann.rooms.create_room(group(&format!("room {n}"), &[])).await.is_ok() }
    });
    let (_, more) = tokio::join!(join_all(gone), join_all(more));
    let there = more.into_iter().filter(|made| *made).count();
    let there = i64::try_from(there).expect("few");
    assert!(there <= 5, "{there}");
    assert_eq!(used(&suite).await, Some((there, 0)));
}

async fn rooms_that_never_came_to_be_do_not_count(db: Db) {
    let suite = Harness::new(db).await;
    let mut ann = suite.user("ann");
    limit(&suite, limited(1)).await;
    let stranger = ann.rooms.create_room(group("g", &["nobody"])).await;
    refused(stranger, Reason::UserNotFound);
    assert_eq!(used(&suite).await, Some((0, 0)));
    // One that was begun may still come to be: it counts until it is given up.
    suite.roster.break_rpc("OpenRoster", OUTAGE);
    let cut = ann.rooms.create_room(group("g", &["bob"])).await;
    refused(cut, Reason::MembershipUnavailable);
    assert_eq!(used(&suite).await, Some((1, 0)));
    suite.roster.state().users.remove(&("acme".to_owned(), "bob".to_owned()));
    suite.roster.mend("OpenRoster");
    suite.clock.advance(6 * SECOND);
    suite.run();
    let suite = &suite;
    eventually(|| async move { used(suite).await == Some((0, 0)) }).await;
    create(&mut ann, group("h", &[])).await;
    suite.stop().await;
    assert_eq!(used(suite).await, Some((1, 0)));
}

async fn what_was_not_seen_when_the_limit_was_set_is_counted_a_minute_later(db: Db) {
    let suite = Harness::new(db.clone()).await;
    let mut ann = suite.user("ann");
    create(&mut ann, group("a", &[])).await;
    limit(&suite, limited(1)).await;
    // As if "a" had been on its way.
    let missed = "UPDATE tenant_settings SET rooms = 0 WHERE tenant_id = 'acme'";
    db.write(missed).execute().await.expect("written");
    suite.clock.advance(59 * SECOND);
    suite.run();
    let looked = |times: u64| {
        let suite = &suite;
        let done = move || suite.task("room janitor").map_or(0, |run| run.count - run.failures);
        let before = done();
        eventually(move || async move { done() >= before + times })
    };
    looked(2).await;
    assert_eq!(used(&suite).await, Some((0, 0)), "not yet");
    suite.clock.advance(SECOND);
    looked(2).await;
    assert_eq!(used(&suite).await, Some((1, 0)));
    too_many(&ann, group("b", &[]), "rooms", "1").await;
    suite.stop().await;
}

async fn a_limit_that_is_taken_away_is_none(db: Db) {
    let suite = Harness::new(db).await;
    let mut ann = suite.user("ann");
    limit(&suite, limited(0)).await;
    too_many(&ann, group("a", &[]), "rooms", "0").await;
    limit(&suite, set(pb::TenantLimits::default())).await;
    create(&mut ann, group("a", &[])).await;
    assert_eq!(used(&suite).await, None);
    // Rooms that were made meanwhile count when there is a limit again.
    limit(&suite, limited(1)).await;
    too_many(&ann, group("b", &[]), "rooms", "1").await;
}

async fn a_room_is_for_so_many_members_as_the_tenant_allows(db: Db) {
    let suite = Harness::new(db).await;
    let mut ann = suite.user("ann");
    create(&mut ann, group("before", &[])).await;
    limit(&suite, set(pb::TenantLimits { members: Some(50), ..Default::default() })).await;
    let wish = |room_id: &str, capacity| {
        let settings = Some(pb::RoomSettings { capacity, ..Default::default() });
        pb::CreateRoomRequest { settings, ..group(room_id, &[]) }
    };
    let capacity = |room: &pb::Room| room.settings.as_ref().map(|settings| settings.capacity);
    assert_eq!(capacity(&create(&mut ann, group("g", &[])).await), Some(50));
    assert_eq!(capacity(&create(&mut ann, wish("h", 20)).await), Some(20));
    too_many(&ann, wish("i", 51), "members", "50").await;
    ann.rooms.get_or_create_direct_room(direct("bob")).await.expect("made");

    let update = |room_id: &str, paths: &[&str], capacity| pb::UpdateRoomRequest {
        room: Some(pb::Room {
            room_id: room_id.to_owned(),
            name: "anew".to_owned(),
            settings: Some(pb::RoomSettings { capacity, ..Default::default() }),
            ..Default::default()
        }),
        update_mask: Some(FieldMask { paths: paths.iter().map(ToString::to_string).collect() }),
        ..Default::default()
    };
    refused(
        ann.rooms.update_room(update("g", &["settings.capacity"], 51)).await,
        Reason::QuotaExceeded,
    );
    let updated = ann.rooms.update_room(update("h", &["settings.capacity"], 0)).await;
    let room = updated.expect("updated").into_inner().room.expect("a room");
    assert_eq!(capacity(&room), Some(50), "the default is what is allowed");
    // What was made for more keeps that until it is asked for another.
    let updated = ann.rooms.update_room(update("before", &["name"], 0)).await;
    let room = updated.expect("updated").into_inner().room.expect("a room");
    assert_eq!(capacity(&room), Some(1000));
}

async fn what_is_wrong_with_limits_is_named(db: Db) {
    let suite = Harness::new(db).await;
    let mut operator = suite.caller("acme", Principal::Operator).settings;
    for bad in [-1, 1_000_000_001, i64::MIN, i64::MAX] {
        violates(operator.set_tenant_settings(limited(bad)).await, "settings.limits.rooms");
        let live = pb::TenantLimits { live_rooms: Some(bad), ..Default::default() };
        violates(operator.set_tenant_settings(set(live)).await, "settings.limits.live_rooms");
    }
    for bad in [0, -1, 100_001] {
        let members = pb::TenantLimits { members: Some(bad), ..Default::default() };
        violates(operator.set_tenant_settings(set(members)).await, "settings.limits.members");
    }
    assert_eq!(used(&suite).await, None, "nothing was changed");
}
