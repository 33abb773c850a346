//! Messages: whatever waits is appended in one transaction.

use std::collections::HashSet;
use std::time::Duration;

use parlance_rpc::Reason;
use parlance_types::MessageId;

use super::attempts::{Attempts, Batch};
use super::measure;
use super::queue::{Job, SENDS, Send};
use super::writer::{Writer, abandoned, fail, halves, refused, stuck};
use crate::send::{self, Outcome, Verdict};
use crate::{Entry, Error, Sent};

/// Payloads that share one transaction, in bytes; the last one may exceed it.
const BATCH_BYTES: usize = 4 * 1024 * 1024;

impl Writer {
    /// The messages that wait. A second entry of one request is for the next batch, which
    /// finds it stored.
    pub(super) fn gather(&self) -> Vec<Job<Send>> {
        let mut seen = HashSet::new();
        let mut bytes = 0;
        let mut batch: Vec<Job<Send>> = Vec::new();
        while batch.len() < self.options.batch.max(1) && bytes < BATCH_BYTES {
            let first = batch.first().filter(|_| self.is_lane);
            let first = first.map(|first| first.task.entry.log_id);
            let fits = |Send { entry, .. }: &Send| {
                let request = (entry.log_id, entry.sender().cloned(), entry.request.clone());
                first.is_none_or(|first| entry.log_id == first) && seen.insert(request)
            };
            let Some(send) = self.queue.next_send(fits) else { break };
            bytes += send.task.entry.payload.len();
            batch.push(send);
        }
        // Nobody waits for it and it was not begun.
        batch.retain(|send| send.begun || !send.task.reply.is_closed());
        batch.sort_by_key(|send| send.task.entry.log_id);
        batch
    }

    /// Appends messages and answers. Those of logs that are held elsewhere go to their lanes.
    /// What fails for a reason that one entry can have is halved until the bad entry fails
    /// alone; what waited too long for anything else is run log by log.
    pub(super) async fn send(&mut self, sends: Vec<Job<Send>>) {
        let mut batches = vec![Batch::new(sends, false)];
        while let Some(Batch { jobs: mut sends, mut attempts }) = batches.pop() {
            let Some(log_id) = sends.first().map(|send| send.task.entry.log_id) else { continue };
            let error = match self.append(&sends, &mut attempts).await {
                Ok(outcomes) => {
                    self.answer(sends, outcomes).await;
                    if self.is_lane {
                        self.had.push(log_id);
                    }
                    continue;
                }
                Err(error) => error,
            };
            if stuck(&error) {
                let all = sends.len();
                sends = self.set_aside(sends, attempts.interrupted, SENDS).await;
                if sends.len() < all {
                    batches.push(Batch { jobs: sends, attempts });
                    continue;
                }
            }
            let parts = if attempts.go_on(&error, || !abandoned(&sends)) {
                attempts.pause().await;
                batches.push(Batch { jobs: sends, attempts });
                continue;
            } else if stuck(&error)
                && sends.last().map(|send| send.task.entry.log_id) != Some(log_id)
            {
                by_log(sends)
            } else if refused(&error) && sends.len() > 1 {
                halves(sends).into()
            } else {
                fail(sends, error);
                continue;
            };
            // What may have been stored before the batch was parted still may. The first
            // part is run first.
            let part = |sends| Batch::new(sends, attempts.interrupted);
            batches.extend(parts.into_iter().rev().map(part));
        }
    }

    /// Runs the append once, and publishes what it stored. What it finds stored may be of an
    /// earlier run of the same batch, and so was published by nobody.
    async fn append(
        &mut self,
        sends: &[Job<Send>],
        attempts: &mut Attempts,
    ) -> Result<Vec<Outcome>, Error> {
        let entries: Vec<&Entry> = sends.iter().map(|send| &send.task.entry).collect();
        let mut conn = self.connect().await?;
        let (now, since) = (self.clock.now(), measure::now());
        let _until_it_has_run = measure::span(sends);
        let outcomes = self.in_time(send::append(&mut conn, now, &entries)).await;
        measure::appended(sends, since);
        let outcomes = self.keep_of_run(conn, outcomes, attempts).await?;
        self.publish(send::appended(&entries, &outcomes, attempts.interrupted));
        Ok(outcomes)
    }

    async fn answer(&self, sends: Vec<Job<Send>>, outcomes: Vec<Outcome>) {
        for (send, outcome) in sends.into_iter().zip(outcomes) {
            let sent = self.sent(&send.task.entry, outcome).await;
            let _ = send.task.reply.send(sent);
        }
    }

    async fn sent(&self, entry: &Entry, outcome: Outcome) -> Result<Sent, Error> {
        match outcome.verdict {
            Verdict::Stored | Verdict::Repeated => Ok(Sent {
                message_id: MessageId { log_id: entry.log_id, seq: outcome.seq },
                time: outcome.time,
                epoch: outcome.epoch,
            }),
            Verdict::Reused => Err(Error::request_id_reused()),
            Verdict::NoLog => Err(Error::room_not_found()),
            Verdict::Closed => {
                if let Some((tenant_id, room_id)) = outcome.room {
                    self.resolver.forget(tenant_id, room_id).await;
                }
                Err(Error::room_not_found())
            }
            Verdict::NotAMember => Err(Error::not_a_member()),
            Verdict::Muted => Err(Error::Muted { until: outcome.time }),
            Verdict::Suspended => Err(Error::Suspended { until: outcome.time }),
            Verdict::Blocked => Err(Error::blocked()),
            Verdict::SlowMode => {
                let micros = u64::try_from(outcome.time - self.clock.now()).unwrap_or(0);
                Err(Error::SlowMode { wait: Duration::from_micros(micros) })
            }
            // Since it was looked at, another message took it.
            Verdict::Unattachable => Err(Error::attachment_in_use()),
            Verdict::Restricted => {
                let rule = "the room's rules let only owners and admins send";
                Err(Error::Refused(Reason::PostingRestricted, rule))
            }
        }
    }
}

fn by_log(sends: Vec<Job<Send>>) -> Vec<Vec<Job<Send>>> {
    let mut parts: Vec<Vec<Job<Send>>> = Vec::new();
    for send in sends {
        match parts.last_mut() {
            Some(part) if part[0].task.entry.log_id == send.task.entry.log_id => part.push(send),
            _ => parts.push(vec![send]),
        }
    }
    parts
}
