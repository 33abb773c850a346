//! Mentions in SQL. The append writes them, so that who is a member is looked up under the
//! lock of the log.

use futures::future::BoxFuture;
use parlance_log::{Error, Locked, Store, Target, View, with_view};
use parlance_types::{LogId, Seq, UserId};

use crate::message::Message;
use crate::message::store::{message_columns, no_message_columns, seen};

/// The newest so many mentions of a user, or of everybody, before $4.
macro_rules! newest {
    ($user:literal) => {
        concat!(
            "SELECT * FROM (SELECT seq FROM mentions
                             WHERE log_id = $1 AND user_id = ",
            $user,
            "  AND seq < $4 AND seq >= (SELECT shown FROM viewed)
                             ORDER BY seq DESC LIMIT $5) n"
        )
    };
}

const PAGE: &str = with_view!(
    nothing: no_message_columns!(),
    columns: message_columns!("$1"),
    from: concat!(
        "(SELECT DISTINCT seq FROM (",
        newest!("$2"),
        " UNION ALL ",
        newest!("''"),
        ") of_both ORDER BY seq DESC LIMIT $5) n JOIN events m ON m.log_id = $1 AND m.seq = n.seq"
    ),
);

/// The newest `limit` messages before a place that mention the viewer and that they may see, in
/// ascending order, and the view.
pub(super) async fn page(
    store: &Store,
    log_id: LogId,
    viewer: &UserId,
    before: Seq,
    limit: usize,
) -> Result<Option<(View, Vec<Message>)>, Error> {
    let limit = i64::try_from(limit).unwrap_or(i64::MAX);
    seen(store, log_id, Some(viewer), PAGE, |select| select.bind(before).bind(limit)).await
}

/// A message that is deleted mentions nobody.
pub(crate) fn unmention_deleted<'a>(
    log: &'a mut Locked<'_>,
    target: &'a Target,
    _: Seq,
) -> BoxFuture<'a, Result<(), Error>> {
    Box::pin(log.mention_nobody(target.seq))
}

/// What is pruned mentions nobody. Chunks of events are pruned, each with few mentions.
pub(crate) fn unmention_pruned<'a>(
    log: &'a mut Locked<'_>,
    first: Seq,
) -> BoxFuture<'a, Result<(), Error>> {
    Box::pin(async move {
        let log_id = log.id();
        let delete = "DELETE FROM mentions WHERE log_id = $1 AND seq < $2";
        log.conn().query(delete).bind(log_id.0).bind(first).execute().await?;
        Ok(())
    })
}
