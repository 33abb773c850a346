//! As many calls as there can be.

use std::time::{Duration, Instant};

use tokio::task::JoinSet;

/// What a round of calls came to.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Rate {
    pub per_second: f64,
    pub done: f64,
    /// Calls that failed: they are not in the rate.
    pub failed: usize,
}

/// Keeps one call of each worker in flight for so long. A call is given its worker and
/// says whether it succeeded.
#[expect(clippy::cast_precision_loss, reason = "a rate for people to read")]
pub(crate) async fn rate<F>(
    workers: usize,
    length: Duration,
    call: impl Fn(usize, usize) -> F + Clone + Send + 'static,
) -> Rate
where
    F: Future<Output = bool> + Send,
{
    let began = Instant::now();
    let mut tasks = JoinSet::new();
    for worker in 0..workers {
        let call = call.clone();
        tasks.spawn(async move {
            let (mut done, mut failed) = (0_usize, 0_usize);
            while began.elapsed() < length {
                if call(worker, done + failed).await {
                    done += 1;
                } else {
                    failed += 1;
                }
            }
            (done, failed)
        });
    }
    let (mut done, mut failed) = (0, 0);
    for (more, lost) in tasks.join_all().await {
        done += more;
        failed += lost;
    }
    let done = done as f64;
    Rate { per_second: done / began.elapsed().as_secs_f64(), done, failed }
}
