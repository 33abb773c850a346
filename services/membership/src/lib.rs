//! The membership service: users, who is in which room, and with which role.
//!
//! | folder | what | served |
//! |---|---|---|
//! | `block` | whom users have blocked | to callers |
//! | `member` | what is said of a member | to callers |
//! | `membership` | joining, leaving, adding, removing, roles; who is where | to callers |
//! | `moderation` | keeping users out of rooms or of everything, or silent | to callers |
//! | `invitation` | asking users into a room, and their answers | to callers |
//! | `join_request` | users who ask to be let in, and the room's answers | to callers |
//! | `invite_link` | links by which users come in | to callers |
//! | `user` | the directory of a tenant | to callers |
//! | `seat` | the devices in live rooms, and the end of a room that nobody is in | to the suite |
//! | `roster` | opening, ruling and closing the list of a room's members | to the suite |
//! | `privacy_list` | lists of whom users block, by name | to callers |
//! | `tenant` | what operators decided for a tenant | to the suite |
//! | `operator` | how the service is doing | to operators |
//!
//! In each, `mod.rs` has the values and the rule, `store.rs` its SQL, `grpc.rs` its gRPC
//! service. A change and the fact that tells of it are one transaction; the reply says OK
//! once the fact is in the room's log. `codec` is the encoding of facts and stored replies, `clients`
//! calls message for what is told beside them.

use std::sync::Arc;
use std::time::Duration;

use parlance_db::{Db, Migrations, StoreError};
pub use parlance_outbox::{LogVersion, Outbox};
use parlance_proto::membership::v1::block_service_server::BlockServiceServer;
use parlance_proto::membership::v1::invitation_service_server::InvitationServiceServer;
use parlance_proto::membership::v1::invite_link_service_server::InviteLinkServiceServer;
use parlance_proto::membership::v1::join_request_service_server::JoinRequestServiceServer;
use parlance_proto::membership::v1::member_edit_service_server::MemberEditServiceServer;
use parlance_proto::membership::v1::member_service_server::MemberServiceServer;
use parlance_proto::membership::v1::membership_service_server::MembershipServiceServer;
use parlance_proto::membership::v1::moderation_service_server::ModerationServiceServer;
use parlance_proto::membership::v1::operator_service_server::OperatorServiceServer;
use parlance_proto::membership::v1::privacy_list_service_server::PrivacyListServiceServer;
use parlance_proto::membership::v1::roster_service_server::RosterServiceServer;
use parlance_proto::membership::v1::seat_service_server::SeatServiceServer;
use parlance_proto::membership::v1::tenant_service_server::TenantServiceServer;
use parlance_proto::membership::v1::user_service_server::UserServiceServer;
use parlance_proto::message::v1::FactSource;
use parlance_rpc::{Env, Served, Tasks, Transport};

mod block;
mod clients;
mod codec;
mod error;
mod handler;
mod invitation;
mod invite_link;
mod join_request;
mod member;
mod membership;
mod moderation;
mod operator;
mod privacy_list;
mod roster;
mod seat;
mod store;
mod tenant;
mod user;
mod wire;

use block::grpc::BlockGrpc;
use clients::Notices;
use error::Error;
use handler::Handler;
use invitation::grpc::InvitationGrpc;
use invite_link::grpc::InviteLinkGrpc;
use join_request::grpc::JoinRequestGrpc;
use member::grpc::MemberGrpc;
use membership::grpc::{MemberEditGrpc, MembershipGrpc};
use moderation::grpc::ModerationGrpc;
use operator::grpc::OperatorGrpc;
use privacy_list::grpc::PrivacyListGrpc;
use roster::grpc::RosterGrpc;
use seat::grpc::SeatGrpc;
use store::Store;
use tenant::grpc::TenantGrpc;
use user::grpc::UserGrpc;

/// How often rosters that were closed are looked for.
const CLOSED: Duration = Duration::from_secs(2);

/// How often tenants are looked for whose users are to be counted once more.
const LIMITED: Duration = Duration::from_secs(2);

/// How often live rooms are looked for that nobody came back to in time.
const DUE: Duration = Duration::from_secs(1);

/// The schema of this service.
pub const MIGRATIONS: Migrations =
    parlance_db::migrations!(with parlance_outbox::MIGRATIONS, parlance_requests::MIGRATIONS);

/// The membership service. Clones share it.
#[derive(Clone, Debug)]
pub struct Service {
    handler: Handler,
    notices: Notices,
    tasks: Tasks,
}

