//! The program itself, in processes of their own.

mod files;

use std::io::{BufRead, BufReader};
use std::net::SocketAddr;
use std::os::unix::process::CommandExt as _;
use std::path::Path;
use std::process::{Child, Command, Output, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::time::{Duration, Instant};

use parlance_db::testing::TestDatabase;
use tempfile::TempDir;

mod output;
mod probes;
mod rights;

/// How long the program may take to say something.
const PATIENCE: Duration = Duration::from_secs(30);

fn parlance(folder: &Path) -> Command {
    program("parlance", folder)
}

/// The program by one of its names.
fn program(name: &str, folder: &Path) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_parlance"));
    command.arg0(name);
    let inherited = std::env::vars_os().map(|(name, _)| name);
    for name in inherited.filter(|name| name.to_string_lossy().starts_with("PARLANCE_")) {
        command.env_remove(name);
    }
    command.current_dir(folder).stdin(Stdio::null());
    command
}

fn output(folder: &Path, arguments: &[&str]) -> Output {
    parlance(folder).args(arguments).output().expect("the program")
}

/// What the program says of a failure: one line.
fn failure(output: &Output) -> (Option<i32>, String) {
    let text = String::from_utf8(output.stderr.clone()).expect("text");
    assert_eq!(text.lines().count(), 1, "{text}");
    assert!(output.stdout.is_empty());
    (output.status.code(), text.trim().to_owned())
}

/// A server in its folder.
struct Server {
    child: Child,
    /// What it prints.
    said: Receiver<String>,
    address: String,
}

impl Server {
    fn start(folder: &Path, arguments: &[&str]) -> Self {
        Self::of(parlance(folder).args(arguments))
    }

    /// Starts what the command has to say beside what all of them say.
    fn of(command: &mut Command) -> Self {
        let mut child = command
            .args(["--listen", "127.0.0.1:0", "--log-filter", "warn"])
            .stdout(Stdio::piped())
            .spawn()
            .expect("the program");
        let stdout = BufReader::new(child.stdout.take().expect("a pipe"));
        let (says, said) = channel();
        std::thread::spawn(move || {
            for line in stdout.lines() {
                // Whoever has heard enough is gone.
                let _heard = says.send(line.expect("text"));
            }
        });
        let mut server = Self { child, said, address: String::new() };
        server.address = server.next_line_with("Parlance listens on ");
        server
    }

    /// What follows `prefix` on the next line that begins with it.
    fn next_line_with(&self, prefix: &str) -> String {
        let until = Instant::now() + PATIENCE;
        loop {
            let left = until.saturating_duration_since(Instant::now());
            let line = self.said.recv_timeout(left);
            let line = line.unwrap_or_else(|_| panic!("the program never said {prefix:?}"));
            if let Some(rest) = line.strip_prefix(prefix) {
                return rest.to_owned();
            }
        }
    }

    fn is_ready(&self, folder: &Path) -> bool {
        output(folder, &["healthcheck", "--listen", &self.address]).status.success()
    }

    /// Asks it to stop; its exit code.
    fn stop(mut self) -> Option<i32> {
        let killed = Command::new("kill").arg(self.child.id().to_string()).status();
        assert!(killed.expect("kill").success());
        self.child.wait().expect("an end").code()
    }
}

/// A test that fails leaves no server behind.
impl Drop for Server {
    fn drop(&mut self) {
        let _ended = self.child.kill();
    }
}

#[test]
fn a_server_starts_with_nothing_said_tells_how_to_get_tokens_and_ends_well_when_asked_to() {
    let folder = TempDir::new().expect("a folder");
    let server = Server::start(folder.path(), &[]);
    for (name, variable) in [("export BACKEND=", "$BACKEND"), ("export ANNA=", "$ANNA")] {
        let line = server.next_line_with(name);
        // What is printed may be kept, and read by others.
        assert!(!line.contains("eyJ"), "{line}");
        let shown = format!("{name}{line}\necho \"{variable}\"");
        let token = Command::new("bash").args(["-euc", &shown]).output().expect("bash");
        let token = String::from_utf8(token.stdout).expect("text");
        assert_eq!(token.split('.').count(), 3, "{token}");
    }
    assert!(server.is_ready(folder.path()));
    let made = folder.path().join("data");
    for file in ["signing.key", "membership.db", "message.db", "presence.db", "room.db"] {
        assert!(made.join(file).exists(), "{file}");
    }
    assert_eq!(server.stop(), Some(0));
}

