//! Pins in SQL.

use std::cmp::Reverse;

use futures::future::BoxFuture;
use parlance_db::Joined;
use parlance_log::{Actor, Change, Error, Locked, NewEvent, Store, Target, View, with_view};
use parlance_types::{LogId, Micros, Seq, UserId};

use super::grpc::{pinned_event, unpinned_event};
use super::{MAX_PINS, Pin, Pinned, Unpin, one_more, target};
use crate::message::store::{MessageRow, message_columns, no_message_columns};

parlance_db::row! {
    /// The event that pinned a message.
    struct PinRow {
        pin_seq: Seq,
        pinner_id: String,
        pin_time: Micros,
    }
}

const LIST: &str = with_view!(
    nothing: concat!(
        no_message_columns!(),
        ", NULL AS pin_seq, NULL AS pinner_id, NULL AS pin_time"
    ),
    columns: concat!(message_columns!("$1"), ", b.seq, b.sender_id, b.time"),
    from: "(SELECT pin_seq, message_seq FROM pins
           WHERE log_id = $1 AND message_seq >= (SELECT shown FROM viewed)
           ORDER BY pin_seq DESC LIMIT $4) p
         JOIN events b ON b.log_id = $1 AND b.seq = p.pin_seq
         JOIN events m ON m.log_id = $1 AND m.seq = p.message_seq",
);

/// The pins of a log that its viewer may see, the latest first, and the view.
pub(super) async fn list(
    store: &Store,
    log_id: LogId,
    viewer: Option<&UserId>,
) -> Result<Option<(View, Vec<Pinned>)>, Error> {
    let found = store.view_with::<Joined<MessageRow, PinRow>>(log_id, viewer, LIST, |select| {
        select.bind(MAX_PINS)
    });
    let Some((view, mut rows)) = found.await? else { return Ok(None) };
    let visible = view.visible_to(viewer).map(|(first, last)| first..=last);
    let seen = |seq| visible.as_ref().is_ok_and(|visible| visible.contains(&seq));
    rows.retain(|Joined(message, _)| seen(message.seq()));
    rows.sort_unstable_by_key(|Joined(_, pin)| Reverse(pin.pin_seq));
    let now = store.now();
    let pinned = |Joined(message, pin): Joined<MessageRow, PinRow>| {
        Ok(Pinned {
            message: message.message(log_id, now)?,
            seq: pin.pin_seq,
            pinner: (!pin.pinner_id.is_empty()).then(|| UserId::new(pin.pinner_id)),
            time: pin.pin_time,
        })
    };
    let mut pins = rows.into_iter().map(pinned).collect::<Result<Vec<_>, Error>>()?;
    pins.retain(|pin| !pin.message.is_left_out(&view));
    Ok(Some((view, pins)))
}

impl Change for Pin {
    type Done = Seq;

    fn log_id(&self) -> LogId {
        self.message_id.log_id
    }

    fn actor(&self) -> &Actor {
        &self.actor
    }

    async fn run(&self, log: &mut Locked<'_>) -> Result<Seq, Error> {
        let (actor, message) = (self.actor.user.as_ref(), self.message_id.seq);
        let view = log.view(actor).await?;
        let found = log.message(message).await?;
        let target = target(&view, actor, message, found.as_ref())?;
        view.may_write(log.now())?;
        if let Some(seq) = pinned(log, self.log_id(), message).await? {
            return Ok(seq);
        }
        one_more(target, count(log, self.log_id()).await?, log.now())?;
        let event = NewEvent::new(actor, pinned_event(self.message_id)).about(message);
        let (seq, _) = log.append(event).await?;
        let insert = "INSERT INTO pins (log_id, message_seq, pin_seq) VALUES ($1, $2, $3)";
        log.conn().query(insert).bind(self.log_id().0).bind(message).bind(seq).execute().await?;
        Ok(seq)
    }
}

impl Change for Unpin {
    type Done = ();

    fn log_id(&self) -> LogId {
        self.message_id.log_id
    }

    fn actor(&self) -> &Actor {
        &self.actor
    }

    async fn run(&self, log: &mut Locked<'_>) -> Result<(), Error> {
        let (actor, message) = (self.actor.user.as_ref(), self.message_id.seq);
        let view = log.view(actor).await?;
        let found = log.message(message).await?;
        target(&view, actor, message, found.as_ref())?;
        view.may_write(log.now())?;
        if remove(log, self.log_id(), message).await? {
            let event = NewEvent::new(actor, unpinned_event(self.message_id)).about(message);
            log.append(event).await?;
        }
        Ok(())
    }
}

/// A deletion unpins its message; it says so itself, without an event more.
pub(crate) fn unpin_deleted<'a>(
    log: &'a mut Locked<'_>,
    target: &'a Target,
    _: Seq,
) -> BoxFuture<'a, Result<(), Error>> {
    Box::pin(async move { remove(log, log.id(), target.seq).await.map(drop) })
}

/// What is pruned is pinned no more. A room has few pins.
pub(crate) fn unpin_pruned<'a>(
    log: &'a mut Locked<'_>,
    first: Seq,
) -> BoxFuture<'a, Result<(), Error>> {
    Box::pin(async move {
        let log_id = log.id();
        let delete = "DELETE FROM pins WHERE log_id = $1 AND message_seq < $2";
        log.conn().query(delete).bind(log_id.0).bind(first).execute().await?;
        Ok(())
    })
}

/// Where a message was pinned, if it is.
async fn pinned(log: &mut Locked<'_>, log_id: LogId, message: Seq) -> Result<Option<Seq>, Error> {
    let select = "SELECT pin_seq FROM pins WHERE log_id = $1 AND message_seq = $2";
    let select = log.conn().query(select).bind(log_id.0).bind(message);
    let pinned: Option<(Seq,)> = select.fetch_optional().await?;
    Ok(pinned.map(|(seq,)| seq))
}

async fn count(log: &mut Locked<'_>, log_id: LogId) -> Result<i64, Error> {
    let select = "SELECT COUNT(*) FROM pins WHERE log_id = $1";
    let (count,) = log.conn().query(select).bind(log_id.0).fetch_one().await?;
    Ok(count)
}

/// Takes the pin off a message, if there is one.
async fn remove(log: &mut Locked<'_>, log_id: LogId, message: Seq) -> Result<bool, Error> {
    let delete = "DELETE FROM pins WHERE log_id = $1 AND message_seq = $2";
    Ok(log.conn().query(delete).bind(log_id.0).bind(message).execute().await? == 1)
}
