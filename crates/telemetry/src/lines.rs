//! Lines on their way out. Whoever writes one never waits for whoever reads it: a thread
//! writes, what waits for it is bounded, and what finds no place is lost and counted.

use std::fs::File;
use std::io::{self, ErrorKind, Write};
use std::os::fd::AsFd;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, SyncSender, channel, sync_channel};
use std::sync::{Arc, LazyLock};
use std::thread;
use std::time::{Duration, Instant};

use crate::repeats;

/// How much may wait to be written, in bytes.
const MOST: usize = 4 * 1024 * 1024;

/// How often is told what was left out or lost.
const TELL: Duration = Duration::from_secs(1);

/// When to try again to write to who reads slowly and does not let a writer wait.
const AGAIN: Duration = Duration::from_millis(10);

/// How long the last lines of a process may take.
const LAST: Duration = Duration::from_secs(1);

/// To the standard error.
pub(crate) static ERRORS: LazyLock<Lines> =
    LazyLock::new(|| Lines::to("log lines", io::stderr(), tell));

/// To the standard output.
static OUTPUT: LazyLock<Lines> = LazyLock::new(|| Lines::to("printed lines", io::stdout(), |_| {}));

/// How many lines were lost since the start.
static LOST: AtomicU64 = AtomicU64::new(0);

/// Prints a text to the standard output, or drops it when nobody reads there.
pub fn print(text: &str) {
    OUTPUT.put(format!("{text}\n").into_bytes());
}

/// Writes the last line of a process, and waits a moment for all that is to be written.
pub fn last_line(text: &str) {
    ERRORS.put(format!("{text}\n").into_bytes());
    flush();
}

/// Waits a moment for all that is to be written.
pub fn flush() {
    ERRORS.flush(LAST);
    OUTPUT.flush(LAST);
}

/// How many lines this process could not write.
pub fn lost() -> u64 {
    LOST.load(Ordering::Relaxed)
}

/// Says what was left out, and how much was lost, once it can be said.
fn tell(told: &mut u64) {
    repeats::tell();
    let lost = lost();
    if std::mem::replace(told, lost) < lost {
        tracing::warn!(lost, "log lines were lost: nobody took them in time");
    }
}

pub(crate) struct Lines {
    sender: Sender<Item>,
    waiting: Arc<AtomicUsize>,
}

enum Item {
    Line(Vec<u8>),
    /// Says by its end that everything before it was written or lost.
    Mark(SyncSender<()>),
}

impl Lines {
    /// Lines to `stream`. `tell` is called about once a second by the thread that writes,
    /// and keeps a number for itself.
    fn to(name: &str, stream: impl AsFd, tell: impl FnMut(&mut u64) + Send + 'static) -> Self {
        let (sender, items) = channel();
        let waiting = Arc::new(AtomicUsize::new(0));
        let still = Arc::clone(&waiting);
        // A descriptor of its own: nobody else waits for a lock that is held while it is
        // written to. Where there is none, every line is lost.
        if let Ok(out) = stream.as_fd().try_clone_to_owned() {
            let write = move || Writer { out: File::from(out), still, told: 0, tell }.run(&items);
            let _unless_there_are_too_many = thread::Builder::new().name(name.into()).spawn(write);
        }
        Self { sender, waiting }
    }

    fn put(&self, line: Vec<u8>) {
        let length = line.len();
        let waiting = self.waiting.fetch_add(length, Ordering::Relaxed) + length;
        if waiting > MOST || self.sender.send(Item::Line(line)).is_err() {
            self.waiting.fetch_sub(length, Ordering::Relaxed);
            LOST.fetch_add(1, Ordering::Relaxed);
        }
    }

    fn flush(&self, within: Duration) {
        let (mark, written) = sync_channel(1);
        if self.sender.send(Item::Mark(mark)).is_ok() {
            let _in_time = written.recv_timeout(within);
        }
    }
}

/// A line is one write.
impl Write for &Lines {
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        self.put(line.to_vec());
        Ok(line.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// The thread that writes.
struct Writer<W, T> {
    out: W,
    /// Bytes that are not written yet.
    still: Arc<AtomicUsize>,
    told: u64,
    tell: T,
}

impl<W: Write, T: FnMut(&mut u64)> Writer<W, T> {
    fn run(mut self, items: &Receiver<Item>) {
        let mut next = Instant::now() + TELL;
        loop {
            match items.recv_timeout(next.saturating_duration_since(Instant::now())) {
                Ok(Item::Line(line)) => {
                    if write_all(&mut self.out, &line).is_err() {
                        LOST.fetch_add(1, Ordering::Relaxed);
                    }
                    self.still.fetch_sub(line.len(), Ordering::Relaxed);
                }
                Ok(Item::Mark(mark)) => drop(mark),
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => return,
            }
            if next <= Instant::now() {
                (self.tell)(&mut self.told);
                next = Instant::now() + TELL;
            }
        }
    }
}

fn write_all(out: &mut impl Write, mut line: &[u8]) -> io::Result<()> {
    while !line.is_empty() {
        match out.write(line) {
            Ok(0) => return Err(ErrorKind::WriteZero.into()),
            Ok(count) => line = &line[count..],
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            Err(error) if error.kind() == ErrorKind::WouldBlock => thread::sleep(AGAIN),
            Err(error) => return Err(error),
        }
    }
    Ok(())
}
