//! The least that fan-out can cost: a bare tonic server that streams frames which were
//! encoded once, in a process of its own.
//!
//! It is told what to do line by line: `loud N` streams N events to everybody, `quiet N`
//! makes them for nobody; after each it says `done`. It ends with its input.

use std::convert::Infallible;
use std::future::{Ready, ready};
use std::pin::Pin;
use std::process::Stdio;
use std::sync::Arc;

use clap::Args;
use futures::{Stream, StreamExt as _, stream};
use parlance_proto::frame::Frame;
use parlance_proto::message::v1 as pb;
use parlance_proto::message::v1::attachment_service_server::AttachmentServiceServer;
use parlance_proto::message::v1::subscribe_response::Frame as Kind;
use parlance_types::{Clock as _, SystemClock};
use prost::Message as _;
use tokio::io::{AsyncBufReadExt as _, AsyncWriteExt as _, BufReader, Lines};
use tokio::net::TcpListener;
use tokio::process::{Child, ChildStdin, ChildStdout, Command};
use tokio::sync::{broadcast, mpsc};
use tokio_stream::wrappers::{BroadcastStream, TcpListenerStream};
use tonic::body::Body;
use tonic::server::{Grpc, ServerStreamingService};
use tonic::{Request, Response, Status};
use tonic_prost::ProstCodec;
use tower::{ServiceExt as _, service_fn};

use crate::carrier::Carrier;

/// Bursts that a slow stream may be behind.
const BACKLOG: usize = 1024;

#[derive(Args, Clone, Copy, Debug)]
pub(crate) struct Arguments {
    /// The size of an event's frame
    frame_bytes: usize,
}

type Burst = Arc<[Frame]>;

/// Streams bursts to whoever subscribes.
#[derive(Clone, Debug)]
struct Bare(broadcast::Sender<Burst>);

type Frames = Pin<Box<dyn Stream<Item = Result<Frame, Status>> + Send>>;

impl ServerStreamingService<pb::SubscribeRequest> for Bare {
    type Response = Frame;
    type ResponseStream = Frames;
    type Future = Ready<Result<Response<Frames>, Status>>;

    fn call(&mut self, _: Request<pb::SubscribeRequest>) -> Self::Future {
        let hello =
            [Kind::Attached(pb::Attached::default()), Kind::CaughtUp(pb::CaughtUp::default())];
        let hello = hello.map(|frame| Frame::encode(&pb::SubscribeResponse { frame: Some(frame) }));
        let bursts = BroadcastStream::new(self.0.subscribe());
        let live = bursts.flat_map(|burst| {
            let burst = burst.unwrap_or_else(|_| Arc::from([]));
            stream::iter((0..burst.len()).map(move |at| burst[at].clone()))
        });
        let frames: Frames = Box::pin(stream::iter(hello).chain(live).map(Ok));
        ready(Ok(Response::new(frames)))
    }
}

/// Serves until the input ends.
pub(crate) async fn serve(Arguments { frame_bytes }: Arguments) {
    let listener = TcpListener::bind(("127.0.0.1", 0)).await.expect("a port");
    println!("{}", listener.local_addr().expect("an address").port());
    let (everybody, _) = broadcast::channel(BACKLOG);
    let (nobody, _) = broadcast::channel(BACKLOG);
    let bare = Bare(everybody.clone());
    // As tonic comes, whatever is asked for.
    let service = service_fn(move |request: http::Request<Body>| {
        let bare = bare.clone();
        async move {
            if request.uri().path().starts_with("/parlance.message.v1.AttachmentService/") {
                return AttachmentServiceServer::new(Carrier).oneshot(request).await;
            }
            let codec = ProstCodec::<Frame, pb::SubscribeRequest>::default();
            Ok::<_, Infallible>(Grpc::new(codec).server_streaming(bare, request).await)
        }
    });
    let server = tonic::transport::Server::builder()
        .serve_with_incoming(service, TcpListenerStream::new(listener));
    let obey = async {
        let mut lines = input();
        while let Some(line) = lines.recv().await {
            let (how, count) = line.split_once(' ').expect("a word and a number");
            let count = count.parse().expect("a number");
            let frame = event(frame_bytes);
            let burst: Burst = (0..count).map(|_| frame.clone()).collect();
            let to = if how == "loud" { &everybody } else { &nobody };
            // Nobody may listen.
            to.send(burst).ok();
            println!("done");
        }
    };
    tokio::select! {
        ended = server => ended.expect("a server"),
        () = obey => {}
    }
}

/// The lines of the standard input.
fn input() -> mpsc::UnboundedReceiver<String> {
    let (lines, received) = mpsc::unbounded_channel();
    std::thread::spawn(move || {
        for line in std::io::stdin().lines().map_while(Result::ok) {
            if lines.send(line).is_err() {
                return;
            }
        }
    });
    received
}

/// An event's frame of this size that says when it was made.
fn event(bytes: usize) -> Frame {
    let now = SystemClock.now();
    let nanos = i32::try_from(now.rem_euclid(1_000_000) * 1000).expect("below 10^9");
    let time = prost_types::Timestamp { seconds: now.div_euclid(1_000_000), nanos };
    let make = |padding: usize| {
        let content = pb::MessageContent { text: "x".repeat(padding), ..Default::default() };
        let sent = pb::MessageSent { content: Some(content), ..Default::default() };
        let event = pb::Event {
            seq: 1,
            time: Some(time),
            body: Some(pb::event::Body::MessageSent(sent)),
            ..Default::default()
        };
        let event = pb::RoomEvent { room_id: "room".to_owned(), event: Some(event) };
        pb::SubscribeResponse { frame: Some(Kind::Event(event)) }
    };
    let padding = bytes.saturating_sub(make(200).encoded_len() - 200);
    Frame::encode(&make(padding))
}

/// The process, as others see it; it ends when this is dropped.
#[derive(Debug)]
pub(crate) struct Blaster {
    process: Child,
    input: ChildStdin,
    output: Lines<BufReader<ChildStdout>>,
    pub(crate) address: String,
}

impl Blaster {
    /// Starts it; its events' frames have this size.
    pub(crate) async fn start(frame_bytes: usize) -> Self {
        let mut process = Command::new(std::env::current_exe().expect("a program"))
            .args(["blaster", &frame_bytes.to_string()])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .expect("a process");
        let input = process.stdin.take().expect("an input");
        let output = process.stdout.take().expect("an output");
        let mut output = BufReader::new(output).lines();
        let port = output.next_line().await.expect("a line").expect("a port");
        Self { process, input, output, address: format!("http://127.0.0.1:{port}") }
    }

    pub(crate) fn process_id(&self) -> u32 {
        self.process.id().expect("it runs")
    }

    /// Streams so many events at once.
    pub(crate) async fn loud(&mut self, count: usize) {
        self.tell("loud", count).await;
    }

    /// Makes so many events and streams them to nobody.
    pub(crate) async fn quiet(&mut self, count: usize) {
        self.tell("quiet", count).await;
    }

    async fn tell(&mut self, how: &str, count: usize) {
        let line = format!("{how} {count}\n");
        self.input.write_all(line.as_bytes()).await.expect("told");
        self.output.next_line().await.expect("a line").expect("an answer");
    }

    /// Ends it.
    pub(crate) async fn finish(mut self) {
        self.process.kill().await.expect("killed");
    }
}
