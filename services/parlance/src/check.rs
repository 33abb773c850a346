//! `parlance check`: what a server with the same settings would find, in plain sentences.

use std::fmt::Display;
use std::path::Path;

use parlance_db::{Db, OpenError};
use parlance_types::{Clock, SystemClock};

use crate::data_dir::{self, DataDir};
use crate::failure::{chain, print};
use crate::services::{Part, location};
use crate::settings::Config;
use crate::values::Store;
use crate::{Failure, files, process};

mod attachments;
mod certificates;
mod reach;
mod redis;

/// How far clocks may be apart before something is said of it.
const APART: i64 = 2_000_000;

/// What one look found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Found {
    Well,
    Unwise,
    Wrong,
}

/// What is checked, as it is told.
#[derive(Debug, Default)]
struct Report {
    wrong: usize,
}

impl Report {
    fn say(&mut self, found: Found, sentence: impl Display) -> Result<(), Failure> {
        self.wrong += usize::from(found == Found::Wrong);
        let word = match found {
            Found::Well => "ok",
            Found::Unwise => "warning",
            Found::Wrong => "wrong",
        };
        print(&format!("{word:<8} {sentence}"))
    }
}

/// Checks what the server of a part needs, a line each; fails if something is wrong.
pub(crate) async fn run(part: Part, config: Config) -> Result<(), Failure> {
    let mut report = Report::default();
    of_files(&config, &mut report)?;
    of_keys(part, &config, &mut report).await?;
    match config.store.clone() {
        Store::Sqlite(folder) => of_folder(part, &config, &folder, &mut report).await?,
        Store::Postgres(_) => of_databases(part, &config, None, &mut report).await?,
    }
    redis::look(&config, &mut report).await?;
    attachments::look(part, &config, &mut report).await?;
    if let Some(tls) = certificates::look(&config, &mut report)? {
        reach::look(part, &config, &tls, &mut report).await?;
    }
    match report.wrong {
        0 => Ok(()),
        1 => Err(Failure::Fatal("one check is wrong".to_owned())),
        wrong => Err(Failure::Fatal(format!("{wrong} checks are wrong"))),
    }
}

fn of_files(config: &Config, report: &mut Report) -> Result<(), Failure> {
    let most = parlance_rpc::ConnectionLimits::default().all;
    match files::connections(config.connections) {
        Ok(left) if left < most => report.say(
            Found::Unwise,
            format_args!("files are enough for {left} connections of callers (ulimit -n)"),
        ),
        Ok(left) => {
            report.say(Found::Well, format_args!("files are enough for {left} connections"))
        }
        Err(failure) => report.say(Found::Wrong, failure),
    }
}

async fn of_keys(part: Part, config: &Config, report: &mut Report) -> Result<(), Failure> {
    let internal = match process::internal_keys(part, config) {
        Ok(keys) => keys,
        Err(failure) => return report.say(Found::Wrong, failure),
    };
    if config.auth_keys.is_empty() {
        return report.say(Found::Well, "tokens are signed with a key of the folder");
    }
    let keys = config.auth_keys.clone();
    match process::auth(config, keys, internal, std::sync::Arc::new(SystemClock)).await {
        Ok(_) => report.say(Found::Well, "the keys of tokens and of services can be used"),
        Err(failure) => report.say(Found::Wrong, failure),
    }
}

/// Leaves a folder that a server uses alone, and makes none.
async fn of_folder(
    part: Part,
    config: &Config,
    folder: &Path,
    report: &mut Report,
) -> Result<(), Failure> {
    let name = folder.display();
    if !folder.exists() {
        let sentence = format_args!("the folder {name} is not there: the first start makes it");
        return report.say(Found::Unwise, sentence);
    }
    let data = match DataDir::take(folder) {
        Ok(data) => data,
        Err(failure) => return report.say(Found::Unwise, format_args!("{failure}: not looked at")),
    };
    if let Some((missing, later)) = data_dir::missing(folder) {
        let sentence = format_args!("{missing}.db is missing beside {later}.db in {name}");
        return report.say(Found::Wrong, sentence);
    }
    of_databases(part, config, Some(&data), report).await
}

async fn of_databases(
    part: Part,
    config: &Config,
    data: Option<&DataDir>,
    report: &mut Report,
) -> Result<(), Failure> {
    let mut needed = 0;
    let mut opened = Vec::new();
    for (service, migrations) in part.schemas() {
        needed += i64::from(config.connections) + 1;
        if service == "message" {
            // Its writers, and the lanes for heads that somebody else holds.
            needed += i64::try_from(config.writers).unwrap_or(i64::MAX) + 4;
        }
        if data.is_some_and(|data| !data.database(service).exists()) {
            let sentence = format_args!("{service}.db is not there: the first start makes it");
            report.say(Found::Well, sentence)?;
            continue;
        }
        match Db::open_as_it_is(&location(config, data, service), migrations).await {
            Ok(db) if db.newer().is_empty() => {
                report.say(Found::Well, format_args!("the schema of {service} can be used"))?;
                opened.push(db);
            }
            Ok(db) => {
                let newer = db.newer();
                let sentence = format_args!(
                    "the schema of {service} is newer than this program, which can serve on it \
                     (migrations {newer:?})"
                );
                report.say(Found::Unwise, sentence)?;
                opened.push(db);
            }
            Err(OpenError::Older(lacks)) if !config.no_migrate => {
                let sentence = format_args!(
                    "the schema of {service} lacks the migrations {lacks:?}: the start runs them"
                );
                report.say(Found::Unwise, sentence)?;
            }
            Err(error) => {
                report.say(Found::Wrong, format_args!("{service}: {}", chain(&error)))?;
            }
        }
    }
    // All of them are on one server, if they are on any.
    let said = match opened.first() {
        Some(db) => of_server(db, needed, report).await,
        None => Ok(()),
    };
    for db in opened {
        db.close().await;
    }
    said
}

/// Of the server that all schemas are on.
async fn of_server(db: &Db, needed: i64, report: &mut Report) -> Result<(), Failure> {
    let failed = |error: parlance_db::StoreError| Failure::fatal("cannot ask the database", &error);
    let Some(server) = db.server().await.map_err(failed)? else { return Ok(()) };
    of_clock("Postgres", server.clock, report)?;
    let left = server.connections - server.used;
    let sentence = format_args!(
        "this process needs up to {needed} connections to Postgres; of {} others use {} just now",
        server.connections, server.used
    );
    let found = if needed > server.connections {
        Found::Wrong
    } else if needed > left {
        Found::Unwise
    } else {
        Found::Well
    };
    report.say(found, sentence)?;
    let loses = db.unsafe_settings().await.map_err(failed)?;
    if !loses.is_empty() {
        let sentence = format!("a crash may lose acknowledged writes ({})", loses.join(", "));
        report.say(Found::Unwise, sentence)?;
    }
    Ok(())
}

fn of_clock(whose: &str, clock: i64, report: &mut Report) -> Result<(), Failure> {
    let apart = clock - SystemClock.now();
    let found = if apart.abs() < APART { Found::Well } else { Found::Unwise };
    let (seconds, how) = (apart.abs() / 1_000_000, if apart < 0 { "behind" } else { "ahead" });
    report.say(found, format_args!("the clock of {whose} is {seconds} s {how}"))
}
