//! One user on a connection of its own.

use std::time::Duration;

use parlance_proto::message::v1::message_service_client::MessageServiceClient;
use parlance_proto::message::v1::stream_service_client::StreamServiceClient;
use parlance_proto::message::v1::{
    MessageContent, RoomCursor, SendMessageRequest, StreamStart, SubscribeRequest,
    SubscribeResponse,
};
use tonic::metadata::{Ascii, MetadataValue};
use tonic::transport::{Channel, Endpoint};
use tonic::{Request, Status, Streaming};

/// How long a text is, in bytes.
pub(crate) const TEXT: usize = 200;

/// Who calls, and over which connection.
#[derive(Clone, Debug)]
pub(crate) struct Caller {
    channel: Channel,
    bearer: MetadataValue<Ascii>,
}

pub(crate) async fn connect(address: &str) -> Channel {
    let endpoint = Endpoint::from_shared(address.to_owned()).expect("an address");
    let endpoint = endpoint.tcp_nodelay(true).connect_timeout(Duration::from_secs(5));
    endpoint.connect().await.expect("a connection")
}

impl Caller {
    pub(crate) fn new(channel: Channel, token: &str) -> Self {
        Self { channel, bearer: format!("Bearer {token}").parse().expect("a token is ASCII") }
    }

    fn request<T>(&self, message: T) -> Request<T> {
        let mut request = Request::new(message);
        request.metadata_mut().insert("authorization", self.bearer.clone());
        request
    }

    /// Sends a text that begins with the request id.
    pub(crate) async fn send(&self, room: &str, request_id: String) -> Result<(), Status> {
        let text = format!("{request_id:<TEXT$}");
        let content = Some(MessageContent { text, ..MessageContent::default() });
        let room_id = room.to_owned();
        let send = SendMessageRequest { room_id, content, request_id, uncounted: false };
        let mut client = MessageServiceClient::new(self.channel.clone());
        client.send_message(self.request(send)).await.map(drop)
    }

    /// Follows a room from its head on.
    pub(crate) async fn follow(&self, room: &str) -> Streaming<SubscribeResponse> {
        let room = RoomCursor { room_id: room.to_owned(), cursor: None };
        let start = StreamStart::Latest.into();
        let follow = SubscribeRequest { rooms: vec![room], all_my_rooms: false, start };
        let mut client = StreamServiceClient::new(self.channel.clone());
        client.subscribe(self.request(follow)).await.expect("a stream").into_inner()
    }
}
