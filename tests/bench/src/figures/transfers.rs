//! T1, T2 and T3: attachments on their way beside a bare stream of as many bytes, and what
//! one that is under way keeps in memory.

use std::time::Instant;

use futures::channel::mpsc::{UnboundedSender, unbounded};
use futures::stream;
use parlance_proto::message::v1 as pb;
use parlance_proto::message::v1::attachment_service_client::AttachmentServiceClient;
use tonic::metadata::{Ascii, MetadataValue};
use tonic::service::Interceptor;
use tonic::service::interceptor::InterceptedService;
use tonic::transport::Channel;
use tonic::{Request, Status};

use crate::blaster::Blaster;
use crate::caller::connect;
use crate::carrier::CHUNK;
use crate::measured::Measured;
use crate::plan::Plan;
use crate::process::memory;
use crate::report::{Figure, Goal, Spread};
use crate::rounds::interleave;

/// The bytes of a transfer.
const SIZE: usize = 32 * 1024 * 1024;

/// Transfers that are open at the same time: as many as one connection may have.
const OPEN: usize = 15;

/// What the whole of a part takes, which is all that a transfer needs.
const PART: f64 = 256.0;

/// The size of an event's frame: none is sent.
const FRAME: usize = 330;

const ROOM: &str = "files";

#[derive(Clone)]
struct Bearer(MetadataValue<Ascii>);

impl Interceptor for Bearer {
    fn call(&mut self, mut request: Request<()>) -> Result<Request<()>, Status> {
        request.metadata_mut().insert("authorization", self.0.clone());
        Ok(request)
    }
}

type Calls = AttachmentServiceClient<InterceptedService<Channel, Bearer>>;

async fn calls(address: &str, token: &str) -> Calls {
    let bearer = Bearer(format!("Bearer {token}").parse().expect("a token"));
    AttachmentServiceClient::with_interceptor(connect(address).await, bearer)
}

pub(crate) async fn measure(plan: &Plan, suite: &mut Measured) {
    suite.room(ROOM, 1).await;
    let token = suite.listeners(1).remove(0);
    let blaster = Blaster::start(FRAME).await;
    let bare = calls(&blaster.address, "none").await;
    let ours = calls(&suite.address(0), &token).await;
    let id = create(&ours).await;
    upload(&ours, &id).await;
    let rounds = interleave("transfers", plan.rounds, 4, async |kind| match kind {
        0 => upload(&bare, "").await,
        1 => upload(&ours, &create(&ours).await).await,
        2 => download(&bare, "", SIZE).await,
        _ => download(&ours, &id, 0).await,
    });
    let rounds = rounds.await;
    blaster.finish().await;
    for (id, what, kind) in [("T1", "an upload", 0), ("T2", "a download", 2)] {
        let of = |kind: usize| rounds.iter().map(move |round| round[kind]);
        let (ours, bare) = (Spread::of(of(kind + 1)), Spread::of(of(kind)));
        Figure {
            id,
            what: format!("{what} of {} MiB / a bare stream", SIZE >> 20),
            ratio: Spread::of(of(kind + 1).zip(of(kind)).map(|(ours, bare)| ours / bare)),
            target: Some(Goal::AtLeast(0.5)),
            stretch: None,
            absolute: format!("{ours:.0} MiB/s, bare tonic {bare:.0} MiB/s"),
        }
        .print();
    }
    kept(suite, &token, &id).await;
}

async fn create(calls: &Calls) -> String {
    let request = pb::CreateAttachmentRequest {
        room_id: ROOM.to_owned(),
        name: "file".to_owned(),
        size: i64::try_from(SIZE).expect("small"),
        ..Default::default()
    };
    let created = calls.clone().create_attachment(request).await.expect("created").into_inner();
    created.attachment.expect("an attachment").attachment_id
}

fn chunk(id: &str, at: usize) -> pb::UploadAttachmentRequest {
    pb::UploadAttachmentRequest {
        attachment_id: id.to_owned(),
        offset: i64::try_from(at).expect("small"),
        data: vec![7; CHUNK],
        sha256: Vec::new(),
    }
}

#[expect(clippy::cast_precision_loss, reason = "a rate for people to read")]
fn per_second(began: Instant) -> f64 {
    (SIZE >> 20) as f64 / began.elapsed().as_secs_f64()
}

/// MiB a second.
async fn upload(calls: &Calls, id: &str) -> f64 {
    let id = id.to_owned();
    let chunks = (0..SIZE / CHUNK).map(move |n| chunk(&id, n * CHUNK));
    let began = Instant::now();
    let uploaded = calls.clone().upload_attachment(stream::iter(chunks)).await.expect("uploaded");
    let attachment = uploaded.into_inner().attachment.expect("an attachment");
    assert_eq!(usize::try_from(attachment.arrived), Ok(SIZE));
    per_second(began)
}

/// MiB a second, from an offset on; of the bare service it is how many bytes there are.
async fn download(calls: &Calls, id: &str, offset: usize) -> f64 {
    let offset = i64::try_from(offset).expect("small");
    let request = pb::DownloadAttachmentRequest { attachment_id: id.to_owned(), offset };
    let began = Instant::now();
    let mut chunks =
        calls.clone().download_attachment(request).await.expect("a stream").into_inner();
    let mut bytes = 0;
    while let Some(chunk) = chunks.message().await.expect("no failure") {
        bytes += chunk.data.len();
    }
    assert_eq!(bytes, SIZE);
    per_second(began)
}

/// An upload of which a part is there, almost.
fn begin(calls: &Calls, id: &str) -> UnboundedSender<pb::UploadAttachmentRequest> {
    let (sender, chunks) = unbounded();
    let mut calls = calls.clone();
    tokio::spawn(async move { calls.upload_attachment(chunks).await });
    sender.unbounded_send(chunk(id, 0)).expect("open");
    let rest = pb::UploadAttachmentRequest { data: vec![7; CHUNK - 1], ..chunk("", CHUNK) };
    sender.unbounded_send(rest).expect("open");
    sender
}

/// What transfers keep that stand still: uploads in the midst of a part, and downloads that
/// nobody reads.
#[expect(clippy::cast_precision_loss, reason = "a size for people to read")]
async fn kept(suite: &mut Measured, token: &str, id: &str) {
    suite.restart().await;
    let calls = calls(&suite.address(0), token).await;
    upload(&calls, &create(&calls).await).await;
    let before = memory(suite.process_id(0)).await;
    let mut uploads = Vec::new();
    for _ in 0..OPEN {
        uploads.push(begin(&calls, &create(&calls).await));
    }
    // What was sent has arrived when this has.
    download(&calls, id, 0).await;
    let with_uploads = memory(suite.process_id(0)).await;
    drop(uploads);
    let each = (with_uploads.saturating_sub(before)) as f64 / 1024.0 / OPEN as f64;
    Figure {
        id: "T3",
        what: format!("memory of each of {OPEN} open uploads / a part"),
        ratio: Spread::of([each / PART]),
        target: Some(Goal::AtMost(2.0)),
        stretch: Some(Goal::AtMost(1.0)),
        absolute: format!("{each:.0} KiB"),
    }
    .print();
}
