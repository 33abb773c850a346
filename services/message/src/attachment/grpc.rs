//! `AttachmentService`.

use std::pin::Pin;
use std::time::Duration;

use futures::stream::{Stream, unfold};
use parlance_log::codec::timestamp;
use parlance_log::{Actor, Error};
use parlance_proto::message::v1 as pb;
use parlance_proto::message::v1::attachment_service_server::AttachmentService;
use parlance_rpc::{
    Caller, Deadline, Held, Late, Reason, Refusal, caller, fields, hold, unreadable,
};
use parlance_types::{AttachmentId, Clock, UserId};
use std::sync::Arc;
use tokio::time::{Instant, sleep_until, timeout};
use tokio_util::sync::CancellationToken;
use tonic::{Request, Response, Status, Streaming};

use super::{Attachment, Attachments, Draft, MAX_SIZE, PART, Sha256, Signed, Spans, Upload};
use crate::message::{is_content_type, is_name};

/// The most bytes in one message of an upload or a download.
const CHUNK: usize = 128 * 1024;

/// What a transfer keeps in memory: a part, and what is on its way to or from the caller. It is
/// counted among what the caller has under way, and so bounds how many transfers there are.
const HELD: usize = 2 * PART;

/// An upload on which nothing comes for so long ends.
const IDLE: Duration = Duration::from_secs(30);

/// How long a URL lasts if nothing is said, and at most.
const LASTS: Duration = Duration::from_mins(5);
const LASTS_AT_MOST: Duration = Duration::from_mins(15);

/// How long a transfer lives before its caller is to go on by another one.
const LIFE: Duration = Duration::from_hours(1);

type Downloaded =
    Pin<Box<dyn Stream<Item = Result<pb::DownloadAttachmentResponse, Status>> + Send>>;

/// Serves [`Attachments`] to the callers of the suite.
#[derive(Clone, Debug)]
pub struct AttachmentGrpc {
    attachments: Option<Attachments>,
    clock: Arc<dyn Clock>,
    draining: CancellationToken,
}

impl AttachmentGrpc {
    /// Without attachments it says so. `draining` sends transfers away.
    pub fn new(
        attachments: Option<Attachments>,
        clock: Arc<dyn Clock>,
        draining: CancellationToken,
    ) -> Self {
        Self { attachments, clock, draining }
    }
}

#[tonic::async_trait]
impl AttachmentService for AttachmentGrpc {
    async fn create_attachment(
        &self,
        request: Request<pb::CreateAttachmentRequest>,
    ) -> Result<Response<pb::CreateAttachmentResponse>, Status> {
        let (caller, deadline) = (caller(&request)?, Deadline::of(&request));
        let mut request = request.into_inner();
        let room_id = fields::room_id("room_id", std::mem::take(&mut request.room_id))?;
        let draft = draft(&caller, request)?;
        let actor = caller.into();
        let create = self.attachments()?.create(&actor, &room_id, &draft);
        let created = deadline.bound(create).await?;
        Ok(Response::new(pb::CreateAttachmentResponse { attachment: Some(stored(created)) }))
    }

    async fn upload_attachment(
        &self,
        request: Request<Streaming<pb::UploadAttachmentRequest>>,
    ) -> Result<Response<pb::UploadAttachmentResponse>, Status> {
        let caller = caller(&request)?;
        let transfer = self.transfer(caller)?;
        let _held = hold(&request, HELD)?;
        let uploaded = transfer.upload(request.into_inner()).await?;
        Ok(Response::new(pb::UploadAttachmentResponse { attachment: Some(stored(uploaded)) }))
    }

    async fn get_attachment(
        &self,
        request: Request<pb::GetAttachmentRequest>,
    ) -> Result<Response<pb::GetAttachmentResponse>, Status> {
        let (caller, deadline) = (caller(&request)?, Deadline::of(&request));
        let id = fields::attachment_id("attachment_id", &request.get_ref().attachment_id)?;
        let actor = caller.into();
        let found = deadline.bound(self.attachments()?.get(&actor, id)).await?;
        Ok(Response::new(pb::GetAttachmentResponse { attachment: Some(stored(found)) }))
    }

