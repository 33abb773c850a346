//! Messages on their way into a log.

use std::collections::{BTreeMap, BTreeSet};

use futures::future::join_all;
use parlance_db::{Db, test_on_each_db};
use parlance_log::{Actor, Options};
use parlance_message::Error;
use parlance_message::message::{Content, Edit};
use parlance_proto::message::v1::{MemberRole, RoomKind};
use parlance_rpc::Reason;
use parlance_types::{LogId, RequestId, Seq, TenantId};
use uuid::Uuid;

use crate::rooms::{closed, gained, lost, only_admins_post, plan, role, ruled};
use crate::world::{World, content, draft, facts, named, options, refused, tenant, user};

test_on_each_db!(parlance_message::MIGRATIONS =>
    messages_are_numbered_without_gaps_in_the_order_they_were_acknowledged,
    a_crowd_of_senders_in_many_rooms_leaves_no_gap,
    a_repeat_gets_the_first_reply_and_burns_no_number,
    a_repeat_is_found_before_rights_are_judged,
    a_request_id_with_another_payload_is_refused,
    equal_payloads_are_equal_however_they_were_written,
    request_ids_are_of_one_sender_and_one_room,
    strangers_closed_rooms_and_post_rules_are_refused_each_for_its_reason,
    a_refused_entry_leaves_the_rest_of_its_batch_alone,
    the_system_needs_no_membership,
    time_never_falls_within_a_room,
    what_is_stored_is_published_once_and_in_order,
    an_entry_that_the_database_cannot_take_fails_alone,
    a_full_queue_refuses_at_once,
    a_closed_store_finishes_what_waits_and_refuses_the_rest,
    two_tenants_with_equal_ids_do_not_meet,
);

/// Guarantees 2 and 4.
async fn messages_are_numbered_without_gaps_in_the_order_they_were_acknowledged(db: Db) {
    let world = World::open(db).await;
    let log_id = world.group("r", &["ann", "bob"]).await;
    for seq in 3..20 {
        let sent = world.say(log_id, if seq % 2 == 0 { "ann" } else { "bob" }, "hello").await;
        assert_eq!((sent.message_id.log_id, sent.message_id.seq), (log_id, seq));
        assert_eq!(sent.epoch, world.store.epoch().await.expect("an epoch"));
    }
    let events = world.store.events(log_id, 0, Seq::MAX).await.expect("events");
    let seqs: Vec<Seq> = events.iter().map(|event| event.seq).collect();
    assert_eq!(seqs, (1..20).collect::<Vec<_>>());
}

async fn a_crowd_of_senders_in_many_rooms_leaves_no_gap(db: Db) {
    let world = World::open(db).await;
    let mut logs = Vec::new();
    for room in 0..5 {
        logs.push(world.group(&room.to_string(), &["ann", "bob"]).await);
    }
    let sends = (0..200).map(|n| {
        let sender = if n % 3 == 0 { "ann" } else { "bob" };
        world.append(draft(logs[n % 5], sender, Some(&format!("id-{n}")), "x"))
    });
    let sent: Vec<_> = join_all(sends).await.into_iter().map(|sent| sent.expect("sent")).collect();
    for (room, log_id) in logs.into_iter().enumerate() {
        let of_room: Vec<Seq> =
            sent.iter().skip(room).step_by(5).map(|sent| sent.message_id.seq).collect();
        // What one sender queued in this order is stored in this order.
        for sender in [0, 1] {
            let is_of = |at: &usize| usize::from((room + 5 * at).is_multiple_of(3)) == sender;
            assert!((0..of_room.len()).filter(is_of).map(|at| of_room[at]).is_sorted());
        }
        let seqs: Vec<Seq> = of_room.into_iter().collect::<BTreeSet<_>>().into_iter().collect();
        assert_eq!(seqs, (3..43).collect::<Vec<_>>());
        assert_eq!(world.head(log_id).await, 42);
    }
}

