//! A way to Redis that can be cut.

use std::sync::Arc;

use tokio::io::copy_bidirectional;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;

/// A port that leads to a server, or to nothing.
#[derive(Clone)]
pub(crate) struct Link {
    pub(crate) address: String,
    up: Arc<watch::Sender<bool>>,
}

impl Link {
    /// A way to `server`.
    pub(crate) async fn to(server: String) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let address = listener.local_addr().expect("an address").to_string();
        let up = Arc::new(watch::Sender::new(true));
        let switch = Arc::clone(&up);
        tokio::spawn(async move {
            while let Ok((near, _)) = listener.accept().await {
                let mut up = switch.subscribe();
                if *up.borrow_and_update() {
                    tokio::spawn(carry(near, server.clone(), up));
                }
            }
        });
        Self { address, up }
    }

    /// Ends every connection, and those to come.
    pub(crate) fn cut(&self) {
        self.up.send_replace(false);
    }

    pub(crate) fn mend(&self) {
        self.up.send_replace(true);
    }
}

async fn carry(mut near: TcpStream, server: String, mut up: watch::Receiver<bool>) {
    let Ok(mut far) = TcpStream::connect(server).await else { return };
    tokio::select! {
        ended = copy_bidirectional(&mut near, &mut far) => drop(ended),
        changed = up.changed() => drop(changed),
    }
}
