//! Where the bytes of attachments are kept: what the crate `object_store` opens.

use std::fmt;
use std::io;
use std::path::PathBuf;
use std::str::FromStr;
use std::time::Duration;

use bytes::Bytes;
use futures::future::ready;
use futures::{Stream, StreamExt as _, TryStreamExt as _};
use http::Method;
use object_store::aws::{AmazonS3, AmazonS3Builder};
use object_store::local::LocalFileSystem;
use object_store::path::Path;
use object_store::prefix::PrefixStore;
use object_store::signer::Signer as _;
use object_store::{
    Attribute, Attributes, ClientOptions, ObjectStore, ObjectStoreExt as _, PutMultipartOptions,
    RetryConfig, WriteMultipart,
};
use parlance_db::StoreError;
use parlance_log::Error;
use parlance_types::{AttachmentId, LogId};
use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
use tokio::sync::{Semaphore, SemaphorePermit};
use tokio::time::timeout;
use uuid::Uuid;

use super::{Attachment, PART};

/// How long the store has for a part.
const WITHIN: Duration = Duration::from_secs(10);

/// How long it has to remove an attachment, and how many objects it removes at once.
const REMOVED_WITHIN: Duration = Duration::from_mins(1);
const LISTED: usize = 1000;

/// How long it takes at most to copy parts into one object. With what goes before and after, that
/// is less than what is left alone before the janitor removes it.
const COPIED_WITHIN: Duration = Duration::from_secs(30);

/// Copies at once: each has four of our parts in memory, and two of the store's.
const COPIES: usize = 2;

/// The least that S3 takes as a part of its own.
const STORE_PART: usize = 5 * 1024 * 1024;

/// Where bytes are to be kept.
#[derive(Clone, PartialEq, Eq)]
pub enum Place {
    Folder(PathBuf),
    /// A bucket of S3 or of what speaks like it, and what all names in it begin with. The
    /// options are those of the environment variables `AWS_...`.
    S3 {
        bucket: String,
        prefix: String,
        options: Vec<(String, String)>,
    },
}

/// A text that names no place.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("must be file:///FOLDER or s3://BUCKET/PREFIX")]
pub struct InvalidPlace;

