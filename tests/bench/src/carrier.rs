//! The least that an attachment can cost on its way: a bare tonic service that takes bytes and
//! keeps none, and gives bytes that it makes once.

use std::pin::Pin;

use futures::{Stream, stream};
use parlance_proto::message::v1 as pb;
use parlance_proto::message::v1::attachment_service_server::AttachmentService;
use tonic::{Request, Response, Status, Streaming};

/// The bytes of a message.
pub(crate) const CHUNK: usize = 128 * 1024;

/// Takes and gives bytes. Of a download `offset` says how many.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Carrier;

type Bytes = Pin<Box<dyn Stream<Item = Result<pb::DownloadAttachmentResponse, Status>> + Send>>;

#[tonic::async_trait]
impl AttachmentService for Carrier {
    async fn create_attachment(
        &self,
        _: Request<pb::CreateAttachmentRequest>,
    ) -> Result<Response<pb::CreateAttachmentResponse>, Status> {
        Ok(Response::new(pb::CreateAttachmentResponse::default()))
    }

    async fn upload_attachment(
        &self,
        request: Request<Streaming<pb::UploadAttachmentRequest>>,
    ) -> Result<Response<pb::UploadAttachmentResponse>, Status> {
        let (mut chunks, mut arrived) = (request.into_inner(), 0);
        while let Some(chunk) = chunks.message().await? {
            arrived += i64::try_from(chunk.data.len()).expect("small");
        }
        let attachment = Some(pb::StoredAttachment { arrived, ..Default::default() });
        Ok(Response::new(pb::UploadAttachmentResponse { attachment }))
    }

    async fn get_attachment(
        &self,
        _: Request<pb::GetAttachmentRequest>,
    ) -> Result<Response<pb::GetAttachmentResponse>, Status> {
        Ok(Response::new(pb::GetAttachmentResponse::default()))
    }

    async fn get_attachment_url(
        &self,
        _: Request<pb::GetAttachmentUrlRequest>,
    ) -> Result<Response<pb::GetAttachmentUrlResponse>, Status> {
        Ok(Response::new(pb::GetAttachmentUrlResponse::default()))
    }

    type DownloadAttachmentStream = Bytes;

    async fn download_attachment(
        &self,
        request: Request<pb::DownloadAttachmentRequest>,
    ) -> Result<Response<Bytes>, Status> {
        let bytes = usize::try_from(request.into_inner().offset).expect("not negative");
        let data = vec![7; CHUNK];
        let chunk = move |_| {
            Ok(pb::DownloadAttachmentResponse { data: data.clone(), ..Default::default() })
        };
        Ok(Response::new(Box::pin(stream::iter((0..bytes / CHUNK).map(chunk)))))
    }
}
