//! A message service within this process, and clients of it.

use std::sync::Arc;

use parlance_bus::InProcessBus;
use parlance_db::Db;
use parlance_log::Store;
use parlance_message::{Config, Service};
use parlance_proto::message::v1::content_filter_service_client::ContentFilterServiceClient;
use parlance_proto::message::v1::fact_service_client::FactServiceClient;
use parlance_proto::message::v1::inbox_service_client::InboxServiceClient;
use parlance_proto::message::v1::mark_service_client::MarkServiceClient;
use parlance_proto::message::v1::message_service_client::MessageServiceClient;
use parlance_proto::message::v1::notice_relay_service_client::NoticeRelayServiceClient;
use parlance_proto::message::v1::operator_service_client::OperatorServiceClient;
use parlance_proto::message::v1::stream_service_client::StreamServiceClient;
use parlance_proto::message::v1::user_log_service_client::UserLogServiceClient;
use parlance_proto::message::v1::{
    DeleteMessageRequest, EditMessageRequest, EditMessageResponse, GetMessageRequest,
    GetUnreadRequest, Message, MessageContent, SendMessageRequest, SendMessageResponse,
    SubscribeRequest,
};
pub(crate) use parlance_rpc::testing::{bad_ids, caller, refused, violates};
use parlance_rpc::testing::{called_by, env};
use parlance_rpc::{Caller, Deadline, Principal, Transport};
use parlance_types::{ManualClock, UserId};
use tokio::time::Instant;

use crate::stream::harness::{Reader, latest};

/// Clients of what a caller reaches.
#[derive(Clone, Debug)]
pub(crate) struct Client {
    pub(crate) messages: MessageServiceClient<Transport>,
    pub(crate) marks: MarkServiceClient<Transport>,
    pub(crate) inbox: InboxServiceClient<Transport>,
    /// For clients of every other public service.
    pub(crate) transport: Transport,
}

/// Clients of what another service of the suite reaches.
#[derive(Clone, Debug)]
pub(crate) struct InternalClient {
    pub(crate) facts: FactServiceClient<Transport>,
    pub(crate) filters: ContentFilterServiceClient<Transport>,
    pub(crate) user_logs: UserLogServiceClient<Transport>,
    pub(crate) notices: NoticeRelayServiceClient<Transport>,
}

/// The tenant of those whose tenant does not matter.
pub(crate) const TENANT: &str = "acme";

/// A message service.
pub(crate) struct World {
    pub(crate) service: Service,
    pub(crate) clock: Arc<ManualClock>,
}

impl World {
    pub(crate) async fn open(db: Db) -> Self {
        Self::laid_out(db, Config::default()).await
    }

    pub(crate) async fn laid_out(db: Db, config: Config) -> Self {
        let world = Self::still(db, config).await;
        world.service.run();
        world
    }

    /// One in which nothing happens beside calls: no stream goes on, and what is to be done in
    /// time a test does.
    pub(crate) async fn still(db: Db, config: Config) -> Self {
        let clock = Arc::new(ManualClock::at(1_500_000));
        let bus = Arc::new(InProcessBus::default());
        let env = env(clock.clone());
        let service = Service::open(&env, db, bus, config).await.expect("open the service");
        Self { service, clock }
    }

    /// A client with a token of this user.
    pub(crate) fn user(&self, user_id: &str) -> Client {
        self.client(TENANT, Principal::User(UserId::new(user_id)))
    }

    /// A client of a service that acts for nobody.
    pub(crate) fn backend(&self) -> Client {
        self.client(TENANT, Principal::Service)
    }

    /// A client of a service that acts for a user.
    pub(crate) fn service_for(&self, user_id: &str) -> Client {
        self.client(TENANT, Principal::ServiceFor(UserId::new(user_id)))
    }

    pub(crate) fn client(&self, tenant_id: &str, principal: Principal) -> Client {
        self.with(Some(caller(tenant_id, principal)), None)
    }

