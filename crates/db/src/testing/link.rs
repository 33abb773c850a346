//! A link to Postgres that can swallow what is sent.

use std::net::SocketAddr;
use std::str::FromStr;
use std::time::Duration;

use sqlx::postgres::PgConnectOptions;
use tokio::io::copy_bidirectional;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::AbortHandle;
use tokio::time::timeout;

use super::CONNECTIONS;

/// Within this time a silent Postgres is left behind.
const BOUND: Duration = Duration::from_secs(5);

/// A TCP proxy before a Postgres. The connections that are open when it [falls
/// silent](Self::silence) stay open, and nothing passes on them any more; later ones work. Those
/// that are open when it [leads elsewhere](Self::leads_to) end.
#[derive(Debug)]
pub struct Link {
    url: String,
    /// Where later connections lead.
    server: watch::Sender<String>,
    /// How often the link fell silent.
    silences: watch::Sender<u32>,
    accepting: AbortHandle,
}

impl Link {
    /// Leads to the Postgres of this URL.
    pub async fn to(url: &str) -> Self {
        let server = address(url);
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let near: SocketAddr = listener.local_addr().expect("an address");
        let linked = url.replace(&server, &near.to_string());
        assert_ne!(linked, url, "the URL names {server}");
        let silences = watch::Sender::new(0);
        let server = watch::Sender::new(server);
        let (told, ways) = (silences.clone(), server.clone());
        let accepting = tokio::spawn(async move {
            loop {
                let (near, _) = listener.accept().await.expect("a connection");
                let mut moves = ways.subscribe();
                let server = moves.borrow_and_update().clone();
                // Of one that is away, the connection ends at once.
                let Ok(far) = TcpStream::connect(server).await else { continue };
                let passing = pass(near, far, told.subscribe());
                tokio::spawn(async move {
                    tokio::select! {
                        () = passing => {}
                        _ = moves.changed() => {}
                    }
                });
            }
        });
        Self { url: linked, server, silences, accepting: accepting.abort_handle() }
    }

    /// The URL that leads over this link.
    pub fn url(&self) -> String {
        self.url.clone()
    }

    /// Ends all connections; later ones lead to the Postgres of this URL.
    pub fn leads_to(&self, url: &str) {
        self.server.send_replace(address(url));
    }

    /// From now on nothing passes on the connections that are open.
    pub fn silence(&self) {
        self.silences.send_modify(|silences| *silences += 1);
    }

    /// Falls silent, and expects that calls which need the database work again within 5 s, all
    /// connections of a pool at once.
    pub async fn is_left_behind<F: Future<Output = bool>>(&self, call: impl Fn() -> F) {
        let all_work = async || {
            let mut calls = Vec::new();
            for _ in 0..CONNECTIONS {
                calls.push(call());
            }
            futures::future::join_all(calls).await.into_iter().all(|works| works)
        };
        assert!(all_work().await, "the calls work before the silence");
        self.silence();
        let again = timeout(BOUND, async { while !all_work().await {} }).await;
        again.expect("the silent connections are left behind");
    }
}

impl Drop for Link {
    fn drop(&mut self) {
        self.accepting.abort();
    }
}

fn address(url: &str) -> String {
    let server = PgConnectOptions::from_str(url).expect("a URL");
    format!("{}:{}", server.get_host(), server.get_port())
}

/// Lets everything pass until the link falls silent; ends with the link.
async fn pass(mut near: TcpStream, mut far: TcpStream, mut silences: watch::Receiver<u32>) {
    tokio::select! {
        _ = copy_bidirectional(&mut near, &mut far) => return,
        told = silences.changed() => if told.is_err() { return },
    }
    while silences.changed().await.is_ok() {}
}
