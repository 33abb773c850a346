//! The keys as they are at present, and how they are kept so.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use arc_swap::ArcSwap;
use futures::FutureExt as _;
use futures::future::{BoxFuture, Shared, join_all};
use parlance_types::{Clock, Micros};
use tokio::sync::{Semaphore, SemaphorePermit};
use tokio::time::sleep;

use super::fetch::Fetcher;
use super::keys::{Key, KeyError, KeySet, KeySource};

/// How many requests may wait for keys at once: an issuer that hangs shall not take
/// all of the server's room.
const WAITING: usize = 1024;

/// How often sources are read.
#[derive(Clone, Copy, Debug)]
pub(super) struct Pace {
    /// Between two looks at a file.
    pub(super) files: Duration,
    /// Between two readings of URLs.
    pub(super) urls: Duration,
    /// The first pause after a URL could not be read; doubled up to `unknown`.
    pub(super) again: Duration,
    /// Tokens of unknown keys cause at most one reading of URLs in such a time.
    pub(super) unknown: Duration,
}

impl Default for Pace {
    fn default() -> Self {
        Self {
            files: Duration::from_secs(3),
            urls: Duration::from_mins(5),
            again: Duration::from_secs(1),
            unknown: Duration::from_mins(1),
        }
    }
}

/// The keys of all sources. Each source keeps what it said when it was of use last.
#[derive(Debug)]
pub(super) struct Keyring {
    sources: Vec<KeySource>,
    internal: Vec<Arc<Key>>,
    /// There if one of the sources is a URL.
    fetcher: Option<Fetcher>,
    clock: Arc<dyn Clock>,
    pace: Pace,
    present: ArcSwap<KeySet>,
    /// By source.
    held: Mutex<Vec<Held>>,
    /// Whether some URL could not be read at last, so that keys may be missing.
    doubt: AtomicBool,
    renewing: Mutex<Renewing>,
    waiting: Semaphore,
}

/// What is held of a source.
#[derive(Debug, Default)]
struct Held {
    said: Option<Vec<u8>>,
    keys: Vec<Arc<Key>>,
    /// Why it was of no use at last.
    trouble: Option<String>,
}

/// A reading of all URLs, which goes on whoever waits for it.
pub(super) type Renewal = Shared<BoxFuture<'static, ()>>;

#[derive(Debug, Default)]
struct Renewing {
    running: Option<Renewal>,
    /// When an unknown key was looked for last.
    looked: Option<Micros>,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Keyring {
    /// Reads every source. Fails if a file is of no use.
    pub(super) async fn open(
        sources: Vec<KeySource>,
        internal: Vec<Arc<Key>>,
        fetcher: Option<Fetcher>,
        clock: Arc<dyn Clock>,
        pace: Pace,
    ) -> Result<Self, KeyError> {
        let held = Mutex::new(sources.iter().map(|_| Held::default()).collect());
        let present = ArcSwap::from_pointee(KeySet::new(internal.clone()));
        let ring = Self {
            sources,
            internal,
            fetcher,
            clock,
            pace,
            present,
            held,
            doubt: AtomicBool::new(false),
            renewing: Mutex::default(),
            waiting: Semaphore::new(WAITING),
        };
        for (at, source) in ring.sources.iter().enumerate().filter(|(_, it)| !it.is_url()) {
            ring.take(at, source.read(None).await)?;
        }
        ring.read_urls().await;
        Ok(ring)
    }

    pub(super) fn present(&self) -> arc_swap::Guard<Arc<KeySet>> {
        self.present.load()
    }

    pub(super) fn has_urls(&self) -> bool {
        self.fetcher.is_some()
    }

    /// Whether there may be keys that could not be read.
    pub(super) fn in_doubt(&self) -> bool {
        self.doubt.load(Ordering::Acquire)
    }

    /// A place among those who wait for keys, if there is one.
    pub(super) fn wait(&self) -> Option<SemaphorePermit<'_>> {
        self.waiting.try_acquire().ok()
    }

    /// Reads the URLs again on account of a key that nobody knows, or joins who does;
    /// `None` if that was tried a moment ago.
    pub(super) fn look_for_unknown(self: &Arc<Self>) -> Option<Renewal> {
        let mut renewing = lock(&self.renewing);
        if let Some(running) = renewing.running() {
            return Some(running);
        }
        let now = self.clock.now();
        let pause = Micros::try_from(self.pace.unknown.as_micros()).unwrap_or(Micros::MAX);
        // A clock that was set back looks anew.
        let soon = |looked: Micros| (looked..looked.saturating_add(pause)).contains(&now);
        if renewing.looked.is_some_and(soon) {
            return None;
        }
        renewing.looked = Some(now);
        Some(self.start(&mut renewing))
    }

