//! The log as a database holds it.

use std::collections::BTreeMap;

use bytes::Bytes;
use parlance_log::testing::{deleted, edited, sent};
use parlance_log::{
    Blocked, EpochId, Hidden, History, Kind, Membership, Role, RoomKind, Rules, StoredEvent, View,
    codec,
};
use parlance_proto::message::v1 as pb;
use parlance_types::{LogId, MessageId, RoomId, Seq, TenantId, UserId};
use prost::Message as _;
use uuid::Uuid;

use super::Act;
use crate::entry::{Entry, Place};

/// The database: what is committed.
#[derive(Default)]
pub(super) struct Log {
    pub(super) epoch: u32,
    pub(super) events: Vec<StoredEvent>,
    pub(super) members: BTreeMap<u8, Seq>,
    /// Per user: joins and removals.
    pub(super) history: Vec<(Seq, u8, bool)>,
    pub(super) rules: Vec<(Seq, History)>,
    /// Deleted messages, and where.
    pub(super) deleted: BTreeMap<Seq, Seq>,
    pub(super) messages: Vec<Seq>,
    pub(super) closed: Option<Seq>,
    /// The first event that is left.
    pub(super) first: Seq,
    /// Where the log was cleared for all, and what was left.
    pub(super) cleared: Vec<(Seq, Seq)>,
}

pub(super) fn place() -> Place {
    Place { log_id: LogId(Uuid::from_u128(1)), room_id: RoomId::new("r") }
}

pub(super) fn user(n: u8) -> UserId {
    UserId::new(format!("user{n}"))
}

fn secret(seq: Seq) -> String {
    format!("secret of {seq}")
}

fn fact(effects: pb::Effects) -> Bytes {
    // A kind of a later version: only its effects are understood.
    let mut event = pb::Event { effects: Some(effects), ..pb::Event::default() }.encode_to_vec();
    event.extend([0xfa, 0x3e, 1, 7]);
    event.into()
}

impl Log {
    pub(super) fn head(&self) -> Seq {
        Seq::try_from(self.events.len()).expect("few events")
    }

    pub(super) fn epoch(&self) -> EpochId {
        EpochId(self.epoch.to_string())
    }

    pub(super) fn push(&mut self, payload: Bytes) -> StoredEvent {
        let seq = self.head() + 1;
        let event = StoredEvent { seq, time: seq, payload };
        self.events.push(event.clone());
        event
    }

    pub(super) fn read(&self, from: Seq, to: Seq) -> Vec<Entry> {
        let left = from.max(self.first);
        let within = self.events.iter().filter(|event| (left..=to).contains(&event.seq));
        within.map(|event| Entry::encode(&place(), event).expect("an entry")).collect()
    }

    /// Stores what an act means; nothing if it makes no sense now.
    pub(super) fn store(&mut self, act: &Act) -> Option<StoredEvent> {
        let next = self.head() + 1;
        if self.closed.is_some() {
            return None;
        }
        let target = |log: &Self, n: usize| {
            (!log.messages.is_empty()).then(|| log.messages[n % log.messages.len()])
        };
        let id = |seq| MessageId { log_id: place().log_id, seq };
        match act {
            Act::Send => {
                self.messages.push(next);
                Some(self.push(sent(None, &secret(next))))
            }
            Act::Edit(n) => {
                let target = target(self, *n).filter(|seq| !self.deleted.contains_key(seq))?;
                Some(self.push(edited(id(target), &secret(target))))
            }
            Act::Delete(n) => {
                let target = target(self, *n).filter(|seq| !self.deleted.contains_key(seq))?;
                self.deleted.insert(target, next);
                for event in &mut self.events {
                    let envelope = codec::envelope(&event.payload).expect("ours");
                    let of_target = match envelope.kind {
                        Kind::Message => event.seq == target,
                        Kind::Edit => envelope.target == Some(target),
                        _ => false,
                    };
                    if of_target {
                        event.payload = codec::tombstone(&event.payload).expect("ours");
                    }
                }
                Some(self.push(deleted(id(target))))
            }
            Act::Add(n) if !self.members.contains_key(n) => {
                self.members.insert(*n, next);
                self.history.push((next, *n, true));
                let grant = pb::MemberGrant { user_id: user(*n).into_string(), role: 1 };
                let effects = pb::Effects { gained: vec![grant], ..pb::Effects::default() };
                Some(self.push(fact(effects)))
            }
            Act::Remove(n) if self.members.contains_key(n) => {
                self.members.remove(n);
                self.history.push((next, *n, false));
                let lost_user_ids = vec![user(*n).into_string()];
                Some(self.push(fact(pb::Effects { lost_user_ids, ..pb::Effects::default() })))
            }
            Act::Unknown => Some(self.push(fact(pb::Effects::default()))),
            Act::Close => {
                self.closed = Some(next);
                Some(self.push(fact(pb::Effects { closed: true, ..pb::Effects::default() })))
            }
            Act::Clear(share) => {
                self.first = (self.head() * Seq::from(*share) / 255 + 1).max(self.first);
                self.cleared.push((next, self.first));
                let effects = pb::Effects { first_seq: self.first, ..pb::Effects::default() };
                Some(self.push(fact(effects)))
            }
            Act::Prune(share) => {
                self.first = ((self.head() + 1) * Seq::from(*share) / 255).max(self.first);
                None
            }
            Act::Rules(all) => {
                let history = if *all { History::All } else { History::SinceJoin };
                self.rules.push((next, history));
                let rules = pb::LogRules { history: history as i32, ..pb::LogRules::default() };
                let effects = pb::Effects { rules: Some(rules), ..pb::Effects::default() };
                Some(self.push(fact(effects)))
            }
            _ => None,
        }
    }

    /// The event that made a viewer a member, 0 for nobody; `None` for strangers.
    pub(super) fn admit(&self, viewer: Option<u8>) -> Option<Seq> {
        match (self.closed, viewer) {
            (Some(_), _) => None,
            (None, None) => Some(0),
            (None, Some(n)) => self.members.get(&n).copied(),
        }
    }

    pub(super) fn view(&self, n: Option<u8>) -> View {
        let member = n.and_then(|n| self.members.get(&n));
        let history = self.rules.last().map_or(History::All, |(_, history)| *history);
        View {
            tenant_id: TenantId::new("t"),
            log_id: place().log_id,
            room_id: place().room_id,
            kind: RoomKind::Group,
            rules: Rules { history, ..Rules::default() },
            head: self.head(),
            head_time: 0,
            epoch: self.epoch(),
            first_seq: self.first.max(1),
            closed: None,
            member: member.map(|joined| Membership::new(Role::Member, *joined)),
            suspended: None,
            blocked: Blocked::default(),
            hidden: Hidden::default(),
        }
    }
}
