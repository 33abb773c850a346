//! Messages in SQL.

use parlance_db::Query;
use parlance_log::{
    Actor, Body, Change, Error, Kind, Locked, NewEvent, Store, Target, View, attachable,
    codec as log_codec, has_expired, with_view,
};
use parlance_types::{LogId, MessageId, Micros, Seq, UserId};

use super::change::{
    self, DELETE_WINDOW_OVER, Delete, Deletion, EDIT_WINDOW_OVER, Edit, Edited, OnDelete,
};
use super::{Message, ReactionCount, codec};

/// Which messages a page holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Range {
    /// The newest with a seq below.
    Before(Seq),
    /// The oldest with a seq above.
    After(Seq),
    /// Half of them before, half from it on.
    Around(Seq),
}

parlance_db::row! {
    /// A message with the edit that holds its content.
    pub(crate) struct MessageRow {
        seq: Seq,
        time: Micros,
        deleted_seq: Option<Seq>,
        payload: Vec<u8>,
        edit_seq: Option<Seq>,
        edit_time: Option<Micros>,
        edit_payload: Option<Vec<u8>>,
        root_seq: Option<Seq>,
        replies: i64,
        reply_time: Option<Micros>,
        reaction_counts: Option<Vec<u8>>,
        expire_time: Option<Micros>,
        /// The kinds of the viewer's own reactions, a line each.
        own_reactions: Option<String>,
    }
}

