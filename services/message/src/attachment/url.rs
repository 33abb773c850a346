//! URLs of attachments, by which whoever has one reads the bytes from the object store itself.
//!
//! Bytes are kept in parts, and a URL is of one object: the first who asks for one has the parts
//! copied into it. It lies beside them and is removed with them.

use std::time::Duration;

use futures::stream::{self, StreamExt as _};
use parlance_log::{Actor, Error};
use parlance_rpc::{Reason, detached};
use parlance_types::{AttachmentId, Micros};

use super::{Attachment, Attachments, incomplete, store};

/// Parts that are read at once while they are copied.
const AT_ONCE: usize = 4;

/// A URL of the bytes of an attachment.
#[derive(Clone, Debug)]
pub struct Signed {
    pub url: String,
    pub expires: Micros,
}

impl Attachments {
    /// A URL by which anybody may read the bytes for as long as it `lasts`. They are copied into
    /// one object first, if they are not there yet; if the caller leaves meanwhile, that goes on.
    ///
    /// Refused with ATTACHMENT_NOT_FOUND, NOT_A_MEMBER, ATTACHMENT_INCOMPLETE, ATTACHMENTS_OFF.
    pub async fn url(
        &self,
        actor: &Actor,
        id: AttachmentId,
        lasts: Duration,
    ) -> Result<Signed, Error> {
        let attachment = self.get(actor, id).await?;
        if attachment.sha256.is_none() {
            return Err(incomplete());
        }
        if !self.blobs.signs() {
            return Err(NO_URLS);
        }
        if !self.blobs.has_whole(&attachment).await? {
            let attachments = self.clone();
            detached(async move { attachments.make_whole(&attachment).await }).await?;
            // It took a while, in which it may have gone.
            self.get(actor, id).await?;
        }
        let expires = self.store.now().saturating_add(micros(lasts));
        Ok(Signed { url: self.blobs.sign(id, lasts).await?, expires })
    }

    /// Copies the parts of an attachment into one object.
    async fn make_whole(&self, attachment: &Attachment) -> Result<(), Error> {
        let _place = self.blobs.place_for_whole().await?;
        // Another may have made it while this one waited.
        if self.blobs.has_whole(attachment).await? {
            return Ok(());
        }
        let spans = store::spans(&self.store, attachment.id).await?;
        let parts = (attachment.size + attachment.part_size - 1) / attachment.part_size;
        let parts = stream::iter(0..parts)
            .map(|part| self.part(attachment, &spans, part))
            .buffered(AT_ONCE)
            .boxed();
        self.blobs.put_whole(attachment, parts).await
    }
}

/// The refusal where the bytes lie in a folder.
const NO_URLS: Error =
    Error::Refused(Reason::AttachmentsOff, "this installation keeps bytes where they have no URL");

fn micros(span: Duration) -> Micros {
    Micros::try_from(span.as_micros()).unwrap_or(Micros::MAX)
}
