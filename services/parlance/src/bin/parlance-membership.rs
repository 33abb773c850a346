//! The `parlance-membership` program: users and who is in which room.

use std::process::ExitCode;

use parlance::Part;

fn main() -> ExitCode {
    parlance::service::program(Part::Membership)
}
