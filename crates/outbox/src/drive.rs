//! Sending the pending facts of one log.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use parlance_db::{Db, StoreError};
use parlance_proto::membership::v1::OutboxCounters;
use parlance_proto::message::v1::fact_service_client::FactServiceClient;
use parlance_proto::message::v1::{ApplyFactsRequest, ApplyFactsResponse, Fact, FactSource};
use parlance_rpc::{Below, CallError, Deadline, Internal, Peer, Reason, Transport, resumed};
use parlance_types::{LogId, Seq};
use prost::Message as _;
use tokio::sync::Notify;
use tokio::time::timeout;
use tonic_types::StatusExt as _;

use crate::store::{self, LogVersion, Standing};

/// Bytes of facts that one call carries: more would delay other calls for long.
const CALL_BYTES: usize = 200 * 1024;

/// What the logs refuse, as callers of a source are told; all else is a bug of a source.
const REFUSALS: &[Reason] = &[Reason::LogNotFound, Reason::RoomIdTaken, Reason::FactGap];

/// What driving a log came to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Driven {
    /// The log has the source's facts up to here.
    pub applied: i64,
    /// The head of the log; 0 if nothing was pending, so that it was not asked.
    pub head: Seq,
    /// Whether the log said that it is closed.
    pub closed: bool,
}

