//! Requests to join in SQL, as far as they are not what waits in a roster.

use parlance_db::Conn;
use parlance_types::{Micros, UserId};

use super::{Change, approve, ask, codec};
use crate::Error;
use crate::roster::store::{Act, Waiting, judge, look, pending, take_all};
use crate::roster::{Pending, Refused, Roster, Step, in_groups_and_channels, may_add};

const KIND: Pending = Pending::Request;

impl Act for Change {
    async fn run(
        &self,
        tx: &mut Conn,
        roster: Roster,
        actor: Option<&UserId>,
        now: Micros,
    ) -> Result<Vec<u8>, Error> {
        match (self, actor) {
            (Self::Ask { text }, Some(user_id)) => {
                ask_to_join(tx, roster, user_id, text, now).await
            }
            (Self::Withdraw, Some(user_id)) => withdraw(tx, roster, user_id).await,
            (Self::Ask { .. } | Self::Withdraw, None) => Err(Refused::TakesNoRequests.into()),
            (Self::Approve { user_ids }, _) => let_in(tx, roster, actor, user_ids, now).await,
            (Self::Deny { user_ids }, _) => deny(tx, roster, actor, user_ids).await,
        }
    }
}

async fn ask_to_join(
    tx: &mut Conn,
    roster: Roster,
    user_id: &UserId,
    text: &str,
    now: Micros,
) -> Result<Vec<u8>, Error> {
    let locked = look(tx, roster, [user_id]).await?;
    if let Some(membership) = ask(&locked, user_id)? {
        return Ok(codec::member_reply(&membership));
    }
    let (roster, mine) = (&locked.roster, std::slice::from_ref(user_id));
    judge(tx, roster, mine.iter(), now).await?;
    let created = if let Some(since) = pending::say(tx, roster.log_id, KIND, user_id, text).await? {
        since
    } else {
        pending::put(tx, roster, KIND, mine, ("", text, now)).await?;
        now
    };
    Ok(codec::ask_reply(Waiting {
        room_id: roster.room_id.to_string(),
        user_id: user_id.to_string(),
        actor_id: String::new(),
        text: text.to_owned(),
        created,
    }))
}

async fn withdraw(tx: &mut Conn, roster: Roster, user_id: &UserId) -> Result<Vec<u8>, Error> {
    let locked = look(tx, roster, [user_id]).await?;
    in_groups_and_channels(&locked.roster, locked.viewer(Some(user_id)))?;
    pending::end(tx, locked.roster.log_id, KIND, &[user_id]).await?;
    Ok(codec::withdraw_reply())
}

/// Whoever is a member by it has no request any more.
async fn let_in(
    tx: &mut Conn,
    roster: Roster,
    actor: Option<&UserId>,
    user_ids: &[UserId],
    now: Micros,
) -> Result<Vec<u8>, Error> {
    let open = pending::found(tx, roster.log_id, KIND, user_ids).await?;
    let locked = look(tx, roster, user_ids.iter().chain(actor)).await?;
    let approved = approve(&locked, actor, user_ids, &open, now)?;
    if !approved.gained.is_empty() {
        let steps = [Step::Gained(approved.gained.clone())];
        take_all(tx, &locked.roster, actor, &steps, now).await?;
    }
    Ok(codec::approve_reply(&approved))
}

async fn deny(
    tx: &mut Conn,
    roster: Roster,
    actor: Option<&UserId>,
    user_ids: &[UserId],
) -> Result<Vec<u8>, Error> {
    let locked = look(tx, roster, actor).await?;
    may_add(&locked.roster, locked.viewer(actor))?;
    let user_ids: Vec<_> = user_ids.iter().collect();
    let denied = pending::end(tx, locked.roster.log_id, KIND, &user_ids).await?;
    Ok(codec::deny_reply(&denied))
}
