//! What a process takes of the machine, as the kernel counts it.

use std::time::Duration;

use tokio::time::sleep;

/// The CPU time of all threads of a process since it started, in microseconds.
#[expect(clippy::cast_precision_loss, reason = "a cost for people to read")]
pub(crate) fn cpu(process: u32) -> f64 {
    let tasks = std::fs::read_dir(format!("/proc/{process}/task")).expect("the process runs");
    let nanos = tasks.filter_map(|task| {
        // A thread may have ended meanwhile.
        let text = std::fs::read_to_string(task.ok()?.path().join("schedstat")).ok()?;
        text.split_whitespace().next()?.parse::<u64>().ok()
    });
    nanos.sum::<u64>() as f64 / 1000.0
}

/// The memory of a process that is resident, in bytes, once it does not change any more.
pub(crate) async fn memory(process: u32) -> u64 {
    let mut last = resident(process);
    let mut steady = 0;
    for _ in 0..50 {
        sleep(Duration::from_millis(100)).await;
        let now = resident(process);
        steady = if now == last { steady + 1 } else { 0 };
        last = now;
        if steady == 5 {
            break;
        }
    }
    last
}

fn resident(process: u32) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{process}/status"));
    let status = status.expect("the process runs");
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    let kib: u64 = line.and_then(|line| line.split_whitespace().next()?.parse().ok()).expect("kB");
    kib * 1024
}
