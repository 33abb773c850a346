//! The command line.

use std::ffi::OsString;
use std::io;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::error::{ContextKind, ContextValue, ErrorKind};
use clap::{ArgMatches, Command, CommandFactory as _, FromArgMatches as _, Parser, Subcommand};

use crate::environment::{cleaned, trimmed, variable_of};
use crate::healthcheck::Healthcheck;
use crate::settings::Settings;
use crate::token::Token;
use crate::{Failure, Part, backup, check, demo, process};

/// A chat backend for other backends, over gRPC: all of its services in one process
///
/// Settings are flags, environment variables and a TOML file (--config), in this
/// order. Times are whole numbers and ms, s, m or h, as in 30s.
#[derive(Debug, Parser)]
#[command(name = "parlance", version, args_conflicts_with_subcommands = true)]
pub(crate) struct Cli {
    #[command(subcommand)]
    command: Option<Asked>,
    #[command(flatten)]
    settings: Settings,
}

#[derive(Debug, Subcommand)]
enum Asked {
    /// Starts the server; what happens without a command
    Run(Box<Settings>),
    /// Brings the schemas of the databases up to date, and ends; a start does it too
    Migrate(Box<Settings>),
    /// Says what is wrong or unwise with the settings of a server, and with what it needs
    ///
    /// Takes the settings of the server. A line for each look: ok, warning or wrong, and a
    /// sentence; it fails if something is wrong. It makes nothing and changes nothing, so it may
    /// be run beside the server.
    Check(Box<Settings>),
    /// Tells a conversation, RPC by RPC, on a server of its own that leaves nothing behind
    Demo,
    /// Prints a token that is signed with a secret, for trying things out
    Token(Token),
    /// Tells that a backup was put back: clients discard what they hold beyond it
    ///
    /// Stop every service, put the backup back, run this with the settings of the server, and start
    /// again. It begins a new epoch and prints its id. Most restores are noticed without it;
    /// run after each one, whatever was put back and in whatever way, it does no harm.
    Restored(Box<Settings>),
    /// Copies the folder of the embedded mode while its server runs, or does not
    ///
    /// Takes the settings of the server. The copy is of one time, is looked at before it gets its
    /// name, and is a folder that a server can be started on.
    Backup {
        /// The folder to make: new, or empty
        #[arg(value_name = "FOLDER")]
        to: PathBuf,
        #[command(flatten)]
        settings: Box<Settings>,
    },
    /// Puts a backup into the folder of --store, new or empty, and prints the epoch that it begins
    Restore {
        /// The folder of the backup
        #[arg(value_name = "FOLDER")]
        from: PathBuf,
        #[command(flatten)]
        settings: Box<Settings>,
    },
    /// Says by its exit code whether a server is ready
    Healthcheck(Healthcheck),
}

impl Cli {
    /// Reads the command line; `None` when it asked for help or the version, which is
    /// printed then.
    fn read(arguments: impl IntoIterator<Item = OsString>) -> Result<Option<Self>, Failure> {
        matches(Self::command(), arguments)
            .and_then(|matches| Self::from_arg_matches(&matches))
            .map(Some)
            .or_else(|error| complain(&error))
    }

    /// Does what was asked for.
    async fn run(self) -> Result<(), Failure> {
        match self.command {
            None => process::run(Part::Whole, self.settings.resolve()?).await,
            Some(Asked::Run(settings)) => process::run(Part::Whole, settings.resolve()?).await,
            Some(Asked::Migrate(settings)) => {
                process::migrate(Part::Whole, settings.without_callers()?).await
            }
            Some(Asked::Check(settings)) => check::run(Part::Whole, settings.resolve()?).await,
            Some(Asked::Demo) => demo::run().await,
            Some(Asked::Token(token)) => token.print(),
            Some(Asked::Restored(settings)) => process::restored(settings.without_callers()?).await,
            Some(Asked::Backup { to, settings }) => {
                backup::back_up(settings.without_callers()?, &to).await
            }
            Some(Asked::Restore { from, settings }) => {
                backup::restore(settings.without_callers()?, &from).await
            }
            Some(Asked::Healthcheck(check)) => check.run().await,
        }
    }
}

/// Does what the command line asks of the program of all services. The runtime begins here; see
/// [`service::program`](crate::service::program).
#[tokio::main]
pub async fn program() -> ExitCode {
    let done = match Cli::read(std::env::args_os()) {
        Ok(Some(cli)) => Box::pin(cli.run()).await,
        // Help or the version was asked for, and printed.
        Ok(None) => Ok(()),
        Err(failure) => Err(failure),
    };
    crate::exit("parlance", done)
}

