//! Which rooms a stream follows: as named, or as memberships come and go.

use std::collections::{BTreeMap, HashSet};
use std::sync::Arc;

use parlance_types::{LogId, RoomId, Seq};

use super::{Room, Subscriber};
use crate::codec::frames::{self, ClosedReason, ResetReason};
use crate::domain::EpochId;
use crate::stream::Unavailable;
use crate::stream::attach::{Refused, Start};
use crate::stream::blocks::Block;
use crate::stream::hub::{Attached, Target};
use crate::stream::outlet::Ended;

/// A room on its way to being followed.
#[derive(Clone, Debug)]
pub(super) struct Joining {
    pub(super) target: Target,
    /// What a client that is sent away goes on with.
    pub(super) cursor: Option<(String, Seq)>,
    origin: Origin,
}

/// Why a room is being attached, and so who is told when it is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Origin {
    /// The client named it, as the n-th.
    Named(usize),
    /// The user is a member of it.
    Listed,
    /// It was followed until its ring was dropped.
    Followed,
}

/// A room of the user, and the event that made the user a member.
type Listed = (LogId, RoomId, Seq);

/// What a job of a stream came to.
#[derive(Debug)]
pub(super) enum Done {
    Attached(RoomId, Result<Result<Attached, Refused>, Unavailable>),
    /// The epoch before the list was read, and the list.
    Listed(Result<(EpochId, Vec<Listed>), Unavailable>),
    Block(LogId, Result<Arc<Block>, Unavailable>),
    /// The time to try again has come.
    Attach(RoomId),
    List,
    Pull(LogId),
}