/// Guarantee 3.
async fn a_repeat_gets_the_first_reply_and_burns_no_number(db: Db) {
    let world = World::open(db).await;
    let log_id = world.group("r", &["ann"]).await;
    let first = world.send(log_id, "ann", "id", "hello").await.expect("sent");
    world.store.bump_epoch("test").await.expect("an epoch");
    world.clock.advance(5_000_000);
    // Alone, and twice in what may be one batch.
    assert_eq!(world.send(log_id, "ann", "id", "hello").await.expect("sent"), first);
    let again = join_all((0..4).map(|_| world.send(log_id, "ann", "id", "hello"))).await;
    assert!(again.into_iter().all(|sent| sent.expect("sent") == first));
    assert_eq!(world.head(log_id).await, 3);
    let twins = join_all((0..4).map(|_| world.send(log_id, "ann", "new", "hello"))).await;
    let seqs: Vec<Seq> = twins.into_iter().map(|sent| sent.expect("sent").message_id.seq).collect();
    assert_eq!(seqs, [4; 4]);
}

async fn a_repeat_is_found_before_rights_are_judged(db: Db) {
    let world = World::open(db).await;
    let log_id = world.group("r", &["ann", "bob"]).await;
    let first = world.send(log_id, "bob", "id", "hello").await.expect("sent");
    let steps = [ruled(only_admins_post()), lost("bob"), closed()];
    for (version, effects) in (2..).zip(steps) {
        world.fact(log_id, version, effects).await.expect("a fact");
        assert_eq!(world.send(log_id, "bob", "id", "hello").await.expect("sent"), first);
        refused(world.send(log_id, "bob", "id", "other").await, Reason::RequestIdReused);
        assert!(world.send(log_id, "bob", "new", "hello").await.is_err());
    }
}

async fn a_request_id_with_another_payload_is_refused(db: Db) {
    let world = World::open(db).await;
    let log_id = world.group("r", &["ann"]).await;
    let twins = ["one", "two"].map(|text| world.send(log_id, "ann", "id", text));
    let mut twins = join_all(twins).await;
    refused(twins.remove(1), Reason::RequestIdReused);
    assert!(twins[0].is_ok());
    let mut uncounted = draft(log_id, "ann", Some("id"), "one");
    uncounted.uncounted = true;
    refused(world.append(uncounted).await, Reason::RequestIdReused);
    assert_eq!(world.head(log_id).await, 3);
}

async fn equal_payloads_are_equal_however_they_were_written(db: Db) {
    let world = World::open(db).await;
    let log_id = world.group("r", &["ann"]).await;
    let write = |kind: &str, pairs: [(&str, &str); 2]| {
        let properties: BTreeMap<_, _> =
            pairs.into_iter().map(|(key, value)| (key.to_owned(), value.to_owned())).collect();
        let mut draft = draft(log_id, "ann", Some("id"), "x");
        draft.content =
            Content::parse(kind.to_owned(), "x".to_owned(), properties, None).expect("a content");
        draft
    };
    let first = world.append(write("", [("a", "1"), ("b", "2")])).await.expect("sent");
    let again = world.append(write("text", [("b", "2"), ("a", "1")])).await.expect("sent");
    assert_eq!(first, again);
}

async fn request_ids_are_of_one_sender_and_one_room(db: Db) {
    let world = World::open(db).await;
    let (one, two) = (world.group("1", &["ann", "bob"]).await, world.group("2", &["ann"]).await);
    for (log_id, sender, seq) in [(one, "ann", 3), (one, "bob", 4), (one, "", 5), (two, "ann", 3)] {
        let sent = world.send(log_id, sender, "id", "hello").await.expect("sent");
        assert_eq!(sent.message_id.seq, seq);
    }
}

async fn strangers_closed_rooms_and_post_rules_are_refused_each_for_its_reason(db: Db) {
    let world = World::open(db).await;
    let group = world.group("g", &["ann", "bob"]).await;
    let members = ["ann", "bob"];
    let direct = plan("d").kind(RoomKind::Direct).owned(&members).make(&world).await.log_id;
    let news = plan("n").kind(RoomKind::Channel).admins_post().owned(&members);
    let news = news.make(&world).await.log_id;

    refused(world.send(group, "eve", "1", "x").await, Reason::NotAMember);
    refused(world.send(direct, "eve", "1", "x").await, Reason::RoomNotFound);
    refused(world.send(LogId(Uuid::now_v7()), "ann", "1", "x").await, Reason::RoomNotFound);

    assert!(world.send(news, "ann", "1", "x").await.is_ok());
    refused(world.send(news, "bob", "1", "x").await, Reason::PostingRestricted);
    world.fact(news, 2, role("bob", MemberRole::Admin)).await.expect("a fact");
    assert!(world.send(news, "bob", "1", "x").await.is_ok());

    world.fact(group, 2, closed()).await.expect("a fact");
    for sender in ["ann", "eve", ""] {
        refused(world.send(group, sender, "2", "x").await, Reason::RoomNotFound);
    }
}

