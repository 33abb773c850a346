//! The files of the embedded mode as people treat them: copied, removed, replaced, damaged.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use parlance_proto::message::v1 as message;
use parlance_proto::message::v1::message_service_client::MessageServiceClient;
use parlance_proto::message::v1::operator_service_client::OperatorServiceClient;
use parlance_proto::room::v1 as room;
use parlance_proto::room::v1::room_service_client::RoomServiceClient;
use tempfile::TempDir;
use tonic::metadata::MetadataValue;
use tonic::transport::{Channel, Endpoint};
use tonic::{Code, Request, Status};

use crate::{PATIENCE, Server, failure, output, parlance};

const DATABASES: [&str; 4] = ["membership.db", "message.db", "presence.db", "room.db"];

/// A server whose log is a file beside its data.
fn start(folder: &Path) -> Server {
    let log = File::create(folder.join("log")).expect("a file");
    // Callers stay connected to the end.
    Server::of(parlance(folder).args(["--drain", "100ms"]).stderr(log))
}

fn log(folder: &Path) -> String {
    fs::read_to_string(folder.join("log")).expect("the log")
}

/// A user of a server.
pub(crate) struct Caller {
    channel: Channel,
    bearer: MetadataValue<tonic::metadata::Ascii>,
}

impl Caller {
    pub(crate) async fn of(server: &Server, folder: &Path) -> Self {
        Self::with(server, folder, "--user").await
    }

    /// With a token of this kind.
    async fn with(server: &Server, folder: &Path, kind: &str) -> Self {
        let token = output(folder, &["token", "--tenant", "acme", kind, "ann"]);
        let token = String::from_utf8(token.stdout).expect("text");
        let bearer = format!("Bearer {}", token.trim()).parse().expect("a value");
        let endpoint = Endpoint::from_shared(format!("http://{}", server.address));
        let channel = endpoint.expect("a URL").connect().await.expect("it listens");
        Self { channel, bearer }
    }

    fn request<T>(&self, body: T) -> Request<T> {
        let mut request = Request::new(body);
        request.set_timeout(Duration::from_secs(10));
        request.metadata_mut().insert("authorization", self.bearer.clone());
        request
    }

    pub(crate) async fn create(&self, room_id: &str) -> Result<(), Status> {
        let create = room::CreateRoomRequest {
            room_id: room_id.to_owned(),
            kind: message::RoomKind::Group.into(),
            name: "A room".to_owned(),
            ..Default::default()
        };
        let mut rooms = RoomServiceClient::new(self.channel.clone());
        rooms.create_room(self.request(create)).await.map(drop)
    }

    pub(crate) async fn send(&self, room_id: &str) -> Result<(), Status> {
        let send = message::SendMessageRequest {
            room_id: room_id.to_owned(),
            content: Some(message::MessageContent {
                text: "hello".to_owned(),
                ..Default::default()
            }),
            ..Default::default()
        };
        let mut messages = MessageServiceClient::new(self.channel.clone());
        messages.send_message(self.request(send)).await.map(drop)
    }

    /// How many tasks of the process have failed.
    async fn failing_tasks(&self) -> usize {
        let mut operator = OperatorServiceClient::new(self.channel.clone());
        let counters = operator.get_counters(self.request(message::GetCountersRequest {})).await;
        let tasks = counters.expect("counters").into_inner().tasks;
        tasks.iter().filter(|task| task.failures > 0).count()
    }

    async fn count(&self, room_id: &str) -> usize {
        let list =
            message::ListMessagesRequest { room_id: room_id.to_owned(), ..Default::default() };
        let mut messages = MessageServiceClient::new(self.channel.clone());
        let page = messages.list_messages(self.request(list)).await.expect("a page");
        page.into_inner().messages.len()
    }
}

