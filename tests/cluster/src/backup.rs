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
    /// A standby that lacks the last commits, and is promoted in place of its server.
    Standby,
    /// As a dump, of one schema alone: the others stay as they are.
    Schema(&'static str),
    /// The rows of logs, by hand: nothing else of the schema goes back.
    Rows,
}

/// What the rows of logs are in.
const TABLES: [&str; 4] = ["events", "heads", "members", "user_heads"];

impl Postgres {
    /// Copies what is stored now.
    pub async fn back_up(&self, database: &Database, way: Way) {
        let (copy, port) = (self.copy(), self.port().to_string());
        self.run_any("rm", &["-rf", &copy]).await;
        match way {
            Way::Dump => {
                self.run("pg_dump", &["-Fc", "-f", &copy, "-d", &database.url()]).await;
            }
            Way::Schema(schema) => {
                let what = ["-Fc", "-n", schema, "-f", &copy, "-d", &database.url()];
                self.run("pg_dump", &what).await;
            }
            Way::Rows => {
                for table in TABLES {
                    let keep = format!(
                        "DROP TABLE IF EXISTS kept_{table};
                         CREATE TABLE kept_{table} AS TABLE parlance_message.{table}"
                    );
                    database.run(&keep).await;
                }
            }
            Way::ColdCopy => {
                self.run("pg_ctl", &["stop", "-D", &self.data(), "-m", "fast", "-s"]).await;
                self.run_any("cp", &["-a", &self.data(), &copy]).await;
                self.begin().await;
            }
            Way::BaseBackup | Way::PointInTime | Way::Standby => {
                let server = ["-h", "127.0.0.1", "-p", &port, "-U", "parlance"];
                let how = ["-D", &copy, "-X", "stream", "-c", "fast", "--no-sync"];
                self.run("pg_basebackup", &[&server[..], &how[..]].concat()).await;
            }
        }
    }

    /// Puts the copy back; what was stored since is lost.
    pub async fn put_back(&self, database: &Database, way: Way) {
        let (copy, data) = (self.copy(), self.data());
        if way == Way::Rows {
            for table in TABLES {
                let back = format!(
                    "TRUNCATE parlance_message.{table};
                     INSERT INTO parlance_message.{table} TABLE kept_{table}"
                );
                database.run(&back).await;
            }
            return;
        }
        if matches!(way, Way::Dump | Way::Schema(_)) {
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
        if way == Way::Standby {
            // Its server is gone, so it follows nobody.
            self.run_any("touch", &[&format!("{data}/standby.signal")]).await;
        }
        self.begin().await;
        if way == Way::Standby {
            self.run("pg_ctl", &["promote", "-D", &data, "-s", "-w"]).await;
        }
    }
}
