//! Whom users have blocked: by calls, and by their default list. Who is blocked by both is told of
//! once, and the logs hear of what changed in what holds.

use std::collections::BTreeMap;

use parlance_db::{Conn, Joined, StoreError};
use parlance_outbox::{enqueue_silent, lock};
use parlance_types::{LogId, Micros, TenantId, UserId};
use uuid::Uuid;

use super::person::Person;
use crate::roster::{MAX_BLOCKS, Refused};
use crate::{Error, codec};

/// The most changes that a fact has.
const FACT: usize = 1000;

parlance_db::row! {
    /// What keeps a user from another one. Nothing: they are not blocked.
    #[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
    pub(crate) struct Block {
        /// By BlockUser.
        pub(crate) called: bool,
        /// By the default list.
        pub(crate) listed: bool,
        /// Whether the one who blocks is refused in the direct room of the two as well.
        pub(crate) mutual: bool,
        /// Whether the blocked user is told nothing of it.
        pub(crate) silent: bool,
    }
}

/// A user of whom something else is to hold.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Change {
    pub(crate) other: UserId,
    pub(crate) before: Block,
    pub(crate) after: Block,
}

impl Change {
    /// Whether anything changes. Of a user of whom it does not, the direct room may still have to
    /// be told what changed before.
    fn is_one(&self) -> bool {
        self.before != self.after
    }
}

impl Block {
    pub(crate) const fn holds(self) -> bool {
        self.called || self.listed
    }

    /// Whether the blocked user is refused in the direct room of the two.
    const fn refuses(self) -> bool {
        self.holds() && !self.silent
    }

    /// Whether the one who blocks does not see there what the blocked user writes.
    const fn hides(self) -> bool {
        self.holds() && self.silent
    }
}

/// Whether users of a tenant who are blocked from now on are told nothing of it.
pub(crate) async fn silent_blocks(tx: &mut Conn, tenant_id: &TenantId) -> Result<bool, StoreError> {
    let select = "SELECT silent_blocks FROM tenants WHERE tenant_id = $1";
    let found = tx.query(select).bind(tenant_id.as_str()).fetch_optional().await?;
    Ok(found.is_some_and(|(silent,)| silent))
}

/// What keeps users from one whose row is locked.
pub(crate) async fn blocks_of(
    tx: &mut Conn,
    tenant_id: &TenantId,
    user_id: &UserId,
) -> Result<BTreeMap<UserId, Block>, StoreError> {
    let select = "SELECT blocked_id, called, listed, mutual, silent FROM blocks
                   WHERE tenant_id = $1 AND user_id = $2";
    let select = tx.query(select).bind(tenant_id.as_str()).bind(user_id.as_str());
    let found: Vec<Joined<Named, Block>> = select.fetch_all().await?;
    Ok(found.into_iter().map(|Joined(named, block)| (named.user_id(), block)).collect())
}

/// What keeps a user from one whose row is locked.
pub(crate) async fn block_of(
    tx: &mut Conn,
    tenant_id: &TenantId,
    user_id: &UserId,
    other: &UserId,
) -> Result<Block, StoreError> {
    let select = "SELECT called, listed, mutual, silent FROM blocks
                   WHERE tenant_id = $1 AND user_id = $2 AND blocked_id = $3";
    let select = tx.query(select).bind(tenant_id.as_str()).bind(user_id.as_str());
    Ok(select.bind(other.as_str()).fetch_optional().await?.unwrap_or_default())
}

parlance_db::row! {
    struct Named {
        blocked_id: String,
    }
}

impl Named {
    fn user_id(self) -> UserId {
        UserId::new(self.blocked_id)
    }
}

/// Changes whom a user blocks, whose row is locked, and tells the direct rooms in which that makes
/// a difference, and the user's own log. The logs that are to be driven. Fails if they are too many.
pub(crate) async fn change_blocks(
    tx: &mut Conn,
    (tenant_id, user_id): (&TenantId, &UserId),
    person: Person,
    changes: &[Change],
    now: Micros,
) -> Result<Vec<LogId>, Error> {
    let mut more = 0;
    for change in changes {
        more += i64::from(change.after.holds()) - i64::from(change.before.holds());
    }
    if more > 0 && person.blocks + more > MAX_BLOCKS {
        return Err(Refused::TooManyBlocks.into());
    }
    for change in changes.iter().filter(|change| change.is_one()) {
        write(tx, tenant_id, user_id, change, now).await?;
    }
    if more != 0 {
        let count = "UPDATE users SET blocks = blocks + $3 WHERE tenant_id = $1 AND user_id = $2";
        let count = tx.query(count).bind(tenant_id.as_str()).bind(user_id.as_str());
        count.bind(more).execute().await?;
    }
    let mut log_ids = tell_pairs(tx, tenant_id, user_id, changes).await?;
    log_ids.extend(tell_own(tx, tenant_id, user_id, person, changes, now).await?);
    Ok(log_ids)
}

/// Since when a user is blocked is told of those who were blocked by a call.
async fn write(
    tx: &mut Conn,
    tenant_id: &TenantId,
    user_id: &UserId,
    Change { other, before, after }: &Change,
    now: Micros,
) -> Result<(), StoreError> {
    if !after.holds() {
        let delete = "DELETE FROM blocks
                       WHERE tenant_id = $1 AND user_id = $2 AND blocked_id = $3";
        let delete = tx.query(delete).bind(tenant_id.as_str()).bind(user_id.as_str());
        return delete.bind(other.as_str()).execute().await.map(drop);
    }
    let put = "INSERT INTO blocks (tenant_id, user_id, blocked_id, create_time, called, listed,
                                   mutual, silent)
               VALUES ($1, $2, $3, $4, $5, $6, $7, $8)
               ON CONFLICT (tenant_id, user_id, blocked_id) DO UPDATE
                 SET called = excluded.called, listed = excluded.listed, mutual = excluded.mutual,
                     create_time = CASE WHEN $9 THEN excluded.create_time
                                        ELSE blocks.create_time END";
    let put = tx.query(put).bind(tenant_id.as_str()).bind(user_id.as_str()).bind(other.as_str());
    let put = put.bind(now).bind(after.called).bind(after.listed).bind(after.mutual);
    put.bind(after.silent).bind(after.called && !before.called).execute().await.map(drop)
}

