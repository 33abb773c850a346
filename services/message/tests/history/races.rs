//! Clearing and pruning against whoever reads the room at the same time.

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};

use parlance_bus::InProcessBus;
use parlance_db::{Db, test_on_each_db};
use parlance_message::ON_PRUNE;
use parlance_message::history::History;
use parlance_message::message::{Range, store};
use parlance_proto::message::v1::subscribe_response::Frame;
use parlance_proto::message::v1::{ResetReason, StreamStart, SubscribeRequest};
use parlance_types::{MessageId, Seq, UserId};
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};

use crate::rooms::{Room, plan};
use crate::stream::harness::{Node, Reader, from, quick};
use crate::world::actor;

test_on_each_db!(parlance_message::MIGRATIONS =>
    streams_and_walkers_that_cross_a_clearing_miss_nothing_that_is_left,
);

/// Clearings.
const CLEARINGS: usize = 25;

/// A room that is written to and cleared at the same time.
struct Busy {
    node: Arc<Node>,
    room: Room,
    /// What is left, at least, and what there is, at least.
    first: AtomicI64,
    head: AtomicI64,
    /// Clearings to come.
    left: AtomicI64,
}

impl Busy {
    fn goes_on(&self) -> bool {
        self.left.load(Ordering::SeqCst) > 0
    }

    async fn send(&self) {
        while self.goes_on() {
            let seq = self.node.send(&self.room, "hello").await;
            self.head.fetch_max(seq, Ordering::SeqCst);
        }
    }

    async fn clear(&self) {
        let mut random = StdRng::seed_from_u64(1);
        let history = History::new(self.node.store.clone());
        while self.goes_on() {
            let (first, head) =
                (self.first.load(Ordering::SeqCst), self.head.load(Ordering::SeqCst));
            if head < first + 40 {
                tokio::task::yield_now().await;
                continue;
            }
            let seq = random.random_range(first..=head);
            let through = Some(MessageId { log_id: self.room.log_id, seq });
            let (nobody, request) = (actor(""), None.into());
            let cleared = history.clear_for_all(&nobody, &self.room.id, through, &request);
            let cleared = cleared.await.expect("cleared");
            self.first.fetch_max(cleared.first, Ordering::SeqCst);
            self.head.fetch_max(cleared.seq, Ordering::SeqCst);
            if random.random_bool(0.5) {
                self.node.store.prune(ON_PRUNE).await.expect("pruned");
            }
            self.left.fetch_sub(1, Ordering::SeqCst);
        }
    }

    /// Opens streams from anywhere and reads them up to the head.
    async fn follow(&self, seed: u64) {
        let mut random = StdRng::seed_from_u64(seed);
        let epoch = epoch(&self.node, &self.room).await;
        while self.goes_on() {
            let (left, head) =
                (self.first.load(Ordering::SeqCst), self.head.load(Ordering::SeqCst));
            let after = random.random_range(0..=head);
            let given = if after == 0 { String::new() } else { epoch.clone() };
            let stream = self.node.subscribe("ann", from(&self.room, &given, after)).await;
            follow_to(stream, after, left, head).await;
        }
    }

    /// Walks through the room page by page.
    async fn walk(&self) {
        let user = UserId::new("ann");
        while self.goes_on() {
            let mut after = 0;
            loop {
                let left = self.first.load(Ordering::SeqCst);
                let page = store::page(
                    &self.node.store,
                    self.room.log_id,
                    Some(&user),
                    Range::After(after),
                    10,
                );
                let (view, page) = page.await.expect("a page").expect("a room");
                for message in &page {
                    let seq = message.message_id.seq;
                    assert!(seq > after && seq >= left && seq >= view.first_seq, "{seq}");
                    after = seq;
                }
                if page.len() < 10 {
                    break;
                }
            }
        }
    }
}

async fn epoch(node: &Node, room: &Room) -> String {
    let request = SubscribeRequest { start: StreamStart::Latest.into(), ..from(room, "", 0) };
    node.subscribe("ann", request).await.attached().await.epoch
}

/// Reads a stream that began at `after` up to `head`: each number comes once, in an event
/// or a skipped range, unless the stream is told that it is gone; and nothing below `left`.
async fn follow_to(mut stream: Reader, after: Seq, left: Seq, head: Seq) {
    let mut position = after;
    while position < head {
        match stream.next().await {
            Frame::Event(event) => {
                let seq = event.event.expect("an event").seq;
                assert_eq!(seq, position + 1, "dense");
                assert!(seq >= left, "{seq} was gone when the stream began: {left} was left");
                position = seq;
            }
            Frame::Skipped(skipped) => {
                assert_eq!((after, skipped.from_seq), (0, position + 1), "for who holds nothing");
                position = skipped.to_seq;
            }
            Frame::Reset(reset) => {
                assert_eq!(reset.reason(), ResetReason::Pruned);
                assert!(reset.resume_from > position);
                position = reset.resume_from;
            }
            Frame::Attached(attached) => assert_eq!(attached.resume_from, position),
            Frame::CaughtUp(_) | Frame::Heartbeat(_) | Frame::Notice(_) => {}
            other => panic!("{other:?}"),
        }
    }
}

async fn streams_and_walkers_that_cross_a_clearing_miss_nothing_that_is_left(db: Db) {
    let node = Arc::new(Node::start(&db, Arc::new(InProcessBus::default()), quick()).await);
    let room = plan("r").owned(&["ann"]).make(&*node).await;
    let left = AtomicI64::new(i64::try_from(CLEARINGS).expect("few"));
    let busy = Busy { node, room, first: AtomicI64::new(1), head: AtomicI64::new(2), left };
    tokio::join!(busy.send(), busy.clear(), busy.follow(2), busy.follow(3), busy.walk(),);
}