/// The line of the log that says what was started.
fn start_line(folder: &Path) -> serde_json::Value {
    let mut child = parlance(folder)
        .args(["run", "--listen", "127.0.0.1:0", "--log-format", "json"])
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .expect("the program");
    let mut log = BufReader::new(child.stderr.take().expect("a pipe")).lines();
    let started = log.find_map(|line| {
        let line: serde_json::Value =
            line.ok().and_then(|line| serde_json::from_str(&line).ok())?;
        (line["message"] == "started").then_some(line)
    });
    let killed = Command::new("kill").arg(child.id().to_string()).status();
    assert!(killed.expect("kill").success());
    // What it goes on to say is read, so that it is not stopped by a full pipe.
    assert_eq!(log.filter(Result::is_err).count(), 0);
    assert_eq!(child.wait().expect("an end").code(), Some(0));
    started.expect("the program never said what it started")
}

#[test]
fn the_log_of_a_start_says_what_is_kept_where_how_safely_and_in_which_epoch() {
    let folder = TempDir::new().expect("a folder");
    let started = start_line(folder.path());
    assert_eq!(started["level"], "INFO");
    assert_eq!(started["part"], "parlance");
    assert_eq!(started["version"], env!("CARGO_PKG_VERSION"));
    assert_eq!(started["store"], "sqlite in ./data");
    assert_eq!(started["durability"], "an acknowledged write survives a crash");
    let address: SocketAddr = started["address"].as_str().expect("text").parse().expect("address");
    assert_ne!(address.port(), 0);
    let epoch = started["epoch"].as_str().expect("text");
    assert!(!epoch.is_empty());
    // The files may have been put back meanwhile: each start on SQLite begins an epoch.
    assert_ne!(start_line(folder.path())["epoch"], epoch);
}

#[test]
fn a_second_process_on_the_same_folder_stops_with_one_line() {
    let folder = TempDir::new().expect("a folder");
    let server = Server::start(folder.path(), &[]);
    for arguments in [&["run", "--listen", "127.0.0.1:0"][..], &["restored"]] {
        let (code, text) = failure(&output(folder.path(), arguments));
        assert_eq!(code, Some(1));
        assert_eq!(text, "parlance: the folder ./data is in use by another process");
    }
    assert!(server.is_ready(folder.path()));
    assert_eq!(server.stop(), Some(0));
}

#[test]
fn who_has_put_a_backup_back_begins_an_epoch() {
    let folder = TempDir::new().expect("a folder");
    let begun = |arguments: &[&str]| {
        let told = output(folder.path(), &[&["restored"], arguments].concat());
        assert!(told.status.success(), "{told:?}");
        String::from_utf8(told.stdout).expect("text").trim().to_owned()
    };
    let (first, second) = (begun(&[]), begun(&[]));
    assert_eq!((first.len(), second.len()), (16, 16));
    assert_ne!(first, second);
    let help = output(folder.path(), &["restored", "--help"]);
    let help = String::from_utf8(help.stdout).expect("text");
    for step in ["Stop every service", "put the backup back", "start again"] {
        assert!(help.split_whitespace().collect::<Vec<_>>().join(" ").contains(step), "{help}");
    }
}

#[test]
fn a_server_whose_redis_is_away_is_ready() {
    let folder = TempDir::new().expect("a folder");
    // Nobody listens on port 1.
    let server = Server::start(folder.path(), &["--bus", "redis://127.0.0.1:1"]);
    assert!(server.is_ready(folder.path()));
    assert_eq!(server.stop(), Some(0));
}

