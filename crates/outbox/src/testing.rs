//! Logs in memory, for the tests of sources.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use parlance_proto::message::v1::fact_service_server::{FactService, FactServiceServer};
use parlance_proto::message::v1::notice_relay_service_server::{
    NoticeRelayService, NoticeRelayServiceServer,
};
use parlance_proto::message::v1::{
    ApplyFactsRequest, ApplyFactsResponse, Event, FactSource, Hiding, LogIdentity, Projection,
    PublishNoticeRequest, PublishNoticeResponse,
};
use parlance_rpc::{Reason, Refusal, Transport, in_process};
use parlance_types::LogId;
use prost::Message as _;
use tokio::sync::watch;
use tonic::service::Routes;
use tonic::{Request, Response, Status};

/// How long a test waits for a state before it has failed.
const PATIENCE: Duration = Duration::from_secs(20);

/// What the message service does with calls.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Health {
    #[default]
    Up,
    /// Every call fails UNAVAILABLE.
    Down,
    /// Every call fails INTERNAL.
    Broken,
    /// Calls apply their facts, but their answers are lost.
    Mute,
    /// Calls are never answered.
    Hanging,
}

/// One log.
#[derive(Clone, Debug, Default)]
pub struct Log {
    pub identity: LogIdentity,
    pub applied: HashMap<FactSource, i64>,
    pub events: Vec<Event>,
    /// What silent facts said.
    pub silent: Vec<Projection>,
    pub hiding: Vec<Hiding>,
    pub closed: bool,
}

#[derive(Debug, Default)]
struct State {
    health: Health,
    /// Logs whose calls are never answered, whatever the health.
    stuck: Vec<LogId>,
    logs: HashMap<LogId, Log>,
    /// Calls that arrived, answered or not.
    arrived: usize,
    /// The facts of every call that was not stopped, in order of arrival.
    calls: Vec<(LogId, Vec<i64>)>,
    notices: Vec<PublishNoticeRequest>,
}

/// A message service in memory: it applies facts by the rules of its contract and keeps
/// the events, and keeps the notices that it is given. Clones share it.
#[derive(Clone, Debug)]
pub struct Logs {
    state: Arc<Mutex<State>>,
    changed: watch::Sender<()>,
}

impl Default for Logs {
    fn default() -> Self {
        Self { state: Arc::default(), changed: watch::channel(()).0 }
    }
}

impl Logs {
    /// Reaches the service.
    pub fn transport(&self) -> Transport {
        let notices = NoticeRelayServiceServer::new(self.clone());
        in_process(Routes::new(FactServiceServer::new(self.clone())).add_service(notices))
    }

    pub fn set_health(&self, health: Health) {
        self.state().health = health;
    }

    /// Never answers calls for this log.
    pub fn hang_on(&self, log_id: LogId) {
        self.state().stuck.push(log_id);
    }

    /// The own log of a user as it is now; empty if there is none.
    pub fn own_log(&self, user_id: &str) -> Log {
        let state = self.state();
        let own = state.logs.values().find(|log| log.identity.user_id == user_id);
        own.cloned().unwrap_or_default()
    }

    /// A log as it is now; empty if there is none.
    pub fn log(&self, log_id: LogId) -> Log {
        self.state().logs.get(&log_id).cloned().unwrap_or_default()
    }

    /// The facts of every call so far, in order of arrival.
    pub fn calls(&self) -> Vec<(LogId, Vec<i64>)> {
        self.state().calls.clone()
    }

    /// The notices so far, in order of arrival.
    pub fn notices(&self) -> Vec<PublishNoticeRequest> {
        self.state().notices.clone()
    }

    /// Puts a log back to an earlier state, as a restored database does.
    pub fn restore(&self, log_id: LogId, log: Log) {
        self.state().logs.insert(log_id, log);
    }

    /// Waits until a log is as asked.
    pub async fn wait_for(&self, log_id: LogId, reached: impl Fn(&Log) -> bool) -> Log {
        self.wait_until(|| Some(self.log(log_id)).filter(|log| reached(log))).await
    }

