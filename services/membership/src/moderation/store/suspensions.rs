//! Suspensions in SQL: they stand in the rows of users.

use parlance_db::Conn;
use parlance_requests::{Found, RequestKey};
use parlance_rpc::Violation;
use parlance_types::{LogId, Micros, TenantId, UserId};

use crate::Error;
use crate::codec as facts;
use crate::moderation::codec;
use crate::moderation::suspension::{SuspendedUser, Suspension};
use crate::roster::Refused;
use crate::store::Store;
use crate::store::person::{Person, lock_person};

/// What somebody wants of a user.
#[derive(Clone, Debug)]
pub(crate) struct Asked {
    pub(crate) tenant_id: TenantId,
    pub(crate) user_id: UserId,
    /// `None`: to be reinstated.
    pub(crate) suspension: Option<Suspension>,
    pub(crate) request: Option<RequestKey>,
}

impl Store {
    /// Suspends or reinstates a user; the encoded reply, and the logs that are to be driven. A
    /// repeated request gets its first reply.
    pub(crate) async fn suspend(&self, asked: &Asked) -> Result<(Vec<LogId>, Vec<u8>), Error> {
        let Asked { tenant_id, user_id, suspension, request } = asked;
        let mut tx = self.db.begin().await?;
        let person = lock_person(&mut tx, tenant_id, user_id).await?;
        let person = person.ok_or_else(|| Refused::no_user(user_id))?;
        if let Some(request) = request {
            match request.find(&mut tx, None).await? {
                Found::Repeat { log_id, reply } => return Ok((vec![log_id], reply)),
                Found::Reused => return Err(Error::RequestIdReused),
                Found::New => {}
            }
        }
        let now = self.clock.now();
        let is_suspended = person.suspended_until > now;
        let reply = match suspension {
            Some(_) => codec::suspend_reply(),
            None => codec::reinstate_reply(is_suspended),
        };
        match suspension {
            Some(Suspension { until, .. }) if *until <= now => {
                return Err(Violation::new("until", "must be a time to come").into());
            }
            None if !is_suspended => return Ok((person.log(), reply)),
            _ => {}
        }
        let log_id = asked.write(&mut tx, person, now).await?;
        if let Some(request) = request
            && !request.record(&mut tx, log_id, &reply, now).await?
        {
            return Err(Error::RequestIdReused);
        }
        tx.commit().await?;
        Ok((vec![log_id], reply))
    }

    /// The first `limit` users above `after` who were suspended, by id.
    pub(crate) async fn suspended_users(
        &self,
        tenant_id: &TenantId,
        after: Option<&UserId>,
        limit: usize,
    ) -> Result<Vec<SuspendedUser>, Error> {
        let select = "SELECT user_id, suspended_until, suspended_for, suspended_since FROM users
                      WHERE tenant_id = $1 AND user_id > $2 AND suspended_until > 0
                      ORDER BY user_id LIMIT $3";
        let select = self.db.read(select).bind(tenant_id.as_str());
        let select = select.bind(after.map_or("", UserId::as_str));
        let select = select.bind(i64::try_from(limit).unwrap_or(i64::MAX));
        let found: Vec<(String, Micros, String, Micros)> = select.fetch_all().await?;
        let user = |(user_id, until, reason, since)| SuspendedUser {
            user_id,
            suspension: Suspension { until, reason },
            since,
        };
        Ok(found.into_iter().map(user).collect())
    }
}

impl Asked {
    async fn write(&self, tx: &mut Conn, person: Person, now: Micros) -> Result<LogId, Error> {
        let Self { tenant_id, user_id, suspension, .. } = self;
        let (until, reason) = suspension
            .as_ref()
            .map_or((0, ""), |suspension| (suspension.until, suspension.reason.as_str()));
        let set = "UPDATE users
                      SET suspended_until = $3, suspended_for = $4, suspended_since = $5
                    WHERE tenant_id = $1 AND user_id = $2";
        let set = tx.query(set).bind(tenant_id.as_str()).bind(user_id.as_str());
        set.bind(until).bind(reason).bind(now).execute().await?;
        let until = suspension.as_ref().map(|suspension| suspension.until);
        Ok(person.say(tx, tenant_id, user_id, facts::suspension(until), now).await?)
    }
}
