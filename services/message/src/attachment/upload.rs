//! Bytes of an attachment on their way into the store.

use aws_lc_rs::digest::{Context, SHA256};
use bytes::BytesMut;
use parlance_log::Error;

use super::{Attachment, Attachments, PART, Sha256, store};

/// A stream of the bytes of one attachment.
pub struct Upload {
    attachments: Attachments,
    attachment: Attachment,
    wanted: Option<Sha256>,
    /// The number of the stream.
    stream: i64,
    /// What has come since the last part that is full.
    rest: BytesMut,
    hash: Context,
}

impl std::fmt::Debug for Upload {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Upload").field("attachment", &self.attachment.id).finish_non_exhaustive()
    }
}

impl Upload {
    /// Begins a stream where the attachment stands: those before it end. What is there is read
    /// for the sum of it.
    pub(super) async fn begin(
        attachments: Attachments,
        attachment: Attachment,
        offset: i64,
    ) -> Result<Self, Error> {
        if offset != attachment.arrived || attachment.sha256.is_some() {
            return Err(elsewhere(attachment.arrived));
        }
        let begun = store::begin(&attachments.store, &attachment).await?;
        let (stream, wanted) = begun.ok_or_else(|| elsewhere(attachment.arrived))?;
        let mut upload = Self {
            attachments,
            attachment,
            wanted,
            stream,
            rest: BytesMut::new(),
            hash: Context::new(&SHA256),
        };
        upload.read_again().await?;
        Ok(upload)
    }

    /// Adds what is there already to the sum.
    async fn read_again(&mut self) -> Result<(), Error> {
        let Self { attachments, attachment, .. } = self;
        let parts = attachment.arrived / attachment.part_size;
        if parts == 0 {
            return Ok(());
        }
        let spans = store::spans(&attachments.store, attachment.id).await?;
        for part in 0..parts {
            self.hash.update(&attachments.part(attachment, &spans, part).await?);
        }
        Ok(())
    }

    /// The attachment as far as it is stored.
    pub const fn attachment(&self) -> &Attachment {
        &self.attachment
    }

    /// Where the next bytes go.
    fn stands(&self) -> i64 {
        self.attachment.arrived + i64::try_from(self.rest.len()).unwrap_or(i64::MAX)
    }

    /// What the sum of the bytes is to be.
    pub const fn expect(&mut self, sha256: Sha256) {
        self.wanted = Some(sha256);
    }

    /// Adds bytes. Of what has come whole parts are stored.
    ///
    /// Refused with UPLOAD_OFFSET, ATTACHMENT_NOT_FOUND; fails with `Invalid`.
    pub async fn put(&mut self, offset: i64, data: &[u8]) -> Result<(), Error> {
        let stands = self.stands();
        if offset != stands {
            return Err(elsewhere(self.attachment.arrived));
        }
        let length = i64::try_from(data.len()).unwrap_or(i64::MAX);
        if length > self.attachment.size - stands {
            return Err(Error::invalid("data", "must not go beyond the size"));
        }
        self.hash.update(data);
        let part = usize::try_from(self.attachment.part_size).unwrap_or(PART);
        self.rest.extend_from_slice(data);
        while self.rest.len() >= part {
            let bytes = self.rest.split_to(part);
            self.store(bytes).await?;
            let arrived = self.attachment.arrived;
            // The last part is counted with the sum of all.
            if arrived < self.attachment.size {
                let counted =
                    store::arrived(&self.attachments.store, &self.attachment, self.stream);
                if !counted.await? {
                    return Err(self.is_over().await);
                }
            }
        }
        Ok(())
    }

    /// Stores the next part.
    async fn store(&mut self, bytes: BytesMut) -> Result<(), Error> {
        let Attachment { id, arrived, part_size, .. } = self.attachment;
        let length = i64::try_from(bytes.len()).unwrap_or(i64::MAX);
        let part = arrived / part_size;
        self.attachments.blobs.put(id, self.stream, part, bytes.freeze()).await?;
        self.attachment.arrived += length;
        Ok(())
    }

    /// Ends the stream: what it leaves is complete, if all bytes have come.
    ///
    /// Refused with UPLOAD_OFFSET, ATTACHMENT_NOT_FOUND; fails with `Invalid` where the sum is
    /// another, and then forgets the bytes.
    pub async fn finish(mut self) -> Result<Attachment, Error> {
        if self.stands() < self.attachment.size {
            return Ok(self.attachment);
        }
        let sum = self.hash.clone().finish();
        let sum = Sha256::try_from(sum.as_ref()).expect("a SHA-256 has 32 bytes");
        if self.wanted.is_some_and(|wanted| wanted != sum) {
            store::begin_anew(&self.attachments.store, &self.attachment, self.stream).await?;
            return Err(Error::invalid("sha256", "must be that of the bytes"));
        }
        if !self.rest.is_empty() {
            let rest = self.rest.split();
            self.store(rest).await?;
        }
        self.attachment.sha256 = Some(sum);
        let store = &self.attachments.store;
        if store::complete(store, &self.attachment, self.stream, &sum).await? {
            Ok(self.attachment)
        } else {
            Err(self.is_over().await)
        }
    }

    /// Why a stream does not count any more.
    async fn is_over(&self) -> Error {
        match store::stands(&self.attachments.store, self.attachment.id).await {
            Ok(Some(arrived)) => elsewhere(arrived),
            Ok(None) => Error::attachment_not_found(),
            Err(error) => error,
        }
    }
}

/// The refusal of bytes that do not go on where the upload stands.
fn elsewhere(arrived: i64) -> Error {
    Error::UploadOffset { arrived }
}
