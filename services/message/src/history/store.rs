//! Cleared histories in SQL.

use parlance_log::{Actor, Change, Error, Locked, Store, codec};
use parlance_types::{LogId, Seq, UserId};

use super::grpc::cleared_event;
use super::{Cleared, Clearing, cleared, for_all};

/// Clears a member's history up to $3, or to the head without it: one statement on one row,
/// without the lock of the head, as marks are moved. What is pruned is cleared already.
const CLEAR: &str = "
    UPDATE members
       SET cleared_seq = COALESCE($3, h.head),
           cleared_ord = CASE WHEN COALESCE($3, h.head) = h.head THEN h.ord
                              ELSE (SELECT e.ord FROM events e
                                     WHERE e.log_id = $1 AND e.seq = COALESCE($3, h.head)) END
      FROM heads h
     WHERE h.log_id = $1 AND h.closed_seq IS NULL
       AND COALESCE($3, h.head) <= h.head AND COALESCE($3, h.head) >= h.first_seq
       AND members.log_id = $1 AND members.user_id = $2
       AND members.cleared_seq < COALESCE($3, h.head) AND members.suspended_until <= $4
    RETURNING members.cleared_seq";

/// Clears the history of a log for one of its members. Gives how far it is cleared.
pub(super) async fn clear(
    store: &Store,
    log_id: LogId,
    user: &UserId,
    through: Option<Seq>,
) -> Result<Seq, Error> {
    // What the view shows may be newer than what the statement saw.
    for _ in 0..3 {
        let clear = store.db().write(CLEAR).bind(log_id.0).bind(user.as_str()).bind(through);
        let clear = clear.bind(store.now());
        if let Some((cleared,)) = clear.fetch_optional::<(Seq,)>().await? {
            return Ok(cleared);
        }
        let view = store.view(log_id, Some(user)).await?.ok_or(Error::room_not_found())?;
        if let Some(cleared) = cleared(&view, user, through)? {
            return Ok(cleared);
        }
    }
    Err(Error::restless())
}

impl Change for Clearing {
    type Done = Cleared;

    fn log_id(&self) -> LogId {
        self.log_id
    }

    fn actor(&self) -> &Actor {
        &self.actor
    }

    async fn run(&self, log: &mut Locked<'_>) -> Result<Cleared, Error> {
        let (actor, through) = (self.actor.user.as_ref(), self.through);
        let asked = codec::event(actor, cleared_event(through.unwrap_or_default()));
        let digest = codec::digest(&asked);
        if let Some((seq, _)) = log.repeat(actor, &self.request, digest).await? {
            return Ok(Cleared { seq, first: through.map_or(seq, |through| through + 1) });
        }
        for_all(&log.view(actor).await?, actor, through)?;
        let clear = log.clear(actor, &self.request, digest, through, cleared_event);
        let (seq, first) = clear.await?;
        Ok(Cleared { seq, first })
    }
}
