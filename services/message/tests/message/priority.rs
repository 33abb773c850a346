//! Which messages are refused first where there is no place for all to wait.

use futures::future::join_all;
use parlance_db::{Db, test_on_each_db};
use parlance_log::{Options, Priority};
use parlance_message::Error;
use parlance_proto::message::v1 as pb;
use parlance_rpc::Reason;

use crate::harness::{World, saying, violates};
use crate::rooms::plan;
use crate::world::{World as Logs, draft, options};

test_on_each_db!(parlance_message::MIGRATIONS =>
    low_is_refused_first_and_high_last,
    a_priority_takes_no_place_from_others,
    a_priority_is_no_part_of_a_message,
    what_is_no_priority_is_refused,
);

use Priority::{High, Low, Normal};

/// The writer runs only once all of it is queued: nothing is awaited before.
async fn queue(logs: &Logs, sends: Vec<(&str, Priority)>) -> Vec<Option<i64>> {
    let log_id = plan("r").owned(&["ann", "bob"]).make(logs).await.log_id;
    let queued = sends.into_iter().map(|(sender, priority)| {
        let mut draft = draft(log_id, sender, None, "x");
        draft.priority = priority;
        logs.store.queue(draft.entry())
    });
    let queued: Vec<_> = queued.collect();
    let seq = |sent: Result<parlance_log::Sent, Error>| match sent {
        Ok(sent) => Some(sent.message_id.seq),
        Err(Error::Refused(Reason::Overloaded, _)) => None,
        Err(other) => panic!("{other:?}"),
    };
    join_all(queued).await.into_iter().map(seq).collect()
}

/// Room for six messages that wait.
async fn six(db: Db) -> Logs {
    Logs::with(db, Options { queue: 6, writers: 1, ..options() }).await
}

/// B-113.
async fn low_is_refused_first_and_high_last(db: Db) {
    let logs = six(db).await;
    let sends = [Low, Normal, High].repeat(4).into_iter().map(|priority| ("ann", priority));
    let found = queue(&logs, sends.collect()).await;
    // What is taken is stored in the order in which it came.
    let expected = [
        [None, Some(3), Some(4)],
        [None, Some(5), Some(6)],
        [None, None, Some(7)],
        [None, None, Some(8)],
    ];
    assert_eq!(found, expected.concat());
}

async fn a_priority_takes_no_place_from_others(db: Db) {
    let logs = six(db).await;
    let mut sends = vec![("bob", Low); 3];
    sends.extend([("ann", High); 6]);
    let found = queue(&logs, sends).await;
    assert!(found[..3].iter().all(Option::is_some), "{found:?}");
    assert_eq!(found.iter().flatten().count(), 6);
}

/// B-113.
async fn a_priority_is_no_part_of_a_message(db: Db) {
    let world = World::open(db).await;
    plan("lobby").owned(&["ann"]).make(&world).await;
    let mut ann = world.user("ann");
    let mut replies = Vec::new();
    for priority in [pb::SendPriority::Low, pb::SendPriority::High] {
        let (request_id, priority) = ("once".to_owned(), priority.into());
        let request = pb::SendMessageRequest { request_id, priority, ..saying("lobby", "x") };
        replies.push(ann.messages.send_message(request).await.expect("sent").into_inner());
    }
    assert_eq!(replies[0], replies[1]);
}

async fn what_is_no_priority_is_refused(db: Db) {
    let world = World::open(db).await;
    plan("lobby").owned(&["ann"]).make(&world).await;
    let request = pb::SendMessageRequest { priority: 4, ..saying("lobby", "x") };
    violates(world.user("ann").messages.send_message(request).await, "priority");
}
