//! How many connections there may be, and how long one may do nothing.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use parlance_proto::message::v1::{SubscribeRequest, SubscribeResponse};
use parlance_rpc::ConnectionLimits;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpSocket, TcpStream};
use tokio_stream::StreamExt;
use tonic::transport::Channel;

use crate::harness::Harness;

/// What a client says first, and its settings.
const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
const SETTINGS: &[u8] = &[0, 0, 0, 4, 0, 0, 0, 0, 0];

/// A bound that is soon over.
const SOON: Duration = Duration::from_millis(300);

/// For what must happen.
const PATIENCE: Duration = Duration::from_secs(20);

/// Waits until the other side closes; what it said.
async fn closed(stream: &mut TcpStream) -> Vec<u8> {
    let mut said = Vec::new();
    let read = tokio::time::timeout(PATIENCE, stream.read_to_end(&mut said)).await;
    // Reset is closed too.
    let _closed = read.expect("it is closed in time");
    said
}

#[tokio::test]
async fn a_connection_without_a_handshake_is_dropped_in_time() {
    let limits = ConnectionLimits { handshake: SOON, ..ConnectionLimits::default() };
    let harness = Harness::limited(limits).await;
    for said in [&b""[..], b"PRI", PREFACE, &[PREFACE, &SETTINGS[..5]].concat()] {
        let began = Instant::now();
        let mut stream = TcpStream::connect(harness.address).await.expect("a connection");
        stream.write_all(said).await.expect("written");
        closed(&mut stream).await;
        assert!(began.elapsed() >= SOON, "{said:?}");
    }
}

#[tokio::test]
async fn a_connection_without_a_good_token_is_told_to_go_and_one_that_showed_one_may_stay() {
    let limits = ConnectionLimits { stranger: SOON, ..ConnectionLimits::default() };
    let harness = Harness::limited(limits).await;
    let stream = harness.streams().subscribe(harness.ann(SubscribeRequest::default())).await;
    let mut stream = stream.expect("a stream").into_inner();
    assert!(stream.next().await.expect("a frame").is_ok());
    let began = Instant::now();
    let mut idle = TcpStream::connect(harness.address).await.expect("a connection");
    idle.write_all(&[PREFACE, SETTINGS].concat()).await.expect("written");
    let (mut said, mut part) = (Vec::<u8>::new(), [0; 1024]);
    // A frame of kind 7, GOAWAY.
    while !said.windows(4).any(|bytes| bytes == [0, 0, 8, 7]) {
        let read = tokio::time::timeout(PATIENCE, idle.read(&mut part)).await;
        let read = read.expect("in time").expect("read");
        assert!(read > 0, "closed without a word");
        said.extend(&part[..read]);
    }
    assert!(began.elapsed() >= SOON);
    // It has outlived the bound as well.
    let more = tokio::time::timeout(Duration::from_millis(50), stream.next()).await;
    assert!(more.is_err(), "the other one goes on");
}

/// A connection from an address of the loopback network.
async fn from(address: &str, to: SocketAddr) -> TcpStream {
    let socket = TcpSocket::new_v4().expect("a socket");
    socket.bind(format!("{address}:0").parse().expect("an address")).expect("bound");
    let mut stream = socket.connect(to).await.expect("a connection");
    // Whether it was taken is seen by what the server says; a refusal may come first.
    let _written = stream.write_all(&[PREFACE, SETTINGS].concat()).await;
    stream
}

/// Whether the server talks.
async fn was_taken(stream: &mut TcpStream) -> bool {
    let read = tokio::time::timeout(PATIENCE, stream.read_u8()).await;
    read.expect("an answer or an end").is_ok()
}

/// A stream on a connection of its own, which so is known.
async fn known(harness: &Harness) -> tonic::Streaming<SubscribeResponse> {
    let stream = harness.streams().subscribe(harness.ann(SubscribeRequest::default())).await;
    let mut stream = stream.expect("a stream").into_inner();
    assert!(stream.next().await.expect("a frame").is_ok());
    stream
}

#[tokio::test]
async fn strangers_make_room_for_others_and_those_with_a_good_token_do_not() {
    let limits = ConnectionLimits { all: 4, per_address: 2, ..ConnectionLimits::default() };
    let harness = Harness::limited(limits).await;
    let mut first = known(&harness).await;
    // Of one address: the oldest stranger goes.
    let mut stranger = from("127.0.0.1", harness.address).await;
    assert!(was_taken(&mut stranger).await);
    let mut other = from("127.0.0.1", harness.address).await;
    assert!(was_taken(&mut other).await);
    closed(&mut stranger).await;
    let mut second = known(&harness).await;
    closed(&mut other).await;
    assert!(!was_taken(&mut from("127.0.0.1", harness.address).await).await);
    // One that closes makes room for the next.
    drop(second);
    while !was_taken(&mut from("127.0.0.1", harness.address).await).await {}
    second = known(&harness).await;
    // Of all together too.
    let mut others = Vec::new();
    for host in 2..6 {
        let mut stream = from(&format!("127.0.0.{host}"), harness.address).await;
        assert!(was_taken(&mut stream).await);
        others.push(stream);
    }
    for gone in &mut others[..2] {
        closed(gone).await;
    }
    for stream in [&mut first, &mut second] {
        let more = tokio::time::timeout(Duration::from_millis(50), stream.next()).await;
        assert!(more.is_err(), "those who are known stay");
    }
}

/// A connection of a stock client that asks often whether the server lives.
fn pinging(harness: &Harness, every: Duration) -> Channel {
    Channel::from_shared(format!("http://{}", harness.address))
        .expect("a URL")
        .http2_keep_alive_interval(every)
        .keep_alive_timeout(PATIENCE)
        .keep_alive_while_idle(true)
        .connect_lazy()
}

/// As every 10 s is beside the bound of one ping a second, in short.
#[tokio::test]
async fn a_stock_client_that_pings_as_often_as_it_may_is_tolerated() {
    let forgiven = Duration::from_millis(2);
    for (idle_frame_every, tolerated) in [(forgiven, true), (PATIENCE, false)] {
        let limits =
            ConnectionLimits { idle_frames: 8, idle_frame_every, ..ConnectionLimits::default() };
        let harness = Harness::limited(limits).await;
        let channel = pinging(&harness, 10 * forgiven);
        let mut streams = crate::harness::StreamClient::new(channel);
        let stream = streams.subscribe(harness.ann(SubscribeRequest::default())).await;
        let mut stream = stream.expect("a stream").into_inner();
        assert!(stream.next().await.expect("a frame").is_ok());
        // Time for five times what is not forgiven.
        let wait = if tolerated { 10 * forgiven * 8 * 5 } else { PATIENCE };
        let more = tokio::time::timeout(wait, stream.next()).await;
        assert_eq!(more.is_err(), tolerated, "{more:?}");
    }
}
