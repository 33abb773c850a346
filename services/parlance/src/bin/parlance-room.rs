//! The `parlance-room` program: names, settings and the lives of rooms.

use std::process::ExitCode;

use parlance::Part;

#[tokio::main]
async fn main() -> ExitCode {
    parlance::service::main(Part::Room).await
}
