//! Invitations in SQL, as far as they are not what waits in a roster.

use parlance_db::Conn;
use parlance_outbox::enqueue;
use parlance_types::{Micros, UserId};

use super::{Change, accept, codec, invite};
use crate::Error;
use crate::roster::store::{Act, judge, look, pending, take_all};
use crate::roster::{Pending, Refused, Roster, Step};
use crate::store::known_users;

const KIND: Pending = Pending::Invitation;

impl Act for Change {
    async fn run(
        &self,
        tx: &mut Conn,
        roster: Roster,
        actor: Option<&UserId>,
        now: Micros,
    ) -> Result<Vec<u8>, Error> {
        match (self, actor) {
            (Self::Invite { user_ids, text }, _) => {
                invite_users(tx, roster, actor, (user_ids, text), now).await
            }
            (Self::Revoke { user_ids }, _) => revoke(tx, roster, actor, user_ids).await,
            (Self::Accept, Some(user_id)) => accept_own(tx, roster, user_id, now).await,
            (Self::Decline, Some(user_id)) => decline_own(tx, roster, user_id).await,
            (Self::Accept | Self::Decline, None) => Err(Refused::InvitationNotFound.into()),
        }
    }
}

async fn invite_users(
    tx: &mut Conn,
    roster: Roster,
    actor: Option<&UserId>,
    (user_ids, text): (&[UserId], &str),
    now: Micros,
) -> Result<Vec<u8>, Error> {
    let log_id = roster.log_id;
    let mut locked = look(tx, roster, user_ids.iter().chain(actor)).await?;
    let named: Vec<_> = user_ids.iter().collect();
    locked.known = known_users(tx, &locked.roster.tenant_id, &named).await?;
    let open = pending::found(tx, log_id, KIND, user_ids).await?;
    let invited = invite(&locked, actor, user_ids, &open)?;
    if !invited.new.is_empty() {
        judge(tx, &locked.roster, invited.new.iter(), now).await?;
        let said = (actor.map_or("", UserId::as_str), text, now);
        pending::put(tx, &locked.roster, KIND, &invited.new, said).await?;
        enqueue(tx, log_id, &[codec::invited(actor, &invited.new)]).await?;
    }
    Ok(codec::invite_reply(&invited))
}

async fn revoke(
    tx: &mut Conn,
    roster: Roster,
    actor: Option<&UserId>,
    user_ids: &[UserId],
) -> Result<Vec<u8>, Error> {
    let log_id = roster.log_id;
    let revoked = pending::refuse(tx, roster, actor, KIND, user_ids).await?;
    if !revoked.is_empty() {
        enqueue(tx, log_id, &[codec::ended(actor, &revoked, true)]).await?;
    }
    Ok(codec::revoke_reply(&revoked))
}

/// Whoever is a member by it has no invitation any more.
async fn accept_own(
    tx: &mut Conn,
    roster: Roster,
    user_id: &UserId,
    now: Micros,
) -> Result<Vec<u8>, Error> {
    let mine = std::slice::from_ref(user_id);
    let open = pending::found(tx, roster.log_id, KIND, mine).await?;
    let locked = look(tx, roster, mine).await?;
    let (grant, membership) = accept(&locked, user_id, !open.is_empty(), now)?;
    let already = grant.is_none();
    let steps: Vec<_> = grant.map(|grant| Step::Gained(vec![grant])).into_iter().collect();
    take_all(tx, &locked.roster, Some(user_id), &steps, now).await?;
    Ok(codec::accept_reply(&membership, already))
}

async fn decline_own(tx: &mut Conn, roster: Roster, user_id: &UserId) -> Result<Vec<u8>, Error> {
    let log_id = roster.log_id;
    let declined = pending::give_up(tx, roster, KIND, user_id).await?;
    if !declined.is_empty() {
        enqueue(tx, log_id, &[codec::ended(Some(user_id), &declined, false)]).await?;
    }
    Ok(codec::decline_reply())
}
