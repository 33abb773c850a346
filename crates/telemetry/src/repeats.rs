//! Warnings and errors that say the same are written once in a while, and counted.

use std::collections::HashMap;
use std::error::Error;
use std::fmt::{self, Write as _};
use std::hash::{DefaultHasher, Hash as _, Hasher as _};
use std::sync::{LazyLock, Mutex, MutexGuard, PoisonError, RwLock};
use std::time::{Duration, Instant};

use tracing::field::{Field, Visit};
use tracing::{Event, Level, Subscriber};
use tracing_subscriber::Layer;
use tracing_subscriber::layer::Context;

/// For how long a sentence is not written again.
const QUIET: Duration = Duration::from_secs(10);

/// How many sentences of one place in the code are told apart within that time.
const DIFFERENT: usize = 8;

/// How much of a sentence is kept, in bytes.
const KEPT: usize = 300;

/// Where the lines come from that tell what was left out.
const TARGET: &str = module_path!();

/// Why nothing works any more.
static ENDS: RwLock<Vec<String>> = RwLock::new(Vec::new());

static SAID: LazyLock<Mutex<Said>> = LazyLock::new(Mutex::default);

/// Leaves out warnings and errors that were written a moment ago. [`tell`] says how many.
pub(crate) struct Repeats;

impl<S: Subscriber> Layer<S> for Repeats {
    fn event_enabled(&self, event: &Event<'_>, _: Context<'_, S>) -> bool {
        let metadata = event.metadata();
        if *metadata.level() > Level::WARN || metadata.target() == TARGET {
            return true;
        }
        let mut sentence = Sentence::default();
        event.record(&mut sentence);
        if sentence.of_an_end {
            return false;
        }
        let place = Place(metadata.file(), metadata.line());
        said().say(place, *metadata.level(), sentence, Instant::now())
    }
}

/// Says why nothing is read or written any more. Whatever fails for this reason is not written
/// from then on, nor is another reason: the first one is what to begin with.
pub fn nothing_works(why: &str) {
    let first = {
        let mut ends = ENDS.write().unwrap_or_else(PoisonError::into_inner);
        ends.push(why.to_owned());
        ends.len() == 1
    };
    if first {
        tracing::error!("nothing is read or written any more: {why}");
    }
}

/// Says what was left out, of sentences that may be written again.
pub(crate) fn tell() {
    let left_out = said().forget(Instant::now());
    for Left { level, text, count } in left_out {
        if level == Level::ERROR {
            tracing::error!(count, line = text, "left out lines like one above");
        } else {
            tracing::warn!(count, line = text, "left out lines like one above");
        }
    }
}

fn said() -> MutexGuard<'static, Said> {
    SAID.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A place in the code: file and line.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
