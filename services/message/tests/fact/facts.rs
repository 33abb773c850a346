//! Facts of the services above on their way into a log.

use parlance_db::{Db, test_on_each_db, testing};
use parlance_log::{Applied, Fact, History, MemberRule, Role, RoomKind, Source};
use parlance_message::{Error, MIGRATIONS};
use parlance_proto::message::v1 as pb;
use parlance_proto::message::v1::MemberRole;
use parlance_rpc::Reason;
use parlance_rpc::testing::eventually;
use parlance_types::{LogId, RoomId, Seq};
use uuid::Uuid;

use crate::rooms::{closed, gained, grant, lost, plan, role, updated};
use crate::world::{World, facts, refused, tenant, user};

test_on_each_db!(parlance_message::MIGRATIONS =>
    the_first_fact_creates_the_log,
    facts_are_applied_once_and_in_order,
    a_gap_is_told_and_changes_nothing,
    each_source_has_a_version_of_its_own,
    a_closed_log_counts_facts_and_stores_nothing,
    a_room_id_is_taken_until_its_log_is_closed,
    a_log_that_is_not_there_can_only_be_created,
    a_fact_must_hold_events_that_are_not_messages,
    effects_are_obeyed,
    a_hundred_users_join_and_leave_in_one_event,
);

async fn the_first_fact_creates_the_log(db: Db) {
    let world = World::open(db).await;
    let log_id = LogId(Uuid::now_v7());
    let channel = plan("r").kind(pb::RoomKind::Channel).owned(&["ann", "bob"]);
    let batch = channel.admins_post().allow_preview().since_join().fact(log_id);
    let applied = Applied { applied: 1, head: 2, closed: false };
    assert_eq!(world.store.apply(batch.clone()).await.expect("created"), applied);
    assert_eq!(world.store.apply(batch).await.expect("a repeat"), applied);

    let ann = user("ann");
    let view = world.store.view(log_id, Some(&ann)).await.expect("a view").expect("a log");
    assert_eq!((view.room_id.as_str(), view.kind), ("r", RoomKind::Channel));
    assert_eq!((view.head, view.first_seq, view.closed), (2, 1, None));
    assert_eq!((view.rules.post, view.rules.allow_preview), (MemberRule::Admins, true));
    assert_eq!(view.rules.history, History::SinceJoin);
    let member = view.member.expect("a member");
    assert_eq!((member.role, member.joined), (Role::Owner, 2));
    let view = world.store.view(log_id, Some(&user("eve"))).await.expect("a view");
    assert_eq!(view.expect("a log").member, None);
    let listed = world.unreads(&tenant(), &ann).await;
    assert_eq!((listed.len(), listed[0].log_id, listed[0].room_id.as_str()), (1, log_id, "r"));
    assert_eq!(world.store.view(LogId(Uuid::now_v7()), None).await.expect("a view"), None);
}

async fn facts_are_applied_once_and_in_order(db: Db) {
    let world = World::open(db).await;
    let log_id = world.group("r", &["ann"]).await;
    let three = [(2, gained("bob")), (3, lost("bob")), (4, gained("bob"))];
    let two = world.store.apply(facts(log_id, &three[..2])).await.expect("applied");
    assert_eq!(two, Applied { applied: 3, head: 4, closed: false });
    for _ in 0..2 {
        let all = world.store.apply(facts(log_id, &three)).await.expect("applied");
        assert_eq!(all, Applied { applied: 4, head: 5, closed: false });
        let old = world.store.apply(facts(log_id, &three[..1])).await.expect("applied");
        assert_eq!(old, all);
        assert_eq!(world.store.apply(facts(log_id, &[])).await.expect("applied"), all);
    }
    let view = world.store.view(log_id, Some(&user("bob"))).await.expect("a view");
    assert_eq!(view.and_then(|view| view.member).expect("a member").joined, 5);
}

async fn a_gap_is_told_and_changes_nothing(db: Db) {
    let world = World::open(db).await;
    let log_id = world.group("r", &["ann"]).await;
    for versions in [vec![3], vec![2, 4], vec![1, 3]] {
        let effects: Vec<_> = versions.iter().map(|version| (*version, gained("bob"))).collect();
        let gap = world.store.apply(facts(log_id, &effects)).await;
        assert!(matches!(gap, Err(Error::FactGap { applied: 1 })), "{versions:?}: {gap:?}");
    }
    assert_eq!(world.head(log_id).await, 2);
    assert!(world.fact(log_id, 2, gained("bob")).await.is_ok());
}