/// The place cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    #[error("cannot make the folder")]
    Folder(#[source] io::Error),
    #[error("cannot use the object store")]
    Store(#[source] object_store::Error),
}

/// What a store does not do that it must.
#[derive(Debug, thiserror::Error)]
pub enum TryError {
    #[error("cannot write an object")]
    Write(#[source] Cause),
    #[error("cannot read an object that was written")]
    Read(#[source] Cause),
    #[error("cannot remove an object that was written")]
    Remove(#[source] Error),
}

type Cause = Box<dyn std::error::Error + Send + Sync>;

impl FromStr for Place {
    type Err = InvalidPlace;

    fn from_str(text: &str) -> Result<Self, InvalidPlace> {
        match text.split_once("://") {
            Some(("file", folder)) if !folder.is_empty() => Ok(Self::Folder(folder.into())),
            Some(("s3", rest)) => {
                let (bucket, prefix) = rest.split_once('/').unwrap_or((rest, ""));
                if bucket.is_empty() || bucket.contains(['@', ':', '?']) {
                    return Err(InvalidPlace);
                }
                let (bucket, prefix) = (bucket.to_owned(), prefix.trim_matches('/').to_owned());
                Ok(Self::S3 { bucket, prefix, options: Vec::new() })
            }
            _ => Err(InvalidPlace),
        }
    }
}

impl Place {
    /// The same place, reached with these options.
    #[must_use]
    pub fn with_options(self, options: Vec<(String, String)>) -> Self {
        match self {
            Self::S3 { bucket, prefix, .. } => Self::S3 { bucket, prefix, options },
            folder @ Self::Folder(_) => folder,
        }
    }
}

/// Without the options: they hold a secret.
impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Folder(folder) => write!(f, "file://{}", folder.display()),
            Self::S3 { bucket, prefix, .. } => write!(f, "s3://{bucket}/{prefix}"),
        }
    }
}

impl fmt::Debug for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// The parts of all attachments: objects that are written once.
#[derive(Debug)]
pub struct Blobs {
    store: Box<dyn ObjectStore>,
    /// Where it is one: what is removed is removed as a folder, with what a crash left there.
    folder: Option<PathBuf>,
    /// What signs URLs, where the store has any.
    signer: Option<Signing>,
    copies: Semaphore,
}

#[derive(Debug)]
struct Signing {
    store: AmazonS3,
    prefix: Path,
}

impl Blobs {
    /// Opens a place. An object store need not answer yet.
    pub fn open(place: &Place) -> Result<Self, OpenError> {
        match place {
            Place::Folder(folder) => {
                make(folder).map_err(OpenError::Folder)?;
                let store = LocalFileSystem::new_with_prefix(folder).map_err(OpenError::Store)?;
                let folder = folder.canonicalize().map_err(OpenError::Folder)?;
                // What is counted survives a crash.
                Ok(Self {
                    store: Box::new(store.with_fsync(true)),
                    folder: Some(folder),
                    signer: None,
                    copies: Semaphore::new(COPIES),
                })
            }
            Place::S3 { bucket, prefix, options } => {
                let known = options.iter().filter_map(|(key, value)| {
                    Some((key.to_ascii_lowercase().parse().ok()?, value.as_str()))
                });
                let times =
                    RetryConfig { max_retries: 3, retry_timeout: WITHIN, ..Default::default() };
                let client = ClientOptions::new().with_timeout(WITHIN);
                let builder = AmazonS3Builder::new().with_client_options(client).with_retry(times);
                let builder =
                    known.fold(builder, |builder, (key, value)| builder.with_config(key, value));
                let store = builder.with_bucket_name(bucket).build().map_err(OpenError::Store)?;
                let prefix = Path::parse(prefix).map_err(|error| OpenError::Store(error.into()))?;
                let signer = Signing { store: store.clone(), prefix: prefix.clone() };
                Ok(Self {
                    store: Box::new(PrefixStore::new(store, prefix)),
                    folder: None,
                    signer: Some(signer),
                    copies: Semaphore::new(COPIES),
                })
            }
        }
    }

    /// Keeps a part, which a stream brought.
    pub(super) async fn put(
        &self,
        id: AttachmentId,
        stream: i64,
        part: i64,
        bytes: Bytes,
    ) -> Result<(), Error> {
        in_time(WITHIN, self.store.put(&object(id, stream, part), bytes.into())).await.map(drop)
    }

    /// A part, which a stream brought.
    pub(super) async fn get(
        &self,
        id: AttachmentId,
        stream: i64,
        part: i64,
    ) -> Result<Bytes, Error> {
        let name = object(id, stream, part);
        in_time(WITHIN, async {
            let found = self.store.get(&name).await?;
            // No part is larger, whoever wrote it.
            let largest = u64::try_from(16 * PART).unwrap_or(u64::MAX);
            if found.meta.size > largest {
                return Ok(Bytes::new());
            }
            found.bytes().await
        })
        .await
    }

    /// Whether objects have URLs.
    pub(super) const fn signs(&self) -> bool {
        self.signer.is_some()
    }

    /// A URL of the whole of an attachment, good for a while.
    pub(super) async fn sign(&self, id: AttachmentId, lasts: Duration) -> Result<String, Error> {
        let signer = self.signer.as_ref().ok_or_else(damaged)?;
        let name: Path = signer.prefix.parts().chain(whole(id).parts()).collect();
        let url = in_time(WITHIN, signer.store.signed_url(Method::GET, &name, lasts)).await?;
        Ok(url.into())
    }

    /// Waits for its turn to make a whole.
    pub(super) async fn place_for_whole(&self) -> Result<SemaphorePermit<'_>, Error> {
        let place = timeout(COPIED_WITHIN, self.copies.acquire()).await;
        place.map_err(|_| late(COPIED_WITHIN))?.map_err(away)
    }

    /// Whether the bytes of an attachment lie in one object.
    pub(super) async fn has_whole(&self, attachment: &Attachment) -> Result<bool, Error> {
        match timeout(WITHIN, self.store.head(&whole(attachment.id))).await {
            Ok(Ok(found)) => Ok(u64::try_from(attachment.size) == Ok(found.size)),
            Ok(Err(object_store::Error::NotFound { .. })) => Ok(false),
            Ok(Err(error)) => Err(away(error)),
            Err(_) => Err(late(WITHIN)),
        }
    }

    /// Puts all bytes of an attachment into one object, which browsers save as a file of its
    /// name: whoever uploaded it must not get a page of theirs shown as one of the bucket's.
    pub(super) async fn put_whole(
        &self,
        attachment: &Attachment,
        mut parts: impl Stream<Item = Result<Bytes, Error>> + Unpin,
    ) -> Result<(), Error> {
        let options = PutMultipartOptions { attributes: as_file(attachment), ..Default::default() };
        let name = whole(attachment.id);
        let upload = in_time(WITHIN, self.store.put_multipart_opts(&name, options)).await?;
        let mut write = WriteMultipart::new_with_chunk_size(upload, STORE_PART);
        let copied = timeout(COPIED_WITHIN, async {
            while let Some(bytes) = parts.try_next().await? {
                write.wait_for_capacity(1).await.map_err(away)?;
                write.put(bytes);
            }
            Ok(())
        });
        match copied.await.unwrap_or_else(|_| Err(late(COPIED_WITHIN))) {
            Ok(()) => in_time(WITHIN, write.finish()).await.map(drop),
            Err(error) => {
                // What is left if this fails, the rules of the bucket remove.
                let _ = timeout(WITHIN, write.abort()).await;
                Err(error)
            }
        }
    }

    /// Removes all parts of an attachment.
    pub(super) async fn remove(&self, id: AttachmentId) -> Result<(), Error> {
        if let Some(folder) = &self.folder {
            let room = folder.join(id.log_id.to_string());
            let all = room.join(id.id.as_simple().to_string());
            let removal = tokio::task::spawn_blocking(move || remove(&room, &all));
            let removed =
                timeout(REMOVED_WITHIN, removal).await.map_err(|_| late(REMOVED_WITHIN))?;
            return removed.map_err(away)?.map_err(away);
        }
        let all = folder_of(id);
        in_time(REMOVED_WITHIN, async {
            loop {
                let some: Vec<_> = self
                    .store
                    .list(Some(&all))
                    .take(LISTED)
                    .map_ok(|found| found.location)
                    .try_collect()
                    .await?;
                if some.is_empty() {
                    return Ok(());
                }
                let some = futures::stream::iter(some.into_iter().map(Ok)).boxed();
                self.store.delete_stream(some).try_for_each(|_| ready(Ok(()))).await?;
            }
        })
        .await
    }

    /// Writes a part, reads it, and removes it, as those of attachments are.
    pub async fn try_out(&self) -> Result<(), TryError> {
        let id = AttachmentId { log_id: LogId(Uuid::now_v7()), id: Uuid::now_v7() };
        let (name, bytes) = (object(id, 0, 0), Bytes::from_static(b"check"));
        let written = self.store.put(&name, bytes.clone().into());
        bounded(written).await.map_err(TryError::Write)?;
        let read = bounded(async { self.store.get(&name).await?.bytes().await });
        if read.await.map_err(TryError::Read)? != bytes {
            return Err(TryError::Read("it holds something else".into()));
        }
        self.remove(id).await.map_err(TryError::Remove)
    }
}