struct Place(Option<&'static str>, Option<u32>);

/// What was written a moment ago, and where.
#[derive(Default)]
struct Said(HashMap<Place, Vec<Once>>);

/// A sentence that was written.
struct Once {
    sentence: Sentence,
    level: Level,
    until: Instant,
    left_out: u64,
}

/// A sentence that was left out.
#[derive(Debug, PartialEq, Eq)]
struct Left {
    level: Level,
    text: String,
    count: u64,
}

impl Said {
    /// Whether to write a sentence. When a place says too many different ones, the rest
    /// counts as its last.
    fn say(&mut self, place: Place, level: Level, sentence: Sentence, now: Instant) -> bool {
        let said = self.0.entry(place).or_default();
        let (full, same) = (said.len() == DIFFERENT, sentence.same.finish());
        let again = said.iter().position(|once| once.sentence.same.finish() == same);
        if let Some(at) = again.or(full.then_some(DIFFERENT - 1)) {
            said[at].left_out += 1;
            return false;
        }
        said.push(Once { sentence, level, until: now + QUIET, left_out: 0 });
        true
    }

    /// Forgets sentences that may be written again, and returns those that were left out.
    fn forget(&mut self, now: Instant) -> Vec<Left> {
        let mut left_out = Vec::new();
        self.0.retain(|_, said| {
            let done = said.extract_if(.., |once| once.until <= now);
            let done = done.filter(|once| once.left_out > 0);
            left_out.extend(done.map(|Once { sentence, level, left_out, .. }| Left {
                level,
                text: sentence.text,
                count: left_out,
            }));
            !said.is_empty()
        });
        left_out
    }
}

/// What an event says.
#[derive(Default)]
struct Sentence {
    text: String,
    /// The same for sentences that differ only in a measure: a number, a duration, an id.
    same: DefaultHasher,
    /// Whether it is about [what nothing works for](nothing_works).
    of_an_end: bool,
}

impl Sentence {
    fn add(&mut self, field: &Field, value: &str, measured: bool) {
        let Self { text, same, of_an_end } = self;
        let ends = ENDS.read().unwrap_or_else(PoisonError::into_inner);
        *of_an_end |= ends.iter().any(|why| value.contains(why));
        let name = match field.name() {
            "message" => String::new(),
            name => format!("{name}="),
        };
        let space = if text.is_empty() { "" } else { " " };
        for part in [space, &name, value] {
            let room = KEPT.saturating_sub(text.len());
            text.push_str(&part[..part.floor_char_boundary(room)]);
        }
        name.hash(same);
        value
            .bytes()
            .filter(|it| !(measured && it.is_ascii_digit()))
            .for_each(|it| same.write_u8(it));
    }
}

impl Visit for Sentence {
    fn record_str(&mut self, field: &Field, value: &str) {
        self.add(field, value, false);
    }

    fn record_error(&mut self, field: &Field, error: &(dyn Error + 'static)) {
        let mut text = error.to_string();
        let mut next = error.source();
        while let Some(error) = next {
            let _never_fails = write!(text, ": {error}");
            next = error.source();
        }
        self.add(field, &text, true);
    }

    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        self.add(field, &format!("{value:?}"), true);
    }
}

#[cfg(test)]
mod tests {
    use std::io::{Error, ErrorKind};

    use tracing::subscriber::with_default;
    use tracing_subscriber::layer::SubscriberExt as _;

    use super::*;

    const HERE: Place = Place(Some("here.rs"), Some(1));

    /// Takes down the sentences of a thread.
    struct Listen(Mutex<Vec<Sentence>>);

    impl<S: Subscriber> Layer<S> for &'static Listen {
        fn on_event(&self, event: &Event<'_>, _: Context<'_, S>) {
            let mut sentence = Sentence::default();
            event.record(&mut sentence);
            self.0.lock().expect("a list").push(sentence);
        }
    }

    /// What `events` say.
    fn heard(events: impl FnOnce()) -> Vec<Sentence> {
        let listen: &'static Listen = Box::leak(Box::new(Listen(Mutex::default())));
        with_default(tracing_subscriber::registry().with(listen), events);
        std::mem::take(&mut *listen.0.lock().expect("a list"))
    }

    /// Says them at `now`; whether each was written.
    fn say(said: &mut Said, now: Instant, sentences: Vec<Sentence>) -> Vec<bool> {
        let say = |sentence| said.say(HERE, Level::WARN, sentence, now);
        sentences.into_iter().map(say).collect()
    }

    fn outage(user: u32) {
        let error = Error::new(ErrorKind::TimedOut, format!("no answer to {user}"));
        let error: &(dyn std::error::Error + 'static) = &error;
        tracing::warn!(error, "an outage");
    }

    #[test]
    fn a_sentence_is_written_once_in_a_while_and_what_was_left_out_is_counted() {
        let (mut said, begin) = (Said::default(), Instant::now());
        let some = || heard(|| (0..100).for_each(outage));
        let written = say(&mut said, begin, some());
        assert_eq!(written.iter().filter(|it| **it).count(), 1);
        assert!(written[0]);
        assert_eq!(said.forget(begin + QUIET / 2), []);
        let text = "an outage error=no answer to 0".to_owned();
        let left = Left { level: Level::WARN, text, count: 99 };
        assert_eq!(said.forget(begin + QUIET), [left]);
        assert!(say(&mut said, begin + QUIET, some())[0]);
    }

    #[test]
    fn a_sentence_said_once_is_forgotten_without_a_word() {
        let (mut said, begin) = (Said::default(), Instant::now());
        assert_eq!(say(&mut said, begin, heard(|| outage(1))), [true]);
        assert_eq!(said.forget(begin + QUIET), []);
        assert!(said.0.is_empty());
    }

    #[test]
    fn sentences_that_differ_in_words_are_told_apart_but_not_without_end() {
        let (mut said, begin) = (Said::default(), Instant::now());
        let words = ["a1", "a2", "b1", "c", "d", "e", "f", "g", "h", "i"];
        let sentences = heard(|| words.iter().for_each(|word| tracing::warn!(word)));
        let written = say(&mut said, begin, sentences);
        assert_eq!(written, [[true; 8].as_slice(), &[false; 2]].concat());
        let left = Left { level: Level::WARN, text: "word=g".to_owned(), count: 2 };
        assert_eq!(said.forget(begin + QUIET), [left]);
    }

    #[test]
    fn what_fails_because_nothing_works_is_known_for_it() {
        let fails = |why: &str| {
            let error = Error::other(why.to_owned());
            let error: &(dyn std::error::Error + 'static) = &error;
            tracing::warn!(error, "a task fails");
        };
        nothing_works("a.db is gone: put it back");
        let said =
            heard(|| ["a.db is gone: put it back", "a.db is late"].into_iter().for_each(fails));
        assert_eq!([said[0].of_an_end, said[1].of_an_end], [true, false]);
    }

    #[test]
    fn what_is_kept_of_a_sentence_is_bounded() {
        let [sentence] = &heard(|| tracing::warn!("{}", "ä".repeat(10_000)))[..] else {
            panic!("one sentence");
        };
        assert_eq!(sentence.text, "ä".repeat(KEPT / 2));
    }
}
