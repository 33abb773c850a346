//! Attaches a stream to a room: register interest, hold hints, read membership
//! and head, start the ring, go on from there.

use std::sync::Arc;

use parlance_types::{LogId, RoomId, Seq, TenantId, UserId};

use super::{Inner, Subscription, Unavailable, count};
use crate::Error;
use crate::codec::frames;
use crate::domain::View;
use crate::store::CursorCheck;
use crate::stream::attach::{self, Refused, Reset, Start};
use crate::stream::cursor::Cursor;
use crate::stream::entry::Place;
use crate::stream::lock;
use crate::stream::log::Started;
use crate::stream::mailbox::Mailbox;

/// How often to look again when history is being rewound at the same time.
const ATTEMPTS: usize = 5;

/// A room to attach.
#[derive(Clone, Debug)]
pub(in crate::stream) struct Target {
    pub(in crate::stream) room_id: RoomId,
    /// The log, where it is known already.
    pub(in crate::stream) log_id: Option<LogId>,
    pub(in crate::stream) start: Start,
}

/// A room that a stream follows.
#[derive(Debug)]
pub(in crate::stream) struct Attached {
    pub(in crate::stream) subscription: Subscription,
    pub(in crate::stream) cursor: Cursor,
    pub(in crate::stream) reset: Option<Reset>,
    /// The head of the log now.
    pub(in crate::stream) head: Seq,
}

impl Inner {
    /// Attaches a stream to a room, if its user may follow it.
    pub(in crate::stream) async fn attach(
        self: &Arc<Self>,
        tenant_id: &TenantId,
        user: Option<&UserId>,
        mailbox: &Arc<Mailbox>,
        target: &Target,
    ) -> Result<Result<Attached, Refused>, Unavailable> {
        if let Some(log_id) = target.log_id {
            return self.attach_log(log_id, user, mailbox, target).await;
        }
        let mut tried = None;
        loop {
            let log_id =
                self.ask_in_turn(self.store()?.resolve(tenant_id, &target.room_id)).await?;
            let Some(log_id) = log_id.filter(|log_id| tried != Some(*log_id)) else {
                return Ok(Err(Refused::RoomNotFound));
            };
            match self.attach_log(log_id, user, mailbox, target).await? {
                // The room's life may have ended, and a new one begun, elsewhere.
                Err(Refused::RoomNotFound) if tried.is_none() => tried = Some(log_id),
                attached => return Ok(attached),
            }
        }
    }

    async fn attach_log(
        self: &Arc<Self>,
        log_id: LogId,
        user: Option<&UserId>,
        mailbox: &Arc<Mailbox>,
        target: &Target,
    ) -> Result<Result<Attached, Refused>, Unavailable> {
        let place = Place { log_id, room_id: target.room_id.clone() };
        for _ in 0..ATTEMPTS {
            // Each time anew: one that a ring was dropped under would have to look again.
            let subscription = self.subscribe(place.clone(), Arc::clone(mailbox), user.cloned());
            let (view, joined, check) = match self.look(log_id, user, &target.start).await? {
                Ok(looked) => looked,
                Err(refused) => return Ok(Err(refused)),
            };
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
            let cursor = Cursor::new(view.epoch, user.cloned(), joined, position, view.head);
            return Ok(Ok(Attached { subscription, cursor, reset, head: view.head }));
        }
        Err(Unavailable(Arc::new(Error::StoreTimeout)))
    }

    /// Reads membership and head, and whether the cursor holds.
    async fn look(
        &self,
        log_id: LogId,
        user: Option<&UserId>,
        start: &Start,
    ) -> Result<Result<(View, Seq, CursorCheck), Refused>, Unavailable> {
        let store = self.store()?;
        let look = async || {
            let view = self.ask_in_turn(store.view(log_id, user)).await?;
            let view = view.ok_or(Refused::RoomNotFound);
            Ok(view.and_then(|view| attach::admit(&view, user).map(|joined| (view, joined))))
        };
        // Who may not follow the room has no say about its epoch either.
        let (view, joined) = match look().await? {
            Ok(looked) => looked,
            Err(refused) => return Ok(Err(refused)),
        };
        let check = match start {
            Start::After { epoch, seq } if *seq > 0 => match frames::parse_epoch(log_id, epoch) {
                None => CursorCheck::UnknownEpoch,
                Some(epoch) if epoch == view.epoch && *seq <= view.head => CursorCheck::Holds,
                Some(epoch) => self.ask_in_turn(store.check_cursor(log_id, &epoch, *seq)).await?,
            },
            _ => CursorCheck::Holds,
        };
        if check == CursorCheck::Holds {
            return Ok(Ok((view, joined, check)));
        }
        // The check may have begun a new epoch.
        Ok(look().await?.map(|(view, joined)| (view, joined, check)))
    }
}
