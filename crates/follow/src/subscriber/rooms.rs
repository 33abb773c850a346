//! Which rooms a stream follows: as named, or as memberships come and go.

use std::collections::{BTreeMap, HashSet};
use std::sync::Arc;

use parlance_log::Person;
use parlance_proto::frame::Frame;
use parlance_proto::message::v1 as pb;
use parlance_types::{LogId, RoomId, UserId};

use super::job::{Done, List};
use super::joining::{Joiner, Origin};
use super::{Room, Subscriber};
use crate::attach::{Reset, Start};
use crate::failure::{NotAttached, Refused, Unavailable};
use crate::frames::{self, ClosedReason};
use crate::hub::{Attached, Target};

impl Subscriber {
    /// Registers what the stream is to follow.
    pub(super) fn begin(&mut self) {
        // Before anything is read, so that no later change is missed.
        let (tenant_id, all) = (&self.follow.tenant_id, self.follow.all_my_rooms);
        self.following = self.follow.user.clone().map(|user| {
            let users = [user].into_iter().chain(all.then(UserId::everybody));
            self.hub.follow_rooms(tenant_id, users, &self.mailbox)
        });
        if self.follow.all_my_rooms {
            return;
        }
        for (at, wanted) in std::mem::take(&mut self.follow.rooms).into_iter().enumerate() {
            let start = wanted.start.unwrap_or_else(|| self.follow.start.clone());
            let target = Target { room_id: wanted.room_id, log_id: None, start };
            self.join(target, Origin::Named(at));
        }
    }

    fn join(&mut self, target: Target, origin: Origin) {
        let cursor = target.start.cursor();
        self.join_at(target, cursor, origin);
    }

    fn join_at(&mut self, target: Target, cursor: Option<pb::Cursor>, origin: Origin) {
        self.joining.add(Joiner { target, cursor, origin });
    }

    /// Starts the jobs whose turn has come.
    pub(super) fn launch(&mut self) {
        if self.listing.due && !self.listing.running {
            (self.listing.due, self.listing.running) = (false, true);
            self.list();
        }
        if self.said.due && !self.said.running {
            (self.said.due, self.said.running) = (false, true);
            self.ask();
        }
        while let Some(target) = self.joining.next(self.hub.options.attaching) {
            let (hub, mailbox) = (Arc::clone(&self.hub), Arc::clone(&self.mailbox));
            let (tenant_id, user) = (self.follow.tenant_id.clone(), self.follow.user.clone());
            self.jobs.spawn(async move {
                let attached = hub.attach(&tenant_id, user.as_ref(), &mailbox, &target).await;
                Done::Attached(target.room_id, attached)
            });
        }
        self.read();
        self.ask_for_present();
    }

    fn list(&mut self) {
        let (hub, tenant_id) = (Arc::clone(&self.hub), self.follow.tenant_id.clone());
        let Some(user) = self.follow.user.clone() else { return };
        self.jobs.spawn(async move {
            let list = async || {
                let store = hub.store()?;
                let epoch = hub.ask_in_turn(store.epoch()).await?;
                let rooms = async {
                    store.make_contacts(&tenant_id, &user).await?;
                    store.logs_of(&tenant_id, &user).await
                };
                let rooms = hub.ask_in_turn(rooms).await?;
                Ok(List { epoch, rooms })
            };
            Done::Listed(list().await)
        });
    }

    /// Asks what is said of the user.
    fn ask(&mut self) {
        let (hub, tenant_id) = (Arc::clone(&self.hub), self.follow.tenant_id.clone());
        let Some(user) = self.follow.user.clone() else { return };
        self.jobs.spawn(async move {
            let ask = async || hub.ask_in_turn(hub.store()?.person(&tenant_id, &user)).await;
            Done::Person(ask().await)
        });
    }

    /// Obeys what is said of the user.
    fn obey(&mut self, person: Person) {
        let until = person.suspended_until;
        if until > self.hub.clock.now() {
            self.end(Some(Refused::Suspended { until }.into()));
            return;
        }
        for room in self.rooms.values_mut() {
            room.block(&person);
        }
        self.said.person = Some(person);
    }

    pub(super) fn done(&mut self, done: Done) {
        match done {
            Done::Attached(room_id, attached) => {
                self.joining.ran();
                match attached {
                    Ok(attached) => self.attached(&room_id, attached),
                    Err(NotAttached::Refused(refused)) => self.refused(&room_id, refused),
                    Err(NotAttached::Unavailable(error)) => self.unavailable(room_id, error),
                }
            }
            Done::Listed(Ok(list)) => {
                self.listing.running = false;
                self.listed(list);
            }
            Done::Listed(Err(unavailable)) if !self.listing.done => {
                self.end(Some(unavailable.into()));
            }
            Done::Listed(Err(error)) => {
                let error = &error as &dyn std::error::Error;
                tracing::warn!(error, "could not list the rooms of a user; trying again");
                self.later(Done::List);
            }
            Done::Person(Ok(person)) => {
                self.said.running = false;
                self.obey(person);
            }
            Done::Person(Err(error)) => {
                let error = &error as &dyn std::error::Error;
                tracing::warn!(error, "could not read what is said of a user; trying again");
                self.later(Done::AskPerson);
            }
            Done::AskPerson => (self.said.running, self.said.due) = (false, true),
            Done::Attach(room_id) => self.joining.wait(room_id),
            Done::List => (self.listing.running, self.listing.due) = (false, true),
            Done::Present(log_ids, told) => self.told_present(log_ids, told),
            Done::TellPresent(log_ids) => self.present.due.extend(log_ids),
            Done::Block(log_id, read) => self.has_read(log_id, read),
            Done::Pull(log_id) => self.retry(log_id),
        }
        if let Some(unavailable) = self.joining.failure() {
            self.end(Some(unavailable.into()));
        }
    }

