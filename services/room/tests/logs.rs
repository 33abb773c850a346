//! A message service in memory that keeps facts and gives the page it is told to.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard};

use parlance_proto::message::v1 as pb;
use parlance_proto::message::v1::content_filter_service_server::ContentFilterService;
use parlance_proto::message::v1::event::Body;
use parlance_proto::message::v1::fact_service_server::FactService;
use parlance_proto::message::v1::user_log_service_server::UserLogService;
use parlance_rpc::{Reason, Refusal};
use parlance_types::PageSize;
use prost::Message as _;
use tonic::{Request, Response, Status};

#[derive(Default)]
pub(crate) struct State {
    /// By log: the events of facts that arrived.
    pub(crate) events: BTreeMap<String, Vec<pb::Event>>,
    /// By log and source: the version up to which facts arrived.
    applied: BTreeMap<(String, i32), i64>,
    /// Whether calls fail.
    pub(crate) down: bool,
    /// What `ListUserLogs` was asked, with the tenant.
    pub(crate) asked: Vec<(String, pb::ListUserLogsRequest)>,
    /// The content filters of tenants.
    pub(crate) filters: BTreeMap<String, pb::ContentFilter>,
    /// What `ListUserLogs` answers.
    pub(crate) page: pb::ListUserLogsResponse,
}

#[derive(Clone, Default)]
pub(crate) struct FakeLogs(Arc<Mutex<State>>);

impl FakeLogs {
    pub(crate) fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().expect("no test panics with the lock")
    }

    /// The updates of a room that its log heard of.
    pub(crate) fn updates(&self, log_id: &str) -> Vec<(pb::Event, pb::RoomUpdated)> {
        let events = self.state().events.get(log_id).cloned().unwrap_or_default();
        let update = |event: pb::Event| match event.body.clone() {
            Some(Body::RoomUpdated(update)) => Some((event, update)),
            _ => None,
        };
        events.into_iter().filter_map(update).collect()
    }

    /// Lets a log have the facts of the room service up to a version.
    pub(crate) fn has(&self, log_id: &str, version: i64) {
        let source = (log_id.to_owned(), pb::FactSource::Room.into());
        self.state().applied.insert(source, version);
    }

    fn check(&self) -> Result<(), Status> {
        let down = self.state().down;
        if down { Err(Refusal::new(Reason::StoreUnavailable, "down").into()) } else { Ok(()) }
    }
}

#[tonic::async_trait]
impl FactService for FakeLogs {
    async fn apply_facts(
        &self,
        request: Request<pb::ApplyFactsRequest>,
    ) -> Result<Response<pb::ApplyFactsResponse>, Status> {
        parlance_rpc::internal(&request)?;
        self.check()?;
        let request = request.into_inner();
        let mut state = self.state();
        let source = (request.log_id.clone(), request.source);
        let mut applied = state.applied.get(&source).copied().unwrap_or_default();
        for fact in request.facts {
            if fact.version == applied + 1 {
                applied += 1;
                let events = fact
                    .events
                    .iter()
                    .map(|event| pb::Event::decode(event.as_slice()).expect("an event"));
                state.events.entry(request.log_id.clone()).or_default().extend(events);
            }
        }
        state.applied.insert(source, applied);
        Ok(Response::new(pb::ApplyFactsResponse { applied, head: applied, closed: false }))
    }
}

#[tonic::async_trait]
impl UserLogService for FakeLogs {
    async fn list_user_logs(
        &self,
        request: Request<pb::ListUserLogsRequest>,
    ) -> Result<Response<pb::ListUserLogsResponse>, Status> {
        let caller = parlance_rpc::internal(&request)?;
        self.check()?;
        let (mut state, request) = (self.state(), request.into_inner());
        let mut page = state.page.clone();
        let most = PageSize::parse(request.page_size).expect("a size").get();
        if request.log_ids.is_empty() {
            let began = request.page_token.strip_prefix("after ").map_or("0", |began| began);
            let began = began.parse::<usize>().unwrap_or(0).min(page.logs.len());
            page.logs.drain(..began);
            if page.logs.len() > most {
                page.logs.truncate(most);
                page.next_page_token = format!("after {}", began + most);
            }
        } else {
            page.logs.retain(|log| request.log_ids.contains(&log.log_id));
        }
        state.asked.push((caller.tenant_id.to_string(), request));
        Ok(Response::new(page))
    }

    async fn list_user_log_ids(
        &self,
        request: Request<pb::ListUserLogIdsRequest>,
    ) -> Result<Response<pb::ListUserLogIdsResponse>, Status> {
        parlance_rpc::internal(&request)?;
        self.check()?;
        let log_ids = self.state().page.logs.iter().map(|log| log.log_id.clone()).collect();
        Ok(Response::new(pb::ListUserLogIdsResponse { log_ids }))
    }
}

#[tonic::async_trait]
impl ContentFilterService for FakeLogs {
    async fn put_content_filter(
        &self,
        request: Request<pb::PutContentFilterRequest>,
    ) -> Result<Response<pb::PutContentFilterResponse>, Status> {
        let tenant_id = parlance_rpc::internal(&request)?.tenant_id;
        self.check()?;
        let filter = request.into_inner().filter.expect("a filter");
        self.state().filters.insert(tenant_id.into_string(), filter);
        Ok(Response::new(pb::PutContentFilterResponse {}))
    }

    async fn get_content_filter(
        &self,
        request: Request<pb::GetContentFilterRequest>,
    ) -> Result<Response<pb::GetContentFilterResponse>, Status> {
        let tenant_id = parlance_rpc::internal(&request)?.tenant_id;
        self.check()?;
        let filter = self.state().filters.get(tenant_id.as_str()).cloned();
        Ok(Response::new(pb::GetContentFilterResponse { filter }))
    }
}
