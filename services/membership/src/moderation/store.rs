//! Bans and mutes in SQL.

pub(crate) mod suspensions;

use std::collections::BTreeSet;

use parlance_db::{AssertSqlSafe, Conn, StoreError, rows};
use parlance_outbox::enqueue;
use parlance_rpc::Violation;
use parlance_types::{LogId, Micros, UserId};

use super::{Change, Laid, ban, codec, members_among, mute};
use crate::Error;
use crate::roster::store::{Act, look, lose, owners, pending, sanctions};
use crate::roster::{Roster, Sanction, State};
use crate::store::{Store, known_users};

type Row = (String, Micros, String, String, Micros);

/// What is laid on users, and by whom.
struct Laying<'a> {
    kind: Sanction,
    until: Micros,
    reason: &'a str,
    actor: Option<&'a UserId>,
    now: Micros,
}

impl Act for Change {
    async fn run(
        &self,
        tx: &mut Conn,
        roster: Roster,
        actor: Option<&UserId>,
        now: Micros,
    ) -> Result<Vec<u8>, Error> {
        let log_id = roster.log_id;
        match self {
            Self::Ban { user_ids, until, reason } => {
                let mut locked = look(tx, roster, user_ids.iter().chain(actor)).await?;
                let named: Vec<_> = user_ids.iter().collect();
                locked.known = known_users(tx, &locked.roster.tenant_id, &named).await?;
                locked.owners = owners(tx, log_id).await?;
                let lost = ban(&locked, actor, user_ids)?;
                let laying = Laying { kind: Sanction::Ban, until: *until, reason, actor, now };
                let banned = lay(tx, log_id, user_ids, &laying).await?;
                pending::settle(tx, &locked.roster, user_ids.iter()).await?;
                // Who is a member is not banned yet: their ban is new.
                if !banned.is_empty() {
                    let mut events = vec![codec::banned(actor, &banned, &lost, *until, reason)];
                    if !lost.is_empty() && lose(tx, &locked.roster, &lost, State::Left, now).await?
                    {
                        events.push(crate::codec::closing(None));
                    }
                    enqueue(tx, log_id, &events).await?;
                }
                Ok(codec::ban_reply(&lost))
            }
            Self::Unban { user_ids } => {
                let locked = look(tx, roster, actor).await?;
                members_among(&locked, actor, &[])?;
                let lifted = lift(tx, log_id, Sanction::Ban, user_ids, now).await?;
                if !lifted.is_empty() {
                    enqueue(tx, log_id, &[codec::unbanned(actor, &lifted)]).await?;
                }
                Ok(codec::unban_reply(&lifted))
            }
            Self::Mute { user_ids, until, reason } => {
                let locked = look(tx, roster, user_ids.iter().chain(actor)).await?;
                mute(&locked, actor, user_ids)?;
                let laying = Laying { kind: Sanction::Mute, until: *until, reason, actor, now };
                let muted = lay(tx, log_id, user_ids, &laying).await?;
                if !muted.is_empty() {
                    let event = codec::muted(actor, &muted, *until, reason);
                    enqueue(tx, log_id, &[event]).await?;
                }
                Ok(codec::mute_reply())
            }
            Self::Unmute { user_ids } => {
                let locked = look(tx, roster, actor).await?;
                members_among(&locked, actor, &[])?;
                let lifted = lift(tx, log_id, Sanction::Mute, user_ids, now).await?;
                if !lifted.is_empty() {
                    enqueue(tx, log_id, &[codec::unmuted(actor, &lifted)]).await?;
                }
                Ok(codec::unmute_reply(&lifted))
            }
        }
    }
}

impl Store {
    /// What was laid on the first `limit` users above `after`, ended or not, by user id.
    pub(crate) async fn laid(
        &self,
        roster: &Roster,
        kind: Sanction,
        after: Option<&UserId>,
        limit: usize,
    ) -> Result<Vec<Laid>, Error> {
        let select = "SELECT user_id, until, reason, actor_id, create_time FROM sanctions
                      WHERE log_id = $1 AND kind = $2 AND user_id > $3 ORDER BY user_id LIMIT $4";
        let select = self.db.read(select).bind(roster.log_id.0).bind(kind as i16);
        let select = select.bind(after.map_or("", UserId::as_str));
        let select = select.bind(i64::try_from(limit).unwrap_or(i64::MAX));
        let found: Vec<Row> = select.fetch_all().await?;
        let laid = |(user_id, until, reason, actor_id, created)| Laid {
            user_id,
            until,
            reason,
            actor_id,
            created,
        };
        Ok(found.into_iter().map(laid).collect())
    }
}

/// Lays the same on all of the users; those for whom that changes anything.
async fn lay(
    tx: &mut Conn,
    log_id: LogId,
    user_ids: &[UserId],
    laying: &Laying<'_>,
) -> Result<Vec<UserId>, Error> {
    let Laying { kind, until, reason, actor, now } = *laying;
    if until <= now {
        return Err(Violation::new("until", "must be a time to come").into());
    }
    let before = sanctions(tx, log_id, kind, user_ids.iter()).await?;
    let same = before.into_iter().filter(|(_, end, why)| *end == until && why == reason);
    let same: BTreeSet<_> = same.map(|(user_id, ..)| user_id).collect();
    let new: Vec<_> = user_ids.iter().filter(|id| !same.contains(*id)).cloned().collect();
    if new.is_empty() {
        return Ok(new);
    }
    let laid = rows(7, new.len(), "($1, $+, $2, $3, $4, $5, $6)");
    let insert = AssertSqlSafe(format!(
        "INSERT INTO sanctions (log_id, user_id, kind, until, reason, actor_id, create_time)
         VALUES {laid} ON CONFLICT (log_id, user_id, kind) DO UPDATE SET until = excluded.until,
           reason = excluded.reason, actor_id = excluded.actor_id,
           create_time = excluded.create_time"
    ));
    let insert = tx.query(insert).bind(log_id.0).bind(kind as i16).bind(until).bind(reason);
    let insert = insert.bind(actor.map_or("", UserId::as_str)).bind(now);
    // As many texts as there are lengths.
    let mut insert = if new.len() == 1 { insert } else { insert.once() };
    for user_id in &new {
        insert = insert.bind(user_id.as_str());
    }
    insert.execute().await?;
    Ok(new)
}

/// Lifts what was laid on users; those for whom it had not ended.
async fn lift(
    tx: &mut Conn,
    log_id: LogId,
    kind: Sanction,
    user_ids: &[UserId],
    now: Micros,
) -> Result<Vec<UserId>, StoreError> {
    let delete = "DELETE FROM sanctions
                  WHERE (kind, log_id, user_id) IN (VALUES ($1, $2, $3..))
                  RETURNING user_id, until";
    let delete = tx.query(delete).bind(kind as i16).bind(log_id.0);
    let lifted: Vec<(String, Micros)> =
        delete.bind_list(user_ids.iter().map(UserId::as_str)).fetch_all().await?;
    let lifted = lifted.into_iter().filter(|(_, until)| *until > now);
    let lifted: BTreeSet<_> = lifted.map(|(user_id, _)| user_id).collect();
    Ok(user_ids.iter().filter(|id| lifted.contains(id.as_str())).cloned().collect())
}