    /// Reads the URLs again, or joins who does: there is one reading at a time.
    fn renew(self: &Arc<Self>) -> Renewal {
        let mut renewing = lock(&self.renewing);
        renewing.running().unwrap_or_else(|| self.start(&mut renewing))
    }

    fn start(self: &Arc<Self>, renewing: &mut Renewing) -> Renewal {
        let ring = Arc::clone(self);
        // A task of its own: a caller that goes away does not take it along.
        let reading = tokio::spawn(async move { ring.read_urls().await });
        let running = reading.map(drop).boxed().shared();
        renewing.running = Some(running.clone());
        running
    }

    /// Keeps the keys up to date, for ever.
    pub(super) async fn keep(self: Arc<Self>) {
        tokio::join!(self.keep_files(), self.keep_urls());
    }

    async fn keep_files(&self) {
        loop {
            sleep(self.pace.files).await;
            for (at, source) in self.sources.iter().enumerate().filter(|(_, it)| !it.is_url()) {
                // Told where it was taken.
                let _told = self.take(at, source.read(None).await);
            }
        }
    }

    async fn keep_urls(self: &Arc<Self>) {
        let mut pause = self.pace.again;
        while self.has_urls() {
            if self.in_doubt() {
                sleep(pause).await;
                pause = (2 * pause).min(self.pace.unknown.max(self.pace.again));
            } else {
                sleep(self.pace.urls).await;
                pause = self.pace.again;
            }
            self.renew().await;
        }
    }

    /// Why the first source was of no use at last.
    #[cfg(test)]
    pub(super) fn trouble(&self) -> Option<String> {
        lock(&self.held)[0].trouble.clone()
    }

    async fn read_urls(&self) {
        let urls = self.sources.iter().enumerate().filter(|(_, source)| source.is_url());
        let reads = urls.map(|(at, source)| async move {
            let read = source.read(self.fetcher.as_ref()).await;
            let _told = self.take(at, read);
        });
        join_all(reads).await;
    }

    /// Takes over what a source says, if it is of use; else it keeps what it had.
    fn take(&self, at: usize, read: Result<Vec<u8>, KeyError>) -> Result<(), KeyError> {
        let source = &self.sources[at];
        let known = |said: &Vec<u8>| lock(&self.held)[at].said.as_ref() == Some(said);
        let news = read.and_then(|said| {
            let news = (!known(&said)).then(|| source.keys(&said, &self.internal)).transpose()?;
            Ok(news.map(|keys| (said, keys)))
        });
        let mut held = lock(&self.held);
        let one = &mut held[at];
        let taken = match news {
            Ok(news) => {
                let better = one.trouble.take().is_some();
                let newer = one.said.is_some() && news.is_some();
                if better || newer {
                    tracing::info!(from = %source, "loaded keys of callers");
                }
                if let Some((said, keys)) = news {
                    (one.said, one.keys) = (Some(said), keys);
                    self.show(&held);
                }
                Ok(())
            }
            Err(error) => {
                let text = describe(&error);
                // A file that was never of use stops the start, which says so.
                let goes_on = source.is_url() || one.said.is_some();
                if goes_on && one.trouble.as_ref() != Some(&text) {
                    tracing::error!(error = text, "the keys of callers stay as they are");
                    one.trouble = Some(text);
                }
                Err(error)
            }
        };
        let mut urls = held.iter().zip(&self.sources).filter(|(_, source)| source.is_url());
        self.doubt.store(urls.any(|(one, _)| one.trouble.is_some()), Ordering::Release);
        taken
    }

    /// What the old keys verified goes with them.
    fn show(&self, held: &[Held]) {
        // Those of the suite first: their tokens name none.
        let keys = self.internal.iter().chain(held.iter().flat_map(|one| &one.keys));
        self.present.store(Arc::new(KeySet::new(keys.cloned().collect())));
    }
}

impl Renewing {
    fn running(&self) -> Option<Renewal> {
        self.running.clone().filter(|running| running.peek().is_none())
    }
}

/// An error with its causes, on one line.
fn describe(error: &KeyError) -> String {
    let mut text = error.to_string();
    let mut next = std::error::Error::source(error);
    while let Some(cause) = next {
        text = format!("{text}: {cause}");
        next = cause.source();
    }
    text
}
