//! Two stores over one database, each with connections of its own: what two replicas
//! do at once.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use futures::future::join_all;
use parlance_db::{Db, test_on_each_db};
use parlance_log::Sent;
use parlance_message::Error;
use parlance_message::mark::{Mark, Marks};
use parlance_proto::message::v1::MemberRole;
use parlance_rpc::Reason;
use parlance_types::{LogId, RoomId, Seq};
use tokio::sync::Notify;
use uuid::Uuid;

use crate::rooms::{closed, gained, lost, plan, role};
use crate::world::{World, draft, facts, reopen, tenant};

test_on_each_db!(parlance_message::MIGRATIONS =>
    what_is_accepted_from_a_member_lies_inside_the_membership,
    nothing_is_accepted_after_a_closing,
    marks_beside_appends_are_never_lost,
    two_versions_of_facts_may_cross,
    one_request_id_at_two_replicas_is_one_message,
    an_edit_beside_a_deletion_leaves_no_content,
    one_room_id_goes_to_one_of_two_logs,
    appends_of_two_replicas_in_many_rooms_do_not_deadlock,
);

const ROUNDS: i64 = 25;

/// Two replicas.
async fn replicas(db: Db) -> (World, World) {
    let other = reopen(&db).await;
    (World::open(db).await, World::open(other).await)
}

/// Sends until it is refused; the numbers of what was accepted. Tells `accepts` of it.
async fn send_until_refused(
    world: &World,
    log_id: LogId,
    sender: &str,
    accepts: &Notify,
) -> (Vec<Seq>, Error) {
    let mut accepted = Vec::new();
    loop {
        let sent = join_all((0..3).map(|_| world.append(draft(log_id, sender, None, "x")))).await;
        for sent in sent {
            match sent {
                Ok(Sent { message_id, .. }) => {
                    accepted.push(message_id.seq);
                    accepts.notify_one();
                }
                Err(error) => return (accepted, error),
            }
        }
    }
}

/// Guarantee 9: accepted from u, so strictly inside a membership.
async fn what_is_accepted_from_a_member_lies_inside_the_membership(db: Db) {
    let (one, two) = replicas(db).await;
    let log_id = one.group("r", &["ann"]).await;
    for round in 0..ROUNDS {
        let joined = one.fact(log_id, 2 * round + 2, gained("bob")).await.expect("a fact").head;
        let accepts = Notify::new();
        let removal = async {
            // Crossed with sends that are on their way already, in some rounds for certain.
            if round % 2 == 0 {
                accepts.notified().await;
            }
            one.say(log_id, "ann", "bye").await;
            one.fact(log_id, 2 * round + 3, lost("bob")).await.expect("a fact").head
        };
        let (removed, (accepted, error)) =
            tokio::join!(removal, send_until_refused(&two, log_id, "bob", &accepts));
        assert!(matches!(error, Error::Refused(Reason::NotAMember, _)), "{error:?}");
        assert!(accepted.iter().all(|seq| (joined + 1..removed).contains(seq)), "{accepted:?}");
    }
}

async fn nothing_is_accepted_after_a_closing(db: Db) {
    let (one, two) = replicas(db).await;
    for round in 0..ROUNDS {
        let log_id = one.group(&round.to_string(), &["ann"]).await;
        let accepts = Notify::new();
        let closing = async {
            if round % 2 == 0 {
                accepts.notified().await;
            }
            one.say(log_id, "", "closing time").await;
            one.fact(log_id, 2, closed()).await.expect("a fact").head
        };
        let (end, (accepted, error)) =
            tokio::join!(closing, send_until_refused(&two, log_id, "ann", &accepts));
        assert!(matches!(error, Error::Refused(Reason::RoomNotFound, _)), "{error:?}");
        assert!(accepted.iter().all(|seq| *seq < end), "{accepted:?} before {end}");
        assert_eq!(one.head(log_id).await, end);
    }
}

async fn marks_beside_appends_are_never_lost(db: Db) {
    let (one, two) = replicas(db).await;
    let mut logs = Vec::new();
    for room in 0..3 {
        logs.push(one.group(&room.to_string(), &["ann", "bob"]).await);
    }
    let done = AtomicBool::new(false);
    let sends = async {
        for _ in 0..ROUNDS {
            // Both answer, so both marks rise in the append.
            let sends = logs.iter().flat_map(|log_id| {
                ["ann", "bob"].map(|sender| one.append(draft(*log_id, sender, None, "x")))
            });
            for sent in join_all(sends).await {
                sent.expect("sent");
            }
        }
        done.store(true, Ordering::Relaxed);
    };
    let marks = async {
        let mut last = [0; 6];
        while !done.load(Ordering::Relaxed) {
            let marks = logs.iter().flat_map(|log_id| {
                ["ann", "bob"].map(|user_id| two.mark(*log_id, user_id, Mark::AllRead))
            });
            for (marks, last) in join_all(marks).await.into_iter().zip(&mut last) {
                let Marks { read, delivered, .. } = marks.expect("marks");
                assert!(read >= *last && delivered >= read);
                *last = read;
            }
            two.mark(logs[0], "ann", Mark::Delivered(1)).await.expect("marks");
        }
    };
    tokio::join!(sends, marks);
    for log_id in logs {
        for user_id in ["ann", "bob"] {
            two.mark(log_id, user_id, Mark::AllRead).await.expect("marks");
            assert_eq!(one.unread(user_id, log_id).await, Some(0));
        }
    }
}