    fn unavailable(&mut self, room_id: RoomId, unavailable: Unavailable) {
        let error = &unavailable as &dyn std::error::Error;
        tracing::warn!(error, "could not attach a room to a stream; trying again");
        if self.joining.failed(&room_id, unavailable) {
            self.later(Done::Attach(room_id));
        }
    }

    fn attached(&mut self, room_id: &RoomId, attached: Attached) {
        let held_back = self.joining.attached(room_id);
        for room_id in held_back.failed {
            self.later(Done::Attach(room_id));
        }
        for (room_id, refused) in held_back.refused {
            self.chunk.put(closed(&room_id, refused));
        }
        let (log_id, cursor) = (attached.subscription.log.place.log_id, &attached.cursor);
        let (position, epoch) = (cursor.position(), frames::epoch_token(log_id, &cursor.epoch));
        if let Some(reset) = attached.reset {
            let Reset { keep_through, reason } = reset;
            self.chunk.put(frames::reset(room_id, epoch.clone(), keep_through, reason));
        }
        self.chunk.put(frames::attached(room_id, epoch, position, attached.head));
        if self.hub.presents().is_ok_and(|presents| presents.has(attached.kind)) {
            self.present.due.push(log_id);
        }
        let (queued, waits) = (false, false);
        let mut room = Room { attached, reported: position, queued, waits, block: None, holes: 0 };
        if let Some(person) = &self.said.person {
            room.block(person);
        }
        self.rooms.insert(log_id, room);
        self.queue(log_id);
    }

    fn refused(&mut self, room_id: &RoomId, refused: Refused) {
        if matches!(refused, Refused::Suspended { .. }) {
            // So it is in every other room.
            self.end(Some(refused.into()));
            return;
        }
        match self.joining.refused(room_id, refused) {
            Some(Origin::Named(_)) => self.chunk.put(closed(room_id, refused)),
            Some(Origin::Followed) => {
                // Which event it was is not known: the ring that knew is gone.
                let reason = match refused {
                    Refused::RoomNotFound => ClosedReason::RoomDeleted,
                    Refused::NotAMember | Refused::Suspended { .. } => ClosedReason::Removed,
                };
                self.chunk.put(frames::closed(room_id, 0, reason));
                self.listing.due |= self.follow.all_my_rooms;
            }
            // The membership ended between the list and the look.
            Some(Origin::Listed) | None => {}
        }
    }

    /// Attaches the rooms of the user that are not followed yet.
    fn listed(&mut self, List { epoch, rooms }: List) {
        let first = !std::mem::replace(&mut self.listing.done, true);
        let wanted = std::mem::take(&mut self.follow.rooms);
        let mut named: BTreeMap<RoomId, (usize, Option<Start>)> = wanted
            .into_iter()
            .enumerate()
            .map(|(at, wanted)| (wanted.room_id, (at, wanted.start)))
            .collect();
        let followed: HashSet<&RoomId> = self.rooms.values().map(Room::id).collect();
        let fresh: Vec<_> = rooms
            .into_iter()
            // By room: a new life of a room waits until the old one is closed.
            .filter(|(_, room_id, _)| {
                !self.joining.contains(room_id) && !followed.contains(room_id)
            })
            .collect();
        for (log_id, room_id, joined) in fresh {
            let named = named.remove(&room_id).and_then(|(_, start)| start);
            let otherwise = if first { self.follow.start.clone() } else { Start::Join };
            let start = named.unwrap_or(otherwise);
            let cursor = match start {
                Start::Join => Some(frames::cursor(log_id, &epoch, (joined - 1).max(0), None)),
                _ => start.cursor(),
            };
            let target = Target { room_id, log_id: Some(log_id), start };
            self.join_at(target, cursor, Origin::Listed);
        }
        for (room_id, (at, start)) in named {
            let start = start.unwrap_or_else(|| self.follow.start.clone());
            self.join(Target { room_id, log_id: None, start }, Origin::Named(at));
        }
    }

    /// The ring was dropped under the stream: looks at the log again from where it stands.
    pub(super) fn attach_again(&mut self, log_id: LogId) {
        let Some(room) = self.rooms.remove(&log_id) else { return };
        let cursor = room.attached.cursor;
        let start = Start::After(cursor.held(log_id));
        let room_id = room.attached.subscription.log.place.room_id.clone();
        // An end that comes meanwhile is not heard; things that go on are told anew.
        self.ongoing.leave(log_id).for_each(|end| self.chunk.put(end));
        self.join(Target { room_id, log_id: Some(log_id), start }, Origin::Followed);
    }

    pub(super) fn later(&mut self, done: Done) {
        let retry = self.hub.options.retry;
        self.jobs.spawn(async move {
            tokio::time::sleep(retry).await;
            done
        });
    }
}

fn closed(room_id: &RoomId, refused: Refused) -> Frame {
    let reason = match refused {
        Refused::RoomNotFound => ClosedReason::RoomNotFound,
        Refused::NotAMember | Refused::Suspended { .. } => ClosedReason::NotAMember,
    };
    frames::closed(room_id, 0, reason)
}
