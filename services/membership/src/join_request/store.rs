//! Requests to join in SQL, as far as they are not what waits in a roster.

use parlance_db::Conn;
use parlance_types::{Micros, UserId};

use super::{Change, approve, ask, codec};
use crate::Error;
use crate::roster::store::{Act, Waiting, judge, look, pending, take_all};
use crate::roster::{Pending, Refused, Roster, Step};

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
            (Self::Withdraw, Some(user_id)) => {
                pending::give_up(tx, roster, KIND, user_id).await?;
                Ok(codec::withdraw_reply())
            }
            (Self::Ask { .. } | Self::Withdraw, None) => Err(Refused::TakesNoRequests.into()),
            (Self::Approve { user_ids }, _) => let_in(tx, roster, actor, user_ids, now).await,
            (Self::Deny { user_ids }, _) => {
                let denied = pending::refuse(tx, roster, actor, KIND, user_ids).await?;
                Ok(codec::deny_reply(&denied))
            }
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