async fn two_versions_of_facts_may_cross(db: Db) {
    let (one, two) = replicas(db).await;
    for round in 0..ROUNDS {
        let log_id = LogId(Uuid::now_v7());
        let room = round.to_string();
        let first = plan(&room).owned(&["ann"]).fact(log_id);
        let mut all = facts(log_id, &[(2, gained("bob")), (3, lost("bob"))]);
        all.facts.splice(0..0, first.facts.clone());
        all.identity.clone_from(&first.identity);
        // The later one may come first, and then brings the earlier ones along.
        let (alone, both, again) = tokio::join!(
            one.store.apply(first.clone()),
            two.store.apply(all.clone()),
            one.store.apply(all)
        );
        assert!(alone.expect("applied").applied >= 1);
        assert_eq!(both.expect("applied"), again.expect("applied"));
        assert_eq!(two.head(log_id).await, 4);
        // Without the earlier ones it is a gap or in order, never applied twice.
        let (next, ahead) =
            tokio::join!(one.fact(log_id, 4, gained("cas")), two.fact(log_id, 5, lost("cas")));
        assert!(next.expect("applied").applied >= 4);
        assert!(matches!(ahead, Ok(_) | Err(Error::FactGap { applied: 3 })), "{ahead:?}");
    }
}

async fn one_request_id_at_two_replicas_is_one_message(db: Db) {
    let (one, two) = replicas(db).await;
    let log_id = one.group("r", &["ann"]).await;
    for round in 0..ROUNDS {
        let id = round.to_string();
        let (a, b, c) = tokio::join!(
            one.send(log_id, "ann", &id, "x"),
            two.send(log_id, "ann", &id, "x"),
            two.send(log_id, "ann", &id, "other"),
        );
        // Whichever payload came first has the id.
        let c_first = c.is_ok();
        for same in [&a, &b] {
            assert_eq!(same.is_ok(), !c_first, "{same:?}");
        }
        if let (Ok(a), Ok(b)) = (a, b) {
            assert_eq!(a, b);
        }
        assert_eq!(one.head(log_id).await, 3 + round);
    }
}

async fn an_edit_beside_a_deletion_leaves_no_content(db: Db) {
    let (one, two) = replicas(db).await;
    let log_id = one.group("r", &["ann"]).await;
    for round in 0..ROUNDS {
        let sent = one.say(log_id, "ann", "secret").await.message_id;
        let id = round.to_string();
        let (edited, deleted) =
            tokio::join!(one.edit(sent, "ann", &id, "secret, too"), two.delete(sent, "ann"));
        deleted.expect("deleted");
        assert!(
            matches!(edited, Ok(_) | Err(Error::Refused(Reason::MessageDeleted, _))),
            "{edited:?}"
        );
    }
    let events = one.store.events(log_id, 0, Seq::MAX).await.expect("events");
    let secret = |payload: &[u8]| payload.windows(6).any(|bytes| bytes == b"secret");
    assert!(!events.iter().any(|event| secret(&event.payload)));
}

async fn one_room_id_goes_to_one_of_two_logs(db: Db) {
    let (one, two) = replicas(db).await;
    for round in 0..ROUNDS {
        let room = round.to_string();
        let logs = [LogId(Uuid::now_v7()), LogId(Uuid::now_v7())];
        let create = |world: &World, log_id| {
            let batch = plan(&room).owned(&["ann"]).fact(log_id);
            let store = world.store.clone();
            async move { store.apply(batch).await }
        };
        let (a, b) = tokio::join!(create(&one, logs[0]), create(&two, logs[1]));
        let winner = match (&a, &b) {
            (Ok(_), Err(Error::Refused(Reason::RoomIdTaken, _))) => logs[0],
            (Err(Error::Refused(Reason::RoomIdTaken, _)), Ok(_)) => logs[1],
            _ => panic!("one of two: {a:?}, {b:?}"),
        };
        let found = two.store.resolve(&tenant(), &RoomId::new(&room)).await.expect("a log");
        assert_eq!(found, Some(winner));
    }
}

async fn appends_of_two_replicas_in_many_rooms_do_not_deadlock(db: Db) {
    let (one, two) = replicas(db).await;
    let mut logs = Vec::new();
    for room in 0..8 {
        logs.push(one.group(&room.to_string(), &["ann", "bob"]).await);
    }
    let logs = Arc::new(logs);
    let work = [&one, &two].map(|world| {
        let logs = logs.clone();
        let sends = (0..400).map(move |n| {
            // In another order at each of them.
            let log_id = logs[(n * 5) % 8];
            let sender = if n % 2 == 0 { "ann" } else { "bob" };
            world.append(draft(log_id, sender, None, "x"))
        });
        join_all(sends)
    });
    let changes = async {
        for (version, log_id) in (0..5).flat_map(|v| logs.iter().map(move |log_id| (v + 2, log_id)))
        {
            let effects = role("bob", MemberRole::Admin);
            one.fact(*log_id, version, effects).await.expect("a fact");
        }
    };
    let (sent, ()) = tokio::join!(join_all(work), changes);
    assert!(sent.iter().flatten().all(Result::is_ok), "{sent:?}");
    for log_id in logs.iter() {
        assert_eq!(one.head(*log_id).await, 2 + 100 + 5);
    }
    let counts =
        "SELECT (SELECT COUNT(*) FROM events), CAST((SELECT SUM(head) FROM heads) AS BIGINT)";
    let (events, heads): (i64, i64) = one.db.read(counts).fetch_one().await.expect("counts");
    assert_eq!(events, heads);
}
