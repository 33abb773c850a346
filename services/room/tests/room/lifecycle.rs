//! Rooms whose creation or deletion was cut short.

use std::sync::Arc;

use parlance_db::{Db, test_on_each_db};
use parlance_proto::room::v1 as pb;
use parlance_rpc::Reason;
use parlance_types::Micros;
use prost_types::FieldMask;
use tokio::sync::Semaphore;

use crate::harness::{
    Harness, SECOND, channel, create, delete, direct, eventually, get, group, refused,
};
use crate::roster::Fault;

test_on_each_db!(parlance_room::MIGRATIONS =>
    a_creation_cut_short_is_finished_by_a_retry,
    a_creation_cut_short_is_finished_by_a_get_or_create,
    a_creation_cut_short_is_finished_by_the_janitor,
    a_creation_begun_by_a_clock_that_was_ahead_is_finished_by_the_janitor,
    a_creation_whose_reply_was_lost_is_finished_by_a_retry,
    another_creation_of_an_id_finishes_the_first,
    a_creation_that_cannot_succeed_frees_its_id,
    the_janitor_gives_up_a_creation_that_cannot_succeed,
    a_roster_that_was_opened_too_late_is_closed,
    a_cancelled_request_does_not_cancel_its_change,
    a_deletion_cut_short_is_finished_by_a_repeat,
    a_deletion_cut_short_is_finished_by_the_janitor,
    a_deletion_cut_short_is_finished_by_whoever_wants_the_id,
    a_room_in_deletion_is_gone,
    rules_that_were_not_pushed_are_pushed_by_the_janitor,
    an_update_that_the_log_did_not_hear_of_is_relayed,
);

const OUTAGE: Fault = Fault::Refuse(Reason::StoreUnavailable);

fn with_id(room_id: &str, request_id: &str) -> pb::CreateRoomRequest {
    pb::CreateRoomRequest { request_id: request_id.to_owned(), ..group(room_id, &["bob"]) }
}

fn update(room: pb::Room, path: &str, request_id: &str) -> pb::UpdateRoomRequest {
    pb::UpdateRoomRequest {
        room: Some(room),
        update_mask: Some(FieldMask { paths: vec![path.to_owned()] }),
        request_id: request_id.to_owned(),
        ..pb::UpdateRoomRequest::default()
    }
}

async fn a_creation_cut_short_is_finished_by_a_retry(db: Db) {
    let suite = Harness::new(db).await;
    let mut ann = suite.user("ann");
    suite.roster.break_rpc("OpenRoster", OUTAGE);
    let cut = ann.rooms.create_room(with_id("g", "r1")).await;
    refused(cut, Reason::MembershipUnavailable);
    refused(ann.rooms.get_room(get("g")).await, Reason::RoomNotFound);
    suite.roster.mend("OpenRoster");

    let room = create(&mut ann, with_id("g", "r1")).await;

    let got = ann.rooms.get_room(get("g")).await.expect("there").into_inner();
    assert_eq!(got.room, Some(room));
    assert_eq!(suite.roster.of("g").1.members.len(), 2);
}

async fn a_creation_cut_short_is_finished_by_a_get_or_create(db: Db) {
    let suite = Harness::new(db).await;
    let (mut ann, mut bob) = (suite.user("ann"), suite.user("bob"));
    suite.roster.break_rpc("OpenRoster", OUTAGE);
    suite.roster.state().users.insert(("acme".to_owned(), "ann".to_owned()));
    let cut = ann.rooms.get_or_create_direct_room(direct("bob")).await;
    refused(cut, Reason::MembershipUnavailable);
    let cut = ann.rooms.get_or_create_channel(channel("news")).await;
    refused(cut, Reason::MembershipUnavailable);
    suite.roster.mend("OpenRoster");

    let found = bob.rooms.get_or_create_direct_room(direct("ann")).await.expect("found");
    assert!(!found.get_ref().created);
    let room = found.into_inner().room.expect("a room");
    assert_eq!(room.creator_user_id, "ann");
    assert_eq!(suite.roster.of(&room.room_id).1.members.len(), 2);

    let found = bob.rooms.get_or_create_channel(channel("news")).await.expect("found");
    let room = found.into_inner().room.expect("a room");
    let (_, roster) = suite.roster.of(&room.room_id);
    assert_eq!(roster.members.keys().collect::<Vec<_>>(), ["ann", "bob"]);
    assert_eq!(suite.roster.state().rosters.len(), 2);
}

