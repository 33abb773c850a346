//! Many streams, and how much they heard.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::Duration;

use parlance_proto::message::v1::SubscribeResponse;
use parlance_proto::message::v1::subscribe_response::Frame;
use prost::Message as _;
use tokio::sync::Notify;
use tokio::task::JoinSet;
use tokio::time::timeout;
use tonic::Streaming;

use crate::caller::{Caller, connect};

/// Streams that are opened at the same time.
const OPENING: usize = 50;

/// How long an event may take to everybody.
const PATIENCE: Duration = Duration::from_secs(30);

/// Open streams; they end when this is dropped.
#[derive(Debug)]
pub(crate) struct Audience {
    heard: Arc<Heard>,
    streams: JoinSet<()>,
}

#[derive(Debug, Default)]
struct Heard {
    events: AtomicU64,
    goal: AtomicU64,
    reached: Notify,
    /// The size of the last event's frame.
    bytes: AtomicUsize,
}

impl Audience {
    /// Follows a room with a stream for each token, so many on one connection, until
    /// all are caught up.
    pub(crate) async fn open(address: &str, room: &str, tokens: &[String], each: usize) -> Self {
        let heard: Arc<Heard> = Arc::default();
        let mut streams = JoinSet::new();
        for tokens in tokens.chunks(each) {
            let channel = connect(address).await;
            for tokens in tokens.chunks(OPENING) {
                let opened = tokens.iter().map(async |token| {
                    let mut stream = Caller::new(channel.clone(), token).follow(room).await;
                    catch_up(&mut stream).await;
                    stream
                });
                for stream in futures::future::join_all(opened).await {
                    streams.spawn(listen(stream, Arc::clone(&heard)));
                }
            }
        }
        Self { heard, streams }
    }

    /// How many streams there are.
    pub(crate) fn len(&self) -> u64 {
        self.streams.len() as u64
    }

    /// The size of an event's frame, in bytes.
    pub(crate) fn frame_bytes(&self) -> usize {
        self.heard.bytes.load(Ordering::Relaxed)
    }

    /// Runs `work`, and waits until every stream has heard so many events more.
    pub(crate) async fn hears(&self, events: usize, work: impl Future<Output = ()>) {
        let heard = self.heard.events.load(Ordering::Acquire);
        self.heard.goal.store(heard + events as u64 * self.len(), Ordering::Release);
        work.await;
        let all = timeout(PATIENCE, self.heard.reached.notified()).await;
        assert!(all.is_ok(), "not all of {} streams heard {events} events", self.len());
    }
}

/// Reads until what follows is live.
pub(crate) async fn catch_up(stream: &mut Streaming<SubscribeResponse>) {
    while let Some(frame) = stream.message().await.expect("a frame") {
        if matches!(frame.frame, Some(Frame::CaughtUp(_))) {
            return;
        }
    }
    panic!("a stream ended");
}

async fn listen(mut stream: Streaming<SubscribeResponse>, heard: Arc<Heard>) {
    while let Ok(Some(frame)) = stream.message().await {
        if matches!(frame.frame, Some(Frame::Event(_))) {
            let events = heard.events.fetch_add(1, Ordering::AcqRel) + 1;
            if events == heard.goal.load(Ordering::Acquire) {
                heard.bytes.store(frame.encoded_len(), Ordering::Relaxed);
                heard.reached.notify_one();
            }
        }
    }
}
