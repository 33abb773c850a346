//! The service put together.

use std::sync::Arc;

use parlance_bus::Bus;
use parlance_db::Db;
use parlance_follow::Hub;
use parlance_log::{Options, Store};
use parlance_proto::message::v1::fact_service_server::FactServiceServer;
use parlance_proto::message::v1::inbox_service_server::InboxServiceServer;
use parlance_proto::message::v1::mark_service_server::MarkServiceServer;
use parlance_proto::message::v1::message_service_server::MessageServiceServer;
use parlance_proto::message::v1::notice_relay_service_server::NoticeRelayServiceServer;
use parlance_proto::message::v1::operator_service_server::OperatorServiceServer;
use parlance_proto::message::v1::user_log_service_server::UserLogServiceServer;
use parlance_proto::streaming::stream_service_server::StreamServiceServer;
use parlance_rpc::{MAX_INTERNAL, MAX_REQUEST};
use parlance_types::Clock;
use tokio_util::sync::CancellationToken;

use crate::Error;
use crate::fact::grpc::FactGrpc;
use crate::inbox::Inbox;
use crate::inbox::grpc::{InboxGrpc, UserLogGrpc};
use crate::mark::Marker;
use crate::mark::grpc::{MarkGrpc, receipts};
use crate::message::grpc::MessageGrpc;
use crate::message::{Messages, OnDelete};
use crate::notice::grpc::NoticeRelayGrpc;
use crate::operator::grpc::OperatorGrpc;
use crate::stream::grpc::StreamGrpc;

/// The largest request for a stream, in bytes: it may name 10,000 cursors.
const MAX_SUBSCRIBE: usize = 4 * 1024 * 1024;

/// What goes with a message when it is deleted: a noun that keeps something of messages
/// is named here.
const ON_DELETE: OnDelete = &[];

/// How the service is laid out.
#[derive(Clone, Debug, Default)]
pub struct Config {
    pub store: Options,
    pub stream: parlance_follow::Options,
}

/// The message service, running.
#[derive(Clone, Debug)]
pub struct Service {
    store: Store,
    messages: Messages,
    marker: Arc<Marker>,
    inbox: Inbox,
    hub: Hub,
    clock: Arc<dyn Clock>,
    closing: CancellationToken,
}

impl Service {
    /// Opens the service on its database. `bus` carries hints between its nodes.
    pub async fn open(
        db: Db,
        bus: Arc<dyn Bus>,
        clock: Arc<dyn Clock>,
        config: Config,
    ) -> Result<Self, Error> {
        let hub = Hub::new(bus, config.stream);
        let store = Store::open(db, Arc::clone(&clock), config.store, hub.publisher()).await?;
        let closing = CancellationToken::new();
        hub.start(store.clone(), &closing);
        let marker = Arc::new(Marker::new(store.clone(), receipts(hub.clone())));
        let messages = Messages::new(store.clone(), Arc::clone(&marker) as _, ON_DELETE);
        let inbox = Inbox::new(store.clone());
        Ok(Self { store, messages, marker, inbox, hub, clock, closing })
    }

    /// What users and backends call.
    pub fn message_server(&self) -> MessageServiceServer<MessageGrpc> {
        let server = MessageServiceServer::new(MessageGrpc::new(self.messages.clone()));
        server.max_decoding_message_size(MAX_REQUEST)
    }

    /// What users call on their own marks.
    pub fn mark_server(&self) -> MarkServiceServer<MarkGrpc> {
        let server = MarkServiceServer::new(MarkGrpc::new(Arc::clone(&self.marker)));
        server.max_decoding_message_size(MAX_REQUEST)
    }

    /// What users call on what they have not read.
    pub fn inbox_server(&self) -> InboxServiceServer<InboxGrpc> {
        let server = InboxServiceServer::new(InboxGrpc::new(self.inbox.clone()));
        server.max_decoding_message_size(MAX_REQUEST)
    }

    /// What follows rooms; `draining` sends its streams away with GoAway.
    pub fn stream_server(&self, draining: CancellationToken) -> StreamServiceServer<StreamGrpc> {
        let clock = Arc::clone(&self.clock);
        let server = StreamGrpc::new(self.hub.clone(), clock, draining).into_server();
        server.max_decoding_message_size(MAX_SUBSCRIBE)
    }

    /// What sources of facts call.
    pub fn fact_server(&self) -> FactServiceServer<FactGrpc> {
        let server = FactServiceServer::new(FactGrpc::new(self.store.clone()));
        server.max_decoding_message_size(MAX_INTERNAL)
    }

    /// What the room service calls.
    pub fn user_log_server(&self) -> UserLogServiceServer<UserLogGrpc> {
        let server = UserLogServiceServer::new(UserLogGrpc::new(self.inbox.clone()));
        server.max_decoding_message_size(MAX_INTERNAL)
    }

    /// What the presence service calls.
    pub fn notice_relay_server(&self) -> NoticeRelayServiceServer<NoticeRelayGrpc> {
        let relay = NoticeRelayGrpc::new(self.store.clone(), self.hub.clone());
        NoticeRelayServiceServer::new(relay).max_decoding_message_size(MAX_INTERNAL)
    }

    /// What operators call.
    pub fn operator_server(&self) -> OperatorServiceServer<OperatorGrpc> {
        let operator = OperatorGrpc::new(self.hub.clone(), self.store.clone());
        OperatorServiceServer::new(operator).max_decoding_message_size(MAX_REQUEST)
    }

    /// The logs themselves.
    pub const fn store(&self) -> &Store {
        &self.store
    }

    /// What the node follows.
    pub const fn hub(&self) -> &Hub {
        &self.hub
    }

    /// Lets every write that waits finish, then stops.
    pub async fn close(&self) {
        self.store.close().await;
        self.closing.cancel();
    }
}
