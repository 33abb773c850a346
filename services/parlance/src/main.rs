//! The `parlance` program, and under another name each service on its own.

use std::process::ExitCode;

use parlance::Part;

fn main() -> ExitCode {
    match Part::named(std::env::args_os().next().as_deref()) {
        Part::Whole => parlance::cli::program(),
        part => parlance::service::program(part),
    }
}
