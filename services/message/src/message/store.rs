//! Messages in SQL.

use parlance_db::Db;
use parlance_log::{Change, Error, Kind, Locked, NewEvent, Target, Visible, codec as log_codec};
use parlance_types::{LogId, MessageId, Micros, Seq, TenantId, UserId};

use super::change::{self, Delete, Deletion, Edit, Edited};
use super::{Message, codec};

/// Which messages a page holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Range {
    /// The newest `limit` messages with a seq below.
    Before(Seq),
    /// The oldest `limit` messages with a seq above.
    After(Seq),
}

parlance_db::row! {
    /// A message with the edit that holds its content.
    pub(crate) struct MessageRow {
        seq: Seq,
        sender_id: String,
        time: Micros,
        counted: bool,
        deleted_seq: Option<Seq>,
        payload: Vec<u8>,
        edit_seq: Option<Seq>,
        edit_time: Option<Micros>,
        edit_payload: Option<Vec<u8>>,
    }
}

/// The columns of a [`MessageRow`]: of the message `m` and its edit `e`. What a noun shows
/// in a message is a column of these.
macro_rules! message_columns {
    () => {
        "m.seq, m.sender_id, m.time, m.counted, m.deleted_seq, m.payload,
         e.seq AS edit_seq, e.time AS edit_time, e.payload AS edit_payload"
    };
}
pub(crate) use message_columns;

impl MessageRow {
    pub(crate) fn message(self, log_id: LogId) -> Result<Message, Error> {
        let message_id = MessageId { log_id, seq: self.seq };
        let payload = self.edit_payload.unwrap_or(self.payload);
        Ok(Message {
            message_id,
            sender: (!self.sender_id.is_empty()).then(|| UserId::new(self.sender_id)),
            content: codec::content(message_id, &payload)?,
            time: self.time,
            uncounted: !self.counted,
            edit: self.edit_seq.zip(self.edit_time),
            deleted: self.deleted_seq,
        })
    }
}

/// The edit `e` that holds the content of a message `m` of the log $1 as it reads at $5: an
/// edit above is not there yet. $6 is the kind of edits. The two `+` keep SQLite from walking
/// the log backwards for the greatest number instead of reading the message's edits, which
/// are bounded, by the index of targets.
macro_rules! edit_of_message {
    () => {
        "LEFT JOIN events e
           ON e.log_id = $1
          AND e.seq = CASE WHEN m.content_seq IS NULL THEN NULL
                           WHEN m.content_seq <= $5 THEN m.content_seq
                           ELSE (SELECT MAX(+o.seq) FROM events o
                                  WHERE o.log_id = $1 AND o.target_seq = m.seq
                                    AND o.kind = $6 AND +o.seq <= $5) END "
    };
}
pub(crate) use edit_of_message;

/// The first $4 messages within $2..=$3, of those that are deleted or of the others. Compared
/// as pairs, kind and place can only be read by an index of both: no plan walks through what
/// lies between the messages.
macro_rules! messages {
    ($deleted:literal, $order:literal) => {
        concat!(
            "SELECT * FROM (
               SELECT m.kind, m.seq, m.sender_id, m.time, m.counted, m.deleted_seq, m.payload,
                      m.content_seq
                 FROM events m
                WHERE m.log_id = $1 AND (m.kind, m.seq) >= ($7, $2) AND (m.kind, m.seq) <= ($7, $3)
                  AND m.deleted_seq ",
            $deleted,
            " ORDER BY m.kind ",
            $order,
            ", m.seq ",
            $order,
            " LIMIT $4) ",
        )
    };
}

/// Messages within $2..=$3 as they read at $5.
macro_rules! page {
    ($order:literal) => {
        concat!(
            "SELECT ",
            message_columns!(),
            " FROM (",
            messages!("IS NULL", $order),
            "kept UNION ALL ",
            messages!("IS NOT NULL", $order),
            "deleted) m ",
            edit_of_message!(),
            "ORDER BY m.kind ",
            $order,
            ", m.seq ",
            $order,
            " LIMIT $4"
        )
    };
}

