//! The presence service: who is online, and who is typing.
//!
//! A request passes `grpc` (decode, call, encode), `domain` (what sessions mean)
//! and `state` (sessions under leases, in memory or in Redis) or `store` (SQL:
//! when users were last seen). `clients` calls the services below, membership and
//! message.

use std::sync::Arc;

use parlance_db::{Db, Migrations};
use parlance_proto::presence::v1::presence_service_server::PresenceServiceServer;
use parlance_proto::presence::v1::session_service_server::SessionServiceServer;
use parlance_proto::presence::v1::typing_service_server::TypingServiceServer;
use parlance_rpc::{Internal, Transport};
use parlance_types::Clock;
use tokio_util::sync::CancellationToken;

mod clients;
pub mod domain;
pub mod error;
mod grpc;
pub mod state;
mod store;

pub use domain::Options;
pub use error::Error;
pub use grpc::{PresenceGrpc, SessionGrpc, TypingGrpc};

use state::Sessions;

/// The schema of this service.
pub const MIGRATIONS: Migrations = parlance_db::migrations!();

/// What the presence service stands on.
#[derive(Debug)]
pub struct Ground {
    pub db: Db,
    pub sessions: Arc<dyn Sessions>,
    pub clock: Arc<dyn Clock>,
    pub internal: Internal,
    pub membership: Transport,
    pub message: Transport,
}

/// The presence service, wired. Clones share it.
#[derive(Clone, Debug)]
pub struct Service {
    presences: domain::Presences,
    streams: grpc::Streams,
}

impl Service {
    /// Wires the service to its state, its database and the services that it calls.
    pub fn open(ground: Ground, options: Options) -> Self {
        let Ground { db, sessions, clock, internal, membership, message } = ground;
        let roster = clients::Roster::new(membership, internal.clone());
        let notices = clients::Notices::new(message, internal);
        let streams = grpc::Streams::new(options.streams_per_caller, Arc::clone(&clock));
        let store = store::Store::new(db, clock);
        let presences = domain::Presences::new(sessions, store, roster, notices, options);
        Self { presences, streams }
    }

    /// The gRPC server; `draining` ends its streams. Its callers must have been
    /// verified by the auth layer.
    pub fn server(&self, draining: CancellationToken) -> PresenceServiceServer<PresenceGrpc> {
        let streams = self.streams.ended_by(draining);
        PresenceServiceServer::new(PresenceGrpc::new(self.presences.clone(), streams))
    }

    /// The gRPC server of sessions, for the same callers.
    pub fn sessions(&self, draining: CancellationToken) -> SessionServiceServer<SessionGrpc> {
        let streams = self.streams.ended_by(draining);
        SessionServiceServer::new(SessionGrpc::new(self.presences.clone(), streams))
    }

    /// The gRPC server of typing, for the same callers.
    pub fn typing(&self) -> TypingServiceServer<TypingGrpc> {
        TypingServiceServer::new(TypingGrpc::new(self.presences.clone()))
    }

    /// Shows the state that somebody lives who renews leases, and looks at those who
    /// are watched. Must run beside the server; ends when `shutdown` is cancelled and
    /// what was begun is done.
    pub async fn run(&self, shutdown: CancellationToken) {
        self.presences.run(shutdown).await;
    }
}