async fn a_refused_entry_leaves_the_rest_of_its_batch_alone(db: Db) {
    let world = World::open(db).await;
    let log_id = world.group("r", &["ann"]).await;
    let sends = (0..40).map(|n| {
        let sender = if n % 4 == 3 { "eve" } else { "ann" };
        world.append(draft(log_id, sender, None, "x"))
    });
    let sent = join_all(sends).await;
    for (n, sent) in sent.iter().enumerate() {
        assert_eq!(
            matches!(sent, Err(Error::Refused(Reason::NotAMember, _))),
            n % 4 == 3,
            "{sent:?}"
        );
    }
    assert_eq!(world.head(log_id).await, 32);
}

async fn the_system_needs_no_membership(db: Db) {
    let world = World::open(db).await;
    let log_id = world.group("r", &["ann"]).await;
    let sent = world.say(log_id, "", "maintenance at noon").await;
    let message = world.message(sent.message_id).await.expect("a message");
    assert_eq!(message.sender, None);
    assert_eq!(world.unread("ann", log_id).await, Some(1));
}

async fn time_never_falls_within_a_room(db: Db) {
    let world = World::open(db).await;
    let log_id = world.group("r", &["ann"]).await;
    let first = world.say(log_id, "ann", "1").await;
    world.clock.advance(-500_000);
    let second = world.say(log_id, "ann", "2").await;
    let edit = world.edit(second.message_id, "ann", "e", "3").await.expect("an edit");
    world.clock.advance(2_000_000);
    let third = world.say(log_id, "ann", "4").await;
    assert_eq!((first.time, second.time, edit.time), (1_000_000, 1_000_000, 1_000_000));
    assert_eq!(third.time, 2_500_000);
    let other = world.group("other", &["ann"]).await;
    world.clock.advance(-2_000_000);
    assert_eq!(world.say(other, "ann", "5").await.time, 2_500_000, "of the room's creation");
}

async fn what_is_stored_is_published_once_and_in_order(db: Db) {
    let world = World::open(db).await;
    let log_id = world.group("r", &["ann", "bob"]).await;
    join_all((0..50).map(|n| {
        world.append(draft(log_id, "ann", Some(&format!("{}", n % 40)), &(n % 40).to_string()))
    }))
    .await;
    let sent = world.say(log_id, "ann", "last").await;
    world.edit(sent.message_id, "ann", "e", "changed").await.expect("an edit");
    world.delete(sent.message_id, "ann").await.expect("a deletion");
    world.fact(log_id, 2, lost("bob")).await.expect("a fact");
    world.fact(log_id, 2, lost("bob")).await.expect("a repeat");

    let published = world.published.lock().expect("a lock").clone();
    let events: Vec<_> = published.iter().flat_map(|appended| appended.events.clone()).collect();
    let stored = world.store.events(log_id, 0, Seq::MAX).await.expect("events");
    let seqs = |events: &[parlance_log::StoredEvent]| {
        events.iter().map(|event| (event.seq, event.time)).collect::<Vec<_>>()
    };
    assert_eq!(seqs(&events), seqs(&stored));
    assert_eq!(stored.len(), 46);
    // The same bytes, but for what was deleted since.
    for (published, stored) in events.iter().zip(&stored).filter(|(event, _)| event.seq < 43) {
        assert_eq!(published.payload, stored.payload);
    }
    let users: Vec<_> = published.iter().flat_map(|appended| appended.users.clone()).collect();
    let users: Vec<_> = users.iter().map(ToString::to_string).collect();
    assert_eq!(users, ["ann", "bob", "bob"]);
}