    async fn get_attachment_url(
        &self,
        request: Request<pb::GetAttachmentUrlRequest>,
    ) -> Result<Response<pb::GetAttachmentUrlResponse>, Status> {
        let (caller, deadline) = (caller(&request)?, Deadline::of(&request));
        let request = request.into_inner();
        let id = fields::attachment_id("attachment_id", &request.attachment_id)?;
        let lasts = fields::duration("ttl", request.ttl)?.unwrap_or(LASTS);
        if !(Duration::from_secs(1)..=LASTS_AT_MOST).contains(&lasts) {
            return Err(Error::invalid("ttl", "must be 1 second to 15 minutes").into());
        }
        let actor = caller.into();
        let Signed { url, expires } =
            deadline.bound(self.attachments()?.url(&actor, id, lasts)).await?;
        let expire_time = Some(timestamp(expires));
        Ok(Response::new(pb::GetAttachmentUrlResponse { url, expire_time }))
    }

    type DownloadAttachmentStream = Downloaded;

    async fn download_attachment(
        &self,
        request: Request<pb::DownloadAttachmentRequest>,
    ) -> Result<Response<Downloaded>, Status> {
        let (caller, deadline) = (caller(&request)?, Deadline::of(&request));
        let id = fields::attachment_id("attachment_id", &request.get_ref().attachment_id)?;
        let offset = fields::at_least("offset", request.get_ref().offset, 0)?;
        let transfer = self.transfer(caller)?;
        let found = deadline.bound(transfer.attachments.get(&transfer.actor, id)).await?;
        if found.sha256.is_none() {
            return Err(super::incomplete().into());
        }
        if offset > found.size {
            return Err(Error::invalid("offset", "must not be beyond the size").into());
        }
        let held = hold(&request, HELD)?;
        Ok(Response::new(Download::new(transfer, id, offset, found.size, held).chunks()))
    }
}

impl AttachmentGrpc {
    fn attachments(&self) -> Result<&Attachments, Error> {
        self.attachments.as_ref().ok_or(super::OFF)
    }

    fn transfer(&self, caller: Caller) -> Result<Transfer, Error> {
        Ok(Transfer {
            attachments: self.attachments()?.clone(),
            clock: Arc::clone(&self.clock),
            draining: self.draining.clone(),
            actor: caller.clone().into(),
            caller,
            ends: Instant::now() + LIFE,
        })
    }
}

/// A stream of bytes of one caller.
struct Transfer {
    attachments: Attachments,
    clock: Arc<dyn Clock>,
    draining: CancellationToken,
    caller: Caller,
    actor: Actor,
    ends: Instant,
}

impl Transfer {
    /// Whether it may go on.
    fn check(&self) -> Result<(), Status> {
        if self.clock.now() >= self.caller.expires {
            return Err(Refusal::new(Reason::TokenExpired, "the token expired").into());
        }
        if self.draining.is_cancelled() || Instant::now() >= self.ends {
            return Err(Error::draining().into());
        }
        Ok(())
    }

    /// Takes the bytes of an upload until its caller has ended.
    async fn upload(
        self,
        mut chunks: Streaming<pb::UploadAttachmentRequest>,
    ) -> Result<Attachment, Status> {
        let mut upload: Option<Upload> = None;
        while let Some(chunk) = self.next(&mut chunks).await? {
            if chunk.data.len() > CHUNK {
                return Err(Error::invalid("data", "must have at most 131072 bytes").into());
            }
            let sum = sum(&chunk.sha256)?;
            let upload = if let Some(upload) = &mut upload {
                same(upload, &chunk.attachment_id)?;
                upload
            } else {
                let id = fields::attachment_id("attachment_id", &chunk.attachment_id)?;
                let begun = self.attachments.upload(&self.actor, id, chunk.offset).await?;
                upload.insert(begun)
            };
            if let Some(sum) = sum {
                upload.expect(sum);
            }
            upload.put(chunk.offset, &chunk.data).await?;
        }
        match upload {
            Some(upload) => Ok(upload.finish().await?),
            None => Err(Error::invalid("attachment_id", "is required").into()),
        }
    }

    /// The next bytes that come; `None` at the end.
    async fn next(
        &self,
        chunks: &mut Streaming<pb::UploadAttachmentRequest>,
    ) -> Result<Option<pb::UploadAttachmentRequest>, Status> {
        self.check()?;
        tokio::select! {
            chunk = timeout(IDLE, chunks.message()) => match chunk {
                Ok(chunk) => chunk.map_err(unreadable),
                Err(_) => Err(Error::from(Late).into()),
            },
            () = self.draining.cancelled() => Err(Error::draining().into()),
            () = sleep_until(self.ends) => Err(Error::draining().into()),
        }
    }
}

