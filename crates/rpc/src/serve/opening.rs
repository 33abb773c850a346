//! What a new connection speaks, seen by its first bytes.

use std::time::Duration;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, copy, sink};
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_rustls::server::TlsStream;
use tokio_util::either::Either;

use crate::line::Line;
use crate::tls::Tls;

const PREFACE: &[u8; 24] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

/// The first byte of a TLS handshake: the type of its record.
const HANDSHAKE: u8 = 22;

/// How long a client that is told why it is sent away may take to hear it.
const HEAR: Duration = Duration::from_secs(1);

/// How much of what it goes on saying is read meanwhile, in bytes.
const UNHEARD: u64 = 64 * 1024;

/// A connection that has begun: its bytes, and whether they are HTTP/1.
pub(super) struct Opened {
    pub(super) stream: Either<TcpStream, Box<TlsStream<TcpStream>>>,
    pub(super) is_http1: bool,
}

/// What the first bytes of a connection are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Said {
    Http2,
    Tls,
    /// It may be HTTP/1.
    Other,
    Nothing,
}

/// Begins a connection: a handshake where there are certificates. `None`: it is none that is
/// served; whoever can be told why is.
pub(super) async fn open(
    stream: TcpStream,
    tls: Option<&Tls>,
    http1: bool,
    line: &Line,
) -> Option<Opened> {
    let said = said(&stream).await;
    match (said, tls) {
        (Said::Tls, Some(tls)) => {
            let accepted = match tls.accept(stream).await {
                Ok(accepted) => accepted,
                Err(error) => {
                    tracing::debug!(%error, "a TLS handshake failed");
                    return None;
                }
            };
            if !accepted.of_suite {
                line.is_not_of_suite();
            }
            let is_http1 = accepted.speaks_http1;
            Some(Opened { stream: Either::Right(accepted.stream), is_http1 })
        }
        (Said::Http2 | Said::Other, Some(_)) => {
            tracing::warn!("a client spoke plain text to the port, which speaks TLS");
            let words = if said == Said::Http2 { goodbye() } else { NO_TLS.to_vec() };
            tell(stream, &words).await;
            None
        }
        (Said::Tls, None) => {
            tracing::warn!(
                "a client spoke TLS to the port, which speaks plain text: set tls-cert and tls-key"
            );
            tell(stream, NOT_TLS).await;
            None
        }
        (Said::Http2, None) => Some(Opened { stream: Either::Left(stream), is_http1: false }),
        (Said::Other, None) if http1 => {
            Some(Opened { stream: Either::Left(stream), is_http1: true })
        }
        (Said::Other | Said::Nothing, _) => None,
    }
}

/// Looks at the first bytes of a connection until they are the whole preface, or cannot be.
async fn said(stream: &TcpStream) -> Said {
    let mut seen = [0; PREFACE.len()];
    loop {
        match stream.peek(&mut seen).await {
            Err(_) | Ok(0) => return Said::Nothing,
            Ok(_) if seen[0] == HANDSHAKE => return Said::Tls,
            Ok(count) if count == seen.len() && &seen == PREFACE => return Said::Http2,
            Ok(count) if count < seen.len() && PREFACE.starts_with(&seen[..count]) => {
                // It is there to be read at once: a wait instead of a busy loop.
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
            Ok(_) => return Said::Other,
        }
    }
}

/// For whoever speaks HTTP/1.
const NO_TLS: &[u8] = b"HTTP/1.1 400 Bad Request\r\ncontent-type: text/plain\r\n\
    content-length: 22\r\nconnection: close\r\n\r\nthis port speaks TLS.\n";

/// For whoever speaks TLS: no record of it, which clients say in words of their own. Were the
/// connection cut instead, they would take the server for one that is away.
const NOT_TLS: &[u8] = b"HTTP/1.1 400 Bad Request\r\ncontent-type: text/plain\r\n\
    content-length: 29\r\nconnection: close\r\n\r\nthis port speaks plain text.\n";

/// For whoever speaks HTTP/2: GOAWAY for want of security. Without the settings that a server
/// begins with: clients that get these take the connection for a good one, and come again at once.
fn goodbye() -> Vec<u8> {
    const WHY: &[u8] = b"this port speaks TLS";
    const INADEQUATE_SECURITY: u8 = 12;
    let length = u8::try_from(8 + WHY.len()).expect("short");
    let mut words = vec![0, 0, length, 7, 0, 0, 0, 0, 0];
    words.extend([0, 0, 0, 0, 0, 0, 0, INADEQUATE_SECURITY]);
    words.extend(WHY);
    words
}

/// Says something and closes. What the client goes on saying is read for a moment: to close
/// before would take the words from it.
async fn tell(mut stream: TcpStream, words: &[u8]) {
    let told = async {
        stream.write_all(words).await?;
        stream.shutdown().await?;
        copy(&mut stream.take(UNHEARD), &mut sink()).await
    };
    if let Ok(Err(error)) = timeout(HEAR, told).await {
        tracing::debug!(%error, "a client did not hear why it was sent away");
    }
}
