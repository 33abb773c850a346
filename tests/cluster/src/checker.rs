//! Judges what clients saw against what is stored, in one pass over each.
//!
//! A log is dense, so nothing has to be searched for: every acknowledgement and
//! every delivered event names the one place where it must stand.

use std::collections::{BTreeMap, HashMap};
use std::fmt;

use crate::history::{Entry, Frame, History, Said, Send, StoredLog, Unread, View};

/// What may be wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Anomaly {
    /// An acknowledged send is not stored where its reply says.
    LostWrite,
    /// Stored twice, or delivered twice; a reaction that came or went when it already had.
    Duplicate,
    /// A number is missing, in the log or on a stream.
    Skip,
    /// Later before earlier: on a stream, or of sends that followed each other.
    Inversion,
    /// Stored or delivered, and nobody sent it.
    Phantom,
    /// Two readers, or two replies to one request, tell different things.
    Disagreement,
    /// Delivered to somebody who was no member any more.
    UnauthorisedDelivery,
    /// Accepted from somebody who was no member.
    UnauthorisedAccept,
    /// A frame of a room after the room's last frame.
    AfterClosed,
    /// A stream did not reach the head.
    Stuck,
    WrongUnread,
    /// A list counts other reactions or replies than the log holds.
    WrongCount,
    /// An event at or below what a heartbeat promised was past.
    AfterHeartbeat,
}

/// One thing that is wrong.
#[derive(Clone, Debug)]
pub struct Finding {
    pub anomaly: Anomaly,
    pub what: String,
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}: {}", self.anomaly, self.what)
    }
}

/// Everything that is wrong.
pub fn check(history: &History, logs: &[StoredLog]) -> Vec<Finding> {
    let mut findings = Findings::default();
    for log in logs {
        let judge = Judge::new(log, &mut findings);
        let sends: Vec<&Send> = history.sends.iter().filter(|send| send.room == log.room).collect();
        judge.sends(&sends, &mut findings);
        for view in history.views.iter().filter(|view| view.room == log.room) {
            judge.view(view, &mut findings);
        }
        for unread in history.unread.iter().filter(|unread| unread.room == log.room) {
            judge.unread(unread, &mut findings);
        }
        marks::check(history, log, &mut findings);
    }
    findings.0
}

#[derive(Default)]
struct Findings(Vec<Finding>);

impl Findings {
    fn add(&mut self, anomaly: Anomaly, what: impl fmt::Display) {
        self.0.push(Finding { anomaly, what: what.to_string() });
    }
}

/// A log, with who was in when.
struct Judge<'a> {
    log: &'a StoredLog,
    /// By user: the seqs from which on they were in (true) or out.
    access: HashMap<&'a str, BTreeMap<i64, bool>>,
}

impl<'a> Judge<'a> {
    fn new(log: &'a StoredLog, findings: &mut Findings) -> Self {
        let mut access: HashMap<&str, BTreeMap<i64, bool>> = HashMap::new();
        let (mut before, mut requests) = (0, HashMap::new());
        for entry in &log.entries {
            if entry.seq != before + 1 {
                let what = format!("{} holds {} after {before}", log.room, entry.seq);
                findings.add(Anomaly::Skip, what);
            }
            before = entry.seq;
            for user in &entry.gained {
                access.entry(user).or_default().insert(entry.seq, true);
            }
            for user in &entry.lost {
                access.entry(user).or_default().insert(entry.seq, false);
            }
            if entry.said.text.is_none() {
                continue;
            }
            let request = (entry.said.sender.as_str(), entry.said.request_id.as_str());
            if let Some(first) = requests.insert(request, entry.seq) {
                let what = format!("{request:?} is at {first} and {} of {}", entry.seq, log.room);
                findings.add(Anomaly::Duplicate, what);
            }
        }
        if before != log.head {
            let what = format!("the head of {} is {}, its last event {before}", log.room, log.head);
            findings.add(Anomaly::Skip, what);
        }
        Self { log, access }
    }