/// Messages in ascending order, within `visible`, as they read at its end.
pub async fn page(
    db: &Db,
    log_id: LogId,
    range: Range,
    visible: Visible,
    limit: usize,
) -> Result<Vec<Message>, Error> {
    let (first, last) = visible;
    let (select, first, last, newest_first) = match range {
        Range::Before(seq) => (page!("DESC"), first, last.min(seq.saturating_sub(1)), true),
        Range::After(seq) => (page!("ASC"), first.max(seq.saturating_add(1)), last, false),
    };
    let limit = i64::try_from(limit).unwrap_or(i64::MAX);
    let select = db.read(select).bind(log_id.0).bind(first).bind(last).bind(limit);
    let select = select.bind(visible.1).bind(Kind::Edit.number()).bind(Kind::Message.number());
    let mut rows: Vec<MessageRow> = select.fetch_all().await?;
    if newest_first {
        rows.reverse();
    }
    rows.into_iter().map(|row| row.message(log_id)).collect()
}

impl Change for Edit {
    type Done = Edited;

    fn log_id(&self) -> LogId {
        self.message_id.log_id
    }

    fn tenant_id(&self) -> &TenantId {
        &self.actor.tenant_id
    }

    async fn run(&self, log: &mut Locked<'_>) -> Result<Edited, Error> {
        let (editor, message) = (self.actor.user.as_ref(), self.message_id.seq);
        // The reply that the message answers is not the editor's to give.
        let content = self.content.clone().replying_to(None);
        let edited = codec::edited(self.message_id, &content);
        let digest = log_codec::digest(&log_codec::event(editor, edited));
        if let Some((seq, time)) = log.repeat(editor, &self.request, digest).await? {
            return Ok(Edited { seq, time });
        }
        let view = log.view(editor).await?;
        let target = log.message(message).await?;
        let target = change::edit(&view, editor, message, target.as_ref())?;
        let before = codec::content(self.message_id, &target.payload)?;
        let reply_to = before.and_then(|content| content.reply_to());
        let edited = codec::edited(self.message_id, &content.replying_to(reply_to));
        let event = NewEvent::new(editor, edited).about(message).requested(&self.request, digest);
        let (seq, time) = log.append(event).await?;
        let update = "UPDATE events SET content_seq = $3, edits = edits + 1
                      WHERE log_id = $1 AND seq = $2";
        log.conn().query(update).bind(self.log_id().0).bind(message).bind(seq).execute().await?;
        Ok(Edited { seq, time })
    }
}

impl Change for Deletion {
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
        let target = log.message(message).await?;
        let before = match target.as_ref().and_then(|target| target.deleted_seq) {
            Some(deleted) => deleted_by(log, self.message_id.log_id, deleted, actor).await?,
            None => None,
        };
        let target = match change::delete(&view, actor, message, target.as_ref(), before)? {
            Delete::Now(target) => target,
            Delete::Already(seq) => return Ok(seq),
        };
        let event = NewEvent::new(actor, codec::deleted(self.message_id)).about(message);
        let (seq, _) = log.append(event).await?;
        blank(log, self.message_id.log_id, seq, target).await?;
        for with in self.on_delete {
            with(log, target, seq).await?;
        }
        Ok(seq)
    }
}

/// The place of a deletion, if `actor` made it.
async fn deleted_by(
    log: &mut Locked<'_>,
    log_id: LogId,
    deleted: Seq,
    actor: Option<&UserId>,
) -> Result<Option<Seq>, Error> {
    let select = "SELECT sender_id FROM events WHERE log_id = $1 AND seq = $2";
    let (by,): (String,) =
        log.conn().query(select).bind(log_id.0).bind(deleted).fetch_one().await?;
    Ok((by == actor.map_or("", UserId::as_str)).then_some(deleted))
}

/// Takes the content out of a message and all its edits, and the message out of the count.
async fn blank(
    log: &mut Locked<'_>,
    log_id: LogId,
    deleted: Seq,
    target: &Target,
) -> Result<(), Error> {
    let message_id = MessageId { log_id, seq: target.seq };
    let message = codec::tombstone(message_id, &target.payload)?;
    let update = "UPDATE events SET payload = $3, deleted_seq = $4 WHERE log_id = $1 AND seq = $2";
    let update = log.conn().query(update).bind(log_id.0).bind(target.seq);
    update.bind(message.as_ref()).bind(deleted).execute().await?;
    // All edits are by the sender, so that without a content they are all the same.
    let edit = codec::blank_edit(target.sender().as_ref(), message_id);
    let update = "UPDATE events SET payload = $3, deleted_seq = $4
                  WHERE log_id = $1 AND target_seq = $2 AND kind = $5";
    let update = log.conn().query(update).bind(log_id.0).bind(target.seq);
    update.bind(edit.as_ref()).bind(deleted).bind(Kind::Edit.number()).execute().await?;
    log.discount(target).await
}
