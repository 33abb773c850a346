//! What rooms take from their tenant: how long they keep events, in how many a user may be.

use futures::future::join_all;
use parlance_db::{Db, test_on_each_db};
use parlance_proto::message::v1 as log;
use parlance_proto::room::v1 as pb;
use parlance_rpc::{Principal, Reason};
use prost_types::{Duration, FieldMask};
use tonic::Code;

use crate::beside_membership::beside;
use crate::harness::{
    Client, Harness, SECOND, channel, create, direct, eventually, get, group, refused, violates,
};
use crate::live::rooms::{enter, entered, leave, live, switch};
use crate::room::broadcasts::broadcast;
use crate::roster::Fault;

test_on_each_db!(parlance_room::MIGRATIONS =>
    rooms_are_made_with_the_retention_of_the_tenant,
    rooms_that_are_there_follow_a_minute_later,
    a_room_that_gives_up_its_own_retention_takes_the_tenants,
    a_room_that_was_long_in_creation_follows_too,
    many_rooms_follow_and_a_later_decision_counts,
    a_user_is_in_as_many_live_rooms_as_the_tenant_allows,
    what_is_wrong_with_the_defaults_is_named,
);

#[expect(clippy::unnecessary_wraps, reason = "fields of messages are optional")]
fn span(seconds: i64) -> Option<Duration> {
    Some(Duration { seconds, nanos: 0 })
}

fn keep(retention: Option<Duration>) -> pb::SetTenantSettingsRequest {
    let settings = pb::TenantSettings { retention, ..Default::default() };
    put("retention", settings)
}

fn live_rooms(most: Option<i32>) -> pb::SetTenantSettingsRequest {
    let settings = pb::TenantSettings { max_live_rooms_per_user: most, ..Default::default() };
    put("max_live_rooms_per_user", settings)
}

fn put(path: &str, settings: pb::TenantSettings) -> pb::SetTenantSettingsRequest {
    let update_mask = Some(FieldMask { paths: vec![path.to_owned()] });
    pb::SetTenantSettingsRequest { settings: Some(settings), update_mask }
}

async fn set(suite: &Harness, request: pb::SetTenantSettingsRequest) -> pb::TenantSettings {
    let mut operator = suite.caller("acme", Principal::Operator).settings;
    let set = operator.set_tenant_settings(request).await.expect("set").into_inner();
    let got = operator.get_tenant_settings(pb::GetTenantSettingsRequest {}).await;
    assert_eq!(got.expect("settings").into_inner().settings, set.settings);
    set.settings.expect("settings")
}

/// How long a room's log keeps events by what it was told when it was made.
fn made_with(suite: &Harness, room_id: &str) -> Option<Duration> {
    let created = suite.roster.of(room_id).1.created;
    created.effects.expect("effects").rules.expect("rules").retention
}

/// What a room's log was told since, in order.
fn told(suite: &Harness, room_id: &str) -> Vec<Option<Duration>> {
    let updates = suite.logs.updates(&suite.roster.of(room_id).0);
    let rules = updates.into_iter().map(|(event, update)| {
        assert_eq!(update.changed_fields, ["settings.retention"]);
        assert_eq!(event.actor_id, "");
        event.effects.expect("effects").rules.expect("rules").retention
    });
    rules.collect()
}

fn own(room_id: &str, seconds: i64) -> pb::CreateRoomRequest {
    let settings = Some(pb::RoomSettings { retention: span(seconds), ..Default::default() });
    pb::CreateRoomRequest { settings, ..group(room_id, &[]) }
}

async fn shown(client: &Client, room_id: &str) -> pb::Room {
    let got = client.rooms.clone().get_room(get(room_id)).await.expect("there");
    got.into_inner().room.expect("a room")
}

/// Waits until the rooms were looked at that begin to follow.
async fn looked(suite: &Harness) {
    let done = || suite.task("rooms that follow").map_or(0, |run| run.count - run.failures);
    let before = done();
    eventually(|| async move { done() >= before + 2 }).await;
}

