//! Keeps a session with Redis, and builds the next one when it ends.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use bytes::Bytes;
use futures::future::try_join_all;
use tokio::sync::mpsc;
use tokio::time::{MissedTickBehavior, interval, sleep, timeout};

use super::connection::{Connection, Lost};
use super::ear::Channels;
use super::{Options, RedisUrl, Shared};
use crate::State;

/// Payloads that are sent at once, those of one shard one after the other.
const BATCH: usize = 256;

/// The task that keeps the sessions of a bus.
pub(super) struct Link {
    url: RedisUrl,
    options: Options,
    shared: Arc<Shared>,
    unsent: mpsc::Receiver<(u16, Bytes)>,
    channels: Channels,
}

impl Link {
    pub(super) fn new(
        url: RedisUrl,
        options: Options,
        shared: Arc<Shared>,
        unsent: mpsc::Receiver<(u16, Bytes)>,
    ) -> Self {
        let channels = Channels::new(&options.tag);
        Self { url, options, shared, unsent, channels }
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
        let mut canary = interval(self.options.canary);
        canary.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let (mut beat, mut told) = (0, None);
        let mut batch = Vec::with_capacity(BATCH);
        loop {
            tokio::select! {
                biased;
                () = connection.ear.ended() => return Err(Lost::Ended),
                _ = canary.tick() => {
                    if !connection.ear.heard_canaries(beat) {
                        return Err(Lost::MissedCanary);
                    }
                    beat += 1;
                    self.within(connection, release(connection, beat)).await?;
                    let dropped = self.shared.dropped.load(Ordering::Relaxed);
                    if told != Some(dropped) {
                        self.tell_of_loss(connection).await?;
                        told = Some(dropped);
                    }
                }
                count = self.unsent.recv_many(&mut batch, BATCH) => {
                    if count == 0 {
                        return Ok(());
                    }
                    self.publish(connection, std::mem::take(&mut batch)).await?;
                }
            }
        }
    }

    async fn publish(&self, connection: &Connection, batch: Vec<(u16, Bytes)>) -> Result<(), Lost> {
        let count = batch.len() as u64;
        let mut shards: BTreeMap<u16, Vec<Bytes>> = BTreeMap::new();
        for (shard, payload) in batch {
            shards.entry(shard).or_default().push(payload);
        }
        let send = async |shard: u16, payloads: &[Bytes]| {
            connection.publish(&self.channels.shard(shard), payloads).await
        };
        let all = try_join_all(shards.iter().map(|(shard, payloads)| send(*shard, payloads)));
        let done = self.within(connection, async { all.await.map(drop) }).await;
        if done.is_err() {
            // Some may have got through; all count as lost.
            self.shared.drop_payloads(count);
        }
        done
    }

    /// Tells every node that payloads from or to this one may be missing.
    async fn tell_of_loss(&self, connection: &Connection) -> Result<(), Lost> {
        let lost = self.channels.lost();
        self.within(connection, connection.publish(&lost, &[Bytes::new()])).await
    }

    /// Does something as long as the session lasts.
    async fn within(
        &self,
        connection: &Connection,
        doing: impl Future<Output = Result<(), Lost>>,
    ) -> Result<(), Lost> {
        tokio::select! {
            done = doing => done,
            () = connection.ear.ended() => Err(Lost::Ended),
        }
    }

    fn drop_unsent(&mut self) {
        while self.unsent.try_recv().is_ok() {
            self.shared.drop_payloads(1);
        }
    }
}

/// Sends a canary to every server.
async fn release(connection: &Connection, beat: u64) -> Result<(), Lost> {
    let payload = [Bytes::copy_from_slice(&beat.to_be_bytes())];
    let sends = connection.canaries.iter().map(|canary| connection.publish(canary, &payload));
    try_join_all(sends).await.map(drop)
}
