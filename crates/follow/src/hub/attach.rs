//! Attaches a stream to a room, step by step so that nothing is missed and nothing is given out
//! that its user may not have. The log is at 7, the client's cursor at 5:
//!
//! ```text
//! subscribe  interest in the log is registered     8 is stored now: its hint is held
//! look       a member? the head is 7;              a removal at 8 now: the ring passes it,
//!            does the cursor hold?                 and the stream ends there
//! start      no ring yet: it begins at 7, and takes the 8 that was held
//!            a ring at 9: it has what happened up to 7
//!            a ring at 4: 5 to 7 are healed first, since a deletion among them must be
//!                         known before anything is given out
//!            a ring that began at 9, or of another epoch: look again
//! go on      after 5: 6 and 7 from a block, 8 from the ring
//! ```

use std::sync::Arc;

use parlance_log::{Actor, CursorCheck, Error, View};
use parlance_rpc::fields;
use parlance_types::{LogId, RoomId, RoomKind, Seq, TenantId, UserId};

use super::{Inner, Subscription, count};
use crate::attach::{self, Reset, Start};
use crate::cursor::Cursor;
use crate::entry::Place;
use crate::failure::{NotAttached, Refused, Unavailable};
use crate::frames;
use crate::lock;
use crate::log::Started;
use crate::mailbox::Mailbox;

/// How often to look again when history is being rewound at the same time.
const ATTEMPTS: usize = 5;

/// A room to attach.
#[derive(Clone, Debug)]
pub(crate) struct Target {
    pub(crate) room_id: RoomId,
    /// The log, where it is known already.
    pub(crate) log_id: Option<LogId>,
    pub(crate) start: Start,
}

/// A room that a stream follows.
#[derive(Debug)]
pub(crate) struct Attached {
    pub(crate) subscription: Subscription,
    pub(crate) cursor: Cursor,
    pub(crate) reset: Option<Reset>,
    /// The head of the log now.
    pub(crate) head: Seq,
    pub(crate) kind: RoomKind,
}

/// The answer of the database about a room to attach.
struct Looked {
    view: View,
    /// The event that made the user a member.
    joined: Seq,
    check: CursorCheck,
}

impl Inner {
    /// Attaches a stream to a room, if its user may follow it.
    pub(crate) async fn attach(
        self: &Arc<Self>,
        tenant_id: &TenantId,
        user: Option<&UserId>,
        mailbox: &Arc<Mailbox>,
        target: &Target,
    ) -> Result<Attached, NotAttached> {
        let actor = Actor { tenant_id: tenant_id.clone(), user: user.cloned() };
        if let Some(log_id) = target.log_id {
            return self.attach_log(log_id, &actor, mailbox, target).await;
        }
        let mut tried = None;
        loop {
            let log_id =
                self.ask_in_turn(self.store()?.resolve(tenant_id, &target.room_id)).await?;
            let Some(log_id) = log_id.filter(|log_id| tried != Some(*log_id)) else {
                return Err(Refused::RoomNotFound.into());
            };
            match self.attach_log(log_id, &actor, mailbox, target).await {
                // The room's life may have ended, and a new one begun, elsewhere.
                Err(NotAttached::Refused(Refused::RoomNotFound)) if tried.is_none() => {
                    tried = Some(log_id);
                }
                attached => return attached,
            }
        }
    }

    async fn attach_log(
        self: &Arc<Self>,
        log_id: LogId,
        actor: &Actor,
        mailbox: &Arc<Mailbox>,
        target: &Target,
    ) -> Result<Attached, NotAttached> {
        let user = actor.user.as_ref();
        let place = Place { log_id, room_id: target.room_id.clone() };
        for _ in 0..ATTEMPTS {
            // Each time anew: one that a ring was dropped under would have to look again.
            let subscription = self.subscribe(place.clone(), Arc::clone(mailbox), user.cloned());
            let Looked { view, joined, check } = self.look(log_id, actor, &target.start).await?;
            let started = lock(&subscription.log.state).start(&view);
            match started {
                Started::Suspect => {
                    self.check_log(&subscription.log).await?;
                    continue;
                }
                // Deletions and removals up to the view must be known before a
                // block or the ring is read.
                Started::Running { behind: true } => self.heal(&subscription.log).await?,
                Started::Running { behind: false } => {}
            }
            let (position, reset) = attach::begin(&view, joined, &target.start, &check);
            if reset.is_some() {
                count(&self.counters.resets);
            }
            let cursor = Cursor::new(&view, user.cloned(), joined, position);
            return Ok(Attached { subscription, cursor, reset, head: view.head, kind: view.kind });
        }
        Err(Unavailable::from(Error::restless()).into())
    }

    /// Reads membership and head, and whether the cursor holds.
    async fn look(
        &self,
        log_id: LogId,
        actor: &Actor,
        start: &Start,
    ) -> Result<Looked, NotAttached> {
        let (store, user) = (self.store()?, actor.user.as_ref());
        let given = start.cursor().filter(|cursor| cursor.seq > 0).unwrap_or_default();
        let look = async || {
            let view = |log_id| store.view_at(log_id, user, given.seq);
            let view = self.ask_in_turn(store.read_met(actor, log_id, view)).await?;
            let (view, there) = view.ok_or(Refused::RoomNotFound)?;
            let joined = attach::admit(&view, user)?;
            let looked = Looked { view, joined, check: CursorCheck::Holds };
            Ok::<_, NotAttached>((looked, there))
        };
        // A viewer who may not follow the room has no say about its epoch either.
        let (looked, there) = look().await?;
        if given.seq == 0 {
            return Ok(looked);
        }
        let was = given.time.as_ref().and_then(fields::micros);
        // To the millisecond, which is what some clients keep of a time.
        let other = there.zip(was).is_some_and(|(is, was)| is.abs_diff(was) >= 1000);
        let check = match frames::parse_epoch(log_id, &given.epoch) {
            None => CursorCheck::UnknownEpoch,
            Some(epoch) => {
                let known = epoch == looked.view.epoch && given.seq <= looked.view.head;
                if known && !other {
                    return Ok(looked);
                }
                self.ask_in_turn(store.check_cursor(log_id, &epoch, given.seq, other)).await?
            }
        };
        if check == CursorCheck::Holds {
            return Ok(looked);
        }
        // The check may have begun a new epoch.
        Ok(Looked { check, ..look().await?.0 })
    }
}
