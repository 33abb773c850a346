//! Slow mode, and how long senders may edit and delete: what binds members who are neither
//! owners nor admins.

use futures::future::join_all;
use parlance_db::{Db, test_on_each_db};
use parlance_message::Error;
use parlance_proto::message::v1 as pb;
use parlance_proto::message::v1::{LogRules, MemberRole};
use parlance_rpc::Reason;
use parlance_types::Micros;
use tonic_types::StatusExt as _;

use crate::harness::{Client, World, delete, edit, editing, refused, saying, send};
use crate::rooms::{Room, plan};
use crate::world::{World as Logs, draft, options, reopen};

test_on_each_db!(parlance_message::MIGRATIONS =>
    in_slow_mode_a_member_waits_after_each_message,
    owners_admins_and_the_system_do_not_wait,
    a_repeat_is_not_judged_by_slow_mode,
    slow_mode_begins_and_ends_with_the_rules,
    of_many_sends_at_once_on_two_replicas_slow_mode_takes_one,
    a_sender_edits_for_the_edit_window_and_admins_at_any_time,
    a_sender_deletes_for_the_delete_window_and_admins_at_any_time,
);

const SECOND: Micros = 1_000_000;

fn seconds(seconds: i64) -> prost_types::Duration {
    prost_types::Duration { seconds, nanos: 0 }
}

/// A group of Ann's, with Amy as admin and Bob and Mia as members, under some rules.
async fn lobby(world: &World, rules: LogRules) -> Room {
    let room = plan("lobby").owned(&["ann", "bob", "mia"]).member("amy", MemberRole::Admin);
    let room = room.make(world).await;
    room.set_rules(rules).await;
    room
}

fn slow() -> LogRules {
    LogRules { slow_mode: Some(seconds(30)), ..LogRules::default() }
}

fn deleting(message_id: &str) -> pb::DeleteMessageRequest {
    pb::DeleteMessageRequest { message_id: message_id.to_owned() }
}

/// B-053.
async fn in_slow_mode_a_member_waits_after_each_message(db: Db) {
    let world = World::open(db).await;
    lobby(&world, slow()).await;
    let (mut bob, mut mia) = (world.user("bob"), world.user("mia"));
    let one = send(&mut bob, "lobby", "one").await;
    world.clock.advance(10 * SECOND);
    let told = refused(bob.messages.send_message(saying("lobby", "two")).await, Reason::SlowMode);
    let wait = told.get_details_retry_info().and_then(|info| info.retry_delay);
    assert_eq!(wait.expect("a wait").as_secs(), 20);
    let for_bob = world.service_for("bob").messages.send_message(saying("lobby", "two")).await;
    refused(for_bob, Reason::SlowMode);
    // It is one member's wait, and for what is new: they edit and delete what is there.
    send(&mut mia, "lobby", "mine").await;
    edit(&mut bob, &one.message_id, "One").await;
    world.clock.advance(20 * SECOND - 1);
    refused(bob.messages.send_message(saying("lobby", "two")).await, Reason::SlowMode);
    world.clock.advance(1);
    send(&mut bob, "lobby", "two").await;
    // What is refused does not make the wait longer.
    refused(bob.messages.send_message(saying("lobby", "three")).await, Reason::SlowMode);
    world.clock.advance(30 * SECOND);
    send(&mut bob, "lobby", "three").await;
}

async fn owners_admins_and_the_system_do_not_wait(db: Db) {
    let world = World::open(db).await;
    let room = lobby(&world, slow()).await;
    for mut client in [world.user("ann"), world.user("amy"), world.backend()] {
        send(&mut client, "lobby", "one").await;
        send(&mut client, "lobby", "two").await;
    }
    room.set_role("amy", MemberRole::Member).await;
    let mut amy = world.user("amy");
    send(&mut amy, "lobby", "as a member").await;
    refused(amy.messages.send_message(saying("lobby", "again")).await, Reason::SlowMode);
}

