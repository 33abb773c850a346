//! Pins in SQL.

use futures::future::BoxFuture;
use parlance_db::{Db, Joined};
use parlance_log::{Change, Error, Kind, Locked, NewEvent, Target, Visible};
use parlance_types::{LogId, Micros, Seq, TenantId, UserId};

use super::grpc::{pinned_event, unpinned_event};
use super::{MAX_PINS, Pin, Pinned, Unpin, one_more, target};
use crate::message::store::{MessageRow, edit_of_message, message_columns};

parlance_db::row! {
    /// The event that pinned a message.
    struct PinRow {
        pin_seq: Seq,
        pinner_id: String,
        pin_time: Micros,
    }
}

const LIST: &str = concat!(
    "SELECT ",
    message_columns!(),
    ", b.seq AS pin_seq, b.sender_id AS pinner_id, b.time AS pin_time
       FROM pins p
       JOIN events b ON b.log_id = $1 AND b.seq = p.pin_seq
       JOIN events m ON m.log_id = $1 AND m.seq = p.message_seq ",
    edit_of_message!(),
    " WHERE p.log_id = $1 AND p.message_seq >= $2 AND p.pin_seq <= $3
      ORDER BY p.pin_seq DESC LIMIT $4"
);

/// The pins of a log within `visible`, the latest first, as their messages read at its end.
pub(super) async fn list(db: &Db, log_id: LogId, visible: Visible) -> Result<Vec<Pinned>, Error> {
    let (first, last) = visible;
    let pins = db.read(LIST).bind(log_id.0).bind(first).bind(last).bind(MAX_PINS);
    let pins = pins.bind(last).bind(Kind::Edit.number());
    let rows: Vec<Joined<MessageRow, PinRow>> = pins.fetch_all().await?;
    let pinned = |Joined(message, pin): Joined<MessageRow, PinRow>| {
        Ok(Pinned {
            message: message.message(log_id)?,
            seq: pin.pin_seq,
            pinner: (!pin.pinner_id.is_empty()).then(|| UserId::new(pin.pinner_id)),
            time: pin.pin_time,
        })
    };
    rows.into_iter().map(pinned).collect()
}

impl Change for Pin {
    type Done = Seq;

    fn log_id(&self) -> LogId {
        self.message_id.log_id
    }

    fn tenant_id(&self) -> &TenantId {
        &self.actor.tenant_id
    }

    async fn run(&self, log: &mut Locked<'_>) -> Result<Seq, Error> {
        let (actor, message) = (self.actor.user.as_ref(), self.message_id.seq);
        let view = log.view(actor).await?;
        let found = log.message(message).await?;
        let target = target(&view, actor, message, found.as_ref())?;
        if let Some(seq) = pinned(log, self.log_id(), message).await? {
            return Ok(seq);
        }
        one_more(target, count(log, self.log_id()).await?)?;
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

    fn tenant_id(&self) -> &TenantId {
        &self.actor.tenant_id
    }

    async fn run(&self, log: &mut Locked<'_>) -> Result<(), Error> {
        let (actor, message) = (self.actor.user.as_ref(), self.message_id.seq);
        let view = log.view(actor).await?;
        let found = log.message(message).await?;
        target(&view, actor, message, found.as_ref())?;
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
