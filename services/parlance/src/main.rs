//! The `parlance` program.

use std::process::ExitCode;

use parlance::cli::Cli;

#[tokio::main]
async fn main() -> ExitCode {
    let done = match Cli::read(std::env::args_os()) {
        Ok(Some(cli)) => cli.run().await,
        // Help or the version was asked for, and printed.
        Ok(None) => Ok(()),
        Err(failure) => Err(failure),
    };
    parlance::exit("parlance", done)
}