async fn a_repeat_is_not_judged_by_slow_mode(db: Db) {
    let world = World::open(db).await;
    lobby(&world, slow()).await;
    let mut bob = world.user("bob");
    let request_id = "first".to_owned();
    let request = pb::SendMessageRequest { request_id, ..saying("lobby", "one") };
    let first = bob.messages.send_message(request.clone()).await.expect("sent").into_inner();
    let again = bob.messages.send_message(request).await.expect("a repeat").into_inner();
    assert_eq!(again, first);
}

async fn slow_mode_begins_and_ends_with_the_rules(db: Db) {
    let world = World::open(db).await;
    let room = lobby(&world, LogRules::default()).await;
    let mut bob = world.user("bob");
    send(&mut bob, "lobby", "one").await;
    send(&mut bob, "lobby", "two").await;
    room.set_rules(slow()).await;
    send(&mut bob, "lobby", "the first in slow mode").await;
    refused(bob.messages.send_message(saying("lobby", "x")).await, Reason::SlowMode);
    room.set_rules(LogRules::default()).await;
    send(&mut bob, "lobby", "three").await;
}

async fn of_many_sends_at_once_on_two_replicas_slow_mode_takes_one(db: Db) {
    let other = Logs::with(reopen(&db).await, options()).await;
    let logs = Logs::with(db, options()).await;
    let room = plan("lobby").owned(&["ann", "bob"]).make(&logs).await;
    room.set_rules(slow()).await;
    let sends = (0..20).map(|n| {
        let on = if n % 2 == 0 { &logs } else { &other };
        on.append(draft(room.log_id, "bob", None, &n.to_string()))
    });
    let sent = join_all(sends).await;
    assert_eq!(sent.iter().filter(|sent| sent.is_ok()).count(), 1);
    let slowed = |sent: &Result<_, Error>| matches!(sent, Err(Error::SlowMode { .. }));
    assert_eq!(sent.iter().filter(|sent| slowed(sent)).count(), 19, "{sent:?}");
}

/// B-107.
async fn a_sender_edits_for_the_edit_window_and_admins_at_any_time(db: Db) {
    let world = World::open(db).await;
    lobby(&world, LogRules { edit_window: Some(seconds(60)), ..LogRules::default() }).await;
    let clients = [world.user("ann"), world.user("amy"), world.backend(), world.user("bob")];
    let mut sent: Vec<(Client, String)> = Vec::new();
    for mut client in clients {
        let message_id = send(&mut client, "lobby", "one").await.message_id;
        sent.push((client, message_id));
    }
    let (mut bob, bobs) = sent.pop().expect("bob");
    world.clock.advance(60 * SECOND);
    let request_id = "edit".to_owned();
    let request = pb::EditMessageRequest { request_id, ..editing(&bobs, "two") };
    let edited = bob.messages.edit_message(request.clone()).await.expect("edited").into_inner();
    world.clock.advance(1);
    refused(bob.messages.edit_message(editing(&bobs, "three")).await, Reason::EditWindowOver);
    let again = bob.messages.edit_message(request).await.expect("a repeat").into_inner();
    assert_eq!(again, edited);
    for (mut client, message_id) in sent {
        edit(&mut client, &message_id, "two").await;
    }
    delete(&mut bob, &bobs).await;
}

/// B-107.
async fn a_sender_deletes_for_the_delete_window_and_admins_at_any_time(db: Db) {
    let world = World::open(db).await;
    lobby(&world, LogRules { delete_window: Some(seconds(60)), ..LogRules::default() }).await;
    let (mut ann, mut bob) = (world.user("ann"), world.user("bob"));
    let in_time = send(&mut bob, "lobby", "one").await.message_id;
    let late = send(&mut bob, "lobby", "two").await.message_id;
    let anns = send(&mut ann, "lobby", "three").await.message_id;
    world.clock.advance(60 * SECOND);
    let deleted = delete(&mut bob, &in_time).await;
    world.clock.advance(1);
    assert_eq!(delete(&mut bob, &in_time).await, deleted, "a repeat");
    refused(bob.messages.delete_message(deleting(&late)).await, Reason::DeleteWindowOver);
    edit(&mut bob, &late, "it may still be edited").await;
    delete(&mut world.user("amy"), &late).await;
    delete(&mut ann, &anns).await;
}
