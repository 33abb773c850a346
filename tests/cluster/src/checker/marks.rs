//! What stands on messages: reactions and replies, counted from the log alone.

use std::collections::{BTreeMap, BTreeSet};

use super::{Anomaly, Findings};
use crate::history::{History, StoredLog};

/// Who reacted to which message, and how.
type Reactions<'a> = BTreeSet<(i64, &'a str, &'a str)>;

pub(super) fn check(history: &History, log: &StoredLog, findings: &mut Findings) {
    let there = fold(log, findings);
    for reacted in history.reactions.iter().filter(|reacted| reacted.room == log.room) {
        let found = there.contains(&(reacted.message_seq, &reacted.user, &reacted.kind));
        if found != reacted.there {
            findings.add(Anomaly::LostWrite, format!("{reacted:?}"));
        }
    }
    for message in history.messages.iter().filter(|message| message.room == log.room) {
        let mut reactions = BTreeMap::new();
        for (_, _, kind) in there.range((message.seq, "", "")..(message.seq + 1, "", "")) {
            *reactions.entry((*kind).to_owned()).or_insert(0) += 1;
        }
        let replies = log.entries.iter().filter(|entry| entry.said.root == message.message_id);
        if message.reactions != reactions || usize::try_from(message.replies) != Ok(replies.count())
        {
            findings.add(Anomaly::WrongCount, format!("{message:?}"));
        }
    }
}

/// What there is in the end. An event that changes nothing should not be there.
fn fold<'a>(log: &'a StoredLog, findings: &mut Findings) -> Reactions<'a> {
    let mut there = Reactions::new();
    for entry in &log.entries {
        let Some(reaction) = &entry.said.reaction else { continue };
        let key = (reaction.message_seq, entry.said.sender.as_str(), reaction.kind.as_str());
        let changed = if reaction.added { there.insert(key) } else { there.remove(&key) };
        if !changed {
            findings.add(Anomaly::Duplicate, format!("{entry:?} changes nothing"));
        }
    }
    there
}
