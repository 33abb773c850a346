//! Links in SQL.

use parlance_db::{Conn, StoreError};
use parlance_rpc::Violation;
use parlance_types::{LogId, Micros, TenantId, UserId};

use super::{Change, Link, LinkId, MAX_LINKS, Token, codec, come_in, may_link};
use crate::Error;
use crate::roster::store::{Act, lock_log, look, take_all};
use crate::roster::{Membership, Refused, Roster, Step};
use crate::store::{Done, Store};

type Row = (String, String, Micros, Micros, i32, i32);

/// Of a link that can be used at $2.
macro_rules! holds {
    () => {
        "expire_time > $2 AND (max_uses = 0 OR uses < max_uses)"
    };
}

impl Act for Change {
    async fn run(
        &self,
        tx: &mut Conn,
        roster: Roster,
        actor: Option<&UserId>,
        now: Micros,
    ) -> Result<Vec<u8>, Error> {
        let locked = look(tx, roster, actor).await?;
        may_link(&locked.roster, locked.viewer(actor))?;
        let roster = locked.roster;
        match self {
            Self::Create { secret, expires, max_uses } => {
                if *expires <= now {
                    return Err(Violation::new("expire_time", "must be a time to come").into());
                }
                let token = Token::new(roster.log_id, *secret);
                let link = Link {
                    id: token.link_id().0,
                    creator_id: actor.map(ToString::to_string).unwrap_or_default(),
                    created: now,
                    expires: *expires,
                    max_uses: *max_uses,
                    uses: 0,
                };
                put(tx, roster.log_id, &link, now).await?;
                Ok(codec::create_reply(&roster, link, token))
            }
            Self::Revoke { link_id: LinkId(link_id) } => {
                let delete = "DELETE FROM invite_links WHERE log_id = $1 AND link_id = $2";
                tx.query(delete).bind(roster.log_id.0).bind(link_id.as_str()).execute().await?;
                Ok(codec::revoke_reply())
            }
        }
    }
}

/// Adds a link to those of a locked roster. Those that have ended go: nobody else removes them.
async fn put(tx: &mut Conn, log_id: LogId, link: &Link, now: Micros) -> Result<(), Error> {
    let delete = concat!("DELETE FROM invite_links WHERE log_id = $1 AND NOT (", holds!(), ")");
    tx.query(delete).bind(log_id.0).bind(now).execute().await?;
    let count = "SELECT COUNT(*) FROM invite_links WHERE log_id = $1";
    let (links,): (i64,) = tx.query(count).bind(log_id.0).fetch_one().await?;
    if usize::try_from(links).is_ok_and(|links| links >= MAX_LINKS) {
        return Err(Refused::TooManyLinks.into());
    }
    let insert = "INSERT INTO invite_links
                    (log_id, link_id, creator_id, create_time, expire_time, max_uses, uses)
                  VALUES ($1, $2, $3, $4, $5, $6, 0)";
    let insert = tx.query(insert).bind(log_id.0).bind(link.id.as_str());
    let insert = insert.bind(link.creator_id.as_str()).bind(link.created).bind(link.expires);
    insert.bind(link.max_uses).execute().await?;
    Ok(())
}

/// Counts a use of a link of a locked roster. `false`: it does not hold.
async fn use_once(
    tx: &mut Conn,
    log_id: LogId,
    LinkId(link_id): &LinkId,
    now: Micros,
) -> Result<bool, StoreError> {
    let count = concat!(
        "UPDATE invite_links SET uses = uses + 1 WHERE log_id = $1 AND link_id = $3 AND ",
        holds!()
    );
    let count = tx.query(count).bind(log_id.0).bind(now).bind(link_id.as_str());
    Ok(count.execute().await? == 1)
}

impl Store {
    /// Makes a user a member by a link; whether they were one before. What is refused is no use
    /// of it.
    pub(super) async fn join_by_link(
        &self,
        tenant_id: &TenantId,
        user_id: &UserId,
        token: &Token,
    ) -> Result<Done<(Membership, bool)>, Error> {
        let (log_id, now) = (token.log_id(), self.clock.now());
        let mut tx = self.db.begin().await?;
        let roster = lock_log(&mut tx, tenant_id, log_id).await?;
        let roster = roster.filter(|roster| !roster.closed).ok_or(Refused::LinkNotFound)?;
        let locked = look(&mut tx, roster, [user_id]).await?;
        if let Some(row) = locked.present(user_id) {
            let membership = Membership::of(&locked.roster.room_id, user_id, row);
            return Ok(Done { log_id, value: (membership, true) });
        }
        if !use_once(&mut tx, log_id, &token.link_id(), now).await? {
            return Err(Refused::LinkNotFound.into());
        }
        let (grant, membership) = come_in(&locked, user_id, now)?;
        let steps = [Step::Gained(vec![grant])];
        take_all(&mut tx, &locked.roster, Some(user_id), &steps, now).await?;
        tx.commit().await?;
        Ok(Done { log_id, value: (membership, false) })
    }

    /// The first `limit` links of a room above `after` that can be used, by id.
    pub(super) async fn links(
        &self,
        log_id: LogId,
        after: &str,
        limit: usize,
    ) -> Result<Vec<Link>, Error> {
        let select = concat!(
            "SELECT link_id, creator_id, create_time, expire_time, max_uses, uses
             FROM invite_links WHERE log_id = $1 AND link_id > $3 AND ",
            holds!(),
            " ORDER BY link_id LIMIT $4"
        );
        let select = self.db.read(select).bind(log_id.0).bind(self.clock.now()).bind(after);
        let found: Vec<Row> =
            select.bind(i64::try_from(limit).unwrap_or(i64::MAX)).fetch_all().await?;
        let link = |(id, creator_id, created, expires, max_uses, uses)| Link {
            id,
            creator_id,
            created,
            expires,
            max_uses,
            uses,
        };
        Ok(found.into_iter().map(link).collect())
    }
}