/// Tells the direct rooms of a user with those of whom something else holds. What the other one has
/// blocked holds there, too: it is read while the row of the log is locked, so that of two who block
/// each other at once the second sees what the first did.
async fn tell_pairs(
    tx: &mut Conn,
    tenant_id: &TenantId,
    user_id: &UserId,
    changes: &[Change],
) -> Result<Vec<LogId>, Error> {
    let rooms = direct_rooms(tx, tenant_id, user_id, changes).await?;
    let log_ids = rooms.iter().map(|(log_id, _)| *log_id).collect();
    let pairs: Vec<_> = rooms.into_iter().filter(|(_, change)| change.is_one()).collect();
    for (log_id, _) in &pairs {
        lock(tx, *log_id).await?;
    }
    let theirs = blocks_against(tx, tenant_id, user_id, &pairs).await?;
    for (log_id, Change { other, before, after }) in &pairs {
        let their = theirs.get(other).copied().unwrap_or_default();
        let refused = |block: Block| block.refuses() || their.mutual;
        let self_refused = |block: Block| block.mutual || their.refuses();
        let mut refusals = Vec::new();
        for (who, was, is) in [
            (other, refused(*before), refused(*after)),
            (user_id, self_refused(*before), self_refused(*after)),
        ] {
            if was != is {
                refusals.push((who.clone(), is));
            }
        }
        if !refusals.is_empty() {
            enqueue_silent(tx, *log_id, codec::peer_blocks(&refusals)).await?;
        }
        if before.hides() != after.hides() {
            let hidden = [(other.clone(), after.hides())];
            enqueue_silent(tx, *log_id, codec::hidden_peers(&hidden)).await?;
        }
    }
    Ok(log_ids)
}

/// The direct rooms that are open of a user and those of whom something else holds, by log.
async fn direct_rooms<'a>(
    tx: &mut Conn,
    tenant_id: &TenantId,
    user_id: &UserId,
    changes: &'a [Change],
) -> Result<Vec<(LogId, &'a Change)>, StoreError> {
    let by_user: BTreeMap<_, _> =
        changes.iter().map(|change| (change.other.as_str(), change)).collect();
    if by_user.is_empty() {
        return Ok(Vec::new());
    }
    let select = "SELECT m.log_id, m.peer_id
                    FROM (VALUES ($1, $3..)) w
                    JOIN members m ON m.tenant_id = w.column1 AND m.peer_id = w.column2
                    JOIN rosters r ON r.log_id = m.log_id AND NOT r.closed
                   WHERE m.user_id = $2
                   ORDER BY m.log_id";
    let select = tx.query(select).bind(tenant_id.as_str()).bind(user_id.as_str());
    let found: Vec<(Uuid, String)> = select.bind_list(by_user.keys().copied()).fetch_all().await?;
    let pair = |(log_id, peer): (Uuid, String)| {
        by_user.get(peer.as_str()).map(|change| (LogId(log_id), *change))
    };
    Ok(found.into_iter().filter_map(pair).collect())
}

/// How the other members of direct rooms have blocked a user.
async fn blocks_against(
    tx: &mut Conn,
    tenant_id: &TenantId,
    user_id: &UserId,
    pairs: &[(LogId, &Change)],
) -> Result<BTreeMap<UserId, Block>, StoreError> {
    if pairs.is_empty() {
        return Ok(BTreeMap::new());
    }
    let select = "SELECT user_id AS blocked_id, called, listed, mutual, silent
                    FROM (VALUES ($1, $3..)) w JOIN blocks
                      ON tenant_id = w.column1 AND user_id = w.column2 AND blocked_id = $2";
    let select = tx.query(select).bind(tenant_id.as_str()).bind(user_id.as_str());
    let others = pairs.iter().map(|(_, change)| change.other.as_str());
    let found: Vec<Joined<Named, Block>> = select.bind_list(others).fetch_all().await?;
    Ok(found.into_iter().map(|Joined(named, block)| (named.user_id(), block)).collect())
}

/// Tells the user's own log whom they block from here on, and whom no longer.
async fn tell_own(
    tx: &mut Conn,
    tenant_id: &TenantId,
    user_id: &UserId,
    person: Person,
    changes: &[Change],
    now: Micros,
) -> Result<Vec<LogId>, StoreError> {
    let (mut plain, mut hidden) = (Vec::new(), Vec::new());
    for Change { other, before, after } in changes {
        match (before.holds(), after.holds()) {
            (false, true) if after.silent => hidden.push((other.clone(), true)),
            (false, true) => plain.push((other.clone(), true)),
            (true, false) => plain.push((other.clone(), false)),
            _ => {}
        }
    }
    let plain = plain.chunks(FACT).map(codec::blocks);
    let mut log = person.log();
    for silent in plain.chain(hidden.chunks(FACT).map(codec::hidden_blocks)) {
        let person = Person { own_log: log.first().map(|log_id| log_id.0), ..person };
        log = vec![person.say(tx, tenant_id, user_id, silent, now).await?];
    }
    Ok(log)
}