async fn each_source_has_a_version_of_its_own(db: Db) {
    let world = World::open(db).await;
    let log_id = world.group("r", &["ann"]).await;
    let mut room = facts(log_id, &[(1, pb::Effects::default())]);
    room.source = Source::Room;
    let applied = Applied { applied: 1, head: 3, closed: false };
    assert_eq!(world.store.apply(room.clone()).await.expect("applied"), applied);
    assert_eq!(world.store.apply(room).await.expect("applied"), applied);
    let next = world.fact(log_id, 2, gained("bob")).await.expect("applied");
    assert_eq!(next, Applied { applied: 2, head: 4, closed: false });
}

async fn a_closed_log_counts_facts_and_stores_nothing(db: Db) {
    let world = World::open(db).await;
    let log_id = world.group("r", &["ann"]).await;
    let late = [(2, closed()), (3, gained("bob"))];
    let applied = world.store.apply(facts(log_id, &late)).await.expect("applied");
    assert_eq!(applied, Applied { applied: 3, head: 3, closed: true });
    let applied = world.fact(log_id, 4, gained("bob")).await.expect("applied");
    assert_eq!(applied, Applied { applied: 4, head: 3, closed: true });
    let gap = world.fact(log_id, 6, gained("bob")).await;
    assert!(matches!(gap, Err(Error::FactGap { applied: 4 })), "{gap:?}");
    assert_eq!(world.store.events(log_id, 0, Seq::MAX).await.expect("events").len(), 3);
    assert_eq!(world.unreads(&tenant(), &user("ann")).await, []);
    assert_eq!(world.unread("ann", log_id).await, None);
    let head = world.store.heads(&[log_id]).await.expect("heads").remove(0);
    assert_eq!(head.head, 3);
}

async fn a_room_id_is_taken_until_its_log_is_closed(db: Db) {
    let world = World::open(db).await;
    let first = world.group("r", &["ann", "bob"]).await;
    world.send(first, "ann", "id", "of the first life").await.expect("sent");
    let second = LogId(Uuid::now_v7());
    let batch = plan("r").owned(&["ann"]).fact(second);
    refused(world.store.apply(batch.clone()).await, Reason::RoomIdTaken);
    assert_eq!(world.store.view(second, None).await.expect("a view"), None, "nothing is left");
    let room_id = RoomId::new("r");
    assert_eq!(world.store.resolve(&tenant(), &room_id).await.expect("a log"), Some(first));

    world.fact(first, 2, closed()).await.expect("closed");
    assert_eq!(world.store.resolve(&tenant(), &room_id).await.expect("a log"), Some(first));
    world.store.apply(batch).await.expect("created");
    assert_eq!(world.store.resolve(&tenant(), &room_id).await.expect("a log"), Some(second));
    // Nothing of the old life has effect in the new one.
    let sent = world.send(second, "ann", "id", "of the second life").await.expect("sent");
    assert_eq!(sent.message_id.seq, 3);
    refused(world.send(second, "bob", "id", "x").await, Reason::NotAMember);
    assert!(world.fact(first, 3, gained("eve")).await.expect("counted").closed);
}

async fn a_log_that_is_not_there_can_only_be_created(db: Db) {
    let world = World::open(db).await;
    let log_id = LogId(Uuid::now_v7());
    let mut room = facts(log_id, &[(1, pb::Effects::default())]);
    room.source = Source::Room;
    refused(world.store.apply(room).await, Reason::LogNotFound);
    let later = world.fact(log_id, 2, gained("bob")).await;
    assert!(matches!(later, Err(Error::FactGap { applied: 0 })), "{later:?}");
    let nameless = world.fact(log_id, 1, gained("bob")).await;
    assert!(matches!(nameless, Err(Error::Invalid { .. })), "{nameless:?}");
    refused(world.store.apply(facts(log_id, &[])).await, Reason::LogNotFound);
}

