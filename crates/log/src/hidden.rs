//! Messages that members hid from themselves.

use std::collections::BTreeSet;
use std::sync::Arc;

use parlance_db::{Conn, Db};
use parlance_types::{LogId, Seq, UserId};

use crate::{Error, Membership};

/// Messages of a log that somebody hid from themselves. Cheap to clone.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Hidden(Option<Arc<BTreeSet<Seq>>>);

impl Hidden {
    /// Whether a message is hidden.
    pub fn has(&self, message: Seq) -> bool {
        self.0.as_ref().is_some_and(|hidden| hidden.contains(&message))
    }
}

impl FromIterator<Seq> for Hidden {
    fn from_iter<T: IntoIterator<Item = Seq>>(messages: T) -> Self {
        let messages: BTreeSet<_> = messages.into_iter().collect();
        Self((!messages.is_empty()).then(|| Arc::new(messages)))
    }
}

/// What a member hid.
pub(crate) async fn hidden(
    db: &Db,
    log_id: LogId,
    user_id: &UserId,
    member: &Membership,
) -> Result<Hidden, Error> {
    let select = "SELECT seq FROM hidden_messages
                   WHERE log_id = $1 AND user_id = $2 AND joined_seq = $3";
    let select = db.read(select).bind(log_id.0).bind(user_id.as_str()).bind(member.joined);
    let found: Vec<(Seq,)> = select.fetch_all().await?;
    Ok(found.into_iter().map(|(seq,)| seq).collect())
}

/// Notes of users whose memberships end that there may be rows of theirs to let go of: there may
/// be many, and each user may have up to a thousand.
pub(crate) async fn leave(
    conn: &mut Conn,
    log_id: LogId,
    users: impl ExactSizeIterator<Item = &str>,
) -> Result<(), Error> {
    let select = "SELECT user_id, joined_seq FROM members
                   WHERE (log_id, user_id) IN (VALUES ($1, $2..)) AND has_hidden";
    let left: Vec<(String, Seq)> =
        conn.query(select).bind(log_id.0).bind_list(users).fetch_all().await?;
    remain(conn, log_id, left).await
}

/// Notes the same of memberships.
pub(crate) async fn remain(
    conn: &mut Conn,
    log_id: LogId,
    left: Vec<(String, Seq)>,
) -> Result<(), Error> {
    let insert = "INSERT INTO hidden_remains (log_id, user_id, joined_seq) VALUES ($1, $2, $3)
                  ON CONFLICT (log_id, user_id) DO UPDATE SET joined_seq = excluded.joined_seq";
    for (user_id, joined) in left {
        conn.query(insert).bind(log_id.0).bind(user_id).bind(joined).execute().await?;
    }
    Ok(())
}
