//! The `parlance-message` program: logs, streams and marks.

use std::process::ExitCode;

use parlance::Part;

fn main() -> ExitCode {
    parlance::service::program(Part::Message)
}
