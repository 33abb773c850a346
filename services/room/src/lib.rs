//! The room service: names, settings and the lives of rooms.
//!
//! A request passes `grpc` (decode, call, encode), `domain` (values that cannot
//! be wrong and what is done with them) and `store` (SQL). `clients` calls the
//! services below, membership and message; `codec` is protobuf.

use std::sync::Arc;

use parlance_db::{Db, Migrations};
use parlance_outbox::Outbox;
use parlance_proto::message::v1::FactSource;
use parlance_proto::room::v1::operator_service_server::OperatorServiceServer;
use parlance_proto::room::v1::room_list_service_server::RoomListServiceServer;
use parlance_proto::room::v1::room_service_server::RoomServiceServer;
use parlance_rpc::{Internal, Transport};
use parlance_types::Clock;
use tokio_util::sync::CancellationToken;

mod clients;
mod codec;
pub mod domain;
pub mod error;
mod grpc;
mod newcomers;
mod store;

pub use error::Error;
pub use grpc::{OperatorGrpc, RoomGrpc, RoomListGrpc};

/// The schema of this service.
pub const MIGRATIONS: Migrations = parlance_db::migrations!();

/// The room service, wired. Clones share it.
#[derive(Clone, Debug)]
pub struct Service {
    rooms: domain::Rooms,
    logs: clients::Logs,
    newcomers: newcomers::Newcomers,
    outbox: Outbox,
}

impl Service {
    /// Wires the service to its database and to the services that it calls with
    /// the tokens of `internal`.
    pub fn open(
        db: Db,
        clock: Arc<dyn Clock>,
        internal: Internal,
        membership: Transport,
        message: Transport,
    ) -> Self {
        let outbox = Outbox::new(db.clone(), FactSource::Room, message.clone(), internal.clone());
        let roster = clients::Roster::new(membership, internal.clone());
        let facts = clients::Facts(outbox.clone());
        let newcomers = newcomers::Newcomers::new(roster.clone());
        let rooms = domain::Rooms::new(store::Store::new(db), roster, facts, clock);
        Self { rooms, logs: clients::Logs::new(message, internal), newcomers, outbox }
    }

    /// The gRPC server. Its callers must have been verified by the auth layer.
    pub fn server(&self) -> RoomServiceServer<RoomGrpc> {
        RoomServiceServer::new(RoomGrpc::new(self.rooms.clone(), self.newcomers.clone()))
    }

    /// The gRPC server of lists, for the same callers.
    pub fn lists(&self) -> RoomListServiceServer<RoomListGrpc> {
        let (rooms, logs) = (self.rooms.clone(), self.logs.clone());
        RoomListServiceServer::new(RoomListGrpc::new(rooms, logs, self.newcomers.clone()))
    }

    /// The gRPC server for operators.
    pub fn operators(&self) -> OperatorServiceServer<OperatorGrpc> {
        OperatorServiceServer::new(OperatorGrpc(self.outbox.clone()))
    }

    /// Finishes what callers and earlier processes left: facts that are not in
    /// their logs, creations, deletions, rules that are not pushed. Ends when
    /// `shutdown` is cancelled and the changes under way are done.
    pub async fn run(&self, shutdown: CancellationToken) {
        tokio::join!(self.outbox.relay(shutdown.clone()), self.rooms.tidy(shutdown));
        self.rooms.settled().await;
    }
}