async fn a_creation_cut_short_is_finished_by_the_janitor(db: Db) {
    cut_short_and_finished(db, 0, 6 * SECOND).await;
}

async fn a_creation_begun_by_a_clock_that_was_ahead_is_finished_by_the_janitor(db: Db) {
    cut_short_and_finished(db, 3600 * SECOND, -3600 * SECOND).await;
}

/// A room is begun by a clock that is `ahead`; when this has moved on, it is finished.
async fn cut_short_and_finished(db: Db, ahead: Micros, then: Micros) {
    let suite = Harness::new(db).await;
    let mut ann = suite.user("ann");
    suite.roster.break_rpc("OpenRoster", OUTAGE);
    suite.clock.advance(ahead);
    let cut = ann.rooms.create_room(group("g", &["bob"])).await;
    refused(cut, Reason::MembershipUnavailable);
    suite.roster.mend("OpenRoster");
    suite.clock.advance(then);

    suite.run();
    eventually(|| {
        let mut ann = ann.clone();
        async move { ann.rooms.get_room(get("g")).await.is_ok() }
    })
    .await;
    suite.stop().await;
}

async fn a_creation_whose_reply_was_lost_is_finished_by_a_retry(db: Db) {
    let suite = Harness::new(db).await;
    let mut ann = suite.user("ann");
    suite.roster.break_rpc("OpenRoster", Fault::LoseReply);
    let cut = ann.rooms.create_room(with_id("", "r1")).await;
    refused(cut, Reason::MembershipUnavailable);
    suite.roster.mend("OpenRoster");
    let room = create(&mut ann, with_id("", "r1")).await;
    assert_eq!(suite.roster.state().rosters.len(), 1);
    ann.rooms.get_room(get(&room.room_id)).await.expect("there");
}

async fn another_creation_of_an_id_finishes_the_first(db: Db) {
    let suite = Harness::new(db).await;
    suite.roster.break_rpc("OpenRoster", OUTAGE);
    let cut = suite.user("ann").rooms.create_room(group("g", &[])).await;
    refused(cut, Reason::MembershipUnavailable);
    suite.roster.mend("OpenRoster");
    let taken = suite.user("bob").rooms.create_room(group("g", &[])).await;
    refused(taken, Reason::RoomIdTaken);
    suite.user("ann").rooms.get_room(get("g")).await.expect("there");
}

async fn a_creation_that_cannot_succeed_frees_its_id(db: Db) {
    let suite = Harness::new(db).await;
    let mut ann = suite.user("ann");
    suite.roster.break_rpc("OpenRoster", Fault::Refuse(Reason::UserNotFound));
    refused(ann.rooms.create_room(with_id("g", "r1")).await, Reason::UserNotFound);
    suite.roster.mend("OpenRoster");
    refused(ann.rooms.get_room(get("g")).await, Reason::RoomNotFound);
    // The same request, begun afresh.
    create(&mut ann, with_id("g", "r1")).await;
    ann.rooms.get_room(get("g")).await.expect("there");
}

async fn the_janitor_gives_up_a_creation_that_cannot_succeed(db: Db) {
    let suite = Harness::new(db).await;
    let mut ann = suite.user("ann");
    suite.roster.break_rpc("OpenRoster", OUTAGE);
    let cut = ann.rooms.create_room(with_id("g", "r1")).await;
    refused(cut, Reason::MembershipUnavailable);
    suite.roster.state().users.remove(&("acme".to_owned(), "bob".to_owned()));
    let before = suite.roster.calls("OpenRoster");
    suite.roster.mend("OpenRoster");
    suite.clock.advance(6 * SECOND);
    suite.run();
    eventually(|| async { suite.roster.calls("OpenRoster") > before }).await;
    eventually(|| {
        let mut cid = suite.user("cid");
        async move { cid.rooms.create_room(group("g", &[])).await.is_ok() }
    })
    .await;
    refused(ann.rooms.create_room(with_id("g", "r1")).await, Reason::UserNotFound);
    suite.stop().await;
}