    /// Calls that arrived so far, answered or not.
    pub fn arrived(&self) -> usize {
        self.state().arrived
    }

    /// Waits until more calls have arrived, answered or not.
    pub async fn wait_for_more_than(&self, arrived: usize) {
        self.wait_until(|| (self.arrived() > arrived).then_some(())).await;
    }

    async fn wait_until<T>(&self, reached: impl Fn() -> Option<T>) -> T {
        let mut changes = self.changed.subscribe();
        let wait = async {
            loop {
                if let Some(reached) = reached() {
                    return reached;
                }
                changes.changed().await.expect("the sender lives");
            }
        };
        tokio::time::timeout(PATIENCE, wait).await.expect("the state is reached in time")
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn apply(&mut self, request: ApplyFactsRequest) -> Result<ApplyFactsResponse, Status> {
        let log_id = request.log_id.parse().map_err(|_| Status::invalid_argument("log_id"))?;
        let source = request.source();
        let versions = request.facts.iter().map(|fact| fact.version).collect();
        self.calls.push((log_id, versions));
        if !self.logs.contains_key(&log_id) {
            self.create(log_id, &request)?;
        }
        let log = self.logs.get_mut(&log_id).expect("the log exists");
        let applied = log.applied.entry(source).or_default();
        for fact in request.facts {
            if fact.version > *applied + 1 {
                return Err(gap(*applied));
            }
            if fact.version <= *applied {
                continue;
            }
            *applied = fact.version;
            if log.closed {
                continue;
            }
            log.silent.extend(fact.silent);
            log.hiding.extend(fact.hiding);
            for event in fact.events {
                let event = Event::decode(event.as_slice())
                    .map_err(|_| Status::invalid_argument("event"))?;
                log.closed |= event.effects.as_ref().is_some_and(|effects| effects.closed);
                log.events.push(event);
            }
        }
        let head = i64::try_from(log.events.len()).expect("few events");
        Ok(ApplyFactsResponse { applied: *applied, head, closed: log.closed })
    }

    fn create(&mut self, log_id: LogId, request: &ApplyFactsRequest) -> Result<(), Status> {
        if request.source() != FactSource::Membership {
            return Err(Refusal::new(Reason::LogNotFound, "the log does not exist").into());
        }
        if request.facts.first().is_some_and(|fact| fact.version > 1) {
            return Err(gap(0));
        }
        let identity = request.identity.clone();
        let identity = identity.ok_or_else(|| Status::invalid_argument("identity"))?;
        self.logs.insert(log_id, Log { identity, ..Log::default() });
        Ok(())
    }
}

fn gap(applied: i64) -> Status {
    let refusal = Refusal::new(Reason::FactGap, "facts must continue what was applied");
    refusal.with("applied", applied.to_string()).into()
}

#[tonic::async_trait]
impl FactService for Logs {
    async fn apply_facts(
        &self,
        request: Request<ApplyFactsRequest>,
    ) -> Result<Response<ApplyFactsResponse>, Status> {
        let request = request.into_inner();
        let (health, stuck) = {
            let mut state = self.state();
            state.arrived += 1;
            (state.health, state.stuck.iter().any(|log| request.log_id.parse() == Ok(*log)))
        };
        self.changed.send_replace(());
        if stuck || health == Health::Hanging {
            std::future::pending::<()>().await;
        }
        let away = || Status::unavailable("the message service is away");
        if health == Health::Down {
            return Err(away());
        }
        if health == Health::Broken {
            return Err(Refusal::new(Reason::Internal, "internal error").into());
        }
        let answer = self.state().apply(request);
        self.changed.send_replace(());
        if health == Health::Mute { Err(away()) } else { answer.map(Response::new) }
    }
}

#[tonic::async_trait]
impl NoticeRelayService for Logs {
    async fn publish_notice(
        &self,
        request: Request<PublishNoticeRequest>,
    ) -> Result<Response<PublishNoticeResponse>, Status> {
        if self.state().health != Health::Up {
            return Err(Status::unavailable("the message service is away"));
        }
        self.state().notices.push(request.into_inner());
        Ok(Response::new(PublishNoticeResponse {}))
    }
}
