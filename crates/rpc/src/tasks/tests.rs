use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicU64, Ordering};

use tokio::time::{advance, timeout};

use super::*;

/// Waits no longer than a test may.
async fn in_time<T>(wait: impl Future<Output = T>) -> T {
    timeout(Duration::from_secs(20), wait).await.expect("in time")
}

#[tokio::test]
async fn a_task_that_panics_or_ends_too_early_is_told_by_name() {
    for (name, task, how) in [
        ("one", async { panic!("it panics") }.boxed(), "panicked"),
        ("other", async {}.boxed(), "ended by itself"),
    ] {
        let tasks = Tasks::default();
        tasks.vital(name, task);
        in_time(tasks.broken()).await;
        assert_eq!(tasks.broken_by(), Some(name));
        let failure = tasks.report()[name].last_failure.clone().expect("a failure");
        assert_eq!(failure.1, how);
        // The process has ended in time, so nothing else ends it.
        in_time(tasks.close()).await;
    }
}

#[tokio::test]
async fn tasks_end_when_they_shall_and_that_is_no_failure() {
    let tasks = Tasks::default();
    let stop = tasks.stop().clone();
    tasks.vital("a relay", stop.cancelled_owned());
    let forever = || std::future::pending::<Result<(), std::fmt::Error>>();
    tasks.every("a janitor", Duration::from_secs(1), Arc::default(), forever);
    in_time(tasks.close()).await;
    assert_eq!(tasks.broken_by(), None);
}

#[tokio::test(start_paused = true)]
async fn a_job_is_run_at_once_then_at_its_pace_and_when_it_is_woken() {
    let (tasks, wake, runs) = (Tasks::default(), Arc::new(Notify::new()), Arc::default());
    let counted: Arc<AtomicU64> = Arc::clone(&runs);
    let job = move || {
        let run = counted.fetch_add(1, Ordering::SeqCst);
        async move { if run == 1 { Err("the second fails") } else { Ok(()) } }
    };
    tasks.every("a look", Duration::from_mins(1), Arc::clone(&wake), job);
    let is_at = async |count| {
        for _ in 0..10 {
            tokio::task::yield_now().await;
        }
        let run = tasks.report()["a look"].clone();
        assert_eq!((runs.load(Ordering::SeqCst), run.count), (count, count));
        run
    };
    assert!(is_at(1).await.last_failure.is_none());
    advance(Duration::from_secs(61)).await;
    let run = is_at(2).await;
    assert_eq!(run.failures, 1);
    assert_eq!(run.last_failure.expect("a failure").1, "the second fails");
    wake.notify_one();
    let run = is_at(3).await;
    assert_eq!((run.failures, run.last), (1, Some(Instant::now())));
    assert_eq!(tasks.broken_by(), None);
    tasks.close().await;
}

/// Set for the process that is to end.
const ENDS: &str = "TEST_TASKS_ENDS";

#[tokio::test]
async fn a_process_that_does_not_heed_the_loss_of_a_task_is_ended() {
    if std::env::var_os(ENDS).is_some() {
        let tasks = Tasks(Arc::new(Inner { last: Duration::ZERO, ..Inner::default() }));
        tasks.vital("a test", async { panic!("it panics") });
        std::future::pending::<()>().await;
    }
    let this = std::env::current_exe().expect("a path");
    let test = "tasks::tests::a_process_that_does_not_heed_the_loss_of_a_task_is_ended";
    let run = Command::new(this)
        .args(["--exact", test])
        .env(ENDS, "")
        .stderr(Stdio::null())
        .stdout(Stdio::null())
        .status();
    assert_eq!(run.expect("it runs").code(), None, "ended by a signal");
}
