//! Threads in SQL.

use futures::future::BoxFuture;
use parlance_log::{Error, Kind, Locked, Store, Target, View, with_view};
use parlance_types::{LogId, Seq, UserId};

use crate::message::Message;
use crate::message::store::{message_columns, no_message_columns, seen};

const PAGE: &str = with_view!(
    nothing: no_message_columns!(),
    columns: message_columns!("$1"),
    from: "(SELECT * FROM events
             WHERE log_id = $1 AND seq = $4 AND kind = $7
             UNION ALL
            SELECT * FROM (SELECT * FROM events
             WHERE log_id = $1 AND root_seq = $4 AND seq > $5 AND deleted_seq IS NULL
               AND seq >= (SELECT shown FROM viewed)
             ORDER BY seq LIMIT $6) r) m",
);

/// The message that a thread begins with, if there is one, at most `limit` replies behind a
/// place that the viewer may see, and the view.
pub(super) async fn page(
    store: &Store,
    log_id: LogId,
    viewer: Option<&UserId>,
    root: Seq,
    after: Seq,
    limit: usize,
) -> Result<Option<(View, Vec<Message>)>, Error> {
    let limit = i64::try_from(limit).unwrap_or(i64::MAX);
    let message = Kind::Message.number();
    seen(store, log_id, viewer, PAGE, |select| {
        select.bind(root).bind(after).bind(limit).bind(message)
    })
    .await
}

/// A reply that is deleted is counted in its thread no more.
pub(crate) fn discount_deleted<'a>(
    log: &'a mut Locked<'_>,
    target: &'a Target,
    _: Seq,
) -> BoxFuture<'a, Result<(), Error>> {
    Box::pin(async move {
        let (Some(root), log_id) = (target.root_seq, log.id()) else { return Ok(()) };
        let update = "
            UPDATE events
               SET replies = replies - 1,
                   reply_time = (SELECT r.time FROM events r
                                  WHERE r.log_id = $1 AND r.root_seq = $2 AND r.deleted_seq IS NULL
                                  ORDER BY r.seq DESC LIMIT 1)
             WHERE log_id = $1 AND seq = $2 AND replies > 0";
        log.conn().query(update).bind(log_id.0).bind(root).execute().await?;
        Ok(())
    })
}
