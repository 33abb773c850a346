//! Whether the files of a folder are of one time: people copy them one by one.
//!
//! A room is in three of them: its settings with room, its members with membership, its log
//! with message. It comes into being in this order, so a log without members, or members
//! without a room, came about by files of different times: nobody could use it, and nothing
//! would ever mend it. A log that lacks facts gets them again. A user's own log is of no room.

use std::error::Error;
use std::iter::Peekable;
use std::vec;

use parlance_membership::{LogVersion, Outbox};
use parlance_message::LogFacts;
use parlance_types::LogId;

use crate::Failure;

/// How many logs are read at once.
const PAGE: i64 = 1000;

/// The services whose files are held against each other.
pub(crate) struct Files<'a> {
    pub(crate) message: &'a parlance_message::Service,
    pub(crate) membership: &'a parlance_membership::Service,
    pub(crate) room: &'a parlance_room::Service,
}

/// What does not fit, counted in rooms.
#[derive(Debug, Default)]
struct Misfits<'a> {
    logs: u64,
    /// Logs, or rooms that are there, whose members are not known.
    memberless: u64,
    /// Logs, or members, whose room is not known.
    roomless: u64,
    /// Logs that were made and are gone.
    lost: u64,
    /// Logs that lack facts which they had: of whom, and how many they have.
    behind: Vec<(&'a Outbox, LogId, i64)>,
    /// Logs that have facts which their source does not know.
    ahead: Vec<(&'a Outbox, LogId, i64)>,
}

/// What one of the files knows of logs, in the order of their ids, a page at a time.
struct Walk<T> {
    page: Peekable<vec::IntoIter<T>>,
    after: LogId,
    is_over: bool,
}

/// Something about one log.
trait OfLog {
    fn log_id(&self) -> LogId;
}

impl OfLog for LogFacts {
    fn log_id(&self) -> LogId {
        self.log_id
    }
}

impl OfLog for LogVersion {
    fn log_id(&self) -> LogId {
        self.log_id
    }
}

impl OfLog for LogId {
    fn log_id(&self) -> LogId {
        *self
    }
}

impl<T: OfLog> Walk<T> {
    fn new() -> Self {
        let after = LogId(uuid::Uuid::nil());
        Self { page: Vec::new().into_iter().peekable(), after, is_over: false }
    }

    /// The log that comes next; `read` reads the next page where this one is used up.
    async fn next<E>(
        &mut self,
        read: impl AsyncFnOnce(LogId, i64) -> Result<Vec<T>, E>,
    ) -> Result<Option<LogId>, E> {
        if self.page.peek().is_none() && !self.is_over {
            let page = read(self.after, PAGE).await?;
            self.is_over = page.is_empty();
            self.after = page.last().map_or(self.after, OfLog::log_id);
            self.page = page.into_iter().peekable();
        }
        Ok(self.page.peek().map(OfLog::log_id))
    }

    /// What there is of a log.
    fn take(&mut self, log_id: LogId) -> Option<T> {
        self.page.next_if(|next| next.log_id() == log_id)
    }
}

impl Files<'_> {
    /// Holds the files against each other. What can be mended is, and said; for all else
    /// there is no start.
    pub(crate) async fn check(&self) -> Result<(), Failure> {
        let failed = |error: &(dyn Error + 'static)| {
            Failure::fatal("cannot hold the files of the folder against each other", error)
        };
        let misfits = self.compare().await.map_err(|error| failed(&*error))?;
        if let Some(what) = misfits.beyond_mending() {
            return Err(Failure::Fatal(format!(
                "the files of the folder are of different times: {what}; put back copies of all \
                 of them that were made while the server was stopped, or while nobody wrote"
            )));
        }
        let Misfits { behind, ahead, .. } = misfits;
        if !behind.is_empty() {
            let rooms = behind.len();
            tracing::warn!(
                rooms,
                "message.db is older than the other files: its rooms get again what they lack of \
                 members and settings; messages that were sent since are gone"
            );
        }
        if !ahead.is_empty() {
            let rooms = ahead.len();
            tracing::error!(
                rooms,
                "message.db is newer than the other files: the last changes of members or \
                 settings stand in logs alone; make them again, or put back files of one time"
            );
        }
        for (outbox, log_id, has) in behind.into_iter().chain(ahead) {
            outbox.align(log_id, has).await.map_err(|error| failed(&error))?;
        }
        Ok(())
    }

    async fn compare(&self) -> Result<Misfits<'_>, Box<dyn Error + Send + Sync>> {
        let (members, settings) = (self.membership.outbox(), self.room.outbox());
        let (mut logs, mut active) = (Walk::new(), Walk::new());
        let (mut rosters, mut rooms) = (Walk::new(), Walk::new());
        let mut misfits = Misfits::default();
        loop {
            let nexts = [
                logs.next(async |after, limit| self.message.store().facts(after, limit).await)
                    .await?,
                rosters.next(async |after, limit| members.versions(after, limit).await).await?,
                rooms.next(async |after, limit| settings.versions(after, limit).await).await?,
                active.next(async |after, limit| self.room.active(after, limit).await).await?,
            ];
            let Some(log_id) = nexts.into_iter().flatten().min() else { return Ok(misfits) };
            let (log, roster, room) = (logs.take(log_id), rosters.take(log_id), rooms.take(log_id));
            let is_active = active.take(log_id).is_some();
            misfits.count(log, roster, room, is_active);
            let has = log.map_or((0, 0), |log| (log.membership, log.room));
            for (outbox, of, has) in [(members, roster, has.0), (settings, room, has.1)] {
                match of {
                    Some(of) if has < of.applied => misfits.behind.push((outbox, log_id, has)),
                    Some(of) if has > of.version => misfits.ahead.push((outbox, log_id, has)),
                    _ => {}
                }
            }
        }
    }
}