    fn entry(&self, seq: i64) -> Option<&'a Entry> {
        let index = usize::try_from(seq.checked_sub(1)?).ok()?;
        let there = self.log.entries.get(index).filter(|entry| entry.seq == seq);
        // With a hole in the log the place is further back.
        there.or_else(|| self.log.entries.iter().find(|entry| entry.seq == seq))
    }

    /// Whether a user is in after the event at `seq`.
    fn is_in(&self, user: &str, seq: i64) -> bool {
        let access = self.access.get(user);
        access.and_then(|access| access.range(..=seq).next_back()).is_some_and(|(_, is_in)| *is_in)
    }

    fn sends(&self, sends: &[&Send], findings: &mut Findings) {
        let known: HashMap<_, _> = sends
            .iter()
            .map(|send| ((send.sender.as_str(), send.request_id.as_str()), *send))
            .collect();
        for entry in self.log.entries.iter().filter(|entry| entry.said.text.is_some()) {
            let said = &entry.said;
            match known.get(&(said.sender.as_str(), said.request_id.as_str())) {
                Some(send) if !send.refused && Some(&send.text) == said.text.as_ref() => {}
                _ => findings.add(Anomaly::Phantom, format!("{entry:?} was not sent so")),
            }
            if !self.is_in(&said.sender, entry.seq - 1) {
                let what = format!("{} at {} of {}", said.sender, entry.seq, self.log.room);
                findings.add(Anomaly::UnauthorisedAccept, what);
            }
        }
        for send in sends {
            let mut seqs: Vec<i64> = send.acks.iter().map(|ack| ack.seq).collect();
            seqs.dedup();
            if seqs.len() > 1 {
                findings.add(Anomaly::Disagreement, format!("{} is at {seqs:?}", send.request_id));
            }
            for seq in seqs {
                let stands = self.entry(seq).is_some_and(|entry| {
                    entry.said.sender == send.sender && entry.said.request_id == send.request_id
                });
                if !stands {
                    let what = format!("{} is not at {seq}", send.request_id);
                    findings.add(Anomaly::LostWrite, what);
                }
            }
        }
        order(sends, findings);
    }

    fn view(&self, view: &View, findings: &mut Findings) {
        let mut cursor = None;
        let (mut closed, mut floor) = (None, 0);
        let name = format!("{} in {}", view.user, view.room);
        for frame in &view.frames {
            if closed.is_some() && !matches!(frame, Frame::Closed { .. }) {
                findings.add(Anomaly::AfterClosed, format!("{name}: {frame:?}"));
            }
            match frame {
                Frame::Attached { resume_from, .. } => {
                    let had = *cursor.get_or_insert(*resume_from);
                    advance(&name, had, *resume_from + 1, findings);
                    cursor = Some(*resume_from);
                    floor = 0;
                }
                Frame::Event { seq, said } => {
                    advance(&name, cursor.unwrap_or(0), *seq, findings);
                    if *seq <= floor {
                        findings.add(Anomaly::AfterHeartbeat, format!("{name}: {frame:?}"));
                    }
                    self.event(&name, view, (*seq, said), findings);
                    cursor = Some(*seq);
                }
                Frame::Skipped { from, to } => {
                    advance(&name, cursor.unwrap_or(0), *from, findings);
                    cursor = Some(*to);
                }
                Frame::CaughtUp { seq } if Some(*seq) > cursor => {
                    let what = format!("{name}: caught up at {seq}, given {cursor:?}");
                    findings.add(Anomaly::Skip, what);
                }
                Frame::CaughtUp { .. } => {}
                Frame::Heartbeat { seq } => floor = floor.max(*seq),
                Frame::Reset { keep_through, resume_from } => {
                    // Nothing here rewinds the store.
                    let what = format!("{name}: reset to {keep_through}, {resume_from}");
                    findings.add(Anomaly::Disagreement, what);
                    cursor = Some(*resume_from);
                }
                Frame::Closed { seq } => closed = Some(*seq),
            }
        }
        let end = cursor.unwrap_or(0);
        if closed.is_none() && end < self.log.head {
            let what = format!("{name}: at {end}, the head is {}", self.log.head);
            findings.add(Anomaly::Stuck, what);
        }
    }

    fn event(&self, name: &str, view: &View, (seq, said): (i64, &Said), findings: &mut Findings) {
        let Some(entry) = self.entry(seq) else {
            findings.add(Anomaly::Phantom, format!("{name}: {seq} is not stored"));
            return;
        };
        if *said != entry.said {
            findings
                .add(Anomaly::Disagreement, format!("{name}: {said:?} at {seq}, not {entry:?}"));
        }
        // The removal itself is the last event that may be told.
        if !self.is_in(&view.user, seq) && !self.is_in(&view.user, seq - 1) {
            let was_in = self.access.get(view.user.as_str());
            let later = was_in.is_some_and(|was| was.range(seq..).any(|(_, is_in)| *is_in));
            if !later {
                findings.add(Anomaly::UnauthorisedDelivery, format!("{name}: {seq}"));
            }
        }
    }

    fn unread(&self, unread: &Unread, findings: &mut Findings) {
        let joined = self.access.get(unread.user.as_str());
        let joined = joined
            .and_then(|access| access.iter().rev().find(|(_, is_in)| **is_in).map(|(seq, _)| *seq));
        let own = |entry: &&Entry| entry.said.text.is_some() && entry.said.sender == unread.user;
        let own = self.log.entries.iter().rev().find(own).map(|entry| entry.seq);
        let mark = unread.marked.max(joined.unwrap_or(0)).max(own.unwrap_or(0));
        let counts =
            |entry: &&Entry| entry.counted && entry.seq > mark && entry.said.sender != unread.user;
        let counted = self.log.entries.iter().filter(counts).count();
        if usize::try_from(unread.unread) != Ok(counted) {
            findings.add(Anomaly::WrongUnread, format!("{unread:?}, counted {counted}"));
        }
    }
}

/// A send that was acknowledged before another began stands before it.
fn order(sends: &[&Send], findings: &mut Findings) {
    let mut acks: Vec<_> = sends.iter().flat_map(|send| &send.acks).collect();
    acks.sort_by_key(|ack| ack.at);
    let mut begun: Vec<_> = sends.iter().filter(|send| !send.acks.is_empty()).collect();
    begun.sort_by_key(|send| send.began);
    let (mut acks, mut highest) = (acks.into_iter().peekable(), 0);
    for send in begun {
        while let Some(ack) = acks.next_if(|ack| ack.at < send.began) {
            highest = highest.max(ack.seq);
        }
        let seq = send.acks[0].seq;
        if seq < highest {
            let what = format!("{} got {seq} after {highest} was given", send.request_id);
            findings.add(Anomaly::Inversion, what);
        }
    }
}

fn advance(name: &str, cursor: i64, seq: i64, findings: &mut Findings) {
    let anomaly = match seq - cursor {
        1 => return,
        2.. => Anomaly::Skip,
        0 => Anomaly::Duplicate,
        _ => Anomaly::Inversion,
    };
    findings.add(anomaly, format!("{name}: {seq} after {cursor}"));
}

mod marks;
#[cfg(test)]
mod tests;
