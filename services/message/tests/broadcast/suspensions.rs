//! Users who are kept out of everything, broadcasts among it.

use parlance_db::{Db, test_on_each_db, testing};
use parlance_message::MIGRATIONS;
use parlance_proto::message::v1 as pb;
use parlance_rpc::Reason;
use parlance_rpc::testing::eventually;
use parlance_types::Micros;
use tonic::Status;

use super::contacts::{CALLS, broadcast, place, places};
use crate::harness::{TENANT, World, refused, send, unread};
use crate::rooms::Own;
use crate::stream::harness::{Reader, all_rooms, latest};

test_on_each_db!(parlance_message::MIGRATIONS =>
    who_is_suspended_is_refused_whatever_the_first_contact_is,
    a_first_contact_takes_all_that_was_said_of_the_user,
    streams_of_a_broadcast_end_with_a_suspension,
);

const MINUTE: Micros = 60_000_000;

fn is_suspended<T: std::fmt::Debug>(answer: Result<T, Status>) {
    refused(answer.map(tonic::Response::new), Reason::Suspended);
}

async fn who_is_suspended_is_refused_whatever_the_first_contact_is(db: Db) {
    let world = World::open(db).await;
    let room = broadcast(&world, "news").await;
    let message = send(&mut world.backend(), "news", "one").await.message_id;
    // A stream says it at its end.
    let calls: Vec<_> = CALLS.iter().filter(|(what, _)| !what.starts_with("Subscribe")).collect();
    for (what, call) in &calls {
        let own = Own::of(&world, what);
        own.suspend(MINUTE).await;
        for _ in 0..2 {
            is_suspended(call(&world, what, &message).await);
        }
        own.suspend(0).await;
        call(&world, what, &message).await.expect(what);
    }
    let mut all: Vec<_> = calls.iter().map(|(what, _)| place(what, 3)).collect();
    all.sort();
    assert_eq!(places(&world, room.log_id).await, all, "they kept their places meanwhile");
}

async fn a_first_contact_takes_all_that_was_said_of_the_user(db: Db) {
    let world = World::open(db).await;
    let room = broadcast(&world, "news").await;
    let own = Own::of(&world, "ann");
    own.block("bob", true).await;
    own.suspend(MINUTE).await;
    for user in ["ann", "bob"] {
        drop(world.user(user).inbox.get_unread(pb::GetUnreadRequest::default()).await);
    }
    let select = "SELECT user_id, said, suspended_until, has_blocks FROM members
                  WHERE log_id = $1 ORDER BY user_id";
    let select = world.service.store().db().read(select).bind(room.log_id.0);
    let rows: Vec<(String, i64, Micros, bool)> = select.fetch_all().await.expect("rows");
    assert_eq!(rows, [("ann".to_owned(), 2, MINUTE, true), ("bob".to_owned(), 0, 0, false)]);
    // Bob has never been in another room, and is told the first thing that is said of him.
    Own::of(&world, "bob").suspend(MINUTE).await;
    is_suspended(world.user("bob").inbox.get_unread(pb::GetUnreadRequest::default()).await);
}

/// A stream ends because its user is suspended.
async fn ends(mut reader: Reader) {
    loop {
        match reader.read().await {
            Ok(Some(_)) => {}
            Ok(None) => panic!("an end without a reason"),
            Err(status) => return is_suspended(Err::<(), _>(status)),
        }
    }
}

async fn streams_of_a_broadcast_end_with_a_suspension(db: Db) {
    let world = World::open(db).await;
    broadcast(&world, "news").await;
    let follow = || world.subscribe(world.user("bob"), all_rooms(pb::StreamStart::Latest));
    let mut all = follow().await;
    let mut named = world.subscribe(world.user("bob"), latest(&["news"])).await;
    let mut others = world.subscribe(world.user("ann"), latest(&["news"])).await;
    for reader in [&mut all, &mut named, &mut others] {
        reader.all_caught_up(1).await;
    }
    let own = Own::of(&world, "bob");
    own.suspend(MINUTE).await;
    ends(all).await;
    ends(named).await;
    // The broadcast is all that tells it to a stream that begins.
    ends(follow().await).await;
    let sent = send(&mut world.backend(), "news", "on").await;
    assert_eq!(others.event().await.seq, sent.seq);
    own.suspend(0).await;
    assert_eq!(unread(&mut world.user("bob")).await, 1);
}

/// What is said of a user while the row is made that is to say it, too: nobody else will write
/// it there, for the rows that there were are written.
#[tokio::test]
async fn a_first_contact_waits_for_what_is_being_said() {
    testing::on_postgres(MIGRATIONS, async |db: Db| {
        let world = World::open(db.clone()).await;
        broadcast(&world, "news").await;
        let mut saying = db.begin().await.expect("a transaction");
        let say =
            "INSERT INTO user_heads (tenant_id, user_id, version, suspended_until, said, spread)
                   VALUES ($1, 'ann', 1, $2, 1, 1)";
        saying.query(say).bind(TENANT).bind(MINUTE).execute().await.expect("said");
        let mut ann = world.user("ann");
        let contact = ann.inbox.get_unread(pb::GetUnreadRequest::default());
        let said = async {
            eventually(|| async {
                let waits = "SELECT COUNT(*) FROM pg_stat_activity
                              WHERE wait_event = 'transactionid'
                                AND query LIKE '%INTO user_heads%'
                                AND pid IN (SELECT pid FROM pg_locks
                                             WHERE relation = 'user_heads'::regclass)";
                db.read(waits).fetch_one::<(i64,)>().await.expect("a count").0 == 1
            })
            .await;
            saying.commit().await.expect("committed");
        };
        let (read, ()) = tokio::join!(contact, said);
        is_suspended(read);
    })
    .await;
}