#[test]
fn a_token_is_all_that_the_token_command_prints() {
    let folder = TempDir::new().expect("a folder");
    let ann = ["token", "--tenant", "acme", "--user", "ann"];
    let (code, text) = failure(&output(folder.path(), &ann));
    assert_eq!(code, Some(1));
    assert!(text.contains("signing.key"), "{text}");

    assert_eq!(Server::start(folder.path(), &[]).stop(), Some(0));
    let token = output(folder.path(), &ann);
    assert!(token.status.success());
    let token = String::from_utf8(token.stdout).expect("text");
    assert_eq!(token.trim_end().split('.').count(), 3, "{token}");
    assert_eq!(token.lines().count(), 1);
    let (code, text) = failure(&output(folder.path(), &[&ann[..], &["--ttl", "0s"]].concat()));
    assert_eq!((code, text.contains("ttl")), (Some(2), true), "{text}");
}

#[test]
fn a_wrong_setting_stops_the_start_with_one_line_wherever_it_stands() {
    let folder = TempDir::new().expect("a folder");
    let file = folder.path().join("parlance.toml");
    std::fs::write(&file, "rate = 'many'").expect("a file");
    let mut by_environment = parlance(folder.path());
    by_environment.env("PARLANCE_DRAIN", "soon");
    let mut by_file = parlance(folder.path());
    by_file.args(["run", "--config", "parlance.toml"]);
    let mut by_flag = parlance(folder.path());
    by_flag.args(["run", "--writers", "0"]);
    let mut key = parlance(folder.path());
    key.args(["run", "--auth-key", "hs256:/nowhere"]);
    let mut filter = parlance(folder.path());
    filter.args(["run", "--log-filter", "x=loud"]);
    for (command, named) in [
        (&mut by_environment, "(or PARLANCE_DRAIN)"),
        (&mut by_file, "rate"),
        (&mut by_flag, "writers must be 1 to 64, not 0 (--writers or PARLANCE_WRITERS)"),
        (&mut key, "auth-key cannot be used: cannot use the key file /nowhere"),
        (&mut filter, "log-filter"),
    ] {
        let (code, text) = failure(&command.output().expect("the program"));
        assert_eq!(code, Some(2), "{text}");
        assert!(text.contains(named), "{text}");
    }
}

#[test]
fn an_empty_variable_says_nothing_and_a_line_end_behind_a_value_is_cut_off() {
    let folder = TempDir::new().expect("a folder");
    let keys = ["hs256:a", "hs256:b\n"].join(",");
    for (store, made) in [("sqlite://./nl\n", "nl"), ("", "data"), ("\n", "data")] {
        let mut migrate = parlance(folder.path());
        migrate.args(["migrate", "--log-filter", "info\n"]);
        migrate.env("PARLANCE_STORE", store).env("PARLANCE_DRAIN", "").env("PARLANCE_BUS", "");
        let done = migrate.env("PARLANCE_AUTH_KEY", &keys).output().expect("the program");
        assert!(done.status.success(), "{done:?}");
        assert!(folder.path().join(made).is_dir(), "{store:?}");
    }
    let made = std::fs::read_dir(folder.path()).expect("a folder").count();
    assert_eq!(made, 2);
}

/// As two replicas that start at once do. It verifies no caller, and needs no key.
#[tokio::test]
async fn schemas_may_be_brought_up_to_date_twice_at_once() {
    let folder = TempDir::new().expect("a folder");
    for name in ["parlance-message", "parlance"] {
        let database = TestDatabase::create().await;
        let start = || {
            let mut migrate = program(name, folder.path());
            migrate.args(["migrate", "--store", &database.url()]).stderr(Stdio::piped());
            migrate.spawn().expect("the program")
        };
        for migrating in [start(), start()] {
            let output = migrating.wait_with_output().expect("an end");
            let said = String::from_utf8_lossy(&output.stderr);
            assert!(output.status.success(), "{name}: {said}");
        }
        database.go().await;
    }
}

#[test]
fn help_explains_every_setting() {
    let folder = TempDir::new().expect("a folder");
    let help = output(folder.path(), &["--help"]);
    assert!(help.status.success());
    let help = String::from_utf8(help.stdout).expect("text");
    for part in ["--store", "PARLANCE_STORE", "--auth-key", "--stream-life", "100ms to 1h"] {
        assert!(help.contains(part), "{part}: {help}");
    }
}
