//! The `parlance-room` program: names, settings and the lives of rooms.

use std::process::ExitCode;

use parlance::Part;

fn main() -> ExitCode {
    parlance::service::program(Part::Room)
}
