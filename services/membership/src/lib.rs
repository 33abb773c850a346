//! The membership service: users, who is in which room, and with which role.
//!
//! A request passes `grpc` (decode, call, encode), `domain` (what may be changed
//! and what follows) and `store` (SQL). A change and the fact that tells of it are
//! one transaction; the reply says OK once the fact is in the room's log. `codec`
//! is the encoding of facts and replies.

use std::sync::Arc;

use parlance_db::{Db, Migrations};
use parlance_outbox::Outbox;
use parlance_proto::membership::v1::membership_service_server::MembershipServiceServer;
use parlance_proto::membership::v1::operator_service_server::OperatorServiceServer;
use parlance_proto::membership::v1::roster_service_server::RosterServiceServer;
use parlance_proto::membership::v1::user_service_server::UserServiceServer;
use parlance_proto::message::v1::FactSource;
use parlance_rpc::{Internal, Transport};
use parlance_types::Clock;

pub mod codec;
pub mod domain;
pub mod error;
pub mod grpc;
pub mod store;

pub use error::Error;

use grpc::{Handler, Memberships, Operators, Rosters, Users};
use store::Store;

/// The schema of this service.
pub const MIGRATIONS: Migrations = parlance_db::migrations!();

/// The membership service. Clones share it.
#[derive(Clone, Debug)]
pub struct Service {
    handler: Handler,
}

impl Service {
    /// The service on a database whose schema is [`MIGRATIONS`]; its facts go to the
    /// logs behind `message`.
    pub fn open(db: Db, clock: Arc<dyn Clock>, internal: Internal, message: Transport) -> Self {
        let outbox = Outbox::new(db.clone(), FactSource::Membership, message, internal);
        Self { handler: Handler { store: Store::new(db, clock), outbox } }
    }

    /// The server of `UserService`.
    pub fn users(&self) -> UserServiceServer<Users> {
        UserServiceServer::new(Users(self.handler.clone()))
    }

    /// The server of `MembershipService`.
    pub fn memberships(&self) -> MembershipServiceServer<Memberships> {
        MembershipServiceServer::new(Memberships(self.handler.clone()))
    }

    /// The server of `OperatorService`.
    pub fn operators(&self) -> OperatorServiceServer<Operators> {
        OperatorServiceServer::new(Operators(self.handler.clone()))
    }

    /// The server of `RosterService`, for the internal audience.
    pub fn rosters(&self) -> RosterServiceServer<Rosters> {
        RosterServiceServer::new(Rosters(self.handler.clone()))
    }

    /// The facts on their way into logs. Its relay must run beside the servers.
    pub fn outbox(&self) -> &Outbox {
        &self.handler.outbox
    }
}
