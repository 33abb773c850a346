//! The `parlance-presence` program: device sessions, who is online, typing.

use std::process::ExitCode;

use parlance::Part;

fn main() -> ExitCode {
    parlance::service::program(Part::Presence)
}