async fn a_roster_that_was_opened_too_late_is_closed(db: Db) {
    let suite = Harness::new(db).await;
    let gate = Arc::new(Semaphore::new(0));
    suite.roster.break_rpc("OpenRoster", Fault::Wait(Arc::clone(&gate)));
    let mut ann = suite.user("ann");
    let slow = tokio::spawn(async move { ann.rooms.create_room(with_id("g", "r1")).await });
    eventually(|| async { suite.roster.calls("OpenRoster") == 1 }).await;
    // Somebody else finds that it cannot be, while the first call is under way.
    suite.roster.break_rpc("OpenRoster", Fault::Refuse(Reason::UserNotFound));
    let retry = suite.user("ann").rooms.create_room(with_id("g", "r1")).await;
    refused(retry, Reason::UserNotFound);
    suite.roster.mend("OpenRoster");
    gate.add_permits(1);

    refused(slow.await.expect("ended"), Reason::MembershipUnavailable);

    assert!(suite.roster.open_rosters("g").is_empty());
    assert_eq!(suite.roster.state().rosters.len(), 1, "it was opened and closed");

    // And once more, later, should its caller have died before that.
    let closed = suite.roster.calls("CloseRoster");
    suite.clock.advance(61 * SECOND);
    suite.run();
    eventually(|| async { suite.roster.calls("CloseRoster") > closed }).await;
    suite.stop().await;
}

async fn a_cancelled_request_does_not_cancel_its_change(db: Db) {
    let suite = Harness::new(db).await;
    let gate = Arc::new(Semaphore::new(0));
    suite.roster.break_rpc("OpenRoster", Fault::Wait(Arc::clone(&gate)));
    let mut ann = suite.user("ann");
    let request = tokio::spawn(async move { ann.rooms.create_room(group("g", &[])).await });
    eventually(|| async { suite.roster.calls("OpenRoster") == 1 }).await;
    request.abort();
    assert!(request.await.expect_err("aborted").is_cancelled());
    gate.add_permits(1);
    eventually(|| {
        let mut ann = suite.user("ann");
        async move { ann.rooms.get_room(get("g")).await.is_ok() }
    })
    .await;
}

async fn a_deletion_cut_short_is_finished_by_a_repeat(db: Db) {
    let suite = Harness::new(db).await;
    let mut ann = suite.user("ann");
    for request_id in ["", "r1"] {
        create(&mut ann, group("g", &["bob"])).await;
        suite.roster.break_rpc("CloseRoster", Fault::LoseReply);
        let cut = ann.rooms.delete_room(delete("g", request_id)).await;
        refused(cut, Reason::MembershipUnavailable);
        suite.roster.mend("CloseRoster");
        // The roster is closed and knows no owners: who began it may finish it.
        let stranger = suite.user("bob").rooms.delete_room(delete("g", request_id)).await;
        refused(stranger, Reason::RoomNotFound);
        ann.rooms.delete_room(delete("g", request_id)).await.expect("deleted");
    }
    create(&mut suite.user("cid"), group("g", &[])).await;
}

async fn a_deletion_cut_short_is_finished_by_the_janitor(db: Db) {
    let suite = Harness::new(db).await;
    let mut ann = suite.user("ann");
    create(&mut ann, group("g", &[])).await;
    suite.roster.break_rpc("CloseRoster", OUTAGE);
    let cut = ann.rooms.delete_room(delete("g", "")).await;
    refused(cut, Reason::MembershipUnavailable);
    suite.roster.mend("CloseRoster");
    suite.clock.advance(6 * SECOND);
    suite.run();
    eventually(|| async { suite.roster.open_rosters("g").is_empty() }).await;
    eventually(|| {
        let mut ann = suite.user("ann");
        async move {
            let gone = ann.rooms.delete_room(delete("g", "")).await;
            gone.is_err_and(|status| Reason::of(&status) == Some(Reason::RoomNotFound))
        }
    })
    .await;
    suite.stop().await;
}

