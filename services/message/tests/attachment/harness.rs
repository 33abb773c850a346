//! Short words for what is done with attachments.

use std::path::{Path, PathBuf};

use futures::Stream;
use futures::channel::mpsc::{UnboundedSender, unbounded};
use futures::stream;
use parlance_db::Db;
use parlance_message::Config;
use parlance_message::attachment::{Blobs, Place};
use parlance_proto::message::v1 as pb;
use parlance_proto::message::v1::attachment::Source;
use parlance_proto::message::v1::attachment_service_client::AttachmentServiceClient;
use parlance_rpc::Transport;
use parlance_rpc::testing::eventually;
use tempfile::TempDir;
use tokio::task::JoinHandle;
use tonic::{Response, Status, Streaming};

use crate::harness::{Client, World, saying};

/// The bytes of a part.
pub(super) const PART: usize = 256 * 1024;

/// A service that keeps attachments in a folder.
pub(super) struct Kept {
    pub(super) world: World,
    folder: TempDir,
}

impl Kept {
    pub(super) async fn open(db: Db) -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        Self { world: node(db, &place(&folder)).await, folder }
    }

    /// Another node over the same database and folder.
    pub(super) async fn another(&self) -> World {
        node(self.world.service.store().db().clone(), &place(&self.folder)).await
    }

    pub(super) fn user(&self, user: &str) -> Client {
        self.world.user(user)
    }

    pub(super) fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// The files of an attachment.
    pub(super) fn files(&self, attachment_id: &str) -> Vec<PathBuf> {
        let (room, own) = attachment_id.split_once('-').expect("two ids");
        files(&self.folder().join(room).join(own))
    }

    /// Removes what is to be removed, as a node does every few seconds.
    pub(super) async fn tidy(&self) {
        let attachments = self.world.service.attachments().expect("attachments");
        attachments.tidy().await.expect("removed");
    }

    /// Lets time pass, and removes what is to be removed then.
    pub(super) async fn tidy_after(&self, micros: i64) {
        self.world.clock.advance(micros);
        self.tidy().await;
    }
}

fn place(folder: &TempDir) -> Place {
    Place::Folder(folder.path().to_owned())
}

/// A service that keeps attachments in a place.
pub(super) async fn node(db: Db, place: &Place) -> World {
    let blobs = Some(Blobs::open(place).expect("a place"));
    World::laid_out(db, Config { blobs, ..Config::default() }).await
}

/// All files below a folder.
pub(super) fn files(folder: &Path) -> Vec<PathBuf> {
    let Ok(entries) = std::fs::read_dir(folder) else { return Vec::new() };
    let mut all = Vec::new();
    for entry in entries {
        let path = entry.expect("an entry").path();
        if path.is_dir() {
            all.extend(files(&path));
        } else {
            all.push(path);
        }
    }
    all
}

/// So many bytes, which no other seed gives.
pub(super) fn content(size: usize, seed: u64) -> Vec<u8> {
    let mut state = seed.wrapping_mul(2).wrapping_add(1);
    let mut next = || {
        state =
            state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        state.to_be_bytes()[0]
    };
    (0..size).map(|_| next()).collect()
}

pub(super) fn stub(client: &Client) -> AttachmentServiceClient<Transport> {
    AttachmentServiceClient::new(client.transport.clone())
}

pub(super) fn creating(room_id: &str, size: usize) -> pb::CreateAttachmentRequest {
    pb::CreateAttachmentRequest {
        room_id: room_id.to_owned(),
        name: "tea.png".to_owned(),
        size: i64::try_from(size).expect("small"),
        content_type: "image/png".to_owned(),
        ..Default::default()
    }
}

pub(super) async fn try_create(
    client: &Client,
    request: pb::CreateAttachmentRequest,
) -> Result<Response<pb::StoredAttachment>, Status> {
    let created = stub(client).create_attachment(request).await?;
    Ok(created.map(|created| created.attachment.expect("an attachment")))
}

/// Creates an attachment, and gives its id.
pub(super) async fn create(client: &Client, room_id: &str, size: usize) -> String {
    let created = try_create(client, creating(room_id, size)).await;
    created.expect("created").into_inner().attachment_id
}

/// Messages of an upload that begins somewhere.
pub(super) fn chunks(
    attachment_id: &str,
    offset: usize,
    bytes: &[u8],
) -> Vec<pb::UploadAttachmentRequest> {
    let mut chunks = vec![pb::UploadAttachmentRequest {
        attachment_id: attachment_id.to_owned(),
        offset: i64::try_from(offset).expect("small"),
        ..Default::default()
    }];
    for (n, data) in bytes.chunks(100_000).enumerate() {
        let offset = i64::try_from(offset + n * 100_000).expect("small");
        chunks.push(pb::UploadAttachmentRequest {
            offset,
            data: data.to_vec(),
            ..Default::default()
        });
    }
    chunks
}

