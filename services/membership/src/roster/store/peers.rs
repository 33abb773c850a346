//! The two members of a direct room, of whom one may have blocked the other.

use std::collections::BTreeSet;

use parlance_db::{Conn, StoreError};
use parlance_outbox::enqueue_silent;
use parlance_types::UserId;

use crate::codec;
use crate::roster::{Grant, Roster};

/// Notes of each member of a new direct room who the other one is.
pub(super) async fn pair(
    tx: &mut Conn,
    roster: &Roster,
    members: &[Grant],
) -> Result<(), StoreError> {
    let [one, other] = members else { return Ok(()) };
    for (member, peer) in [(one, other), (other, one)] {
        let set = "UPDATE members SET peer_id = $3 WHERE log_id = $1 AND user_id = $2";
        let set = tx.query(set).bind(roster.log_id.0).bind(member.user_id.as_str());
        set.bind(peer.user_id.as_str()).execute().await?;
    }
    Ok(())
}

/// Tells the log of a direct room which of its newcomers have blocked the other one, or were
/// blocked. Their joining is enqueued: what is blocked from now on comes behind it, and finds them.
pub(super) async fn say_blocks(
    tx: &mut Conn,
    roster: &Roster,
    newcomers: &[Grant],
) -> Result<(), StoreError> {
    let (mut refused, mut hidden) = (BTreeSet::new(), BTreeSet::new());
    for Grant { user_id, .. } in newcomers {
        let peer = "SELECT peer_id FROM members
                    WHERE log_id = $1 AND user_id = $2 AND peer_id IS NOT NULL";
        let peer = tx.query(peer).bind(roster.log_id.0).bind(user_id.as_str());
        let Some((peer,)): Option<(String,)> = peer.fetch_optional().await? else { continue };
        let blocks = "SELECT blocked_id, silent, mutual FROM blocks
                       WHERE tenant_id = $1 AND (user_id = $2 AND blocked_id = $3
                                                 OR user_id = $3 AND blocked_id = $2)";
        let blocks = tx.query(blocks).bind(roster.tenant_id.as_str()).bind(peer.as_str());
        let blocks: Vec<(String, bool, bool)> = blocks.bind(user_id.as_str()).fetch_all().await?;
        for (blocked, silent, mutual) in blocks {
            // Who stayed knows already that they are refused.
            let by_peer = blocked == user_id.as_str();
            if by_peer && !silent || !by_peer && mutual {
                refused.insert(user_id.clone());
            }
            if silent {
                hidden.insert(UserId::new(blocked));
            }
        }
    }
    let told = |users: BTreeSet<UserId>| users.into_iter().map(|user| (user, true)).collect();
    let (refused, hidden): (Vec<_>, Vec<_>) = (told(refused), told(hidden));
    if !refused.is_empty() {
        enqueue_silent(tx, roster.log_id, codec::peer_blocks(&refused)).await?;
    }
    if !hidden.is_empty() {
        enqueue_silent(tx, roster.log_id, codec::hidden_peers(&hidden)).await?;
    }
    Ok(())
}
