//! Tasks that the service cannot do without.

use std::panic::AssertUnwindSafe;

use futures::FutureExt;

/// Ends the process if the task panics: half a service would refuse a part of its rooms
/// for ever, and look alive. Whatever was promised is in the database.
pub async fn vital(name: &'static str, task: impl Future) {
    if AssertUnwindSafe(task).catch_unwind().await.is_err() {
        tracing::error!(name, "a task that nothing works without has panicked: the process ends");
        std::process::abort();
    }
}

#[cfg(test)]
mod tests {
    use std::process::{Command, Stdio};

    use super::*;

    /// Set for the process that is to end.
    const ENDS: &str = "TEST_VITAL_ENDS";

    #[tokio::test]
    async fn a_panic_ends_the_process() {
        if std::env::var_os(ENDS).is_some() {
            tokio::spawn(vital("a test", async { panic!("it panics") })).await.ok();
            return;
        }
        let this = std::env::current_exe().expect("a path");
        let test = "vital::tests::a_panic_ends_the_process";
        let run = Command::new(this)
            .args(["--exact", test])
            .env(ENDS, "")
            .stderr(Stdio::null())
            .stdout(Stdio::null())
            .status();
        assert_eq!(run.expect("it runs").code(), None, "ended by a signal");
    }
}
