//! Work that runs to its end though its caller left.

use tokio::task::JoinError;

use crate::trace::carry;
use crate::{Failure, Reason};

/// Work that was cut short: it panicked, or the process ends.
#[derive(Debug, thiserror::Error)]
#[error("the work on the request was cut short")]
pub struct Cut(#[source] JoinError);

impl Failure for Cut {
    fn reason(&self) -> Reason {
        Reason::Internal
    }
}

/// Runs `work` in a task of its own, from now on: if the caller goes away, or waits no longer, it is
/// not left half-way. Its log lines and its calls carry the ids of the request.
///
/// What it awaits must be bounded, so that it ends.
pub fn detached<T, E, W>(work: W) -> impl Future<Output = Result<T, E>> + use<T, E, W>
where
    T: Send + 'static,
    E: From<Cut> + Send + 'static,
    W: Future<Output = Result<T, E>> + Send + 'static,
{
    let task = tokio::spawn(carry(work));
    async { task.await.unwrap_or_else(|cut| Err(Cut(cut).into())) }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use tokio::sync::oneshot;

    use super::*;

    #[tokio::test]
    async fn work_goes_on_when_its_caller_leaves_and_a_panic_is_told() {
        let (begun, begins) = oneshot::channel();
        let (go_on, goes_on) = oneshot::channel();
        let (done, ends) = oneshot::channel();
        let work = detached(async move {
            begun.send(()).expect("the test waits");
            goes_on.await.expect("told to go on");
            done.send(()).expect("the test waits");
            Ok::<_, Cut>(())
        });
        let caller = tokio::spawn(work);
        begins.await.expect("it began");
        caller.abort();
        assert!(caller.await.expect_err("left").is_cancelled());
        go_on.send(()).expect("it is there");
        tokio::time::timeout(Duration::from_secs(20), ends).await.expect("in time").expect("done");

        let cut = detached(async { panic!("a bug") as Result<(), Cut> }).await;
        assert_eq!(cut.expect_err("cut short").reason(), Reason::Internal);
    }
}
