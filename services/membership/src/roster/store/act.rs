//! A change of a room's members by somebody who calls: one transaction from the lock to the
//! record of the reply.

use parlance_db::Conn;
use parlance_requests::{Found, RequestKey};
use parlance_types::{Micros, RoomId, UserId};

use super::lock_room;
use crate::Error;
use crate::handler::Actor;
use crate::roster::{Refused, Roster};
use crate::store::{Done, Store};

/// A change that somebody asks for.
#[derive(Clone, Debug)]
pub(crate) struct Asked<A> {
    pub(crate) actor: Actor,
    pub(crate) room_id: RoomId,
    pub(crate) act: A,
    pub(crate) request: Option<RequestKey>,
}

/// What can be asked for.
pub(crate) trait Act: Send + Sync {
    /// Decides under the roster's lock, does it, and enqueues the fact that tells of it. The
    /// encoded reply.
    fn run(
        &self,
        tx: &mut Conn,
        roster: Roster,
        actor: Option<&UserId>,
        now: Micros,
    ) -> impl Future<Output = Result<Vec<u8>, Error>> + Send;
}

impl Store {
    /// Commits a change together with its fact and the encoded reply. A repeated request gets
    /// its first reply.
    pub(crate) async fn act(&self, asked: &Asked<impl Act>) -> Result<Done<Vec<u8>>, Error> {
        let Asked { actor, room_id, act, request } = asked;
        let mut tx = self.db.begin().await?;
        let roster = lock_room(&mut tx, &actor.tenant_id, room_id).await?;
        // A repeat is found before anything is judged: it gets what the first one got.
        if let Some(request) = request {
            let life = roster.as_ref().map(|roster| roster.log_id);
            match request.find(&mut tx, life).await? {
                Found::Repeat { log_id, reply } => return Ok(Done { log_id, value: reply }),
                Found::Reused => return Err(Error::RequestIdReused),
                Found::New => {}
            }
        }
        let roster = roster.ok_or(Refused::RoomNotFound)?;
        let (log_id, now) = (roster.log_id, self.clock.now());
        let value = act.run(&mut tx, roster, actor.user.as_ref(), now).await?;
        if let Some(request) = request
            && !request.record(&mut tx, log_id, &value, now).await?
        {
            return Err(Error::RequestIdReused);
        }
        tx.commit().await?;
        Ok(Done { log_id, value })
    }
}