/// The columns of a [`MessageRow`]: of the message `m` of a log as the viewer $2 reads it, and of
/// the edit that holds its content; what is read in one statement with the log's view reads as
/// at its head. What a noun shows in a message is a column of these.
///
/// Each is looked up by itself, if there is an edit: of a join Postgres may find it by its log
/// alone. So are the viewer's own reactions, where there are any.
macro_rules! message_columns {
    ($log_id:literal) => {
        concat!(
            "m.seq, m.time, m.deleted_seq, m.payload, m.content_seq AS edit_seq,
             CASE WHEN m.content_seq IS NOT NULL THEN
               (SELECT e.time FROM events e WHERE e.log_id = ",
            $log_id,
            "   AND e.seq = m.content_seq) END AS edit_time,
             CASE WHEN m.content_seq IS NOT NULL THEN
               (SELECT e.payload FROM events e WHERE e.log_id = ",
            $log_id,
            "   AND e.seq = m.content_seq) END AS edit_payload,
             m.root_seq, m.replies, m.reply_time, m.reaction_counts, m.expire_time,
             CASE WHEN m.reaction_counts IS NOT NULL THEN
               (SELECT STRING_AGG(r.kind, '\n') FROM reactions r WHERE r.log_id = ",
            $log_id,
            "   AND r.message_seq = m.seq AND r.user_id = $2) END AS own_reactions"
        )
    };
}
pub(crate) use message_columns;

/// The same where there is no message.
macro_rules! no_message_columns {
    () => {
        "NULL AS seq, NULL AS time, NULL AS deleted_seq, NULL AS payload,
         NULL AS edit_seq, NULL AS edit_time, NULL AS edit_payload, NULL AS root_seq,
         NULL AS replies, NULL AS reply_time, NULL AS reaction_counts, NULL AS expire_time,
         NULL AS own_reactions"
    };
}
pub(crate) use no_message_columns;

impl MessageRow {
    pub(crate) const fn seq(&self) -> Seq {
        self.seq
    }

    /// The message as it reads at a time: what has expired by then is shown to nobody, and only
    /// here is it left out.
    pub(crate) fn message(self, log_id: LogId, now: Micros) -> Result<Message, Error> {
        let message_id = MessageId { log_id, seq: self.seq };
        let sent = codec::stored(message_id, self.payload)?;
        let has_expired = has_expired(self.expire_time, now);
        let content = match self.edit_payload {
            _ if has_expired => None,
            Some(edit) => codec::stored(message_id, edit)?.content,
            None => sent.content,
        };
        // Also where a version that knows nothing of reactions deleted it.
        let is_gone = has_expired || self.deleted_seq.is_some();
        let reactions = match self.reaction_counts.filter(|_| !is_gone) {
            Some(counts) => reactions(message_id, &counts, self.own_reactions.as_deref())?,
            None => Vec::new(),
        };
        Ok(Message {
            message_id,
            sender: sent.actor,
            content,
            time: self.time,
            uncounted: sent.uncounted,
            edit: self.edit_seq.zip(self.edit_time),
            deleted: self.deleted_seq,
            expires: self.expire_time,
            origin: sent.origin,
            root: self.root_seq,
            replies: self.replies,
            reply_time: self.reply_time.filter(|_| self.replies > 0),
            reactions,
        })
    }
}

/// The counts of a message's reactions, with the kinds marked that are the viewer's own.
fn reactions(
    message_id: MessageId,
    counts: &[u8],
    own: Option<&str>,
) -> Result<Vec<ReactionCount>, Error> {
    let mut counts = codec::stored_counts(message_id, counts)?;
    for counted in &mut counts {
        counted.own = own.is_some_and(|own| own.lines().any(|kind| kind == counted.kind));
    }
    Ok(counts)
}

/// Messages within two places, of those that are deleted or of the others. Compared as pairs,
/// kind and place can only be read by an index of both: no plan walks through what lies
/// between the messages.
macro_rules! messages {
    ($deleted:literal, $first:expr, $last:expr, $order:literal) => {
        concat!(
            "SELECT * FROM (
               SELECT m.kind, m.seq, m.time, m.deleted_seq, m.payload, m.content_seq,
                      m.root_seq, m.replies, m.reply_time, m.reaction_counts, m.expire_time
                 FROM events m
                WHERE m.log_id = $1 AND m.deleted_seq ",
            $deleted,
            " AND (m.kind, m.seq) >= ($4, ",
            $first,
            ") AND (m.kind, m.seq) <= ($4, ",
            $last,
            ") ORDER BY m.kind ",
            $order,
            ", m.seq ",
            $order,
            ") "
        )
    };
}

/// The first so many messages within two places. Each half is in order already, so that both
/// databases merge them as they are read, and neither sorts nor reads more than these.
macro_rules! merged {
    ($first:expr, $last:expr, $order:literal, $limit:literal) => {
        concat!(
            messages!("IS NULL", $first, $last, $order),
            "kept UNION ALL ",
            messages!("IS NOT NULL", $first, $last, $order),
            "deleted ORDER BY kind ",
            $order,
            ", seq ",
            $order,
            " LIMIT ",
            $limit
        )
    };
}

/// The newest so many up to a place.
macro_rules! up_to {
    ($last:literal, $limit:literal) => {
        merged!("(SELECT shown FROM viewed)", $last, "DESC", $limit)
    };
}

/// The oldest so many from $5 on.
macro_rules! from {
    ($limit:literal) => {
        merged!(
            "(SELECT CASE WHEN shown < $5 THEN $5 ELSE shown END FROM viewed)",
            "9223372036854775807",
            "ASC",
            $limit
        )
    };
}

macro_rules! page {
    ($messages:expr) => {
        with_view!(
            nothing: no_message_columns!(),
            columns: message_columns!("$1"),
            from: concat!("(", $messages, ") m"),
        )
    };
}

const BEFORE: &str = page!(up_to!("$5", "$6"));
const AFTER: &str = page!(from!("$6"));
const AROUND: &str = page!(concat!(
    "SELECT * FROM (",
    up_to!("$5 - 1", "$6"),
    ") before UNION ALL SELECT * FROM (",
    from!("$7"),
    ") after"
));

/// At most `limit` messages of a log that its viewer may see, in ascending order, and the
/// view: in one statement.
pub async fn page(
    store: &Store,
    log_id: LogId,
    viewer: Option<&UserId>,
    range: Range,
    limit: usize,
) -> Result<Option<(View, Vec<Message>)>, Error> {
    let number = |limit: usize| i64::try_from(limit).unwrap_or(i64::MAX);
    let (select, place, limit, then) = match range {
        Range::Before(seq) => (BEFORE, seq.saturating_sub(1), limit, None),
        Range::After(seq) => (AFTER, seq.saturating_add(1), limit, None),
        Range::Around(seq) => (AROUND, seq, limit / 2, Some(limit - limit / 2)),
    };
    seen(store, log_id, viewer, select, |select| {
        let select = select.bind(Kind::Message.number()).bind(place).bind(number(limit));
        if let Some(then) = then { select.bind(number(then)) } else { select }
    })
    .await
}

/// The messages that a statement of [`with_view!`] reads and its viewer may see, in ascending
/// order, and the view.
pub(crate) async fn seen(
    store: &Store,
    log_id: LogId,
    viewer: Option<&UserId>,
    select: &'static str,
    bind: impl FnOnce(Query<'_>) -> Query<'_>,
) -> Result<Option<(View, Vec<Message>)>, Error> {
    let found = store.view_with::<MessageRow>(log_id, viewer, select, bind).await?;
    let Some((view, mut rows)) = found else { return Ok(None) };
    let visible = view.visible_to(viewer).map(|(first, last)| first..=last);
    rows.retain(|row| visible.as_ref().is_ok_and(|visible| visible.contains(&row.seq)));
    rows.sort_unstable_by_key(|row| row.seq);
    let now = store.now();
    let messages = rows.into_iter().map(|row| row.message(log_id, now));
    Ok(Some((view, messages.collect::<Result<_, _>>()?)))
}

/// What the thread of a reply to a message begins with: the message, unless it is a reply
/// itself. `None`: the log has none there. It is the same for ever.
pub(super) async fn root(store: &Store, target: MessageId) -> Result<Option<MessageId>, Error> {
    let select = "SELECT COALESCE(root_seq, seq) FROM events
                  WHERE log_id = $1 AND seq = $2 AND kind = $3";
    let select = store.db().read(select).bind(target.log_id.0).bind(target.seq);
    let found: Option<(Seq,)> = select.bind(Kind::Message.number()).fetch_optional().await?;
    Ok(found.map(|(seq,)| MessageId { seq, ..target }))
}

impl Change for Edit {
    type Done = Edited;

    fn log_id(&self) -> LogId {
        self.message_id.log_id
    }

    fn actor(&self) -> &Actor {
        &self.actor
    }

    async fn run(&self, log: &mut Locked<'_>) -> Result<Edited, Error> {
        let (editor, message) = (self.actor.user.as_ref(), self.message_id.seq);
        // The reply that the message answers is not the editor's to give.
        let content = self.content.clone().replying_to(None);
        let edited = codec::edited(self.message_id, &content, None);
        let digest = log_codec::digest(&log_codec::event(editor, edited));
        if let Some((seq, time)) = log.repeat(editor, &self.request, digest).await? {
            return Ok(Edited { seq, time });
        }
        let view = log.view(editor).await?;
        let target = log.message(message).await?;
        let target = change::edit(&view, editor, message, target.as_ref(), log.now())?;
        view.may_write(log.now())?;
        change::in_time(&view, target, log.windows().edit, log.now(), EDIT_WINDOW_OVER)?;
        let before = codec::content(self.message_id, &target.payload)?;
        let reply_to = before.and_then(|content| content.reply_to());
        let stored = self.instead.as_ref().unwrap_or(&self.content);
        let ids = stored.uploads(self.message_id.log_id)?;
        let found = log.uploads(&ids).await?;
        let uploads = attachable(&found, &ids, editor, Some(message))?;
        let stored = stored.clone().describing(&uploads).replying_to(reply_to);
        let edited = codec::edited(self.message_id, &stored, target.expire_time);
        let event = NewEvent::new(editor, edited).about(message).echoing(&self.request);
        let event = event.requested(&self.request, digest);
        let (seq, time) = log.append(event).await?;
        let update = "UPDATE events SET content_seq = $3, edits = edits + 1
                      WHERE log_id = $1 AND seq = $2";
        log.conn().query(update).bind(self.log_id().0).bind(message).bind(seq).execute().await?;
        log.mention_nobody(message).await?;
        log.mention(&target.sender_id, message, stored.mentions()).await?;
        log.detach(message, &ids).await?;
        let new = uploads.iter().filter(|upload| upload.message_seq.is_none());
        let new: Vec<_> = new.map(|upload| upload.attachment_id).collect();
        log.attach(message, &new).await?;
        Ok(Edited { seq, time })
    }
}

impl Change for Deletion {
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
        let target = log.message(message).await?;
        let before = match target.as_ref().and_then(|target| target.deleted_seq) {
            Some(deleted) => deleted_by(log, self.message_id.log_id, deleted, actor).await?,
            None => None,
        };
        let target = match change::delete(&view, actor, message, target.as_ref(), before)? {
            Delete::Now(target) => target,
            Delete::Already(seq) => return Ok(seq),
        };
        if !change::is_of(target, actor) {
            view.may_write(log.now())?;
        }
        let window = log.windows().delete;
        change::in_time(&view, target, window, log.now(), DELETE_WINDOW_OVER)?;
        let event = codec::deleted(self.message_id, false);
        delete(log, actor, event, target, self.on_delete).await
    }
}

/// Deletes a message that has expired, in nobody's name, and all that goes with it.
pub(crate) async fn delete_expired(
    log: &mut Locked<'_>,
    target: &Target,
    on_delete: OnDelete,
) -> Result<Seq, Error> {
    let event = codec::deleted(MessageId { log_id: log.id(), seq: target.seq }, true);
    delete(log, None, event, target, on_delete).await
}

/// Deletes a message, and all that goes with it. Says where.
async fn delete(
    log: &mut Locked<'_>,
    actor: Option<&UserId>,
    event: Body,
    target: &Target,
    on_delete: OnDelete,
) -> Result<Seq, Error> {
    let (seq, _) = log.append(NewEvent::new(actor, event).about(target.seq)).await?;
    blank(log, log.id(), seq, target).await?;
    for with in on_delete {
        with(log, target, seq).await?;
    }
    Ok(seq)
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
