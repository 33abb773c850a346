//! Attachments in a bucket of a server that speaks S3.

use std::net::TcpListener;
use std::process::{Child, Command, Stdio};

use parlance_db::{Db, test_on_each_db};
use parlance_message::attachment::Place;
use parlance_proto::message::v1 as pb;
use parlance_rpc::Reason;
use parlance_rpc::testing::eventually;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tonic::{Response, Status};

use super::harness::{
    PART, Uploading, arrives, content, create, download, node, put, send, stub, try_download,
    try_upload,
};
use crate::harness::{Client, delete, refused};
use crate::rooms::group;

test_on_each_db!(parlance_message::MIGRATIONS =>
    what_is_uploaded_to_a_bucket_is_downloaded_on_another_replica_and_removed,
    a_bucket_that_is_away_is_told_and_an_upload_goes_on_when_it_is_back,
    a_url_gives_the_bytes_to_whoever_has_it_while_they_are_there,
);

const MINUTE: i64 = 60 * 1_000_000;

/// A server with an empty bucket, which ends with it.
struct Bucket {
    port: u16,
    server: Child,
}

impl Drop for Bucket {
    fn drop(&mut self) {
        // It may have ended already.
        let _ = self.server.kill();
        let _ = self.server.wait();
    }
}

impl Bucket {
    async fn start() -> Self {
        let free = TcpListener::bind("127.0.0.1:0").expect("a free port");
        let port = free.local_addr().expect("an address").port();
        drop(free);
        let bucket = Self { port, server: serve(port) };
        bucket.make().await;
        bucket
    }

    /// Makes the bucket once the server is there.
    async fn make(&self) {
        eventually(|| async { TcpStream::connect(("127.0.0.1", self.port)).await.is_ok() }).await;
        self.ask("PUT", "/media").await;
    }

    fn stop(&mut self) {
        self.server.kill().expect("killed");
        self.server.wait().expect("ended");
    }

    /// Starts it again, empty.
    async fn start_again(&mut self) {
        self.server = serve(self.port);
        self.make().await;
    }

    fn place(&self) -> Place {
        let endpoint = format!("http://127.0.0.1:{}", self.port);
        let options = [
            ("AWS_ENDPOINT", endpoint.as_str()),
            ("AWS_ALLOW_HTTP", "true"),
            ("AWS_REGION", "us-east-1"),
            ("AWS_ACCESS_KEY_ID", "parlance"),
            ("AWS_SECRET_ACCESS_KEY", "secret"),
        ];
        let options = options.map(|(name, value)| (name.to_owned(), value.to_owned()));
        let place: Place = "s3://media/of/tests".parse().expect("a place");
        place.with_options(options.into())
    }

    /// The names of its objects.
    async fn names(&self) -> Vec<String> {
        let listed = self.ask("GET", "/media?list-type=2").await;
        let names = listed.split("<Key>").skip(1);
        names.filter_map(|rest| Some(rest.split_once("</Key>")?.0.to_owned())).collect()
    }

    /// The answer to a request without a body, which was done.
    async fn ask(&self, method: &str, path: &str) -> String {
        let answer = String::from_utf8(self.answer(method, path).await).expect("a text");
        assert!(answer.contains(" 200 OK"), "{answer}");
        answer
    }

    /// What lies under a URL of it: the headers, and the bytes.
    async fn fetch(&self, url: &str) -> (String, Vec<u8>) {
        let here = format!("http://127.0.0.1:{}", self.port);
        let answer =
            self.answer("GET", url.strip_prefix(&here).expect("a URL of the bucket")).await;
        let end = answer.windows(4).position(|four| four == b"\r\n\r\n").expect("headers") + 4;
        (String::from_utf8_lossy(&answer[..end]).to_lowercase(), answer[end..].to_vec())
    }

    async fn answer(&self, method: &str, path: &str) -> Vec<u8> {
        let mut stream = TcpStream::connect(("127.0.0.1", self.port)).await.expect("connected");
        let request = format!(
            "{method} {path} HTTP/1.1\r\nHost: 127.0.0.1:{}\r\nContent-Length: 0\r\n\
             Connection: close\r\n\r\n",
            self.port
        );
        stream.write_all(request.as_bytes()).await.expect("asked");
        let mut answer = Vec::new();
        stream.read_to_end(&mut answer).await.expect("answered");
        answer
    }
}

/// The server is moto's, from the Python environment of the tests.
fn serve(port: u16) -> Child {
    let here = concat!(env!("CARGO_MANIFEST_DIR"), "/../../.tools/venv/bin/moto_server");
    let program = std::env::var("TEST_MOTO_SERVER").unwrap_or_else(|_| here.to_owned());
    Command::new(&program)
        .args(["-H", "127.0.0.1", "-p", &port.to_string()])
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .unwrap_or_else(|error| panic!("start {program} (see scripts/setup-tests): {error}"))
}

/// A URL that is good for so many seconds.
pub(super) async fn try_url(
    client: &Client,
    attachment_id: &str,
    seconds: i64,
) -> Result<Response<pb::GetAttachmentUrlResponse>, Status> {
    let ttl = Some(prost_types::Duration { seconds, nanos: 0 });
    let attachment_id = attachment_id.to_owned();
    stub(client).get_attachment_url(pb::GetAttachmentUrlRequest { attachment_id, ttl }).await
}

