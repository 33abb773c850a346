//! A standby of the Postgres that `TEST_POSTGRES_URL` names.

use std::fs;
use std::io::{self, ErrorKind};
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::Command;

use tempfile::TempDir;

use super::TestSchema;

/// A server that follows another one. Stopped and removed when this is dropped.
#[derive(Debug)]
pub struct Standby {
    folder: TempDir,
    port: u16,
}

impl Standby {
    /// Copies the server, and follows it.
    pub fn start() -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        give_away(folder.path()).expect("a folder of the server's own");
        let standby = Self { folder, port: free_port() };
        let copy = ["-R", "-c", "fast", "-d", &TestSchema::new().url, "-D"];
        standby.run("pg_basebackup", &copy);
        let options = format!(
            "-p {} -k {} -c listen_addresses=127.0.0.1 -c max_connections=300",
            standby.port,
            standby.folder.path().display(),
        );
        let log = standby.folder.path().join("log").display().to_string();
        standby.run("pg_ctl", &["start", "-s", "-w", "-l", &log, "-o", &options, "-D"]);
        standby
    }

    /// Leads to the same database there as `url` does here.
    pub fn url(&self, url: &str) -> String {
        let (server, database) = url.rsplit_once('/').expect("a database in the URL");
        let (server, _) = server.rsplit_once(':').expect("a port in the URL");
        format!("{server}:{}/{database}", self.port)
    }

    /// From now on it can be written, and follows nobody.
    pub fn promote(&self) {
        self.run("pg_ctl", &["promote", "-s", "-w", "-D"]);
    }

    /// Runs a program of Postgres; the last of its arguments is the folder of the data.
    fn run(&self, program: &str, arguments: &[&str]) {
        let folder = self.folder.path();
        let mut command = as_owner(&programs().join(program));
        command.args(arguments).arg(folder.join("data")).current_dir(folder);
        // To a file: a server that it starts keeps what it was given open.
        let said = fs::File::create(folder.join("said")).expect("a file");
        command.stderr(said.try_clone().expect("a file")).stdout(said);
        let done = command.status().is_ok_and(|status| status.success());
        let said = || fs::read_to_string(folder.join("said")).unwrap_or_default();
        assert!(done, "{program}: {}", said());
    }
}

impl Drop for Standby {
    fn drop(&mut self) {
        let stop = ["stop", "-s", "-m", "immediate", "-D"];
        let mut stopping = as_owner(&programs().join("pg_ctl"));
        let folder = self.folder.path();
        let _ended = stopping.args(stop).arg(folder.join("data")).current_dir(folder).status();
    }
}

/// Where the newest Postgres is.
fn programs() -> PathBuf {
    let versions = fs::read_dir("/usr/lib/postgresql").expect("a Postgres");
    let versions = versions.map(|version| version.expect("a folder").path().join("bin"));
    let versions = versions.filter(|bin| bin.join("initdb").exists());
    let number = |bin: &PathBuf| bin.iter().rev().nth(1)?.to_str()?.parse::<u32>().ok();
    versions.max_by_key(number).expect("a Postgres")
}

/// Postgres does not run as root.
fn is_root() -> bool {
    let id = Command::new("id").arg("-u").output().expect("an id");
    id.stdout.trim_ascii() == b"0"
}

fn as_owner(program: &Path) -> Command {
    if !is_root() {
        return Command::new(program);
    }
    let mut command = Command::new("runuser");
    command.args(["-u", "postgres", "--"]).arg(program);
    command
}

fn give_away(folder: &Path) -> io::Result<()> {
    if !is_root() {
        return Ok(());
    }
    let given = Command::new("chown").arg("postgres").arg(folder).status()?;
    if given.success() { Ok(()) } else { Err(ErrorKind::PermissionDenied.into()) }
}

fn free_port() -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    listener.local_addr().expect("an address").port()
}
