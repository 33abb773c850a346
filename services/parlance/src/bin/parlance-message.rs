//! The `parlance-message` program: logs, streams and marks.

use std::process::ExitCode;

use parlance::Part;

#[tokio::main]
async fn main() -> ExitCode {
    parlance::service::main(Part::Message).await
}
