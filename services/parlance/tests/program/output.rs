//! Standard error and standard output, and who reads them.

use std::io::{BufRead as _, BufReader, Lines, PipeWriter, Write as _, pipe};
use std::path::Path;
use std::process::{Child, ChildStderr, Command, Stdio};

use parlance_proto::membership::v1::GetUserRequest;
use parlance_proto::membership::v1::user_service_client::UserServiceClient;
use parlance_proto::message::v1::operator_service_client::OperatorServiceClient;
use parlance_proto::message::v1::{GetCountersRequest, TaskCounters};
use parlance_proto::presence::v1::BatchGetPresenceRequest;
use parlance_proto::presence::v1::presence_service_client::PresenceServiceClient;
use tempfile::TempDir;
use tonic::transport::{Channel, Endpoint};
use tonic::{Code, Request};

use crate::{PATIENCE, output, parlance};

/// A server whose log is read as far as its start.
struct Logging {
    child: Child,
    log: Option<Lines<BufReader<ChildStderr>>>,
    address: String,
}

impl Logging {
    fn start(folder: &Path, filter: &str, stdout: impl Into<Stdio>) -> Self {
        let mut run = parlance(folder);
        run.args(["--log-filter", filter]).stdout(stdout);
        Self::run(run).started()
    }

    fn started(mut self) -> Self {
        self.address = self.next("started")["address"].as_str().expect("text").into();
        self
    }

    /// Of which nothing is read yet.
    fn run(mut program: Command) -> Self {
        program.args(["--listen", "127.0.0.1:0", "--log-format", "json"]).stderr(Stdio::piped());
        let mut child = program.spawn().expect("the program");
        let log = child.stderr.take().map(|log| BufReader::new(log).lines());
        Self { child, log, address: String::new() }
    }

    /// The next line that says so.
    fn next(&mut self, message: &str) -> serde_json::Value {
        let said = self.lines().find(|line| line["message"] == message);
        said.unwrap_or_else(|| panic!("the program never said {message:?}"))
    }

    fn lines(&mut self) -> impl Iterator<Item = serde_json::Value> {
        let lines = self.log.as_mut().expect("a reader").map(|line| line.expect("text"));
        lines.filter_map(|line| serde_json::from_str(&line).ok())
    }

    fn channel(&self) -> Channel {
        let endpoint = Endpoint::from_shared(format!("http://{}", self.address));
        endpoint.expect("an address").timeout(PATIENCE).connect_lazy()
    }

    /// Asks it to stop; its exit code.
    fn stop(&mut self) -> Option<i32> {
        let killed = Command::new("kill").arg(self.child.id().to_string()).status();
        assert!(killed.expect("kill").success());
        self.child.wait().expect("an end").code()
    }
}

/// A test that fails leaves no server behind.
impl Drop for Logging {
    fn drop(&mut self) {
        let _ended = self.child.kill();
    }
}

/// A request of whoever the folder's key mints a token for.
fn signed<T>(folder: &Path, who: &str, message: T) -> Request<T> {
    let token = output(folder, &["token", "--tenant", "acme", who, "someone"]);
    let token = String::from_utf8(token.stdout).expect("text");
    let mut request = Request::new(message);
    let bearer = format!("Bearer {}", token.trim()).parse().expect("a value");
    request.metadata_mut().insert("authorization", bearer);
    request
}

/// Calls that write log lines, each of which is answered.
async fn call(folder: &Path, channel: &Channel, times: usize) {
    let request = signed(folder, "--service", GetUserRequest { user_id: "nobody".to_owned() });
    let (metadata, extensions, message) = request.into_parts();
    let mut users = UserServiceClient::new(channel.clone());
    for _ in 0..times {
        let request = Request::from_parts(metadata.clone(), extensions.clone(), message.clone());
        let refused = users.get_user(request).await.expect_err("nobody");
        assert_eq!(refused.code(), Code::NotFound, "{refused}");
    }
}

/// How the task that looks after the log is doing.
async fn log_task(folder: &Path, channel: &Channel) -> TaskCounters {
    let request = signed(folder, "--operator", GetCountersRequest {});
    let counters = OperatorServiceClient::new(channel.clone()).get_counters(request).await;
    let tasks = counters.expect("counters").into_inner().tasks;
    tasks.into_iter().find(|task| task.name == "log").expect("the task of the log")
}