pub(super) async fn send_chunks(
    client: &Client,
    chunks: impl Stream<Item = pb::UploadAttachmentRequest> + Send + 'static,
) -> Result<Response<pb::StoredAttachment>, Status> {
    let uploaded = stub(client).upload_attachment(chunks).await?;
    Ok(uploaded.map(|uploaded| uploaded.attachment.expect("an attachment")))
}

/// Uploads bytes, from a place on.
pub(super) async fn try_upload(
    client: &Client,
    attachment_id: &str,
    offset: usize,
    bytes: &[u8],
) -> Result<Response<pb::StoredAttachment>, Status> {
    send_chunks(client, stream::iter(chunks(attachment_id, offset, bytes))).await
}

/// Creates an attachment and uploads its bytes.
pub(super) async fn put(client: &Client, room_id: &str, bytes: &[u8]) -> String {
    let id = create(client, room_id, bytes.len()).await;
    let uploaded = try_upload(client, &id, 0, bytes).await.expect("uploaded").into_inner();
    assert!(uploaded.complete);
    id
}

/// An upload that goes on for as long as a test likes.
pub(super) struct Uploading {
    chunks: UnboundedSender<pb::UploadAttachmentRequest>,
    call: JoinHandle<Result<Response<pb::StoredAttachment>, Status>>,
}

impl Uploading {
    pub(super) fn begin(client: &Client) -> Self {
        let (sender, receiver) = unbounded();
        let client = client.clone();
        let call = tokio::spawn(async move { send_chunks(&client, receiver).await });
        Self { chunks: sender, call }
    }

    pub(super) fn put(&self, attachment_id: &str, offset: usize, bytes: &[u8]) {
        for chunk in chunks(attachment_id, offset, bytes) {
            self.chunks.unbounded_send(chunk).expect("the call goes on");
        }
    }

    /// Cuts it off, as a lost connection does.
    pub(super) fn cut(self) {
        self.call.abort();
    }

    /// Ends it.
    pub(super) async fn end(self) -> Result<Response<pb::StoredAttachment>, Status> {
        drop(self.chunks);
        self.call.await.expect("no panic")
    }
}

pub(super) async fn try_get(
    client: &Client,
    attachment_id: &str,
) -> Result<Response<pb::StoredAttachment>, Status> {
    let attachment_id = attachment_id.to_owned();
    let found = stub(client).get_attachment(pb::GetAttachmentRequest { attachment_id }).await?;
    Ok(found.map(|found| found.attachment.expect("an attachment")))
}

pub(super) async fn get(client: &Client, attachment_id: &str) -> pb::StoredAttachment {
    try_get(client, attachment_id).await.expect("found").into_inner()
}

/// Waits until so many bytes are there.
pub(super) async fn arrives(client: &Client, attachment_id: &str, bytes: usize) {
    let bytes = i64::try_from(bytes).expect("small");
    eventually(|| async { get(client, attachment_id).await.arrived == bytes }).await;
}

pub(super) async fn try_download(
    client: &Client,
    attachment_id: &str,
    offset: usize,
) -> Result<Response<Streaming<pb::DownloadAttachmentResponse>>, Status> {
    let (attachment_id, offset) = (attachment_id.to_owned(), i64::try_from(offset).expect("small"));
    stub(client).download_attachment(pb::DownloadAttachmentRequest { attachment_id, offset }).await
}

/// The bytes from a place on.
pub(super) async fn download(client: &Client, attachment_id: &str, offset: usize) -> Vec<u8> {
    let mut stream =
        try_download(client, attachment_id, offset).await.expect("a stream").into_inner();
    let mut bytes = Vec::new();
    while let Some(chunk) = stream.message().await.expect("no failure") {
        assert_eq!(usize::try_from(chunk.offset), Ok(offset + bytes.len()));
        bytes.extend(chunk.data);
    }
    bytes
}

/// An upload that a message is to hold.
pub(super) fn stored(attachment_id: &str) -> pb::Attachment {
    let source = Some(Source::AttachmentId(attachment_id.to_owned()));
    pb::Attachment { source, ..Default::default() }
}

/// A message that holds uploads.
pub(super) fn holding(room_id: &str, attachment_ids: &[&str]) -> pb::SendMessageRequest {
    let attachments = attachment_ids.iter().map(|id| stored(id)).collect();
    let content = Some(pb::MessageContent { attachments, ..Default::default() });
    pb::SendMessageRequest { content, ..saying(room_id, "") }
}

pub(super) async fn try_send(
    client: &Client,
    message: pb::SendMessageRequest,
) -> Result<Response<pb::SendMessageResponse>, Status> {
    client.messages.clone().send_message(message).await
}

/// Sends a message that holds uploads; gives its id.
pub(super) async fn send(client: &Client, room_id: &str, attachment_ids: &[&str]) -> String {
    let sent = try_send(client, holding(room_id, attachment_ids)).await;
    sent.expect("sent").into_inner().message_id
}