async fn a_deletion_cut_short_is_finished_by_whoever_wants_the_id(db: Db) {
    let suite = Harness::new(db).await;
    let (mut ann, mut bob) = (suite.user("ann"), suite.user("bob"));
    create(&mut ann, group("g", &[])).await;
    let found = ann.rooms.get_or_create_channel(channel("news")).await.expect("created");
    let old = found.into_inner().room.expect("a room").room_id;
    suite.roster.break_rpc("CloseRoster", OUTAGE);
    for room_id in ["g", &old] {
        let cut = ann.rooms.delete_room(delete(room_id, "")).await;
        refused(cut, Reason::MembershipUnavailable);
    }
    let reply = bob.rooms.create_room(group("g", &[])).await;
    refused(reply, Reason::MembershipUnavailable);
    suite.roster.mend("CloseRoster");
    assert_eq!(create(&mut bob, group("g", &[])).await.creator_user_id, "bob");
    let found = bob.rooms.get_or_create_channel(channel("news")).await.expect("created");
    assert!(found.get_ref().created);
    assert_ne!(found.into_inner().room.expect("a room").room_id, old);
}

async fn a_room_in_deletion_is_gone(db: Db) {
    let suite = Harness::new(db).await;
    let mut ann = suite.user("ann");
    let room = create(&mut ann, group("g", &[])).await;
    suite.roster.break_rpc("CloseRoster", OUTAGE);
    let cut = ann.rooms.delete_room(delete("g", "")).await;
    refused(cut, Reason::MembershipUnavailable);
    refused(ann.rooms.get_room(get("g")).await, Reason::RoomNotFound);
    let changed = ann.rooms.update_room(update(room, "name", "")).await;
    refused(changed, Reason::RoomNotFound);
}

async fn rules_that_were_not_pushed_are_pushed_by_the_janitor(db: Db) {
    let suite = Harness::new(db).await;
    let mut ann = suite.user("ann");
    let mut room = create(&mut ann, group("g", &[])).await;
    room.settings.as_mut().expect("settings").capacity = 5;
    suite.roster.break_rpc("SetRosterRules", OUTAGE);
    let cut = ann.rooms.update_room(update(room.clone(), "settings.capacity", "r1")).await;
    refused(cut, Reason::MembershipUnavailable);
    // It is decided: a repeat says OK only when it holds.
    room.etag = String::new();
    let repeat = ann.rooms.update_room(update(room, "settings.capacity", "r2")).await;
    refused(repeat, Reason::MembershipUnavailable);
    suite.roster.mend("SetRosterRules");
    suite.clock.advance(6 * SECOND);
    suite.run();
    eventually(|| async { suite.roster.of("g").1.rules.capacity == 5 }).await;
    suite.stop().await;
}

async fn an_update_that_the_log_did_not_hear_of_is_relayed(db: Db) {
    let suite = Harness::new(db).await;
    let mut ann = suite.user("ann");
    let mut room = create(&mut ann, group("g", &[])).await;
    room.name = "New".into();
    suite.logs.state().down = true;
    let cut = ann.rooms.update_room(update(room.clone(), "name", "r1")).await;
    refused(cut, Reason::LogUnavailable);
    let repeat = ann.rooms.update_room(update(room.clone(), "name", "r1")).await;
    refused(repeat, Reason::LogUnavailable);
    suite.logs.state().down = false;
    suite.run();
    let (log_id, _) = suite.roster.of("g");
    eventually(|| async { suite.logs.updates(&log_id).len() == 1 }).await;
    suite.stop().await;
    let repeat = ann.rooms.update_room(update(room, "name", "r1")).await.expect("a repeat");
    assert_eq!(repeat.into_inner().room.expect("a room").name, "New");
    assert_eq!(suite.logs.updates(&log_id).len(), 1);
}
