//! What is logged of a request, and what never is.

use std::io;
use std::sync::LazyLock;
use std::time::Duration;

use parlance_proto::membership::v1::{UpsertUserRequest, User};
use parlance_proto::message::v1::SubscribeRequest;
use parlance_rpc::within;
use parlance_telemetry::Format;
use tokio::sync::mpsc;
use tokio_stream::StreamExt;
use tracing::Dispatch;
use tracing::subscriber::DefaultGuard;
use tracing_subscriber::filter::LevelFilter;
use tracing_subscriber::fmt::MakeWriter;
use tracing_subscriber::layer::SubscriberExt as _;

use crate::harness::{Harness, MINUTE};

/// Hands every log line to the test.
#[derive(Clone)]
struct Lines(mpsc::UnboundedSender<String>);

impl io::Write for Lines {
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        // The test may be over already.
        let _ = self.0.send(String::from_utf8_lossy(line).into_owned());
        Ok(line.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl MakeWriter<'_> for Lines {
    type Writer = Self;

    fn make_writer(&self) -> Self {
        self.clone()
    }
}

/// While there is only one subscriber the library asks that of the thread that reaches
/// a line first, and never asks again: a thread of another test has none, and would turn
/// the line off for everyone. So there is always another one.
static ANOTHER: LazyLock<[Dispatch; 2]> =
    LazyLock::new(|| [(); 2].map(|()| Dispatch::new(tracing_subscriber::registry())));

/// Catches what this thread logs, down to debug lines.
pub(crate) fn catch() -> (mpsc::UnboundedReceiver<String>, DefaultGuard) {
    LazyLock::force(&ANOTHER);
    let (sender, lines) = mpsc::unbounded_channel();
    let written = parlance_telemetry::layer(Format::Text, false, Lines(sender), within);
    let subscriber = tracing_subscriber::registry().with(written).with(LevelFilter::DEBUG);
    (lines, tracing::subscriber::set_default(subscriber))
}

/// The next line that tells of a finished request, and all lines up to it.
pub(crate) async fn finished(lines: &mut mpsc::UnboundedReceiver<String>) -> (String, String) {
    let mut all = String::new();
    loop {
        let line = lines.recv().await.expect("a line");
        all += &line;
        if line.contains("finished") {
            return (line, all);
        }
    }
}

#[tokio::test]
async fn a_request_is_one_line_with_ids_and_without_what_was_said() {
    let (mut lines, _guard) = catch();
    let harness = Harness::start().await;
    let user = User { name: "a private word".to_owned(), ..User::default() };
    let mut request = harness.ann(UpsertUserRequest { user: Some(user) });
    request.metadata_mut().insert("x-request-id", "abc-123".parse().expect("a value"));
    let token = request.metadata().get("authorization").expect("a token").clone();
    let token = token.to_str().expect("text").trim_start_matches("Bearer ").to_owned();
    harness.users().upsert_user(request).await.expect("an answer");

    let (line, all) = finished(&mut lines).await;
    for part in [
        "INFO",
        "method=\"/parlance.membership.v1.UserService/UpsertUser\"",
        "request_id=\"abc-123\"",
        "trace_id=",
        "code=Ok",
        "tenant=\"acme\"",
        "caller=\"user\"",
        "duration=",
    ] {
        assert!(line.contains(part), "{part}: {line}");
    }
    for secret in ["a private word", &token] {
        assert!(!all.contains(secret), "{all}");
    }
}

#[tokio::test]
async fn a_refusal_is_logged_with_its_reason_and_a_call_of_the_suite_quietly() {
    let (mut lines, _guard) = catch();
    let harness = Harness::start().await;
    let mut users = harness.users();
    users.get_user(harness.get("internal")).await.expect_err("refused");
    let (line, _) = finished(&mut lines).await;
    assert!(line.contains("code=PermissionDenied reason=\"NOT_ALLOWED\""), "{line}");
    users.get_user(harness.get("through")).await.expect("an answer");
    let (inner, _) = finished(&mut lines).await;
    assert!(inner.contains("DEBUG") && inner.contains("caller=\"internal\""), "{inner}");
    let (outer, _) = finished(&mut lines).await;
    assert!(outer.contains("INFO") && outer.contains("caller=\"user\""), "{outer}");
}

#[tokio::test]
async fn clocks_that_are_too_far_apart_are_told_once_with_the_claim_and_the_distance() {
    let (mut lines, _guard) = catch();
    let harness = Harness::start().await;
    let mut told = Vec::new();
    for _ in 0..3 {
        let ahead = Duration::from_secs(90);
        harness.users().get_user(harness.skewed(ahead)).await.expect_err("refused");
        let (_, all) = finished(&mut lines).await;
        told.extend(all.lines().filter(|line| line.contains("too far apart")).map(str::to_owned));
    }
    let [line] = &told[..] else { panic!("{told:?}") };
    let distance = ["seconds=89", "seconds=90"].iter().any(|text| line.contains(text));
    assert!(line.contains("WARN") && line.contains("claim=\"nbf\"") && distance, "{line}");
    harness.users().get_user(harness.skewed(MINUTE)).await.expect("within a minute");
}

#[tokio::test]
async fn a_stream_whose_client_went_away_is_logged_as_cancelled() {
    let (mut lines, _guard) = catch();
    let harness = Harness::start().await;
    let stream = harness.streams().subscribe(harness.ann(SubscribeRequest::default())).await;
    let mut stream = stream.expect("a stream").into_inner();
    assert!(stream.next().await.expect("a frame").is_ok());
    drop(stream);
    let (line, _) = finished(&mut lines).await;
    assert!(line.contains("Subscribe") && line.contains("code=Cancelled"), "{line}");
}
