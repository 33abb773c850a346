//! The room service: names, settings and the lives of rooms.
//!
//! A folder for each noun: `room`, `live`, `list`, `metadata`, `operator`, `tenant`. `clients` calls the services below;
//! `wire` is what the handlers share.

use parlance_db::{Db, Migrations, StoreError};
pub use parlance_outbox::Outbox;
use parlance_proto::message::v1::FactSource;
use parlance_proto::room::v1::live_room_service_server::LiveRoomServiceServer;
use parlance_proto::room::v1::metadata_service_server::MetadataServiceServer;
use parlance_proto::room::v1::operator_service_server::OperatorServiceServer;
use parlance_proto::room::v1::room_list_service_server::RoomListServiceServer;
use parlance_proto::room::v1::room_service_server::RoomServiceServer;
use parlance_proto::room::v1::tenant_settings_service_server::TenantSettingsServiceServer;
use parlance_rpc::{Env, Served, Tasks, Transport, public};
use parlance_types::LogId;
use std::sync::Arc;

mod clients;
mod error;
mod list;
mod live;
mod metadata;
mod operator;
mod room;
mod tenant;
mod wire;

pub use error::Error;

use clients::{Filters, Members, Rosters, Seats, UserLogs};
use list::RoomListGrpc;
use live::{LiveRoomGrpc, LiveRooms};
use metadata::MetadataGrpc;
use operator::OperatorGrpc;
use room::store::Store;
use room::{RoomGrpc, Rooms};
use tenant::{TenantSettingsGrpc, Tenants};
use wire::Callers;

/// The schema of this service.
pub const MIGRATIONS: Migrations =
    parlance_db::migrations!(with parlance_outbox::MIGRATIONS, parlance_requests::MIGRATIONS);

/// The room service. Clones share it.
#[derive(Clone, Debug)]
pub struct Service {
    rooms: Rooms,
    live: LiveRooms,
    tenants: Tenants,
    logs: UserLogs,
    callers: Callers,
    outbox: Outbox,
    tasks: Tasks,
}

impl Service {
    /// Puts the service together on a database whose schema is [`MIGRATIONS`], over the
    /// services that it calls.
    pub fn open(env: &Env, db: Db, membership: Transport, message: Transport) -> Self {
        let internal = || env.internal.clone();
        let outbox = Outbox::new(db.clone(), FactSource::Room, message.clone(), internal());
        let members = Members::new(membership.clone(), internal());
        let seats = Seats::new(membership.clone(), internal());
        let tenants = clients::Tenants::new(membership.clone(), internal());
        let filters = Filters::new(message.clone(), internal());
        let rosters = Rosters::new(membership, internal());
        let rooms = Rooms::new(env, Store::new(db), rosters.clone(), members, outbox.clone());
        Self {
            live: LiveRooms::new(rooms.clone(), seats),
            tenants: Tenants::new(rooms.store().db().clone(), tenants, filters, env),
            rooms,
            logs: UserLogs::new(message, internal()),
            callers: Callers::new(rosters, Arc::clone(&env.clock)),
            outbox,
            tasks: env.tasks.clone(),
        }
    }

    /// The logs of rooms that are there, up to `limit` by id after `after`.
    pub async fn active(&self, after: LogId, limit: i64) -> Result<Vec<LogId>, StoreError> {
        self.rooms.store().active(after, limit).await
    }

    /// The facts on their way into logs.
    pub const fn outbox(&self) -> &Outbox {
        &self.outbox
    }

    /// What users, backends and operators call, once the auth layer has verified them.
    pub fn public(&self) -> Served {
        let Self { rooms, live, tenants, logs, callers, outbox, tasks } = self.clone();
        public![
            RoomServiceServer::new(RoomGrpc { rooms: rooms.clone(), callers: callers.clone() }),
            LiveRoomServiceServer::new(LiveRoomGrpc { live, callers: callers.clone() }),
            MetadataServiceServer::new(MetadataGrpc {
                rooms: rooms.clone(),
                callers: callers.clone(),
            }),
            RoomListServiceServer::new(RoomListGrpc { rooms, logs, callers }),
            TenantSettingsServiceServer::new(TenantSettingsGrpc { tenants }),
            OperatorServiceServer::new(OperatorGrpc { outbox, tasks }),
        ]
    }

    /// Finishes from now on what callers and earlier processes left: facts that are not in
    /// their logs, creations, deletions, rules that are not pushed.
    pub fn run(&self) {
        self.outbox.relay("room relay", &self.tasks);
        self.rooms.run_janitor();
        self.rooms.run_followers(&self.tasks);
        self.rooms.run_watch(&self.tasks);
        self.live.run(&self.tasks);
    }
}
