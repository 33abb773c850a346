//! The program of one service.

use std::ffi::OsString;
use std::process::ExitCode;

use clap::{CommandFactory, FromArgMatches, Parser, Subcommand};

use crate::cli::{complain, matches};
use crate::healthcheck::Healthcheck;
use crate::settings::{Config, Settings};
use crate::values::{Bus, Store};
use crate::{Failure, Part, process};

/// One service of Parlance, a chat backend for other backends, over gRPC
///
/// Settings are flags, environment variables and a TOML file (--config), in this
/// order. Times are whole numbers and ms, s, m or h, as in 30s.
#[derive(Debug, Parser)]
#[command(version, args_conflicts_with_subcommands = true)]
struct Service {
    #[command(subcommand)]
    command: Option<Command>,
    #[command(flatten)]
    settings: Settings,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Starts the service; what happens without a command
    Run(Box<Settings>),
    /// Brings the schema of the database up to date, and ends; a start does it too
    Migrate(Box<Settings>),
    /// Says what is wrong or unwise with the settings of a server, and with what it needs
    Check(Box<Settings>),
    /// Says by its exit code whether a server is ready
    Healthcheck(Healthcheck),
}

/// Does what the command line asks of the program of `part`. The runtime begins here, so that
/// what runs in it is compiled with the library, and not for every program anew.
#[tokio::main]
pub async fn program(part: Part) -> ExitCode {
    crate::exit(part.program(), run(part, std::env::args_os()).await)
}

async fn run(part: Part, arguments: impl IntoIterator<Item = OsString>) -> Result<(), Failure> {
    let command = Service::command().name(part.program()).bin_name(part.program());
    let read = matches(command, arguments);
    let read = read.and_then(|matches| Service::from_arg_matches(&matches));
    let Some(read) = read.map(Some).or_else(|error| complain(&error))? else { return Ok(()) };
    match read.command {
        None => process::run(part, check(part, read.settings.resolve()?)?).await,
        Some(Command::Run(settings)) => process::run(part, check(part, settings.resolve()?)?).await,
        Some(Command::Migrate(settings)) => {
            process::migrate(part, settings.without_callers()?).await
        }
        Some(Command::Check(settings)) => {
            crate::check::run(part, check(part, settings.resolve()?)?).await
        }
        Some(Command::Healthcheck(check)) => check.run().await,
    }
}

/// What a service on its own needs beyond what the whole does.
fn check(part: Part, config: Config) -> Result<Config, Failure> {
    let wrong = |setting: &str, rule: &str| Err(Failure::setting(setting, rule));
    if matches!(config.store, Store::Sqlite(_)) {
        return wrong("store", "must be a Postgres database: replicas share it");
    }
    if config.internal_keys.is_empty() && config.tls.peers.is_empty() {
        return wrong("internal-key-file", "is required without tls-peer");
    }
    if config.message.is_none() && part != Part::Message {
        return wrong("message", "is required");
    }
    if config.membership.is_none() && matches!(part, Part::Room | Part::Presence) {
        return wrong("membership", "is required");
    }
    if config.bus == Bus::Memory && part == Part::Presence {
        return wrong("bus", "must be a Redis: replicas share their sessions in it");
    }
    Ok(config)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_command_line_is_sound() {
        Service::command().debug_assert();
    }

    #[tokio::test]
    async fn what_is_missing_is_one_line_that_names_it() {
        let postgres = ["--store", "postgres://x/y", "--auth-key", "hs256:/none"];
        let key = ["--internal-key-file", "/none"];
        let message = ["--message", "127.0.0.1:1"];
        let membership = ["--membership", "127.0.0.1:1"];
        for (part, given, named) in [
            (Part::Message, vec![], "store must be"),
            (Part::Message, postgres.to_vec(), "internal-key-file is required"),
            (Part::Membership, [&postgres[..], &key].concat(), "message is required"),
            (Part::Room, [&postgres[..], &key, &message].concat(), "membership is required"),
            (
                Part::Presence,
                [&postgres[..], &key, &message, &membership].concat(),
                "bus must be a Redis",
            ),
            (Part::Room, vec!["--message", "nowhere"], "must be HOST:PORT"),
        ] {
            let arguments = std::iter::once("it").chain(given).map(OsString::from);
            let failure = run(part, arguments).await.expect_err("incomplete").to_string();
            assert!(failure.contains(named) && !failure.contains('\n'), "{failure}");
        }
    }
}
