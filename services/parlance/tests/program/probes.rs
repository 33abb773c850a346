//! `parlance healthcheck`.

use std::io::Read as _;
use std::net::TcpStream;
use std::process::Stdio;

use tempfile::TempDir;

use crate::files::Caller;
use crate::{PATIENCE, Server, failure, output, parlance};

#[test]
fn a_healthcheck_finds_the_server_by_its_file() {
    let folder = TempDir::new().expect("a folder");
    let server = Server::start(folder.path(), &[]);
    let file = |address: &str| {
        let text = format!("listen = '{address}'\nstore = 'sqlite://./data'\n");
        std::fs::write(folder.path().join("parlance.toml"), text).expect("a file");
    };
    let check = || output(folder.path(), &["healthcheck", "--config", "parlance.toml"]);
    file(&server.address);
    assert!(check().status.success());
    // Nobody listens on port 1.
    file("127.0.0.1:1");
    let (code, text) = failure(&check());
    assert_eq!((code, text.contains("cannot reach the server")), (Some(1), true), "{text}");
    file("here");
    assert_eq!(failure(&check()).0, Some(2));
    assert_eq!(server.stop(), Some(0));
}

/// A proxy beside the server may have as many connections of 127.0.0.1 as there may be.
#[test]
fn a_healthcheck_comes_from_an_address_that_nobody_else_uses() {
    let folder = TempDir::new().expect("a folder");
    let server = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = server.local_addr().expect("an address").to_string();
    let mut check = parlance(folder.path());
    let check = check.args(["healthcheck", "--listen", &address]).stderr(Stdio::piped()).spawn();
    let (connection, from) = server.accept().expect("a connection");
    assert_eq!(from.ip().to_string(), "127.0.0.2");
    drop((connection, server));
    let ended = check.expect("the program").wait_with_output().expect("an end");
    assert!(!ended.status.success(), "nobody answered");
}

/// A connection that showed a good token goes for nobody.
#[tokio::test]
async fn a_healthcheck_finds_a_place_where_others_have_all_of_the_address() {
    let folder = TempDir::new().expect("a folder");
    let server =
        Server::start(folder.path(), &["--connections-per-address", "1", "--drain", "100ms"]);
    let ann = Caller::of(&server, folder.path()).await;
    ann.create("tea").await.expect("a room");
    let mut further = TcpStream::connect(&server.address).expect("it listens");
    further.set_read_timeout(Some(PATIENCE)).expect("a timeout");
    let mut heard = Vec::new();
    // Closed, or reset.
    assert_eq!(further.read_to_end(&mut heard).unwrap_or_default(), 0, "no place is left");
    assert!(server.is_ready(folder.path()));
    ann.send("tea").await.expect("it stayed");
    drop(ann);
    assert_eq!(server.stop(), Some(0));
}