async fn what_is_uploaded_to_a_bucket_is_downloaded_on_another_replica_and_removed(db: Db) {
    let bucket = Bucket::start().await;
    let nodes = [node(db.clone(), &bucket.place()).await, node(db.clone(), &bucket.place()).await];
    group(&nodes[0], "lobby", &["ann", "bob"]).await;
    let anns = nodes.each_ref().map(|node| node.user("ann"));
    let bytes = content(3 * PART + 5, 1);
    let id = create(&anns[0], "lobby", bytes.len()).await;
    let upload = Uploading::begin(&anns[0]);
    upload.put(&id, 0, &bytes[..PART + 9]);
    arrives(&anns[1], &id, PART).await;
    upload.cut();
    let rest = try_upload(&anns[1], &id, PART, &bytes[PART..]).await.expect("uploaded");
    assert!(rest.into_inner().complete);
    let message = send(&anns[0], "lobby", &[&id]).await;
    let kept = put(&anns[0], "lobby", b"abc").await;
    for node in &nodes {
        assert_eq!(download(&node.user("bob"), &id, 0).await, bytes);
        assert_eq!(download(&node.user("bob"), &id, PART + 1).await, bytes[PART + 1..]);
    }
    let names = bucket.names().await;
    assert_eq!(names.len(), 5);
    assert!(names.iter().all(|name| name.starts_with("of/tests/")), "{names:?}");
    delete(&mut anns[0].clone(), &message).await;
    refused(try_download(&anns[1], &id, 0).await, Reason::AttachmentNotFound);
    nodes[1].clock.advance(2 * MINUTE);
    nodes[1].service.attachments().expect("attachments").tidy().await.expect("removed");
    assert_eq!(bucket.names().await.len(), 1);
    assert_eq!(download(&anns[0], &kept, 0).await, b"abc");
}

async fn a_bucket_that_is_away_is_told_and_an_upload_goes_on_when_it_is_back(db: Db) {
    let mut bucket = Bucket::start().await;
    let world = node(db, &bucket.place()).await;
    group(&world, "lobby", &["ann"]).await;
    let ann = world.user("ann");
    let bytes = content(2 * PART, 1);
    let id = create(&ann, "lobby", bytes.len()).await;
    bucket.stop();
    refused(try_upload(&ann, &id, 0, &bytes).await, Reason::StoreUnavailable);
    bucket.start_again().await;
    assert!(try_upload(&ann, &id, 0, &bytes).await.expect("uploaded").into_inner().complete);
    assert_eq!(download(&ann, &id, 0).await, bytes);
    bucket.stop();
    // Messages do not need it.
    send(&ann, "lobby", &[&id]).await;
    let mut stream = try_download(&ann, &id, 0).await.expect("a stream").into_inner();
    let status = stream.message().await.expect_err("away");
    assert_eq!(Reason::of(&status), Some(Reason::StoreUnavailable));
}

/// B-169, with GetAttachmentUrl.
async fn a_url_gives_the_bytes_to_whoever_has_it_while_they_are_there(db: Db) {
    let bucket = Bucket::start().await;
    let nodes = [node(db.clone(), &bucket.place()).await, node(db, &bucket.place()).await];
    group(&nodes[0], "lobby", &["ann", "bob"]).await;
    let [ann, bob] = [nodes[0].user("ann"), nodes[1].user("bob")];
    let part = create(&ann, "lobby", PART).await;
    refused(try_url(&ann, &part, 60).await, Reason::AttachmentIncomplete);
    // What the store takes in one piece, and in three.
    for bytes in [content(PART + 5, 1), content(45 * PART + 7, 2)] {
        let before = bucket.names().await.len();
        let id = put(&ann, "lobby", &bytes).await;
        refused(try_url(&bob, &id, 60).await, Reason::AttachmentNotFound);
        let message = send(&ann, "lobby", &[&id]).await;
        // Asked for at two nodes at once.
        let (first, second) = tokio::join!(try_url(&ann, &id, 60), try_url(&bob, &id, 900));
        let urls = [first, second].map(|url| url.expect("a URL").into_inner().url);
        for url in &urls {
            let (headers, body) = bucket.fetch(url).await;
            assert!(headers.contains(" 200 ok"), "{headers}");
            assert!(headers.contains("content-type: image/png"), "{headers}");
            let saved = "content-disposition: attachment; filename*=utf-8''tea%2epng";
            assert!(headers.contains(saved), "{headers}");
            assert!(body == bytes, "{} of {} bytes", body.len(), bytes.len());
        }
        assert!(urls[0].contains("X-Amz-Expires=60&") && urls[1].contains("X-Amz-Expires=900&"));
        for wrong in [0, 901] {
            refused(try_url(&ann, &id, wrong).await, Reason::InvalidField);
        }
        delete(&mut ann.clone(), &message).await;
        refused(try_url(&ann, &id, 60).await, Reason::AttachmentNotFound);
        nodes[0].clock.advance(2 * MINUTE);
        nodes[0].service.attachments().expect("attachments").tidy().await.expect("removed");
        assert_eq!(bucket.names().await.len(), before);
        assert!(bucket.fetch(&urls[0]).await.0.contains(" 404 "));
    }
}
