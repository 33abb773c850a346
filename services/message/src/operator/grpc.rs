//! `OperatorService`: how the node is doing.

use std::sync::atomic::{AtomicU64, Ordering};

use parlance_follow::Hub;
use parlance_log::Store;
use parlance_proto::message::v1 as pb;
use parlance_proto::message::v1::operator_service_server::OperatorService;
use parlance_rpc::{Tasks, operator};
use tonic::{Request, Response, Status};

/// Shows what a node counts.
#[derive(Clone, Debug)]
pub struct OperatorGrpc {
    hub: Hub,
    store: Store,
    tasks: Tasks,
}

impl OperatorGrpc {
    pub const fn new(hub: Hub, store: Store, tasks: Tasks) -> Self {
        Self { hub, store, tasks }
    }
}

#[tonic::async_trait]
impl OperatorService for OperatorGrpc {
    async fn get_counters(
        &self,
        request: Request<pb::GetCountersRequest>,
    ) -> Result<Response<pb::GetCountersResponse>, Status> {
        operator(&request)?;
        let counters = self.hub.counters();
        let read = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        let healing = pb::HealingCounters {
            gaps: read(&counters.gaps),
            reorder_waits: read(&counters.reorder_waited),
            gaps_healed: read(&counters.gaps_healed),
            head_checks_healed: read(&counters.head_check_healed),
            users_healed: read(&counters.users_healed),
            polls: read(&counters.polled),
            catch_up_blocks: read(&counters.blocks_read),
            rings_dropped: read(&counters.rings_dropped),
            resets: read(&counters.resets),
            disturbances: read(&counters.disturbed),
            hints_dropped: self.hub.hints_dropped(),
            stalled_streams: read(&counters.stalled),
            unknown_commits: self.store.unknown_commits(),
        };
        Ok(Response::new(pb::GetCountersResponse {
            node_id: format!("{:016x}", self.hub.node()),
            bus_up: self.hub.bus_is_up(),
            healing: Some(healing),
            tasks: self.tasks.counters(),
        }))
    }
}