impl Misfits<'_> {
    /// What is there of one log.
    fn count(
        &mut self,
        log: Option<LogFacts>,
        roster: Option<LogVersion>,
        room: Option<LogVersion>,
        is_active: bool,
    ) {
        let exists = log.is_some();
        self.logs += u64::from(exists);
        self.memberless += u64::from(roster.is_none() && (exists || is_active));
        let is_room = log.is_none_or(|log| log.is_room) && roster.is_none_or(|of| of.is_room);
        self.roomless += u64::from(is_room && room.is_none() && (exists || roster.is_some()));
        self.lost += u64::from(!exists && roster.is_some_and(|roster| roster.applied > 0));
    }

    /// What no relay can mend.
    fn beyond_mending(&self) -> Option<String> {
        if self.memberless > 0 {
            return Some(format!("membership.db lacks the members of {} rooms", self.memberless));
        }
        if self.roomless > 0 {
            return Some(format!("room.db lacks the settings of {} rooms", self.roomless));
        }
        // Of some the log is made again. None at all: it is another file, or a new one.
        let others = self.logs == 0 && self.lost > 0;
        others.then(|| format!("message.db lacks the messages of all {} rooms", self.lost))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const fn at(version: i64, applied: i64) -> LogVersion {
        LogVersion { log_id: LogId(uuid::Uuid::nil()), version, applied, is_room: true }
    }

    /// A log that is a user's own.
    const fn own(version: i64, applied: i64) -> LogVersion {
        LogVersion { is_room: false, ..at(version, applied) }
    }

    const LOG: Option<LogFacts> =
        Some(LogFacts { log_id: LogId(uuid::Uuid::nil()), membership: 1, room: 0, is_room: true });

    #[test]
    fn a_room_of_which_only_a_part_is_there_is_beyond_mending() {
        for (log, roster, room, is_active, lacks) in [
            (LOG, Some(at(1, 1)), Some(at(0, 0)), true, None),
            // Creations that were not finished, or given up.
            (None, None, Some(at(0, 0)), false, None),
            (None, Some(at(1, 0)), Some(at(0, 0)), false, None),
            // A user's own log is of no room.
            (LOG.map(|log| LogFacts { is_room: false, ..log }), Some(own(1, 1)), None, false, None),
            (None, Some(own(1, 0)), None, false, None),
            (LOG, None, Some(at(0, 0)), true, Some("membership.db lacks")),
            (None, None, Some(at(0, 0)), true, Some("membership.db lacks")),
            (LOG, Some(at(1, 1)), None, false, Some("room.db lacks")),
            (None, Some(at(1, 0)), None, false, Some("room.db lacks")),
            (None, Some(at(1, 1)), Some(at(0, 0)), true, Some("message.db lacks")),
        ] {
            let mut misfits = Misfits::default();
            misfits.count(log, roster, room, is_active);
            let what = misfits.beyond_mending();
            match lacks {
                None => assert_eq!(what, None),
                Some(lacks) => assert!(what.is_some_and(|it| it.starts_with(lacks)), "{lacks}"),
            }
        }
    }

    #[test]
    fn a_log_that_is_gone_among_others_is_made_again() {
        let mut misfits = Misfits::default();
        misfits.count(LOG, Some(at(1, 1)), Some(at(0, 0)), true);
        misfits.count(None, Some(at(2, 2)), Some(at(0, 0)), true);
        assert_eq!(misfits.beyond_mending(), None);
    }
}
