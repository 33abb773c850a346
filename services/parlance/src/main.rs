//! The `parlance` program.

use std::process::ExitCode;

fn main() -> ExitCode {
    parlance::cli::program()
}
