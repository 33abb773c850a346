//! Points in time at a fixed distance, whatever happens meanwhile.

use std::thread;
use std::time::{Duration, Instant};

use tokio::sync::mpsc;

/// How late the system may wake a thread: it looks at the clock from then on.
const SLACK: Duration = Duration::from_micros(100);

/// So many ticks, each with its number and the time at which it should have come. From
/// a thread of its own: the timers of the runtime are exact to a millisecond only.
pub(crate) fn ticks(count: usize, every: Duration) -> mpsc::UnboundedReceiver<(usize, Instant)> {
    let (sender, ticks) = mpsc::unbounded_channel();
    thread::spawn(move || {
        let begin = Instant::now() + every;
        for number in 0..count {
            let due = begin + every * u32::try_from(number).expect("few");
            thread::sleep(due.saturating_duration_since(Instant::now()).saturating_sub(SLACK));
            while Instant::now() < due {
                std::hint::spin_loop();
            }
            if sender.send((number, due)).is_err() {
                return;
            }
        }
    });
    ticks
}