async fn rooms_are_made_with_the_retention_of_the_tenant(db: Db) {
    let suite = Harness::new(db).await;
    let mut ann = suite.user("ann");
    assert_eq!(set(&suite, keep(span(3600))).await.retention, span(3600));
    let room = create(&mut ann, group("g", &[])).await;
    assert_eq!(room.settings.expect("settings").retention, None, "it says nothing itself");
    assert_eq!(made_with(&suite, "g"), span(3600));
    create(&mut ann, own("own", 7200)).await;
    assert_eq!(made_with(&suite, "own"), span(7200));
    create(&mut suite.backend(), broadcast("all")).await;
    assert_eq!(made_with(&suite, "all"), span(3600));
    let pair = ann.rooms.get_or_create_direct_room(direct("bob")).await.expect("made");
    let pair = pair.into_inner().room.expect("a room").room_id;
    assert_eq!(made_with(&suite, &pair), span(3600));
    let news = ann.rooms.get_or_create_channel(channel("news")).await.expect("made");
    let news = news.into_inner().room.expect("a room").room_id;
    assert_eq!(made_with(&suite, &news), span(3600));
    // Others have theirs.
    let mut other = suite.caller("other", Principal::Service);
    create(&mut other, group("h", &[])).await;
    assert_eq!(made_with(&suite, "h"), None);
    assert_eq!(set(&suite, keep(None)).await.retention, None);
    create(&mut ann, group("i", &[])).await;
    assert_eq!(made_with(&suite, "i"), None);
}

async fn rooms_that_are_there_follow_a_minute_later(db: Db) {
    let suite = Harness::new(db).await;
    let mut ann = suite.user("ann");
    let before = create(&mut ann, group("g", &[])).await;
    create(&mut ann, own("own", 7200)).await;
    let pair = ann.rooms.get_or_create_direct_room(direct("bob")).await.expect("made");
    let pair = pair.into_inner().room.expect("a room").room_id;
    set(&suite, keep(span(3600))).await;
    suite.run();
    suite.clock.advance(59 * SECOND);
    looked(&suite).await;
    assert!(told(&suite, "g").is_empty(), "not yet");

    suite.clock.advance(SECOND);
    looked(&suite).await;
    for room_id in ["g", &pair] {
        assert_eq!(told(&suite, room_id), [span(3600)]);
    }
    assert!(told(&suite, "own").is_empty());
    // Nothing of it shows in the room: whoever holds its etag may still use it.
    assert_eq!(shown(&ann, "g").await, before);
    // Once all follow nothing is done again.
    suite.clock.advance(100 * SECOND);
    looked(&suite).await;
    assert_eq!(told(&suite, "g").len(), 1);
    set(&suite, keep(None)).await;
    suite.clock.advance(60 * SECOND);
    looked(&suite).await;
    assert_eq!(told(&suite, "g"), [span(3600), None]);
    suite.stop().await;
}

async fn a_room_that_gives_up_its_own_retention_takes_the_tenants(db: Db) {
    let suite = Harness::new(db).await;
    let mut ann = suite.user("ann");
    set(&suite, keep(span(3600))).await;
    create(&mut ann, own("own", 7200)).await;
    let update = |retention| pb::UpdateRoomRequest {
        room: Some(pb::Room {
            room_id: "own".to_owned(),
            settings: Some(pb::RoomSettings { retention, ..Default::default() }),
            ..Default::default()
        }),
        update_mask: Some(FieldMask { paths: vec!["settings.retention".to_owned()] }),
        ..Default::default()
    };
    let rules = |(event, _): (log::Event, log::RoomUpdated)| {
        event.effects.map(|effects| effects.rules.expect("rules").retention)
    };
    let said = || suite.logs.updates(&suite.roster.of("own").0).into_iter().map(rules);
    ann.rooms.update_room(update(None)).await.expect("updated");
    assert_eq!(shown(&ann, "own").await.settings.expect("settings").retention, None);
    assert_eq!(said().collect::<Vec<_>>(), [Some(span(3600))]);
    // What the tenant says anyway is told to nobody.
    ann.rooms.update_room(update(span(3600))).await.expect("updated");
    assert_eq!(said().next_back(), Some(None));
}