/// Why the pending facts of a log could not be sent.
#[derive(Debug, thiserror::Error)]
pub enum DriveError {
    #[error("the log was not registered in the outbox")]
    UnknownLog,
    #[error("could not reach the outbox")]
    Store(#[from] StoreError),
    #[error("impossible fact in the outbox")]
    Corrupt(#[from] prost::DecodeError),
    #[error("could not reach the message service")]
    Unavailable(#[source] CallError),
    #[error("the message service refused the facts")]
    Refused(#[source] CallError),
    /// An answer that the contract does not allow.
    #[error("the message service applied {applied} of the facts up to {sent}")]
    Stuck { applied: i64, sent: i64 },
    #[error("the facts could not be sent in time")]
    TimedOut,
}

impl DriveError {
    /// Whether a later drive may bring the facts home though nobody mends anything.
    pub fn heals(&self) -> bool {
        match self {
            Self::Store(error) => error.heals(),
            // A log may come into being, or be freed, by the facts of another source.
            Self::Unavailable(_) | Self::TimedOut | Self::Refused(CallError::Refused(_)) => true,
            Self::UnknownLog | Self::Corrupt(_) | Self::Refused(_) | Self::Stuck { .. } => false,
        }
    }

    /// The reason that the message service gave, if it refused.
    pub fn reason(&self) -> Option<Reason> {
        match self {
            Self::Unavailable(error) | Self::Refused(error) => error.given(),
            _ => None,
        }
    }
}

/// The outbox of one source. Clones share it.
#[derive(Clone, Debug)]
pub struct Outbox {
    pub(crate) db: Db,
    source: FactSource,
    message: Peer<FactServiceClient<Transport>>,
    /// Told of drives that failed, so that the relay goes on with them.
    pub(crate) failed: Arc<Notify>,
    pub(crate) counters: Arc<Counters>,
}

/// What the outbox had to heal since the process started.
#[derive(Debug, Default)]
pub struct Counters {
    /// Logs whose facts the relay brought home.
    pub relayed: AtomicU64,
    /// Drives that failed, of requests and of the relay.
    pub failed_drives: AtomicU64,
    /// Times that a log had lost facts and got them again.
    pub lost_by_logs: AtomicU64,
    /// Times that the source itself was found restored to before what a log has.
    pub overtaken: AtomicU64,
}

/// Facts that are not in their logs yet, of the whole service.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Backlog {
    pub logs: i64,
    pub facts: i64,
}

pub(crate) fn count(counter: &AtomicU64) {
    counter.fetch_add(1, Ordering::Relaxed);
}

impl Outbox {
    /// The outbox in `db`, whose facts go to the logs behind `message` as `source`'s.
    pub fn new(db: Db, source: FactSource, message: Transport, internal: Internal) -> Self {
        let message = FactServiceClient::new(message);
        let message = Peer::new(Below::Log, message, internal, REFUSALS);
        let (failed, counters) = (Arc::default(), Arc::default());
        Self { db, source, message, failed, counters }
    }

    pub fn counters(&self) -> &Counters {
        &self.counters
    }

    /// What is pending in the database, of all replicas.
    pub async fn backlog(&self) -> Result<Backlog, StoreError> {
        let (logs, facts) = store::backlog(&self.db).await?;
        Ok(Backlog { logs, facts })
    }

    /// How long the oldest of it has been waiting.
    pub async fn oldest(&self) -> Result<Duration, StoreError> {
        // A clock that was set back makes no age below zero.
        let age = store::oldest(&self.db).await?.and_then(|age| u64::try_from(age).ok());
        Ok(Duration::from_millis(age.unwrap_or_default()))
    }

    /// The backlog and the counters, as operators see them.
    pub async fn report(&self) -> Result<OutboxCounters, StoreError> {
        let Backlog { logs, facts } = self.backlog().await?;
        let read = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        Ok(OutboxCounters {
            backlog_logs: logs,
            backlog_facts: facts,
            relayed: read(&self.counters.relayed),
            failed_drives: read(&self.counters.failed_drives),
            lost_by_logs: read(&self.counters.lost_by_logs),
            overtaken: read(&self.counters.overtaken),
        })
    }

    /// How far each log has come, up to `limit` logs by id after `after`.
    pub async fn versions(&self, after: LogId, limit: i64) -> Result<Vec<LogVersion>, StoreError> {
        store::versions(&self.db, after, limit).await
    }

    /// Remembers that a log has the facts up to `applied`, whatever was remembered: a database
    /// was put back. What it lacks the relay sends again; what it has more is passed over.
    pub async fn align(&self, log_id: LogId, applied: i64) -> Result<(), StoreError> {
        if !store::overtake(&self.db, log_id, applied).await? {
            store::lower(&self.db, log_id, applied).await?;
        }
        self.failed.notify_one();
        Ok(())
    }

    /// Sends all pending facts of a log, in version order and as few calls as they
    /// fit. OK means: everything enqueued before the call is in the log.
    ///
    /// Drives of one log may run at once, on any replica: the log skips what it
    /// has. What a failed drive left, the relay sends.
    pub async fn drive(&self, log_id: LogId, deadline: Duration) -> Result<Driven, DriveError> {
        let driven = self.try_drive(log_id, deadline).await;
        if driven.is_err() {
            self.failed.notify_one();
        }
        driven
    }

    pub(crate) async fn try_drive(
        &self,
        log_id: LogId,
        deadline: Duration,
    ) -> Result<Driven, DriveError> {
        let sent = self.send_pending(log_id, Deadline::within(deadline));
        let driven = timeout(deadline, sent).await;
        let driven = driven.unwrap_or(Err(DriveError::TimedOut));
        if driven.is_err() {
            count(&self.counters.failed_drives);
        }
        driven
    }

    async fn send_pending(&self, log_id: LogId, deadline: Deadline) -> Result<Driven, DriveError> {
        let mut log = store::standing(&self.db, log_id).await?.ok_or(DriveError::UnknownLog)?;
        let mut driven = Driven { applied: log.applied, head: 0, closed: false };
        while driven.applied < log.version {
            let facts = self.next_facts(log_id, driven.applied).await?;
            let before = driven.applied;
            let sent = facts.last().map_or(before, |fact| fact.version);
            let parent = facts.first().map(|fact| fact.trace_parent.clone()).unwrap_or_default();
            let apply = self.apply(&log, log_id, facts, deadline);
            match resumed("outbox drive", &parent, apply).await {
                Ok(answer) => {
                    let ApplyFactsResponse { applied, head, closed } = answer;
                    if applied < sent || sent == before {
                        return Err(DriveError::Stuck { applied, sent });
                    }
                    if applied > sent && self.overtaken(log_id, applied).await? {
                        log = store::standing(&self.db, log_id)
                            .await?
                            .ok_or(DriveError::UnknownLog)?;
                    } else {
                        store::raise(&self.db, log_id, applied).await?;
                    }
                    driven = Driven { applied, head, closed };
                }
                // The log was restored to an earlier state: it gets again what it lost.
                Err(error) => {
                    let applied = gap(&error).filter(|applied| *applied < before);
                    let Some(applied) = applied else { return Err(failed(error)) };
                    tracing::warn!(%log_id, applied, had = before, "the log has lost facts");
                    count(&self.counters.lost_by_logs);
                    store::lower(&self.db, log_id, applied).await?;
                    driven.applied = applied;
                }
            }
        }
        Ok(driven)
    }

    /// Whether the log has facts up to `applied` that this source never made: then what
    /// is pending was taken for those and has had no effect. It is put behind them.
    async fn overtaken(&self, log_id: LogId, applied: i64) -> Result<bool, DriveError> {
        let overtaken = store::overtake(&self.db, log_id, applied).await?;
        if overtaken {
            tracing::error!(
                %log_id,
                applied,
                "this database was restored to before facts that the log has; new facts follow them"
            );
            count(&self.counters.overtaken);
        }
        Ok(overtaken)
    }

    /// The facts of one call: as many above `after` as fit.
    async fn next_facts(&self, log_id: LogId, after: i64) -> Result<Vec<Fact>, DriveError> {
        let (mut facts, mut bytes) = (Vec::new(), 0);
        for (version, encoded) in store::facts(&self.db, log_id, after).await? {
            bytes += encoded.len();
            if bytes > CALL_BYTES && !facts.is_empty() {
                break;
            }
            facts.push(Fact { version, ..Fact::decode(encoded.as_slice())? });
        }
        Ok(facts)
    }

    /// Calls the message service; an outage is tried again while the time lasts.
    async fn apply(
        &self,
        log: &Standing,
        log_id: LogId,
        facts: Vec<Fact>,
        deadline: Deadline,
    ) -> Result<ApplyFactsResponse, CallError> {
        let request = ApplyFactsRequest {
            log_id: log_id.0.to_string(),
            source: self.source.into(),
            facts,
            identity: Some(log.identity.clone()),
        };
        let apply = |mut client: FactServiceClient<_>, request| async move {
            client.apply_facts(request).await
        };
        self.message.call(&log.tenant_id, None, deadline, request, apply).await
    }
}

/// The version that the facts must continue, if that is what was wrong.
fn gap(error: &CallError) -> Option<i64> {
    if error.given()? != Reason::FactGap {
        return None;
    }
    error.status().get_details_error_info()?.metadata.get("applied")?.parse().ok()
}

fn failed(error: CallError) -> DriveError {
    match error {
        CallError::Away { .. } => DriveError::Unavailable(error),
        CallError::Refused(_) | CallError::Failed { .. } | CallError::Misunderstood { .. } => {
            DriveError::Refused(error)
        }
    }
}
