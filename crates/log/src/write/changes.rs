//! Everything but messages: changes share a transaction, the rest has one alone.

use std::collections::BTreeMap;
use std::mem::take;

use parlance_db::Db;
use parlance_types::{LogId, Seq};

use super::attempts::{Attempts, Batch};
use super::queue::{Job, Told, WORKS, Work};
use super::writer::{Writer, abandoned, fail, halves, refused, stuck};
use crate::{Appended, Error, View, read, view};

/// Changes that share one transaction at most.
const CHANGES: usize = 16;

/// How many events are published again of a log whose last commit was in doubt: those of one
/// transaction, and some that may have followed.
const TAIL: Seq = 32;

impl Writer {
    /// The changes that are next, or one that shares its transaction with nothing.
    pub(super) fn take(&mut self) -> Vec<Job<Box<dyn Work>>> {
        let mut works = take(&mut self.left);
        if works.is_empty() {
            works.extend(self.queue.next_work(|_| true));
            let first = works.first().filter(|first| first.task.shares());
            let Some(log_id) = first.map(|first| first.task.log_id()) else { return works };
            while works.len() < CHANGES
                && let Some(work) = self
                    .queue
                    .next_work(|work| work.shares() && (!self.is_lane || work.log_id() == log_id))
            {
                works.push(work);
            }
        }
        works.sort_by_key(|work| work.task.log_id());
        works
    }

    /// Runs changes and answers. Those of logs that are held elsewhere go to their lanes. What
    /// fails for a reason that one of them can have is halved until the bad one fails alone.
    pub(super) async fn change(&mut self, works: Vec<Job<Box<dyn Work>>>) {
        let mut batches = vec![Batch::new(works, false)];
        while let Some(Batch { jobs: mut works, mut attempts }) = batches.pop() {
            // Nobody waits for it and it was not begun.
            works.retain(|work| attempts.interrupted || work.task.waits());
            let Some(log_id) = works.first().map(|work| work.task.log_id()) else { continue };
            let error = match self.together(&mut works, &mut attempts).await {
                Ok(told) => {
                    self.tell(&works, told, attempts.interrupted).await;
                    for work in works {
                        work.task.answer();
                    }
                    if self.is_lane {
                        self.had.push(log_id);
                    }
                    continue;
                }
                Err(error) => error,
            };
            if stuck(&error) {
                let all = works.len();
                works = self.set_aside(works, attempts.interrupted, WORKS).await;
                if works.len() < all {
                    batches.push(Batch { jobs: works, attempts });
                    continue;
                }
            }
            if attempts.go_on(&error, || !abandoned(&works)) {
                attempts.pause().await;
                batches.push(Batch { jobs: works, attempts });
            } else if works.len() > 1 && (refused(&error) || stuck(&error) || error.is_refusal()) {
                let half = |works| Batch::new(works, attempts.interrupted);
                batches.extend(halves(works).into_iter().rev().map(half));
            } else {
                fail(works, error);
            }
        }
    }

    /// Runs changes once, in one transaction; fewer if messages wait meanwhile. Those it did
    /// not come to are taken out, and left for the next one.
    async fn together(
        &mut self,
        works: &mut Vec<Job<Box<dyn Work>>>,
        attempts: &mut Attempts,
    ) -> Result<Vec<Told>, Error> {
        let mut conn = self.connect().await?;
        let now = self.clock.now();
        // What may have been committed is run again as it was.
        let whole = attempts.interrupted;
        let (mut told, mut begun) = (Vec::new(), 1);
        let run = async {
            conn.begin().await?;
            for (n, work) in works.iter_mut().enumerate() {
                if n > 0 && !whole && self.queue.sends_wait() {
                    break;
                }
                begun = n + 1;
                told.push(work.task.run(&mut conn, now).await?);
            }
            conn.commit().await?;
            Ok::<_, Error>(())
        };
        let run = self.in_time(run).await;
        self.left.extend(works.drain(begun..));
        self.keep_of_run(conn, run, attempts).await?;
        Ok(told)
    }

    /// Publishes what changes appended, also if an earlier run may have.
    async fn tell(&self, works: &[Job<Box<dyn Work>>], told: Vec<Told>, interrupted: bool) {
        let mut appended = Vec::new();
        let mut found = BTreeMap::new();
        for (work, Told { appended: new, closed }) in works.iter().zip(told) {
            if let (Some(new), true) = (&new, closed) {
                self.forget(new).await;
            } else if new.is_none() && interrupted {
                *found.entry(work.task.log_id()).or_insert(false) |= closed;
            }
            appended.extend(new);
        }
        for (log_id, closed) in found {
            let Some(tail) = tail(&self.db, log_id).await else { continue };
            if closed {
                self.forget(&tail).await;
            }
            self.publish(vec![tail]);
        }
        self.publish(appended);
    }

    /// The life of a log's room ended.
    async fn forget(&self, Appended { tenant_id, room_id, .. }: &Appended) {
        self.resolver.forget(tenant_id.clone(), room_id.clone()).await;
    }
}

/// The end of a log, where a change that is found made must be.
async fn tail(db: &Db, log_id: LogId) -> Option<Appended> {
    let view = view::view(db, log_id, None, 0, 0).await.ok()??.0;
    let events = read::events(db, log_id, view.head - TAIL + 1, view.head).await.ok()?;
    let View { tenant_id, room_id, epoch, .. } = view;
    let users = Vec::new();
    Some(Appended { tenant_id, log_id, room_id, epoch, events, users })
}