impl Service {
    /// The service on a database whose schema is [`MIGRATIONS`]; its facts go to the
    /// logs behind `message`.
    pub fn open(env: &Env, db: Db, message: Transport) -> Self {
        let internal = env.internal.clone();
        let notices = Notices::new(message.clone(), internal.clone());
        let outbox = Outbox::new(db.clone(), FactSource::Membership, message, internal);
        let store = Store::new(db, env.clock.clone());
        Self { handler: Handler { store, outbox }, notices, tasks: env.tasks.clone() }
    }

    /// The facts on their way into logs.
    pub const fn outbox(&self) -> &Outbox {
        &self.handler.outbox
    }

    /// Ends live rooms whose time is over, as [`run`](Self::run) does every second.
    pub async fn end_due(&self) -> Result<(), StoreError> {
        self.handler.close_due().await
    }

    /// What users, backends and operators call.
    pub fn public(&self) -> Served {
        parlance_rpc::public!(
            self.users(),
            self.memberships(),
            self.members(),
            self.moderation(),
            self.invitations(),
            self.join_requests(),
            self.invite_links(),
            self.blocks(),
            self.privacy_lists(),
            self.operators()
        )
    }

    /// What the other services of the suite call.
    pub fn internal(&self) -> Served {
        parlance_rpc::internal!(self.rosters(), self.seats(), self.member_edits(), self.tenants())
    }

    pub fn users(&self) -> UserServiceServer<UserGrpc> {
        UserServiceServer::new(UserGrpc(self.handler.clone()))
    }

    pub fn memberships(&self) -> MembershipServiceServer<MembershipGrpc> {
        MembershipServiceServer::new(MembershipGrpc(self.handler.clone()))
    }

    pub fn moderation(&self) -> ModerationServiceServer<ModerationGrpc> {
        ModerationServiceServer::new(ModerationGrpc(self.handler.clone()))
    }

    pub fn invitations(&self) -> InvitationServiceServer<InvitationGrpc> {
        InvitationServiceServer::new(InvitationGrpc(self.handler.clone()))
    }

    pub fn join_requests(&self) -> JoinRequestServiceServer<JoinRequestGrpc> {
        JoinRequestServiceServer::new(JoinRequestGrpc(self.handler.clone()))
    }

    pub fn invite_links(&self) -> InviteLinkServiceServer<InviteLinkGrpc> {
        InviteLinkServiceServer::new(InviteLinkGrpc(self.handler.clone()))
    }

    pub fn blocks(&self) -> BlockServiceServer<BlockGrpc> {
        BlockServiceServer::new(BlockGrpc(self.handler.clone()))
    }

    pub fn privacy_lists(&self) -> PrivacyListServiceServer<PrivacyListGrpc> {
        PrivacyListServiceServer::new(PrivacyListGrpc(self.handler.clone()))
    }

    pub fn members(&self) -> MemberServiceServer<MemberGrpc> {
        MemberServiceServer::new(MemberGrpc(self.handler.clone()))
    }

    pub fn operators(&self) -> OperatorServiceServer<OperatorGrpc> {
        let (outbox, tasks) = (self.handler.outbox.clone(), self.tasks.clone());
        OperatorServiceServer::new(OperatorGrpc { outbox, tasks })
    }

    pub fn rosters(&self) -> RosterServiceServer<RosterGrpc> {
        RosterServiceServer::new(RosterGrpc(self.handler.clone()))
    }

    pub fn member_edits(&self) -> MemberEditServiceServer<MemberEditGrpc> {
        MemberEditServiceServer::new(MemberEditGrpc(self.handler.clone()))
    }

    pub fn seats(&self) -> SeatServiceServer<SeatGrpc> {
        let (handler, notices) = (self.handler.clone(), self.notices.clone());
        SeatServiceServer::new(SeatGrpc { handler, notices })
    }

    pub fn tenants(&self) -> TenantServiceServer<TenantGrpc> {
        TenantServiceServer::new(TenantGrpc(self.handler.clone()))
    }

    /// Starts what runs beside requests.
    pub fn run(&self) {
        let Handler { store, outbox } = &self.handler;
        outbox.relay("membership relay", &self.tasks);
        let (db, clock) = (store.db.clone(), store.clock.clone());
        parlance_requests::prune("membership requests", &self.tasks, db, clock);
        let store = store.clone();
        self.tasks.every("closed rosters", CLOSED, Arc::default(), move || {
            let store = store.clone();
            async move { store.empty_closed().await }
        });
        let store = self.handler.store.clone();
        self.tasks.every("limited tenants", LIMITED, Arc::default(), move || {
            let store = store.clone();
            async move { store.recount_users().await }
        });
        let handler = self.handler.clone();
        self.tasks.every("live rooms", DUE, Arc::default(), move || {
            let handler = handler.clone();
            async move { handler.close_due().await }
        });
    }
}
