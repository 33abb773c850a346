//! Reaches servers over TLS.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use http::Uri;
use hyper_util::rt::TokioIo;
use rustls::pki_types::ServerName;
use tokio::net::{TcpSocket, TcpStream};
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;
use tonic::transport::{Channel, Endpoint, Error};
use tower::service_fn;

use super::Tls;
use super::configs::unjudged;

/// How the servers behind one set of addresses are told from others.
#[derive(Clone, Debug)]
pub(crate) struct Secure {
    tls: Tls,
    /// Whether they are services of the suite, which have names of their own.
    of_suite: bool,
}

impl Secure {
    pub(crate) fn to_suite(tls: Tls) -> Self {
        Self { tls, of_suite: true }
    }

    pub(crate) fn to_host(tls: Tls) -> Self {
        Self { tls, of_suite: false }
    }

    /// What connects to `address`, which stands behind the name `host`. Each connection is made
    /// with the certificates of its time.
    pub(crate) fn connector(
        self,
        address: SocketAddr,
        host: Arc<str>,
    ) -> impl tower::Service<
        Uri,
        Response = TokioIo<TlsStream<TcpStream>>,
        Error = io::Error,
        Future: Send,
    > + Send
    + 'static {
        service_fn(move |_: Uri| {
            let (secure, host) = (self.clone(), Arc::clone(&host));
            async move { secure.connect(address, &host).await.map(TokioIo::new) }
        })
    }

    async fn connect(&self, address: SocketAddr, host: &str) -> io::Result<TlsStream<TcpStream>> {
        let name = ServerName::try_from(host.to_owned()).map_err(io::Error::other)?;
        let stream = TcpStream::connect(address).await?;
        stream.set_nodelay(true)?;
        let config = if self.of_suite { self.tls.to_suite() } else { self.tls.to_host() };
        let shaken = TlsConnector::from(config).connect(name, stream).await;
        if let Err(error) = &shaken {
            // Whoever called it is told that it is away; this is why, and does not heal by itself.
            tracing::warn!(host, %error, "a TLS handshake with a service failed");
        }
        shaken
    }
}

/// Shakes hands with whoever is there, as a call to a service of the suite would, or as one to
/// whoever has the name that is called.
pub async fn shake_hands(tls: &Tls, at: (&str, u16), of_suite: bool) -> io::Result<()> {
    let found = tokio::net::lookup_host(at).await?.next();
    let address = found.ok_or(io::ErrorKind::AddrNotAvailable)?;
    let secure = Secure { tls: tls.clone(), of_suite };
    secure.connect(address, at.0).await.map(drop)
}

/// A channel to a server whose readiness is asked for, from an address of this machine. Over TLS
/// nobody judges its certificate: whoever asks tells it nothing, and wants to know whether it
/// answers, not who it is.
pub async fn probe(
    endpoint: Endpoint,
    server: SocketAddr,
    from: Option<IpAddr>,
    secure: bool,
) -> Result<Channel, Error> {
    if !secure {
        return endpoint.local_address(from).connect().await;
    }
    let connect = service_fn(move |_: Uri| async move {
        let socket = if server.is_ipv4() { TcpSocket::new_v4()? } else { TcpSocket::new_v6()? };
        if let Some(from) = from {
            socket.bind((from, 0).into())?;
        }
        let stream = socket.connect(server).await?;
        let connector = TlsConnector::from(Arc::new(unjudged()));
        let stream = connector.connect(ServerName::from(server.ip()), stream).await?;
        Ok::<_, io::Error>(TokioIo::new(stream))
    });
    endpoint.connect_with_connector(connect).await
}