    /// A client whose requests the auth and deadline layers have let pass like this.
    pub(crate) fn with(&self, caller: Option<Caller>, deadline: Option<Instant>) -> Client {
        let transport = called_by(self.service.public(), caller, deadline.map(Deadline));
        Client {
            messages: MessageServiceClient::new(transport.clone()),
            marks: MarkServiceClient::new(transport.clone()),
            inbox: InboxServiceClient::new(transport.clone()),
            transport,
        }
    }

    /// A client of another service of the suite.
    pub(crate) fn internal(&self, tenant_id: &str) -> InternalClient {
        self.logs(Some(caller(tenant_id, Principal::Internal(None))))
    }

    pub(crate) fn logs(&self, caller: Option<Caller>) -> InternalClient {
        let transport = called_by(self.service.internal(), caller, None);
        InternalClient {
            facts: FactServiceClient::new(transport.clone()),
            filters: ContentFilterServiceClient::new(transport.clone()),
            user_logs: UserLogServiceClient::new(transport.clone()),
            notices: NoticeRelayServiceClient::new(transport),
        }
    }

    pub(crate) fn operator(&self, caller: Option<Caller>) -> OperatorServiceClient<Transport> {
        OperatorServiceClient::new(self.with(caller, None).transport)
    }

    /// Opens a stream.
    pub(crate) async fn subscribe(&self, client: Client, request: SubscribeRequest) -> Reader {
        let stream = StreamServiceClient::new(client.transport).subscribe(request).await;
        Reader::new(stream.expect("a stream").into_inner())
    }

    /// Follows a room from here on.
    pub(crate) async fn follow(&self, room_id: &str) -> Reader {
        let mut reader = self.subscribe(self.backend(), latest(&[room_id])).await;
        reader.all_caught_up(1).await;
        reader
    }
}

impl AsRef<Store> for World {
    fn as_ref(&self) -> &Store {
        self.service.store()
    }
}

/// The content of a text message.
pub(crate) fn text(text: &str) -> MessageContent {
    MessageContent { text: text.to_owned(), ..MessageContent::default() }
}

pub(crate) fn saying(room_id: &str, words: &str) -> SendMessageRequest {
    SendMessageRequest {
        room_id: room_id.to_owned(),
        content: Some(text(words)),
        ..SendMessageRequest::default()
    }
}

pub(crate) async fn send(client: &mut Client, room_id: &str, words: &str) -> SendMessageResponse {
    client.messages.send_message(saying(room_id, words)).await.expect("send").into_inner()
}

pub(crate) async fn get(client: &mut Client, message_id: &str) -> Message {
    let request = GetMessageRequest { message_id: message_id.to_owned() };
    let reply = client.messages.get_message(request).await.expect("get").into_inner();
    reply.message.expect("a message")
}

pub(crate) fn editing(message_id: &str, words: &str) -> EditMessageRequest {
    let (message_id, content) = (message_id.to_owned(), Some(text(words)));
    EditMessageRequest { message_id, content, request_id: String::new() }
}

pub(crate) async fn edit(
    client: &mut Client,
    message_id: &str,
    words: &str,
) -> EditMessageResponse {
    client.messages.edit_message(editing(message_id, words)).await.expect("edit").into_inner()
}

/// Deletes a message; gives the number of the deletion.
pub(crate) async fn delete(client: &mut Client, message_id: &str) -> i64 {
    let request = DeleteMessageRequest { message_id: message_id.to_owned() };
    client.messages.delete_message(request).await.expect("delete").into_inner().seq
}

/// How many messages are unread in all rooms.
pub(crate) async fn unread(client: &mut Client) -> i64 {
    let request = GetUnreadRequest::default();
    client.inbox.get_unread(request).await.expect("unread").into_inner().total
}

/// The text of a message as it reads now; `None` where it has no content.
pub(crate) fn words(message: &Message) -> Option<&str> {
    message.content.as_ref().map(|content| content.text.as_str())
}

/// Message ids that no field of any request takes.
pub(crate) fn bad_message_ids() -> [&'static str; 6] {
    [
        "",
        "lobby",
        "\0",
        "00000000000000000000000000000009-0",
        "00000000000000000000000000000009--1",
        "00000000-0000-0000-0000-000000000009-1",
    ]
}