/// Makes the database refuse events of one sender, as nothing that is known would.
pub(crate) async fn refuse_events_of(db: &Db, sender: &str) {
    let ddl = match db {
        Db::Sqlite(_) => format!(
            "CREATE TRIGGER refuse BEFORE INSERT ON events WHEN NEW.sender_id = '{sender}'
             BEGIN SELECT RAISE(ABORT, 'refused'); END"
        ),
        Db::Postgres(_) => {
            format!(
                "ALTER TABLE events ADD CONSTRAINT refuse CHECK (sender_id <> '{sender}') NOT VALID"
            )
        }
    };
    db.write(parlance_db::AssertSqlSafe(ddl)).execute().await.expect("refusing");
}

async fn an_entry_that_the_database_cannot_take_fails_alone(db: Db) {
    let world = World::open(db).await;
    let log_id = world.group("r", &["ann", "bob"]).await;
    refuse_events_of(&world.db, "bob").await;
    let sends = (0..50).map(|n| {
        let sender = if n % 10 == 7 { "bob" } else { "ann" };
        world.append(draft(log_id, sender, None, "x"))
    });
    let mut seqs = Vec::new();
    for (n, sent) in join_all(sends).await.into_iter().enumerate() {
        assert_eq!(matches!(sent, Err(Error::Store(_))), n % 10 == 7, "{sent:?}");
        seqs.extend(sent.ok().map(|sent| sent.message_id.seq));
    }
    assert_eq!(seqs, (3..48).collect::<Vec<_>>());
}

async fn a_full_queue_refuses_at_once(db: Db) {
    let world = World::with(db, Options { queue: 4, writers: 1, ..options() }).await;
    let log_id = world.group("r", &["ann"]).await;
    let sent = join_all((0..20).map(|_| world.append(draft(log_id, "ann", None, "x")))).await;
    let stored = sent.iter().filter(|sent| sent.is_ok()).count();
    let refused = sent
        .iter()
        .filter(|sent| matches!(sent, Err(Error::Refused(Reason::Overloaded, _))))
        .count();
    assert_eq!((stored, refused), (4, 16));
    assert!(world.send(log_id, "ann", "later", "x").await.is_ok());
}

async fn a_closed_store_finishes_what_waits_and_refuses_the_rest(db: Db) {
    let world = World::open(db).await;
    let log_id = world.group("r", &["ann"]).await;
    let sends = (0..20).map(|_| world.append(draft(log_id, "ann", None, "x")));
    let (sent, ()) = tokio::join!(join_all(sends), world.store.close());
    assert!(sent.iter().all(Result::is_ok), "{sent:?}");
    refused(world.send(log_id, "ann", "late", "x").await, Reason::Draining);
    assert_eq!(world.head(log_id).await, 22);
}

/// Guarantee 11.
async fn two_tenants_with_equal_ids_do_not_meet(db: Db) {
    let world = World::open(db).await;
    let (acme, zeta) = (tenant(), TenantId::new("zeta"));
    let one = world.group("r", &["ann"]).await;
    let two = plan("r").of_tenant("zeta").owned(&["ann"]).make(&world).await.log_id;
    world.say(one, "", "for acme").await;
    let room_id = parlance_types::RoomId::new("r");
    assert_eq!(world.store.resolve(&acme, &room_id).await.expect("a log"), Some(one));
    assert_eq!(world.store.resolve(&zeta, &room_id).await.expect("a log"), Some(two));
    let ann = user("ann");
    let unread = world.unreads(&zeta, &ann).await;
    assert_eq!((unread.len(), unread[0].log_id, unread[0].unread), (1, two, 0));
    let heads = world.store.user_heads(&[(acme, ann.clone()), (zeta.clone(), ann)]).await;
    assert_eq!(heads.expect("heads"), [1, 1]);
    // A foreign tenant cannot change what it can name.
    let sent = world.say(one, "ann", "mine").await;
    let edit = Edit {
        actor: Actor { tenant_id: zeta, user: named("ann") },
        message_id: sent.message_id,
        request: Some(RequestId::new("e")).into(),
        content: content("theirs"),
        instead: None,
    };
    refused(world.store.run(edit).await, Reason::MessageNotFound);
    let mut foreign = facts(one, &[(2, gained("eve"))]);
    foreign.tenant_id = TenantId::new("zeta");
    refused(world.store.apply(foreign).await, Reason::LogNotFound);
}
