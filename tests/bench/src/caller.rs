//! One user on a connection of its own.

use std::time::{Duration, Instant};

use bytes::{Buf, BufMut};
use http::uri::PathAndQuery;
use parlance_proto::message::v1::list_messages_request::Position;
use parlance_proto::message::v1::message_service_client::MessageServiceClient;
use parlance_proto::message::v1::send_messages_response::Answer;
use parlance_proto::message::v1::stream_service_client::StreamServiceClient;
use parlance_proto::message::v1::{
    ListMessagesRequest, MessageContent, RoomCursor, SendMessageRequest, SendMessagesRequest,
    StreamStart, SubscribeRequest, SubscribeResponse,
};
use prost::encoding::{DecodeContext, WireType, skip_field};
use prost::{DecodeError, Message};
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::metadata::{Ascii, MetadataValue};
use tonic::transport::{Channel, Endpoint};
use tonic::{Request, Status, Streaming};
use tonic_prost::ProstCodec;

/// How long a text is, in bytes.
pub(crate) const TEXT: usize = 200;

const LIST_MESSAGES: &str = "/parlance.message.v1.MessageService/ListMessages";

/// `ListMessagesResponse.messages`.
const MESSAGES: u32 = 1;

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

/// How many messages a `ListMessagesResponse` holds.
#[derive(Debug, Default)]
struct Counted {
    messages: usize,
}

impl Message for Counted {
    fn encode_raw(&self, _: &mut impl BufMut) {
        unreachable!("a client only reads pages")
    }

    fn merge_field(
        &mut self,
        tag: u32,
        wire_type: WireType,
        buf: &mut impl Buf,
        context: DecodeContext,
    ) -> Result<(), DecodeError> {
        self.messages += usize::from(tag == MESSAGES);
        skip_field(wire_type, tag, buf, context)
    }

    fn encoded_len(&self) -> usize {
        0
    }

    fn clear(&mut self) {
        *self = Self::default();
    }
}

/// A text that begins with the request id.
fn message(room: &str, request_id: String) -> SendMessageRequest {
    let text = format!("{request_id:<TEXT$}");
    let content = Some(MessageContent { text, ..MessageContent::default() });
    let room_id = room.to_owned();
    SendMessageRequest { room_id, content, request_id, ..SendMessageRequest::default() }
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
        let mut client = MessageServiceClient::new(self.channel.clone());
        client.send_message(self.request(message(room, request_id))).await.map(drop)
    }

    /// Sends such texts on one stream, `open` of them at a time, until `stop`; how many were
    /// stored, and how many refused.
    pub(crate) async fn pour(
        &self,
        open: usize,
        stop: Instant,
        mut next: impl FnMut() -> (String, String) + std::marker::Send,
    ) -> Result<(usize, usize), Status> {
        let (sends, requests) = mpsc::channel(open);
        let mut put = || {
            let (room, request_id) = next();
            let message = Some(message(&room, request_id));
            sends.try_send(SendMessagesRequest { message }).is_ok()
        };
        for _ in 0..open {
            put();
        }
        let mut client = MessageServiceClient::new(self.channel.clone());
        let requests = self.request(ReceiverStream::new(requests));
        let mut answers = client.send_messages(requests).await?.into_inner();
        let (mut waiting, mut stored, mut refused) = (open, 0, 0);
        while waiting > 0 {
            let Some(answer) = answers.message().await? else { break };
            match answer.answer {
                Some(Answer::Sent(_)) => stored += 1,
                Some(Answer::Refused(_)) => refused += 1,
                None => continue,
            }
            if Instant::now() > stop || !put() {
                waiting -= 1;
            }
        }
        Ok((stored, refused + waiting))
    }

    /// Reads the page of `size` messages below a place, and says how many it holds. They
    /// are not decoded: what a client does with them is its own.
    pub(crate) async fn page(&self, room: &str, before: i64, size: usize) -> Result<usize, Status> {
        let request = ListMessagesRequest {
            room_id: room.to_owned(),
            page_size: i32::try_from(size).expect("a size"),
            position: Some(Position::BeforeSeq(before)),
            ..ListMessagesRequest::default()
        };
        let mut client = tonic::client::Grpc::new(self.channel.clone());
        client.ready().await.map_err(|_| Status::unavailable("no connection"))?;
        let path = PathAndQuery::from_static(LIST_MESSAGES);
        let codec = ProstCodec::<ListMessagesRequest, Counted>::default();
        let page = client.unary(self.request(request), path, codec).await?;
        Ok(page.into_inner().messages)
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
