//! The presence service: who is online, and who is typing.
//!
//! A folder for each noun: `session`, `presence`, `typing`, and `seat`, which nobody calls. `state` holds sessions under
//! leases, in memory or in Redis; `clients` calls the services below; `wire` is what the
//! handlers share.

use std::sync::Arc;

use parlance_db::{Db, Migrations};
use parlance_proto::presence::v1::presence_service_server::PresenceServiceServer;
use parlance_proto::presence::v1::session_service_server::SessionServiceServer;
use parlance_proto::presence::v1::typing_service_server::TypingServiceServer;
use parlance_rpc::{Env, Served, Tasks, Transport, public};

mod clients;
mod error;
mod options;
mod presence;
mod seat;
pub mod session;
pub mod state;
mod typing;
mod wire;

pub use error::Error;
pub use options::{Leases, Options, Share};

use clients::{Notices, Rosters, Seats};
use presence::{PresenceGrpc, Presences};
use seat::SeatEnds;
use session::{Devices, LastSeen, SessionGrpc, Store};
use state::Sessions;
use typing::{Typing, TypingGrpc};
use wire::Streams;

/// The schema of this service.
pub const MIGRATIONS: Migrations = parlance_db::migrations!();

/// The presence service. Clones share it.
#[derive(Clone, Debug)]
pub struct Service {
    presences: Presences,
    seats: SeatEnds,
    options: Options,
    tasks: Tasks,
    devices: Devices,
    typing: Typing,
    streams: Streams,
}

impl Service {
    /// Puts the service together on a database whose schema is [`MIGRATIONS`] and on the
    /// state of sessions, over the services that it calls.
    pub fn open(
        env: &Env,
        db: Db,
        sessions: Arc<dyn Sessions>,
        membership: Transport,
        message: Transport,
        options: Options,
    ) -> Self {
        let seats = Seats::new(membership.clone(), env.internal.clone());
        let rosters = Rosters::new(membership, env.internal.clone());
        let notices = Notices::new(message, env.internal.clone());
        let last_seen = LastSeen::new(env, Store(db));
        let (here, seen) = (Arc::clone(&sessions), last_seen.clone());
        Self {
            seats: SeatEnds { sessions: Arc::clone(&sessions), seats },
            options: options.clone(),
            tasks: env.tasks.clone(),
            devices: Devices::new(here, rosters.clone(), seen, options.leases),
            typing: Typing { notices, lasts: options.typing },
            streams: Streams::new(env, &options),
            presences: Presences::new(sessions, rosters, last_seen, options, env.tasks.clone()),
        }
    }

    /// What users and backends call, once the auth layer has verified them.
    pub fn public(&self) -> Served {
        let Self { presences, devices, typing, streams, .. } = self.clone();
        public![
            PresenceServiceServer::new(PresenceGrpc { presences, streams: streams.clone() }),
            SessionServiceServer::new(SessionGrpc { devices, streams }),
            TypingServiceServer::new(TypingGrpc(typing)),
        ]
    }

    /// How many streams are open, and how many users they watch, each as often as it is watched.
    pub fn open_streams(&self) -> (usize, usize) {
        self.streams.all()
    }

    /// How many sessions live, of all replicas.
    pub async fn count_sessions(&self) -> Result<u64, state::StateError> {
        self.seats.sessions.count().await
    }

    /// Shows the state from now on that somebody lives who renews leases, and looks at those
    /// who are watched, and for sessions that have ended.
    pub fn run(&self) {
        self.presences.run();
        self.seats.run(&self.options, &self.tasks);
    }
}
