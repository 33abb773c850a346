//! One address that leads to a server, or to nothing, or from now on to another server.

use std::sync::Arc;

use tokio::io::copy_bidirectional;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;

use crate::RedisUrl;

/// A port that leads to a Redis, or to nothing.
#[derive(Clone, Debug)]
pub struct Proxy {
    url: RedisUrl,
    way: Arc<watch::Sender<Way>>,
}

#[derive(Clone, Debug)]
struct Way {
    server: String,
    is_up: bool,
}

impl Proxy {
    /// A way to a server.
    pub async fn to(server: &RedisUrl) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let address = listener.local_addr().expect("an address");
        let way = Arc::new(watch::Sender::new(Way { server: host(server), is_up: true }));
        let switch = Arc::clone(&way);
        tokio::spawn(async move {
            while let Ok((near, _)) = listener.accept().await {
                let mut way = switch.subscribe();
                let Way { server, is_up } = way.borrow_and_update().clone();
                if is_up {
                    tokio::spawn(carry(near, server, way));
                }
            }
        });
        Self { url: format!("redis://{address}").parse().expect("an address"), way }
    }

    pub fn url(&self) -> &RedisUrl {
        &self.url
    }

    /// Leads to another server from now on; connections that there are stay where they are.
    pub fn lead_to(&self, server: &RedisUrl) {
        self.way.send_modify(|way| way.server = host(server));
    }

    /// Ends every connection, and those to come.
    pub fn cut(&self) {
        self.way.send_modify(|way| way.is_up = false);
    }

    pub fn mend(&self) {
        self.way.send_modify(|way| way.is_up = true);
    }
}

fn host(server: &RedisUrl) -> String {
    server.servers()[0].trim_start_matches("redis://").to_owned()
}

async fn carry(mut near: TcpStream, server: String, mut way: watch::Receiver<Way>) {
    let Ok(mut far) = TcpStream::connect(server).await else { return };
    tokio::select! {
        ended = copy_bidirectional(&mut near, &mut far) => drop(ended),
        cut = way.wait_for(|way| !way.is_up) => drop(cut),
    }
}
