//! The `parlance-presence` program: device sessions, who is online, typing.

use std::process::ExitCode;

use parlance::Part;

#[tokio::main]
async fn main() -> ExitCode {
    parlance::service::main(Part::Presence).await
}