#[tokio::test]
async fn a_server_goes_on_when_whoever_read_its_log_is_gone() {
    let folder = TempDir::new().expect("a folder");
    let mut server = Logging::start(folder.path(), "info", Stdio::null());
    // Reads no more: from here on every write fails.
    server.log = None;
    let channel = server.channel();
    call(folder.path(), &channel, 20).await;
    while log_task(folder.path(), &channel).await.failures == 0 {}
    assert_eq!(server.stop(), Some(0));
}

#[tokio::test]
async fn a_server_goes_on_when_whoever_reads_its_log_stands_still_and_says_how_much_was_lost() {
    let folder = TempDir::new().expect("a folder");
    // With all it can say, a call is about a hundred lines.
    let mut server = Logging::start(folder.path(), "trace", Stdio::null());
    let channel = server.channel();
    while log_task(folder.path(), &channel).await.failures == 0 {
        call(folder.path(), &channel, 100).await;
    }
    let task = log_task(folder.path(), &channel).await;
    assert!(task.last_failure.ends_with(" log lines were lost"), "{task:?}");
    // Now somebody reads again.
    let told = server.next("log lines were lost: nobody took them in time");
    assert!(told["lost"].as_u64().expect("a number") > 0, "{told}");
    let rest = server.log.take();
    let reader = std::thread::spawn(move || rest.into_iter().flatten().for_each(drop));
    assert_eq!(server.stop(), Some(0));
    reader.join().expect("read");
}

#[tokio::test]
async fn in_an_outage_a_sentence_is_written_once_in_a_while_and_counted() {
    let folder = TempDir::new().expect("a folder");
    let mut run = parlance(folder.path());
    // Nobody listens on port 1, so presence is unavailable.
    run.args(["--bus", "redis://127.0.0.1:1"]).stdout(Stdio::null());
    let mut server = Logging::run(run).started();
    let mut presences = PresenceServiceClient::new(server.channel());
    let asked = BatchGetPresenceRequest { user_ids: vec!["ann".to_owned()] };
    let (metadata, extensions, asked) = signed(folder.path(), "--user", asked).into_parts();
    for _ in 0..4 {
        let request = Request::from_parts(metadata.clone(), extensions.clone(), asked.clone());
        let refused = presences.batch_get_presence(request).await.expect_err("an outage");
        assert_eq!(refused.code(), Code::Unavailable, "{refused}");
    }
    let mut written = 0;
    let told = server.lines().find(|line| {
        let text = line["line"].as_str().unwrap_or_default();
        written += usize::from(line["message"] == "an outage");
        line["message"] == "left out lines like one above" && text.starts_with("an outage")
    });
    let told = told.expect("what was left out");
    assert!(told["count"].as_u64().expect("a number") > 0, "{told}");
    assert!(written <= 8, "{written}");
    assert_eq!(server.stop(), Some(0));
}

#[tokio::test]
async fn a_server_starts_when_nobody_reads_what_it_prints() {
    let (standing_still, mut full) = pipe().expect("a pipe");
    let stdout = full.try_clone().expect("a pipe");
    let filler = std::thread::spawn(move || fill(&mut full));
    for stdout in [Stdio::from(stdout), Stdio::from(gone())] {
        let folder = TempDir::new().expect("a folder");
        let mut server = Logging::start(folder.path(), "info", stdout);
        call(folder.path(), &server.channel(), 1).await;
        assert_eq!(server.stop(), Some(0));
    }
    drop(standing_still);
    filler.join().expect("filled");
}

/// Writes until nobody can read any more.
fn fill(pipe: &mut PipeWriter) {
    while pipe.write_all(&[b'.'; 4096]).is_ok() {}
}

/// A pipe that nobody reads any more.
fn gone() -> PipeWriter {
    pipe().expect("a pipe").1
}

#[test]
fn a_variable_that_looks_like_a_setting_and_is_none_is_warned_of() {
    let folder = TempDir::new().expect("a folder");
    let mut run = parlance(folder.path());
    run.stdout(Stdio::null()).env("PARLANCE_DRIAN", "1s");
    run.env("PARLANCE_ROOM_SERVICE_HOST", "10.0.0.1").env("PARLANCE_DRAIN", "1s");
    let mut server = Logging::run(run);
    assert_eq!(server.next("no setting has this name")["variable"], "PARLANCE_DRIAN");
    server.next("started");
    assert_eq!(server.stop(), Some(0));
}
