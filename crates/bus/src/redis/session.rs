//! Keeps a session with Redis, and builds the next one when it ends.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use bytes::Bytes;
use futures::future::{try_join, try_join_all};
use tokio::sync::mpsc;
use tokio::time::{MissedTickBehavior, interval, sleep, timeout};

use super::connection::{Connection, Lost};
use super::subscriber::Channels;
use super::{Options, Outbound, RedisUrl, Shared};
use crate::State;

/// Payloads that are sent at once.
const BATCH: usize = 256;

/// The task that keeps the sessions of a bus.
pub(super) struct Link {
    url: RedisUrl,
    options: Options,
    shared: Arc<Shared>,
    unsent: Unsent,
    /// Payloads that are being sent.
    batch: Vec<Outbound>,
    channels: Channels,
}

/// Payloads that wait for a session.
pub(super) struct Unsent {
    pub(super) payloads: mpsc::Receiver<Outbound>,
    /// Their turn comes when no payload waits.
    pub(super) notices: mpsc::Receiver<Outbound>,
}

impl Link {
    pub(super) fn new(
        url: RedisUrl,
        options: Options,
        shared: Arc<Shared>,
        unsent: Unsent,
    ) -> Self {
        let channels = Channels::new(&options.tag);
        Self { url, options, shared, unsent, batch: Vec::new(), channels }
    }

    /// Works until the bus is dropped.
    pub(super) async fn run(mut self) {
        let mut quiet = false;
        loop {
            let open = Connection::open(&self.url, &self.options, &self.shared);
            let lost = match timeout(self.options.connect, open).await.unwrap_or(Err(Lost::Timeout))
            {
                Ok(connection) => {
                    tracing::info!("the bus is up");
                    quiet = false;
                    self.shared.turn(State::Up);
                    let Err(lost) = self.session(&connection).await else { return };
                    drop(connection);
                    self.shared.turn(State::Down);
                    lost
                }
                Err(lost) => lost,
            };
            if !quiet {
                let error = &lost as &dyn std::error::Error;
                tracing::warn!(error, "the bus is down; heads are polled until it is up again");
            }
            quiet = true;
            self.drop_unsent();
            sleep(self.options.retry).await;
        }
    }

    /// Publishes until something is wrong. OK once nobody can publish any more.
    async fn session(&mut self, connection: &Connection) -> Result<(), Lost> {
        let Self { options, shared, unsent, batch, channels, .. } = self;
        // Side by side: canaries go out while a batch is on its way.
        tokio::select! {
            biased;
            () = connection.subscriber.ended() => Err(Lost::Ended),
            lost = watch(connection, options, shared, channels) => lost,
            done = carry(connection, unsent, batch, channels) => done,
        }
    }

    fn drop_unsent(&mut self) {
        // Of a batch some may have got through; all count as lost.
        let mut count = std::mem::take(&mut self.batch).len();
        while self.unsent.payloads.try_recv().is_ok() {
            count += 1;
        }
        self.shared.drop_payloads(count as u64);
        while self.unsent.notices.try_recv().is_ok() {}
    }
}

/// Sends canaries, and tells every node when payloads of this one were lost. Ends when
/// something is wrong.
async fn watch(
    connection: &Connection,
    options: &Options,
    shared: &Shared,
    channels: &Channels,
) -> Result<(), Lost> {
    let mut canary = interval(options.canary);
    canary.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let (mut beat, mut told) = (0, None);
    loop {
        canary.tick().await;
        if !connection.subscriber.heard_canaries(beat) {
            return Err(Lost::MissedCanary);
        }
        beat += 1;
        try_join(release(connection, beat), connection.check_servers()).await?;
        let dropped = shared.dropped.load(Ordering::Relaxed);
        if told != Some(dropped) {
            connection.publish(&channels.lost(), &[Bytes::new()]).await?;
            told = Some(dropped);
        }
    }
}

/// Publishes what comes, in batches: those of one shard in order. `batch` holds what may
/// have to be counted as lost.
async fn carry(
    connection: &Connection,
    unsent: &mut Unsent,
    batch: &mut Vec<Outbound>,
    channels: &Channels,
) -> Result<(), Lost> {
    let mut notices = Vec::new();
    loop {
        tokio::select! {
            biased;
            count = unsent.payloads.recv_many(batch, BATCH) => {
                if count == 0 {
                    return Ok(());
                }
                publish(connection, channels, batch).await?;
                batch.clear();
            }
            _ = unsent.notices.recv_many(&mut notices, BATCH), if !unsent.notices.is_closed() => {
                publish(connection, channels, &notices).await?;
                notices.clear();
            }
        }
    }
}

async fn publish(
    connection: &Connection,
    channels: &Channels,
    batch: &[Outbound],
) -> Result<(), Lost> {
    let mut shards: BTreeMap<u16, Vec<Bytes>> = BTreeMap::new();
    for (shard, payload) in batch {
        shards.entry(*shard).or_default().push(payload.clone());
    }
    let send = async |shard: u16, payloads: &[Bytes]| {
        connection.publish(&channels.shard(shard), payloads).await
    };
    try_join_all(shards.iter().map(|(shard, payloads)| send(*shard, payloads))).await.map(drop)
}

/// Sends a canary to every server.
async fn release(connection: &Connection, beat: u64) -> Result<(), Lost> {
    let payload = [Bytes::copy_from_slice(&beat.to_be_bytes())];
    let sends = connection.canaries.iter().map(|canary| connection.publish(canary, &payload));
    try_join_all(sends).await.map(drop)
}
