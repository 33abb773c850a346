//! The `parlance-membership` program: users and who is in which room.

use std::process::ExitCode;

use parlance::Part;

#[tokio::main]
async fn main() -> ExitCode {
    parlance::service::main(Part::Membership).await
}
