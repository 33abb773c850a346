//! TLS: who this process says that it is, whom it trusts, and how both change while it runs.
//!
//! One set of files serves both directions: the certificate that callers are shown is the one
//! that other services of the suite are shown. A handshake uses what the files held last;
//! connections that are open stay as they are.

use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use arc_swap::ArcSwap;
use rustls::{ClientConfig, ServerConfig};
use tokio::net::TcpStream;
use tokio::sync::Notify;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;

use crate::Tasks;

mod client;
mod configs;
mod names;

pub(crate) use client::Secure;
pub use client::{probe, shake_hands};
pub(crate) use configs::platform_roots;
pub use names::{InvalidPeerName, PeerName};

use configs::{Configs, Contents};
use names::names_of;

/// How often files are looked at. Their content counts: a mounted secret changes by a link.
const LOOK_EVERY: Duration = Duration::from_secs(2);

/// Where the certificates of a process are.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TlsFiles {
    /// Its own certificate with those between it and its CA, and the key of it.
    pub identity: Option<(PathBuf, PathBuf)>,
    /// The CA that it trusts; without one whom the platform trusts.
    pub ca: Option<PathBuf>,
    /// What services of the suite are called in their certificates. Not empty: only who shows
    /// such a certificate is one.
    pub peers: Vec<PeerName>,
    /// Whether HTTP/1 may be spoken, for gRPC-Web.
    pub http1: bool,
}

/// Why files cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    #[error("cannot read {}", .0.display())]
    Read(PathBuf, #[source] std::io::Error),
    #[error("{} holds no certificate as PEM", .0.display())]
    NoCertificate(PathBuf),
    #[error("{} holds no private key as PEM", .0.display())]
    NoKey(PathBuf),
    #[error("the key in {} is not that of the certificate in {}", key.display(), cert.display())]
    Mismatch { cert: PathBuf, key: PathBuf },
    #[error("{} cannot be used", .0.display())]
    Unusable(PathBuf, #[source] Box<dyn std::error::Error + Send + Sync>),
}

impl TlsError {
    /// Whether it is about a file, and about no other that was given.
    pub fn is_of(&self, file: &Path) -> bool {
        match self {
            Self::Read(path, _)
            | Self::NoCertificate(path)
            | Self::NoKey(path)
            | Self::Unusable(path, _) => path == file,
            Self::Mismatch { key, .. } => key == file,
        }
    }
}

/// What the files hold, for handshakes. Clones share it.
#[derive(Clone)]
pub struct Tls(Arc<Inner>);

struct Inner {
    files: TlsFiles,
    present: ArcSwap<Configs>,
    /// What was of no use last: it is told once.
    useless: Mutex<Option<[u8; 32]>>,
}

impl fmt::Debug for Tls {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Tls").field(&self.0.files).finish()
    }
}

impl Tls {
    /// Reads the files; all of them must be of use.
    pub fn load(files: TlsFiles) -> Result<Self, TlsError> {
        let present = ArcSwap::from_pointee(Configs::of(&files, &Contents::read(&files))?);
        Ok(Self(Arc::new(Inner { files, present, useless: Mutex::default() })))
    }

    /// Reads the files again when they change, as one of the `tasks`. What is of no use is
    /// told once, and what there was before stays.
    pub fn keep(&self, tasks: &Tasks) {
        let tls = self.clone();
        tasks.every("certificates", LOOK_EVERY, Arc::new(Notify::new()), move || {
            let tls = tls.clone();
            async move {
                let looked = tokio::task::spawn_blocking(move || tls.look()).await;
                looked.unwrap_or(Ok(()))
            }
        });
    }

    /// Takes what the files hold now, if it is something else than before.
    pub(crate) fn look(&self) -> Result<(), TlsError> {
        let Inner { files, present, useless } = &*self.0;
        let found = Contents::read(files);
        let hash = found.hash();
        let mut useless = useless.lock().unwrap_or_else(PoisonError::into_inner);
        if present.load().hash == hash {
            *useless = None;
            return Ok(());
        }
        match Configs::of(files, &found) {
            Ok(configs) => {
                present.store(Arc::new(configs));
                *useless = None;
                tracing::info!("took the certificates that the files hold now");
                Ok(())
            }
            Err(error) => {
                if useless.replace(hash) != Some(hash) {
                    let error = &error as &(dyn std::error::Error + 'static);
                    tracing::error!(error, "kept the certificates of before");
                }
                Err(error)
            }
        }
    }

    /// The certificate that it shows, if it has one.
    pub fn shown(&self) -> Option<Shown> {
        self.0.present.load().shown()
    }

    /// Whether it has a certificate to show.
    pub fn serves(&self) -> bool {
        self.0.present.load().server.is_some()
    }

    /// When what it shows is over, in seconds since 1970: its certificate, or one between that
    /// and its CA.
    pub fn ends(&self) -> Option<i64> {
        self.0.present.load().ends
    }

    pub(crate) fn server(&self) -> Option<Arc<ServerConfig>> {
        self.0.present.load().server.clone()
    }

    /// How other services of the suite are reached.
    pub(crate) fn to_suite(&self) -> Arc<ClientConfig> {
        self.0.present.load().suite()
    }

    /// How whoever has the name that is called is reached.
    pub(crate) fn to_host(&self) -> Arc<ClientConfig> {
        self.0.present.load().host()
    }

    /// Shakes hands with a client; says whether it is another service of the suite, so far as
    /// certificates tell.
    pub(crate) async fn accept(&self, stream: TcpStream) -> std::io::Result<Accepted> {
        let config = self.server().ok_or(std::io::ErrorKind::Unsupported)?;
        let stream = TlsAcceptor::from(config).accept(stream).await?;
        let (_, session) = stream.get_ref();
        let peers = &self.0.files.peers;
        let shown = session.peer_certificates().and_then(<[_]>::first);
        let of_suite = peers.is_empty()
            || shown.is_some_and(|shown| names_of(shown).iter().any(|name| peers.contains(name)));
        let speaks_http1 = session.alpn_protocol() == Some(b"http/1.1");
        Ok(Accepted { stream: Box::new(stream), of_suite, speaks_http1 })
    }
}

/// What the certificate of a process says of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Shown {
    pub path: PathBuf,
    /// From when until when it holds, in seconds since 1970.
    pub holds: (i64, i64),
    pub names: Vec<PeerName>,
    /// Why those who trust the CA of the process would refuse it, if it has one.
    pub refused: Option<String>,
}

/// A client that spoke TLS.
pub(crate) struct Accepted {
    pub(crate) stream: Box<TlsStream<TcpStream>>,
    pub(crate) of_suite: bool,
    pub(crate) speaks_http1: bool,
}

#[cfg(test)]
mod tests;
