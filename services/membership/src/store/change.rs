//! Changes by callers: one transaction from the lock to the record of the reply.

use parlance_types::{LogId, Micros, RoomId, UserId};

use super::requests::Answered;
use super::{Done, Store, Tx, in_tx};
use crate::Error;
use crate::codec;
use crate::domain::{Actor, Change, Refused, RequestKey, RoomKind, Roster, Scene, Step, decide};

/// A change that somebody asks for.
#[derive(Clone, Debug)]
pub struct Asked {
    pub actor: Actor,
    pub room_id: RoomId,
    pub change: Change,
    pub request: Option<RequestKey>,
}

impl Store {
    /// Decides a change under the roster's lock and commits it together with its
    /// fact and the encoded reply. A repeated request gets its first reply.
    pub async fn change(&self, asked: &Asked) -> Result<Done<Vec<u8>>, Error> {
        loop {
            if let Some(done) = self.try_change(asked).await? {
                return Ok(done);
            }
        }
    }

    /// `None`: the request id was taken meanwhile, in another room; the next try finds it.
    async fn try_change(&self, asked: &Asked) -> Result<Option<Done<Vec<u8>>>, Error> {
        let Asked { actor, room_id, change, request } = asked;
        let mut tx = Tx::begin(&self.db).await?;
        let roster = tx.lock_room(&actor.tenant_id, room_id).await?;
        // A repeat is found before anything is judged: it gets what the first one got.
        if let Some(request) = request
            && let Some(Answered { log_id, reply }) = tx.answered(actor, request).await?
        {
            return Ok(Some(Done { log_id, value: reply }));
        }
        let roster = roster.ok_or(Refused::RoomNotFound)?;
        let now = self.clock.now();
        let scene = tx.scene(roster, actor.user.as_ref(), change).await?;
        let decision = decide(&scene, actor.user.as_ref(), change, now)?;
        tx.take_all(&scene.roster, actor.user.as_ref(), &decision.steps, now).await?;
        let (log_id, value) = (scene.roster.log_id, codec::reply(&decision.outcome));
        if let Some(request) = request
            && !tx.record(actor, request, log_id, &value, now).await?
        {
            return Ok(None);
        }
        tx.commit().await?;
        Ok(Some(Done { log_id, value }))
    }
}

impl Tx {
    async fn scene(
        &mut self,
        roster: Roster,
        actor: Option<&UserId>,
        change: &Change,
    ) -> Result<Scene, Error> {
        let mut concerned = change.names();
        concerned.extend(actor);
        let rows = self.members(roster.log_id, &concerned).await?;
        let known = match change {
            Change::Add { .. } if roster.kind != RoomKind::Direct => {
                self.known_users(&roster.tenant_id, &change.names()).await?
            }
            _ => std::collections::BTreeSet::new(),
        };
        let owners = self.owners(roster.log_id).await?;
        Ok(Scene { roster, rows, known, owners })
    }

    /// Does the steps of a change and enqueues the one fact that tells of them.
    pub(super) async fn take_all(
        &mut self,
        roster: &Roster,
        actor: Option<&UserId>,
        steps: &[Step],
        now: Micros,
    ) -> Result<(), Error> {
        for step in steps {
            self.take(roster, step, now).await?;
        }
        if steps.is_empty() {
            return Ok(());
        }
        let events: Vec<_> = steps.iter().map(|step| codec::event(actor, step)).collect();
        self.enqueue(roster.log_id, &events).await
    }

    pub(super) async fn enqueue(
        &mut self,
        log_id: LogId,
        events: &[codec::Event],
    ) -> Result<(), Error> {
        in_tx!(self, |tx| parlance_outbox::enqueue(tx, log_id, events).await.map(drop))?;
        Ok(())
    }
}