async fn a_fact_must_hold_events_that_are_not_messages(db: Db) {
    let world = World::open(db).await;
    let log_id = world.group("r", &["ann"]).await;
    let message = parlance_log::testing::sent(None, "x");
    for payload in [message, bytes::Bytes::from_static(b"\xff")] {
        let mut batch = facts(log_id, &[]);
        batch.facts = vec![Fact {
            version: 2,
            events: vec![updated(gained("bob")), payload],
            ..Fact::default()
        }];
        let refused = world.store.apply(batch).await;
        assert!(matches!(refused, Err(Error::Invalid { .. })), "{refused:?}");
    }
    assert_eq!(world.head(log_id).await, 2);
}

async fn effects_are_obeyed(db: Db) {
    let world = World::open(db).await;
    let log_id = world.group("r", &["ann", "bob"]).await;
    let member = async |id: &str| {
        let view = world.store.view(log_id, Some(&user(id))).await.expect("a view");
        view.expect("a log").member.map(|member| (member.role, member.joined))
    };
    world.fact(log_id, 2, role("bob", MemberRole::Admin)).await.expect("applied");
    assert_eq!(member("bob").await, Some((Role::Admin, 2)));
    world.fact(log_id, 3, lost("bob")).await.expect("applied");
    assert_eq!(member("bob").await, None);
    world.fact(log_id, 4, role("bob", MemberRole::Owner)).await.expect("applied");
    assert_eq!(member("bob").await, None, "a role makes nobody a member");
    world.fact(log_id, 5, gained("bob")).await.expect("applied");
    assert_eq!(member("bob").await, Some((Role::Member, 6)));
    let users = [(tenant(), user("bob")), (tenant(), user("ann")), (tenant(), user("eve"))];
    assert_eq!(world.store.user_heads(&users).await.expect("heads"), [3, 1, 0]);
}

async fn a_hundred_users_join_and_leave_in_one_event(db: Db) {
    let world = World::open(db).await;
    let log_id = world.group("r", &["ann"]).await;
    let names: Vec<String> = (0..100).map(|n| format!("user-{n}")).collect();
    let gained = pb::Effects {
        // One of them twice: the last word counts.
        gained: names
            .iter()
            .chain(&names[..1])
            .map(|name| grant(name, MemberRole::Member))
            .collect(),
        ..pb::Effects::default()
    };
    world.fact(log_id, 2, gained).await.expect("applied");
    for name in ["user-0", "user-99"] {
        assert!(world.send(log_id, name, "id", "x").await.is_ok());
    }
    let lost = pb::Effects { lost_user_ids: names, ..pb::Effects::default() };
    world.fact(log_id, 3, lost).await.expect("applied");
    refused(world.send(log_id, "user-99", "new", "x").await, Reason::NotAMember);
    assert_eq!(world.head(log_id).await, 6);
}

/// An epoch that begins while a log is created: the log begins in one of the two.
#[tokio::test]
async fn a_log_begins_in_one_epoch() {
    testing::on_postgres(MIGRATIONS, async |db: Db| {
        let world = World::open(db.clone()).await;
        world.group("other", &["ann"]).await;
        let log_id = LogId(Uuid::now_v7());
        // The creation has read the epoch, and waits for this row.
        let mut before = db.begin().await.expect("a transaction");
        let insert = "INSERT INTO heads SELECT (jsonb_populate_record(
                          h, jsonb_build_object('log_id', $1::uuid))).* FROM heads h";
        before.query(insert).bind(log_id.0).execute().await.expect("a row");
        let batch = plan("r").owned(&["ann"]).fact(log_id);
        let bump = async {
            eventually(|| async {
                let waits = "SELECT COUNT(*) FROM pg_stat_activity
                              WHERE wait_event = 'transactionid' AND query LIKE '%INTO heads%'
                                AND pid IN (SELECT pid FROM pg_locks
                                             WHERE relation = 'heads'::regclass)";
                db.read(waits).fetch_one::<(i64,)>().await.expect("a count").0 == 1
            })
            .await;
            world.store.bump_epoch("a test").await.expect("an epoch");
            before.rollback().await.expect("rolled back");
        };
        let (created, ()) = tokio::join!(world.store.apply(batch), bump);
        created.expect("created");
        let epochs = "SELECT COUNT(*) FROM log_epochs WHERE log_id = $1 AND first_seq = 1";
        let epochs = db.read(epochs).bind(log_id.0).fetch_one::<(i64,)>().await;
        assert_eq!(epochs.expect("a count").0, 1);
        let epoch = world.say(log_id, "ann", "x").await.epoch;
        assert_eq!(epoch, world.store.epoch().await.expect("an epoch"));
    })
    .await;
}