/// Waits until something holds.
async fn wait_until(mut holds: impl AsyncFnMut() -> bool) {
    let until = Instant::now() + PATIENCE;
    while !holds().await {
        assert!(Instant::now() < until, "it never came about");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

/// Waits until all that was written is in the databases themselves.
async fn idle(folder: &Path) {
    let logs = DATABASES.map(|name| folder.join("data").join(format!("{name}-wal")));
    wait_until(async || logs.iter().all(|log| fs::metadata(log).is_ok_and(|log| log.len() == 0)))
        .await;
}

/// Copies the databases, and only them; and the key, so that tokens hold.
fn copy(from: &Path, to: &Path) {
    fs::create_dir_all(to.join("data")).expect("a folder");
    for name in DATABASES.into_iter().chain(["signing.key"]) {
        fs::copy(from.join("data").join(name), to.join("data").join(name)).expect("copied");
    }
}

#[tokio::test]
async fn a_copy_of_the_databases_alone_has_everything_while_nobody_writes() {
    let (folder, copied) = (TempDir::new().expect("a folder"), TempDir::new().expect("a folder"));
    let server = start(folder.path());
    let ann = Caller::of(&server, folder.path()).await;
    ann.create("tea").await.expect("a room");
    for _ in 0..3 {
        ann.send("tea").await.expect("sent");
    }
    idle(folder.path()).await;
    copy(folder.path(), copied.path());
    ann.send("tea").await.expect("it goes on");

    let second = start(copied.path());
    let ann = Caller::of(&second, copied.path()).await;
    assert_eq!(ann.count("tea").await, 3);
    ann.send("tea").await.expect("the room is whole");
    assert_eq!(log(copied.path()), "", "nothing to say of them");
    for server in [server, second] {
        assert_eq!(server.stop(), Some(0));
    }
    // What was written last is in the databases of a server that ended well.
    let last = TempDir::new().expect("a folder");
    copy(folder.path(), last.path());
    let server = start(last.path());
    assert_eq!(Caller::of(&server, last.path()).await.count("tea").await, 4);
}

#[tokio::test]
async fn a_missing_key_beside_databases_is_told_of_once_and_a_first_one_is_not() {
    let folder = TempDir::new().expect("a folder");
    let server = start(folder.path());
    let ann = Caller::of(&server, folder.path()).await;
    ann.create("tea").await.expect("a room");
    assert_eq!(server.stop(), Some(0));
    let told = || -> Vec<String> {
        let log = log(folder.path());
        log.lines().filter(|line| line.contains("signing.key")).map(str::to_owned).collect()
    };
    assert_eq!(told(), [""; 0]);

    fs::remove_file(folder.path().join("data/signing.key")).expect("removed");
    let server = start(folder.path());
    let old = Caller { channel: Caller::of(&server, folder.path()).await.channel, ..ann };
    assert_eq!(old.send("tea").await.expect_err("another key").code(), Code::Unauthenticated);
    assert_eq!(server.stop(), Some(0));
    let [told_once] = &told()[..] else { panic!("{:?}", told()) };
    assert!(told_once.contains("WARN") && told_once.contains("all tokens of before are refused"));

    assert_eq!(start(folder.path()).stop(), Some(0));
    assert_eq!(told(), [""; 0]);
}

/// A file that is of no use any more takes no write, and nor do the others: they are put
/// back together.
#[tokio::test]
async fn a_database_that_is_removed_replaced_or_damaged_ends_all_writing_and_says_what_to_do() {
    type Harm = fn(PathBuf);
    let harms: [(&str, Harm, &str); 4] = [
        ("message.db", |path| fs::remove_file(path).expect("removed"), "message.db is gone"),
        ("membership.db-wal", |path| fs::remove_file(path).expect("removed"), "db-wal is gone"),
        (
            "membership.db",
            |path| {
                fs::copy(&path, path.with_extension("new")).expect("copied");
                fs::rename(path.with_extension("new"), path).expect("replaced");
            },
            "membership.db is another file",
        ),
        (
            "room.db",
            |path| fs::write(path, [0xa5; 8192]).expect("written over"),
            "does not begin as it did",
        ),
    ];
    for (name, harm, what) in harms {
        let folder = TempDir::new().expect("a folder");
        let server = start(folder.path());
        let ann = Caller::of(&server, folder.path()).await;
        ann.create("tea").await.expect("a room");
        ann.send("tea").await.expect("sent");
        harm(folder.path().join("data").join(name));
        wait_until(async || !server.is_ready(folder.path())).await;
        for refused in [ann.send("tea").await, ann.create("cake").await] {
            assert_eq!(refused.expect_err(name).code(), Code::Internal, "{name}");
        }
        // Whatever fails for it says nothing of its own.
        let operator = Caller::with(&server, folder.path(), "--operator").await;
        wait_until(async || operator.failing_tasks().await >= 4).await;
        assert_eq!(server.stop(), Some(0), "{name}");
        let log = log(folder.path());
        let told: Vec<_> = log.lines().filter(|line| line.contains("any more:")).collect();
        let [told] = told[..] else { panic!("{name}: {log}") };
        assert!(told.contains(what), "{told}");
        assert_eq!(log.matches("stop the server, put a backup").count(), 1, "{name}: {log}");
        // Only what asks the service of a broken file cannot know why that fails.
        let asks = ["changed rosters", "ended live rooms", "ended sessions", "seat walk"];
        let mut fails = log.lines().filter(|line| line.contains("a task fails"));
        assert!(fails.all(|line| asks.iter().any(|task| line.contains(task))), "{name}: {log}");
    }
}

#[tokio::test]
async fn files_of_different_times_are_mended_or_refused_by_name() {
    let folder = TempDir::new().expect("a folder");
    let (older, newer) = (folder.path().join("older"), folder.path().join("newer"));
    let server = start(folder.path());
    let ann = Caller::of(&server, folder.path()).await;
    ann.create("tea").await.expect("a room");
    idle(folder.path()).await;
    copy(folder.path(), &older);
    ann.create("cake").await.expect("a room");
    assert_eq!(server.stop(), Some(0));
    copy(folder.path(), &newer);

    let mixed = |name: &str| {
        let mixed = TempDir::new().expect("a folder");
        copy(&newer, mixed.path());
        let file = mixed.path().join("data").join(name);
        fs::copy(older.join("data").join(name), file).expect("copied");
        mixed
    };
    for (name, lacks) in [
        ("membership.db", "membership.db lacks the members of 1 rooms"),
        ("room.db", "room.db lacks the settings of 1 rooms"),
    ] {
        let mixed = mixed(name);
        let (code, text) = failure(&output(mixed.path(), &["run", "--listen", "127.0.0.1:0"]));
        assert_eq!(code, Some(1));
        assert!(text.contains(lacks) && text.contains("put back copies of all"), "{text}");
    }

    let mixed = mixed("message.db");
    let server = start(mixed.path());
    assert!(log(mixed.path()).contains("message.db is older"), "{}", log(mixed.path()));
    let ann = Caller::of(&server, mixed.path()).await;
    wait_until(async || ann.send("cake").await.is_ok()).await;
    assert_eq!(server.stop(), Some(0));

    let emptied = mixed.path().join("data/message.db");
    fs::write(&emptied, "").expect("emptied");
    let (_, text) = failure(&output(mixed.path(), &["run", "--listen", "127.0.0.1:0"]));
    assert!(text.contains("message.db lacks the messages of all 2 rooms"), "{text}");
    fs::remove_file(&emptied).expect("removed");
    let (_, text) = failure(&output(mixed.path(), &["run", "--listen", "127.0.0.1:0"]));
    assert!(text.contains("message.db is missing"), "{text}");
}
