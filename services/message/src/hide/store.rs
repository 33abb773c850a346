//! What is hidden, in SQL: one statement on the member's row, without the lock of the head.

use parlance_log::{Error, Store};
use parlance_types::{LogId, UserId};

/// The row holds how many countable messages there were. The next one makes it stale, so
/// that nothing has to be written when a room comes back.
const HIDE: &str = "
    UPDATE members SET hidden_ord = h.ord
      FROM heads h
     WHERE h.log_id = $1 AND h.closed_seq IS NULL
       AND members.log_id = $1 AND members.user_id = $2 AND members.suspended_until <= $3";

/// Hides a log from its member's list.
pub(super) async fn hide(store: &Store, log_id: LogId, user: &UserId) -> Result<(), Error> {
    let hide = store.db().write(HIDE).bind(log_id.0).bind(user.as_str()).bind(store.now());
    if hide.execute().await? == 1 {
        return Ok(());
    }
    let view = store.view(log_id, Some(user)).await?.ok_or(Error::room_not_found())?;
    view.visible_to(Some(user))?;
    Err(Error::restless())
}