/// Reads a command line, and settings in the environment.
pub(crate) fn matches(
    command: Command,
    arguments: impl IntoIterator<Item = OsString>,
) -> Result<ArgMatches, clap::Error> {
    cleaned(command).try_get_matches_from(arguments.into_iter().map(trimmed))
}

/// What was said to people who asked for help or the version, and a failure for
/// everybody else.
pub(crate) fn complain<T>(error: &clap::Error) -> Result<Option<T>, Failure> {
    match error.kind() {
        ErrorKind::DisplayHelp
        | ErrorKind::DisplayVersion
        | ErrorKind::DisplayHelpOnMissingArgumentOrSubcommand => {
            match error.print() {
                // Whoever reads it stops where they like: `--help | head`.
                Err(error) if error.kind() != io::ErrorKind::BrokenPipe => {
                    Err(Failure::fatal("cannot print", &error))
                }
                _ => Ok(None),
            }
        }
        _ => {
            let complaint = first_line(&error.to_string());
            Err(Failure::Usage(with_variable(without_secret(complaint, error), error)))
        }
    }
}

/// A complaint does not repeat the part of a URL that may hold a password.
fn without_secret(complaint: String, error: &clap::Error) -> String {
    let Some(ContextValue::String(value)) = error.get(ContextKind::InvalidValue) else {
        return complaint;
    };
    match value.split_once("://").and_then(|(scheme, rest)| Some((scheme, rest.rsplit_once('@')?)))
    {
        Some((scheme, (_, host))) => complaint.replace(value, &format!("{scheme}://...@{host}")),
        None => complaint,
    }
}

/// A complaint about a setting names its variable too: it may stand there.
fn with_variable(complaint: String, error: &clap::Error) -> String {
    let Some(ContextValue::String(argument)) = error.get(ContextKind::InvalidArg) else {
        return complaint;
    };
    if error.kind() == ErrorKind::UnknownArgument {
        return complaint;
    }
    let flag = argument.split_whitespace().next().and_then(|flag| flag.strip_prefix("--"));
    match flag.and_then(variable_of) {
        Some(variable) => format!("{complaint} (or {variable})"),
        None => complaint,
    }
}

/// The part of a complaint that says what is wrong.
fn first_line(complaint: &str) -> String {
    let mut lines = complaint.lines().map(str::trim).take_while(|line| !line.is_empty());
    let first = lines.next().unwrap_or_default().trim_start_matches("error: ").to_owned();
    lines.fold(first, |text, line| format!("{text} {line}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(arguments: &[&str]) -> Result<Option<Cli>, String> {
        let arguments = ["parlance"].iter().chain(arguments).map(OsString::from);
        Cli::read(arguments).map_err(|failure| failure.to_string())
    }

    #[test]
    fn the_command_line_is_sound() {
        Cli::command().debug_assert();
    }

    #[test]
    fn every_setting_is_explained_with_its_default() {
        for argument in Cli::command().get_arguments() {
            let help = argument.get_help().map(ToString::to_string).unwrap_or_default();
            let named = ["config", "help", "version"].contains(&argument.get_id().as_str());
            assert!(named || help.contains("[default"), "{}: {help}", argument.get_id());
        }
    }

    #[test]
    fn settings_may_stand_with_the_command_or_without_one() {
        for arguments in [&["run", "--rate", "5"][..], &["--rate", "5"], &["restored"], &[]] {
            assert!(read(arguments).is_ok_and(|cli| cli.is_some()), "{arguments:?}");
        }
    }

    #[test]
    fn a_wrong_argument_is_one_line_that_names_it() {
        for (arguments, named) in [
            (&["--rate", "many"][..], "--rate"),
            (&["--rate", "many"], "(or PARLANCE_RATE)"),
            (&["run", "--store", "mysql://x"], "must be sqlite://FOLDER"),
            (&["--colour"], "--colour"),
            (&["fly"], "fly"),
            (&["token", "--tenant", "acme"], "--user"),
            (&["token", "--tenant", "", "--user", "ann"], "--tenant"),
        ] {
            let error = read(arguments).expect_err("wrong");
            assert!(error.contains(named) && !error.contains('\n'), "{arguments:?}: {error}");
        }
    }

    #[test]
    fn a_wrong_url_is_complained_of_without_its_password() {
        let error = read(&["--bus", "redis://ann:se@cret@host:1/2"]).expect_err("a database");
        assert!(error.contains("'redis://...@host:1/2'") && !error.contains("cret"), "{error}");
        assert!(error.contains("without a database") && error.contains("PARLANCE_BUS"), "{error}");
    }

    #[test]
    fn a_flag_that_a_command_does_not_have_has_no_variable_either() {
        let error = read(&["healthcheck", "--rate", "5"]).expect_err("not its own");
        assert!(error.contains("--rate") && !error.contains("PARLANCE_"), "{error}");
    }
}
