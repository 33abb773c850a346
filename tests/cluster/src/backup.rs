//! Backups of a Postgres, and every way to put one back.

use std::io::Write as _;

use crate::database::Database;
use crate::postgres::Postgres;

/// How a backup is made and put back. What a server says of itself afterwards is what it
/// said before, but after recovery to a point in time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Way {
    /// `pg_dump`, and `pg_restore` into the same server.
    Dump,
    /// `pg_basebackup`, put in place of the data.
    BaseBackup,
    /// A copy of the data of a server that was stopped.
    ColdCopy,
    /// A base backup that is recovered and becomes another timeline, as a standby does.
    PointInTime,
}

impl Postgres {
    /// Copies what is stored now.
    pub async fn back_up(&self, database: &Database, way: Way) {
        let (copy, port) = (self.copy(), self.port().to_string());
        self.run_any("rm", &["-rf", &copy]).await;
        match way {
            Way::Dump => {
                self.run("pg_dump", &["-Fc", "-f", &copy, "-d", &database.url()]).await;
            }
            Way::ColdCopy => {
                self.run("pg_ctl", &["stop", "-D", &self.data(), "-m", "fast", "-s"]).await;
                self.run_any("cp", &["-a", &self.data(), &copy]).await;
                self.begin().await;
            }
            Way::BaseBackup | Way::PointInTime => {
                let server = ["-h", "127.0.0.1", "-p", &port, "-U", "parlance"];
                let how = ["-D", &copy, "-X", "stream", "-c", "fast", "--no-sync"];
                self.run("pg_basebackup", &[&server[..], &how[..]].concat()).await;
            }
        }
    }

    /// Puts the copy back; what was stored since is lost.
    pub async fn put_back(&self, database: &Database, way: Way) {
        let (copy, data) = (self.copy(), self.data());
        if way == Way::Dump {
            let clean = ["--clean", "--if-exists", "--exit-on-error"];
            self.run("pg_restore", &[&clean[..], &["-d", &database.url(), &copy]].concat()).await;
            return;
        }
        self.end().await;
        self.run_any("rm", &["-rf", &data]).await;
        self.run_any("cp", &["-a", &copy, &data]).await;
        if way == Way::PointInTime {
            let settings = format!("{data}/postgresql.auto.conf");
            let settings = std::fs::OpenOptions::new().append(true).open(settings);
            let recovery = "restore_command = 'false'\nhot_standby = off\n";
            settings.expect("settings").write_all(recovery.as_bytes()).expect("written");
            self.run_any("touch", &[&format!("{data}/recovery.signal")]).await;
        }
        self.begin().await;
    }
}