impl Subscriber {
    /// Registers what the stream is to follow.
    pub(super) fn begin(&mut self) {
        if self.follow.all_my_rooms {
            // Before the list is read, so that no later change is missed.
            let (tenant_id, user) = (&self.follow.tenant_id, self.follow.user.as_ref());
            self.following = user.map(|user| self.hub.follow_rooms(tenant_id, user, &self.mailbox));
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

    fn join_at(&mut self, target: Target, cursor: Option<(String, Seq)>, origin: Origin) {
        let room_id = target.room_id.clone();
        self.waiting.push_back(room_id.clone());
        self.joining.insert(room_id, Joining { target, cursor, origin });
    }

    /// Starts the jobs whose turn has come.
    pub(super) fn launch(&mut self) {
        if self.listing.due && !self.listing.running {
            (self.listing.due, self.listing.running) = (false, true);
            self.list();
        }
        while self.attaching < self.hub.options.attaching
            && let Some(room_id) = self.waiting.pop_front()
        {
            let Some(joining) = self.joining.get(&room_id) else { continue };
            self.attaching += 1;
            let (hub, mailbox) = (Arc::clone(&self.hub), Arc::clone(&self.mailbox));
            let (tenant_id, user) = (self.follow.tenant_id.clone(), self.follow.user.clone());
            let target = joining.target.clone();
            // A task of its own: a stream that waits for its reader holds up no connection.
            self.jobs.spawn(async move {
                let attached = hub.attach(&tenant_id, user.as_ref(), &mailbox, &target).await;
                Done::Attached(room_id, attached)
            });
        }
        self.read();
    }

    fn list(&mut self) {
        let (hub, tenant_id) = (Arc::clone(&self.hub), self.follow.tenant_id.clone());
        let Some(user) = self.follow.user.clone() else { return };
        self.jobs.spawn(async move {
            let list = async || {
                let store = hub.store()?;
                let epoch = hub.ask_in_turn(store.epoch()).await?;
                Ok((epoch, hub.ask_in_turn(store.logs_of(&tenant_id, &user)).await?))
            };
            Done::Listed(list().await)
        });
    }

    pub(super) fn done(&mut self, done: Done) {
        match done {
            Done::Attached(room_id, attached) => {
                self.attaching -= 1;
                match attached {
                    Ok(Ok(attached)) => self.attached(&room_id, attached),
                    Ok(Err(refused)) => self.refused(room_id, refused),
                    Err(unavailable) => self.unavailable(room_id, unavailable),
                }
            }
            Done::Listed(Ok((epoch, rooms))) => {
                self.listing.running = false;
                self.listed(&epoch, rooms);
            }
            Done::Listed(Err(unavailable)) if !self.listing.done => {
                self.end(Some(unavailable.into()));
            }
            Done::Listed(Err(error)) => {
                let error = &error as &dyn std::error::Error;
                tracing::warn!(error, "could not list the rooms of a user; trying again");
                self.later(Done::List);
            }
            Done::Attach(room_id) => self.waiting.push_back(room_id),
            Done::List => (self.listing.running, self.listing.due) = (false, true),
            Done::Block(log_id, read) => self.has_read(log_id, read),
            Done::Pull(log_id) => self.retry(log_id),
        }
        self.check_begun();
    }

    /// The call fails if nothing came of any room, and of some for want of the store.
    fn check_begun(&mut self) {
        let waits_for_none = self.attaching == 0 && self.waiting.is_empty();
        if !self.begun
            && waits_for_none
            && let Some((_, unavailable)) = self.failed.take()
        {
            self.end(Some(unavailable.into()));
        }
    }

    /// A room could not be attached. Until one is, the others are waited for first.
    fn unavailable(&mut self, room_id: RoomId, unavailable: Unavailable) {
        tracing::warn!(
            error = &unavailable as &dyn std::error::Error,
            "could not attach a room to a stream; trying again"
        );
        if self.begun {
            self.later(Done::Attach(room_id));
        } else {
            let (rooms, _) = self.failed.get_or_insert((Vec::new(), unavailable));
            rooms.push(room_id);
        }
    }

    fn attached(&mut self, room_id: &RoomId, attached: Attached) {
        self.joining.remove(room_id);
        self.begun = true;
        for room_id in self.failed.take().into_iter().flat_map(|(rooms, _)| rooms) {
            self.later(Done::Attach(room_id));
        }
        for (_, (room_id, refused)) in std::mem::take(&mut self.refused) {
            self.put(closed(&room_id, refused));
        }
        let (log_id, cursor) = (attached.subscription.log.place.log_id, &attached.cursor);
        let (position, epoch) = (cursor.position(), frames::epoch_token(log_id, &cursor.epoch));
        if let Some(reset) = attached.reset {
            let reason =
                if reset.unknown { ResetReason::UnknownEpoch } else { ResetReason::Rewound };
            self.put(frames::reset(room_id, epoch.clone(), reset.keep_through, reason));
        }
        self.put(frames::attached(room_id, epoch, position, attached.head));
        let (queued, waits) = (false, false);
        let room = Room { attached, reported: position, queued, waits, block: None, holes: 0 };
        self.rooms.insert(log_id, room);
        self.queue(log_id);
    }

    fn refused(&mut self, room_id: RoomId, refused: Refused) {
        let origin = self.joining.remove(&room_id).map(|joining| joining.origin);
        match origin {
            Some(Origin::Named(at)) if !self.begun => {
                self.refused.insert(at, (room_id, refused));
            }
            Some(Origin::Named(_)) => self.put(closed(&room_id, refused)),
            Some(Origin::Followed) => {
                // Which event it was is not known: the ring that knew is gone.
                let reason = match refused {
                    Refused::RoomNotFound => ClosedReason::RoomDeleted,
                    Refused::NotAMember => ClosedReason::Removed,
                };
                self.put(frames::closed(&room_id, 0, reason));
                self.listing.due |= self.follow.all_my_rooms;
            }
            // The membership ended between the list and the look.
            Some(Origin::Listed) | None => {}
        }
    }

    /// Attaches the rooms of the user that are not followed yet.
    fn listed(&mut self, epoch: &EpochId, rooms: Vec<Listed>) {
        let first = !std::mem::replace(&mut self.listing.done, true);
        let wanted = std::mem::take(&mut self.follow.rooms);
        let mut named: BTreeMap<RoomId, (usize, Option<Start>)> = wanted
            .into_iter()
            .enumerate()
            .map(|(at, wanted)| (wanted.room_id, (at, wanted.start)))
            .collect();
        let followed =
            self.rooms.values().map(|room| &room.attached.subscription.log.place.room_id);
        let followed: HashSet<&RoomId> = followed.collect();
        let fresh: Vec<_> = rooms
            .into_iter()
            // By room: a new life of a room waits until the old one is closed.
            .filter(|(_, room_id, _)| {
                !self.joining.contains_key(room_id) && !followed.contains(room_id)
            })
            .collect();
        for (log_id, room_id, joined) in fresh {
            let named = named.remove(&room_id).and_then(|(_, start)| start);
            let otherwise = if first { self.follow.start.clone() } else { Start::Join };
            let start = named.unwrap_or(otherwise);
            let cursor = match start {
                Start::Join => Some((frames::epoch_token(log_id, epoch), (joined - 1).max(0))),
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
        let epoch = frames::epoch_token(log_id, &cursor.epoch);
        let start = Start::After { epoch, seq: cursor.position() };
        let room_id = room.attached.subscription.log.place.room_id.clone();
        // Who stops meanwhile is not heard; who goes on is told of anew.
        for user_id in self.typists.leave(log_id) {
            self.put(frames::typing(&room_id, &user_id, false));
        }
        self.join(Target { room_id, log_id: Some(log_id), start }, Origin::Followed);
    }

    pub(super) fn later(&mut self, done: Done) {
        let retry = self.hub.options.retry;
        self.jobs.spawn(async move {
            tokio::time::sleep(retry).await;
            done
        });
    }

    /// Whether no room is left, and none can come.
    pub(super) fn is_over(&self) -> bool {
        !self.follow.all_my_rooms && self.rooms.is_empty() && self.joining.is_empty()
    }

    /// The end of a stream without rooms: OK, or why the first was refused if all were.
    pub(super) fn over(&mut self) {
        let refused = self.refused.pop_first().map(|(_, (_, refused))| match refused {
            Refused::RoomNotFound => Ended::RoomNotFound,
            Refused::NotAMember => Ended::NotAMember,
        });
        self.end(refused);
    }
}

fn closed(room_id: &RoomId, refused: Refused) -> parlance_proto::frame::Frame {
    let reason = match refused {
        Refused::RoomNotFound => ClosedReason::RoomNotFound,
        Refused::NotAMember => ClosedReason::NotAMember,
    };
    frames::closed(room_id, 0, reason)
}