/// Makes a folder that is its owner's alone, if it is not there.
fn make(folder: &std::path::Path) -> io::Result<()> {
    use std::os::unix::fs::DirBuilderExt as _;
    std::fs::DirBuilder::new().recursive(true).mode(0o700).create(folder)
}

/// Removes the folder of an attachment, and that of its room with the last of them.
fn remove(room: &std::path::Path, all: &std::path::Path) -> io::Result<()> {
    match std::fs::remove_dir_all(all) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => {
            // Another one may be there.
            let _ = std::fs::remove_dir(room);
            Ok(())
        }
    }
}

fn folder_of(id: AttachmentId) -> Path {
    Path::from_iter([id.log_id.to_string(), id.id.as_simple().to_string()])
}

/// The name of a part.
fn object(id: AttachmentId, stream: i64, part: i64) -> Path {
    folder_of(id).join(stream.to_string()).join(part.to_string())
}

/// The name of an object that has all bytes.
fn whole(id: AttachmentId) -> Path {
    folder_of(id).join("whole")
}

/// What a store says of an object that is to be saved as a file.
fn as_file(attachment: &Attachment) -> Attributes {
    let name = utf8_percent_encode(&attachment.name, NON_ALPHANUMERIC);
    let disposition = format!("attachment; filename*=UTF-8''{name}");
    let mut attributes = Attributes::new();
    attributes.insert(Attribute::ContentDisposition, disposition.into());
    let content_type = match attachment.content_type.as_str() {
        "" => "application/octet-stream",
        given => given,
    };
    attributes.insert(Attribute::ContentType, content_type.to_owned().into());
    attributes
}

/// Does what is tried out, as long as a part may take. Unlike [`in_time`] it tells what a store
/// says that has nothing.
async fn bounded<T>(
    work: impl Future<Output = Result<T, object_store::Error>>,
) -> Result<T, Cause> {
    match timeout(WITHIN, work).await {
        Ok(done) => done.map_err(Cause::from),
        Err(_) => Err(format!("no answer within {WITHIN:?}").into()),
    }
}

async fn in_time<T>(
    limit: Duration,
    work: impl Future<Output = Result<T, object_store::Error>>,
) -> Result<T, Error> {
    match timeout(limit, work).await {
        Ok(Ok(done)) => Ok(done),
        // The row says that it is there.
        Ok(Err(object_store::Error::NotFound { .. })) => Err(damaged()),
        Ok(Err(error)) => Err(away(error)),
        Err(_) => Err(late(limit)),
    }
}

/// The failure of a store that lacks what it was given.
pub(super) fn damaged() -> Error {
    Error::Store(StoreError::broken("a part of an attachment is missing or damaged"))
}

fn away(error: impl std::error::Error + Send + Sync + 'static) -> Error {
    Error::Store(StoreError::away(error))
}

fn late(limit: Duration) -> Error {
    Error::late(limit)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_place_is_a_folder_or_a_bucket_and_shows_no_secret() {
        let place: Place = "file:///var/lib/parlance".parse().expect("a place");
        assert_eq!(place, Place::Folder("/var/lib/parlance".into()));
        let place: Place = "s3://media/of/acme/".parse().expect("a place");
        let secret = vec![("AWS_SECRET_ACCESS_KEY".to_owned(), "hunter2".to_owned())];
        assert_eq!(format!("{:?}", place.with_options(secret)), "s3://media/of/acme");
        for bad in ["", "file://", "s3://", "s3:///x", "s3://key:secret@bucket", "gs://x", "/tmp"] {
            assert_eq!(bad.parse::<Place>(), Err(InvalidPlace), "{bad}");
        }
    }
}