/// Every message of an upload is about the attachment that the first one names.
fn same(upload: &Upload, named: &str) -> Result<(), Error> {
    if named.is_empty() || named == upload.attachment().id.to_string() {
        return Ok(());
    }
    Err(Error::invalid("attachment_id", "must be that of the first message"))
}

/// A download under way.
struct Download {
    transfer: Transfer,
    id: AttachmentId,
    /// Where the next bytes are to be read.
    offset: i64,
    size: i64,
    spans: Option<Spans>,
    /// What was read and not sent, which ends at `offset`.
    ready: bytes::Bytes,
    _held: Option<Held>,
}

impl Download {
    fn new(
        transfer: Transfer,
        id: AttachmentId,
        offset: i64,
        size: i64,
        held: Option<Held>,
    ) -> Self {
        let (spans, ready) = (None, bytes::Bytes::new());
        Self { transfer, id, offset, size, spans, ready, _held: held }
    }

    /// The rest of the bytes, read as they are taken.
    fn chunks(self) -> Downloaded {
        let next = |download: Option<Self>| async move {
            let mut download = download?;
            match download.next().await {
                Ok(None) => None,
                Ok(Some(chunk)) => Some((Ok(chunk), Some(download))),
                Err(status) => Some((Err(status), None)),
            }
        };
        Box::pin(unfold(Some(self), next))
    }

    async fn next(&mut self) -> Result<Option<pb::DownloadAttachmentResponse>, Status> {
        if self.ready.is_empty() {
            if self.offset >= self.size {
                return Ok(None);
            }
            let Transfer { attachments, actor, .. } = &self.transfer;
            self.transfer.check()?;
            self.ready = attachments.read(actor, self.id, self.offset, &mut self.spans).await?;
            self.offset += length(&self.ready);
        }
        let offset = self.offset - length(&self.ready);
        let data = self.ready.split_to(self.ready.len().min(CHUNK)).to_vec();
        Ok(Some(pb::DownloadAttachmentResponse { offset, data }))
    }
}

fn length(bytes: &[u8]) -> i64 {
    i64::try_from(bytes.len()).unwrap_or(i64::MAX)
}

fn draft(caller: &Caller, request: pb::CreateAttachmentRequest) -> Result<Draft, Error> {
    if request.name.is_empty() || !is_name(&request.name) {
        let rule = "must have 1 to 255 bytes and no control characters";
        return Err(Error::invalid("name", rule));
    }
    if !is_content_type(&request.content_type) {
        let rule = "must have at most 127 bytes of printable ASCII";
        return Err(Error::invalid("content_type", rule));
    }
    if !(1..=MAX_SIZE).contains(&request.size) {
        return Err(Error::invalid("size", "must be 1 to 104857600"));
    }
    Ok(Draft {
        name: request.name,
        content_type: request.content_type,
        size: request.size,
        sha256: sum(&request.sha256)?,
        request_id: fields::request_id(caller, request.request_id)?,
    })
}

/// A sum that may be left out.
fn sum(bytes: &[u8]) -> Result<Option<Sha256>, Error> {
    if bytes.is_empty() {
        return Ok(None);
    }
    let sum = bytes.try_into().map_err(|_| Error::invalid("sha256", "must have 32 bytes"))?;
    Ok(Some(sum))
}

/// An attachment on the wire.
fn stored(attachment: Attachment) -> pb::StoredAttachment {
    pb::StoredAttachment {
        attachment_id: attachment.id.to_string(),
        room_id: attachment.room_id.to_string(),
        uploader_id: attachment.uploader.map(UserId::into_string).unwrap_or_default(),
        name: attachment.name,
        content_type: attachment.content_type,
        size: attachment.size,
        arrived: attachment.arrived,
        complete: attachment.sha256.is_some(),
        sha256: attachment.sha256.map(Vec::from).unwrap_or_default(),
        create_time: Some(timestamp(attachment.time)),
        message_id: attachment.message.map(|id| id.to_string()).unwrap_or_default(),
    }
}
