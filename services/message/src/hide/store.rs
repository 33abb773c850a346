//! What is hidden, in SQL. A room: one statement on the member's row, without the lock of the
//! head. Messages: rows of the membership, which its row says there are.

use futures::future::BoxFuture;
use parlance_db::{Conn, Db, rows};
use parlance_log::{Actor, Change, Error, Kind, Locked, Store, View};
use parlance_types::{LogId, Seq, UserId};
use uuid::Uuid;

use super::{Hiding, hide as judge};

/// The row holds how many countable messages there were. The next one makes it stale, so
/// that nothing has to be written when a room comes back.
const HIDE: &str = "
    UPDATE members SET hidden_ord = h.ord
      FROM heads h
     WHERE h.log_id = $1 AND h.closed_seq IS NULL
       AND members.log_id = $1 AND members.user_id = $2 AND members.suspended_until <= $3";

/// Rows of pruned messages that one step lets go of at most.
const CHUNK: i64 = 500;

/// Memberships that are looked for at once, of which rows are left.
const REMAINS: i64 = 100;

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

impl Change for Hiding {
    /// The view of the log, and what was not hidden before.
    type Done = (View, Vec<Seq>);

    fn log_id(&self) -> LogId {
        self.log_id
    }

    fn actor(&self) -> &Actor {
        &self.actor
    }

    async fn run(&self, log: &mut Locked<'_>) -> Result<(View, Vec<Seq>), Error> {
        let view = log.view(Some(&self.user)).await?;
        let found = count(log, &self.messages).await?;
        let joined = view.member.map_or(0, |member| member.joined);
        let (pruned, before): (Vec<_>, Vec<_>) =
            hidden(log, &self.user, joined).await?.into_iter().partition(|seq| !log.holds(*seq));
        let new = judge(&view, self, found, &before)?;
        if new.is_empty() {
            return Ok((view, new));
        }
        if !pruned.is_empty() {
            forget(log, &self.user, joined).await?;
        }
        let insert = format!(
            "INSERT INTO hidden_messages (log_id, user_id, joined_seq, seq) VALUES {}",
            rows(4, new.len(), "($1, $2, $3, $+)")
        );
        let log_id = log.id();
        let insert = log.conn().query(parlance_db::AssertSqlSafe(insert)).once().bind(log_id.0);
        let mut insert = insert.bind(self.user.as_str()).bind(joined);
        for message in &new {
            insert = insert.bind(*message);
        }
        insert.execute().await?;
        let update = "UPDATE members SET has_hidden = TRUE
                       WHERE log_id = $1 AND user_id = $2 AND NOT has_hidden";
        let update = log.conn().query(update).bind(log_id.0).bind(self.user.as_str());
        update.execute().await?;
        Ok((view, new))
    }
}

/// How many of these a log has as messages.
async fn count(log: &mut Locked<'_>, messages: &[Seq]) -> Result<usize, Error> {
    let select = "SELECT e.seq FROM (VALUES ($1, $2, $3..)) a
                    JOIN events e ON e.log_id = a.column1 AND e.seq = a.column3
                   WHERE e.kind = a.column2";
    let log_id = log.id();
    let select = log.conn().query(select).bind(log_id.0).bind(Kind::Message.number());
    let found: Vec<(Seq,)> = select.bind_list(messages.iter().copied()).fetch_all().await?;
    Ok(found.len())
}

/// What a membership has hidden, some of which may be pruned.
async fn hidden(log: &mut Locked<'_>, user: &UserId, joined: Seq) -> Result<Vec<Seq>, Error> {
    let log_id = log.id();
    let select = "SELECT seq FROM hidden_messages
                   WHERE log_id = $1 AND user_id = $2 AND joined_seq = $3";
    let select = log.conn().query(select).bind(log_id.0).bind(user.as_str()).bind(joined);
    let found: Vec<(Seq,)> = select.fetch_all().await?;
    Ok(found.into_iter().map(|(seq,)| seq).collect())
}

/// Lets go of those that a membership has hidden and that are pruned.
async fn forget(log: &mut Locked<'_>, user: &UserId, joined: Seq) -> Result<(), Error> {
    let (log_id, first) = (log.id(), log.first());
    let delete = "DELETE FROM hidden_messages
                   WHERE log_id = $1 AND user_id = $2 AND joined_seq = $3 AND seq < $4";
    let delete = log.conn().query(delete).bind(log_id.0).bind(user.as_str()).bind(joined);
    delete.bind(first).execute().await?;
    Ok(())
}

/// Nobody hides what is pruned. Any number of members may have: what is more than a chunk goes
/// with what is pruned next, or with their memberships.
pub(crate) fn forget_pruned<'a>(
    log: &'a mut Locked<'_>,
    first: Seq,
) -> BoxFuture<'a, Result<(), Error>> {
    Box::pin(async move {
        let log_id = log.id();
        let end = "SELECT x.seq, x.user_id FROM hidden_messages x
                    WHERE x.log_id = $1 AND x.seq < $2
                    ORDER BY x.seq, x.user_id LIMIT 1 OFFSET $3";
        let end = log.conn().query(end).bind(log_id.0).bind(first).bind(CHUNK);
        let end: Option<(Seq, String)> = end.fetch_optional().await?;
        // In two statements: what Postgres supposes of pairs is too much for an index.
        let (seq, user_id) = end.unwrap_or((first, String::new()));
        let all = "DELETE FROM hidden_messages WHERE log_id = $1 AND seq < $2";
        log.conn().query(all).bind(log_id.0).bind(seq).execute().await?;
        let some = "DELETE FROM hidden_messages WHERE log_id = $1 AND seq = $2 AND user_id < $3";
        log.conn().query(some).bind(log_id.0).bind(seq).bind(user_id).execute().await?;
        Ok(())
    })
}

/// Lets go of what ended memberships had hidden, each at most as much as a member may. Nobody
/// adds to it, so this needs no lock; it may run anywhere, and at once.
pub(super) async fn sweep(db: &Db) -> Result<(), Error> {
    loop {
        let select = "SELECT log_id, user_id, joined_seq FROM hidden_remains LIMIT $1";
        let remains: Vec<(Uuid, String, Seq)> = db.read(select).bind(REMAINS).fetch_all().await?;
        for (log_id, user_id, joined) in &remains {
            let mut conn = db.writer().await?;
            forget_membership(&mut conn, LogId(*log_id), user_id, *joined).await?;
        }
        if remains.len() < usize::try_from(REMAINS).unwrap_or(usize::MAX) {
            return Ok(());
        }
    }
}

async fn forget_membership(
    conn: &mut Conn,
    log_id: LogId,
    user_id: &str,
    joined: Seq,
) -> Result<(), Error> {
    let delete = "DELETE FROM hidden_messages
                   WHERE log_id = $1 AND user_id = $2 AND joined_seq <= $3";
    conn.query(delete).bind(log_id.0).bind(user_id).bind(joined).execute().await?;
    // Of one that ended meanwhile there is more.
    let done = "DELETE FROM hidden_remains WHERE log_id = $1 AND user_id = $2 AND joined_seq = $3";
    conn.query(done).bind(log_id.0).bind(user_id).bind(joined).execute().await?;
    Ok(())
}