async fn a_room_that_was_long_in_creation_follows_too(db: Db) {
    let suite = Harness::new(db).await;
    let mut ann = suite.user("ann");
    suite.roster.break_rpc("OpenRoster", Fault::Refuse(Reason::StoreUnavailable));
    refused(ann.rooms.create_room(group("g", &[])).await, Reason::MembershipUnavailable);
    set(&suite, keep(span(3600))).await;
    suite.run();
    suite.clock.advance(61 * SECOND);
    looked(&suite).await;
    suite.roster.mend("OpenRoster");
    suite.clock.advance(10 * SECOND);
    let suite = &suite;
    eventually(|| async move {
        suite.roster.open_rosters("g").len() == 1 && told(suite, "g") == [span(3600)]
    })
    .await;
    assert_eq!(made_with(suite, "g"), None);
    suite.stop().await;
}

async fn many_rooms_follow_and_a_later_decision_counts(db: Db) {
    let suite = Harness::new(db).await;
    let ann = suite.user("ann");
    let ids: Vec<_> = (0..250).map(|n| format!("room {n}")).collect();
    for some in ids.chunks(50) {
        let made = some.iter().map(|room_id| {
            let mut ann = ann.clone();
            async move { create(&mut ann, group(room_id, &[])).await }
        });
        join_all(made).await;
    }
    set(&suite, keep(span(3600))).await;
    suite.clock.advance(30 * SECOND);
    set(&suite, keep(span(60))).await;
    suite.run();
    suite.clock.advance(60 * SECOND);
    looked(&suite).await;
    for room_id in &ids {
        assert_eq!(told(&suite, room_id), [span(60)], "{room_id}");
    }
    suite.stop().await;
}

/// B-055.
async fn a_user_is_in_as_many_live_rooms_as_the_tenant_allows(db: Db) {
    beside(db, |suite, _membership| async move {
        let mut ann = live(&suite, "ann");
        let unset = live_rooms(None);
        assert_eq!(set(&suite, unset.clone()).await.max_live_rooms_per_user, Some(5));
        for room_id in ["a", "b", "c", "d", "e"] {
            entered(&mut ann, enter(room_id, true)).await;
        }
        let sixth = ann.enter_room(enter("f", true)).await;
        assert_eq!(refused(sixth, Reason::RoomLimit).code(), Code::ResourceExhausted);

        assert_eq!(set(&suite, live_rooms(Some(2))).await.max_live_rooms_per_user, Some(2));
        let mut bob = live(&suite, "bob");
        for room_id in ["a", "b"] {
            entered(&mut bob, enter(room_id, false)).await;
        }
        // Into one that is there, and into one that is made; from the reply on.
        refused(bob.enter_room(enter("c", false)).await, Reason::RoomLimit);
        refused(bob.enter_room(enter("f", true)).await, Reason::RoomLimit);
        refused(bob.switch_room(switch("a", "f", true)).await, Reason::RoomLimit);
        bob.switch_room(switch("a", "c", false)).await.expect("an existing room");
        // Whoever is in more stays, and enters again with the device that is in.
        entered(&mut ann, enter("e", false)).await;
        leave(&mut ann, "e").await;
        refused(ann.enter_room(enter("e", true)).await, Reason::RoomLimit);

        set(&suite, live_rooms(Some(6))).await;
        for room_id in ["e", "f"] {
            entered(&mut ann, enter(room_id, true)).await;
        }
        refused(ann.enter_room(enter("g", true)).await, Reason::RoomLimit);
        set(&suite, unset).await;
        leave(&mut ann, "f").await;
        refused(ann.enter_room(enter("f", true)).await, Reason::RoomLimit);
    })
    .await;
}

async fn what_is_wrong_with_the_defaults_is_named(db: Db) {
    let suite = Harness::new(db).await;
    let mut operator = suite.caller("acme", Principal::Operator).settings;
    for bad in [0, -1, 101, i32::MAX] {
        let set = operator.set_tenant_settings(live_rooms(Some(bad))).await;
        violates(set, "settings.max_live_rooms_per_user");
    }
    let half = Some(Duration { seconds: 60, nanos: 1 });
    for bad in [span(59), span(315_360_001), span(-60), half] {
        violates(operator.set_tenant_settings(keep(bad)).await, "settings.retention");
    }
    for client in [suite.user("ann"), suite.backend()] {
        let set = client.settings.clone().set_tenant_settings(keep(span(60))).await;
        refused(set, Reason::NotAllowed);
    }
    let settings = set(&suite, live_rooms(Some(100))).await;
    assert_eq!((settings.max_live_rooms_per_user, settings.retention), (Some(100), None));
}
