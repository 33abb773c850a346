//! Attachments in SQL. What becomes of the bytes is told by single statements, each about one
//! attachment: only what ties them to messages takes the lock of the log.

use futures::future::BoxFuture;
use parlance_db::{Db, Joined, Stored};
use parlance_log::{Actor, Change, Error, Locked, Store, Target, View, has_expired, with_view};
use parlance_types::{AttachmentId, LogId, Micros, RequestId, RoomId, Seq, UserId};
use uuid::Uuid;

use super::{Attachment, Draft, Found, Holder, MAX_WAITING, PART, Sha256, Spans, WAITS, in_log};

/// How many attachments that are due are looked for at once, and how often in a row.
pub(super) const DUE: usize = 100;
pub(super) const STEPS: usize = 20;

/// How long what is being written may still come after nobody may read it any more.
const SETTLES: Micros = 60 * 1_000_000;

/// How long an attachment is left alone that could not be removed.
const AGAIN: Micros = 60 * 1_000_000;

/// Attachments of pruned messages that one step lets go of at most.
const CHUNK: i64 = 100;

parlance_db::row! {
    /// A row of `attachments`.
    struct AttachmentRow {
        attachment_id: Uuid,
        user_id: String,
        name: String,
        content_type: String,
        size: i64,
        part_size: i64,
        time: Micros,
        arrived: i64,
        sha256: Option<Vec<u8>>,
        message_seq: Option<Seq>,
        ended: bool,
    }
}

parlance_db::row! {
    /// The message that holds it.
    struct HolderRow {
        sender_id: String,
        deleted: bool,
        expire_time: Option<Micros>,
    }
}

const FIND: &str = with_view!(
    nothing: "NULL AS attachment_id, NULL AS user_id, NULL AS name, NULL AS content_type,
              NULL AS size, NULL AS part_size, NULL AS time, NULL AS arrived, NULL AS sha256,
              NULL AS message_seq, NULL AS ended, NULL AS sender_id, NULL AS deleted,
              NULL AS expire_time",
    columns: "a.attachment_id, a.user_id, a.name, a.content_type, a.size, a.part_size, a.time,
              a.arrived, a.sha256, a.message_seq, a.ended, e.sender_id,
              e.deleted_seq IS NOT NULL, e.expire_time",
    from: "attachments a LEFT JOIN events e ON e.log_id = $1 AND e.seq = a.message_seq
           WHERE a.log_id = $1 AND a.attachment_id = $4",
);

type FoundRow = Joined<AttachmentRow, Option<HolderRow>>;

/// An attachment, and the view of its log.
pub(super) async fn find(
    store: &Store,
    viewer: Option<&UserId>,
    id: AttachmentId,
) -> Result<Option<(View, Option<Found>)>, Error> {
    let found = store.view_with::<FoundRow>(id.log_id, viewer, FIND, |find| find.bind(id.id));
    let Some((view, rows)) = found.await? else { return Ok(None) };
    let found = |Joined(row, holder): FoundRow| {
        let ended = row.ended;
        let holder = holder.map(|HolderRow { sender_id, deleted, expire_time }| {
            let sender = (!sender_id.is_empty()).then(|| UserId::new(sender_id));
            Holder { sender, gone: deleted || has_expired(expire_time, store.now()) }
        });
        let attachment = row.attachment(id.log_id, view.room_id.clone())?;
        Ok::<_, Error>(Found { attachment, ended, holder })
    };
    let found = rows.into_iter().next().map(found).transpose()?;
    Ok(Some((view, found)))
}

impl AttachmentRow {
    fn attachment(self, log_id: LogId, room_id: RoomId) -> Result<Attachment, Error> {
        let id = AttachmentId { log_id, id: self.attachment_id };
        let stored = Stored { table: "attachments", row: id };
        Ok(Attachment {
            uploader: (!self.user_id.is_empty()).then(|| UserId::new(self.user_id)),
            name: self.name,
            content_type: self.content_type,
            size: self.size,
            arrived: self.arrived,
            sha256: self.sha256.map(|sum| stored.value("sha256", sha256(&sum))).transpose()?,
            time: self.time,
            message: in_log(id, self.message_seq),
            part_size: stored.value("part_size", Some(self.part_size).filter(|size| *size > 0))?,
            room_id,
            id,
        })
    }
}

fn sha256(bytes: &[u8]) -> Option<Sha256> {
    bytes.try_into().ok()
}

/// An attachment that is to be created.
#[derive(Clone, Debug)]
pub(super) struct Create {
    pub(super) actor: Actor,
    pub(super) id: AttachmentId,
    pub(super) draft: Draft,
}

impl Change for Create {
    type Done = Attachment;

    fn log_id(&self) -> LogId {
        self.id.log_id
    }

    fn actor(&self) -> &Actor {
        &self.actor
    }

    async fn run(&self, log: &mut Locked<'_>) -> Result<Attachment, Error> {
        let Self { actor, id, draft } = self;
        let view = log.view(actor.user.as_ref()).await?;
        view.visible_to(actor.user.as_ref())?;
        if let Some((before, wanted)) = self.before(log, &view.room_id).await? {
            let same = before.name == draft.name
                && before.content_type == draft.content_type
                && before.size == draft.size
                && wanted == draft.sha256.map(Vec::from);
            return if same { Ok(before) } else { Err(Error::request_id_reused()) };
        }
        view.may_post()?;
        view.may_write(log.now())?;
        let (log_id, user, now) = (id.log_id.0, self.user(), log.now());
        // The list ends where there are too many, so that looking costs no more then.
        let count = "SELECT COUNT(*) FROM
                       (SELECT 1 FROM attachments
                         WHERE log_id = $1 AND user_id = $2 AND message_seq IS NULL
                           AND ended = FALSE LIMIT $3) waiting";
        let count = log.conn().query(count).bind(log_id).bind(user).bind(MAX_WAITING);
        let (waiting,): (i64,) = count.fetch_one().await?;
        if waiting >= MAX_WAITING {
            return Err(Error::QuotaExceeded { limit: "uploads", most: MAX_WAITING });
        }
        let insert = "INSERT INTO attachments (log_id, attachment_id, user_id, request_id, time,
                                               name, content_type, size, part_size, wanted)
                      VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10)";
        let part_size = i64::try_from(PART).unwrap_or(i64::MAX);
        let request_id = draft.request_id.as_ref().map(RequestId::as_str);
        let insert = log.conn().query(insert).bind(log_id).bind(id.id).bind(user).bind(request_id);
        let insert = insert.bind(now).bind(&*draft.name).bind(&*draft.content_type);
        let insert = insert.bind(draft.size).bind(part_size);
        insert.bind(draft.sha256.map(Vec::from)).execute().await?;
        let end = "INSERT INTO attachment_ends (log_id, attachment_id, due) VALUES ($1, $2, $3)";
        let end = log.conn().query(end).bind(log_id).bind(id.id).bind(now + WAITS);
        end.execute().await?;
        Ok(Attachment {
            id: *id,
            room_id: view.room_id,
            uploader: actor.user.clone(),
            name: draft.name.clone(),
            content_type: draft.content_type.clone(),
            size: draft.size,
            arrived: 0,
            sha256: None,
            time: now,
            message: None,
            part_size,
        })
    }
}

parlance_db::row! {
    struct WantedRow {
        wanted: Option<Vec<u8>>,
    }
}

/// What was created before, as far as one place of a key says.
macro_rules! before {
    ($place:literal) => {
        concat!(
            "SELECT attachment_id, user_id, name, content_type, size, part_size, time, arrived,
                    sha256, message_seq, ended, wanted
               FROM attachments WHERE log_id = $1 AND ",
            $place
        )
    };
}

const BY_ID: &str = before!("attachment_id = $2");
const BY_REQUEST: &str = before!("user_id = $2 AND request_id = $3");

impl Create {
    /// Empty: the system.
    fn user(&self) -> &str {
        self.actor.user.as_ref().map_or("", UserId::as_str)
    }

    /// What was created under the same request, or by a run whose commit was unknown, and what
    /// its sum was to be.
    async fn before(
        &self,
        log: &mut Locked<'_>,
        room_id: &RoomId,
    ) -> Result<Option<(Attachment, Option<Vec<u8>>)>, Error> {
        let log_id = self.id.log_id;
        let select = log.conn().query(BY_ID).bind(log_id.0).bind(self.id.id);
        let mut found: Option<Joined<AttachmentRow, WantedRow>> = select.fetch_optional().await?;
        if let (None, Some(request_id)) = (&found, &self.draft.request_id) {
            let select = log.conn().query(BY_REQUEST).bind(log_id.0).bind(self.user());
            found = select.bind(request_id.as_str()).fetch_optional().await?;
        }
        let Some(Joined(row, WantedRow { wanted })) = found else { return Ok(None) };
        if row.ended {
            return Err(Error::attachment_not_found());
        }
        Ok(Some((row.attachment(log_id, room_id.clone())?, wanted)))
    }
}

/// Begins a stream of bytes where an attachment stands, which ends those before it: gives its
/// number, and what the sum is to be. `None`: it does not stand there any more.
pub(super) async fn begin(
    store: &Store,
    attachment: &Attachment,
) -> Result<Option<(i64, Option<Sha256>)>, Error> {
    let (id, arrived) = (attachment.id, attachment.arrived);
    let update = "UPDATE attachments SET stream = stream + 1
                   WHERE log_id = $1 AND attachment_id = $2 AND arrived = $3
                     AND sha256 IS NULL AND NOT ended
                   RETURNING stream, wanted";
    let update = store.db().write(update).bind(id.log_id.0).bind(id.id).bind(arrived);
    let begun: Option<(i64, Option<Vec<u8>>)> = update.fetch_optional().await?;
    let Some((stream, wanted)) = begun else { return Ok(None) };
    // Of two that begin at one place the later one counts.
    let insert = "INSERT INTO attachment_spans (log_id, attachment_id, first_part, stream)
                  VALUES ($1, $2, $3, $4)
                  ON CONFLICT (log_id, attachment_id, first_part)
                  DO UPDATE SET stream = excluded.stream
                   WHERE attachment_spans.stream < excluded.stream";
    let insert = store.db().write(insert).bind(id.log_id.0).bind(id.id);
    insert.bind(arrived / attachment.part_size).bind(stream).execute().await?;
    let stored = Stored { table: "attachments", row: id };
    let wanted = wanted.map(|wanted| stored.value("wanted", sha256(&wanted))).transpose()?;
    Ok(Some((stream, wanted)))
}

/// Which streams brought the parts of an attachment.
pub(super) async fn spans(store: &Store, id: AttachmentId) -> Result<Spans, Error> {
    let select = "SELECT first_part, stream FROM attachment_spans
                   WHERE log_id = $1 AND attachment_id = $2";
    let select = store.db().read(select).bind(id.log_id.0).bind(id.id);
    Ok(Spans(select.fetch_all().await?))
}

/// Counts what has arrived by a stream; says whether that is the latest still.
pub(super) async fn arrived(
    store: &Store,
    attachment: &Attachment,
    stream: i64,
) -> Result<bool, Error> {
    let update = "UPDATE attachments SET arrived = $4
                   WHERE log_id = $1 AND attachment_id = $2 AND stream = $3
                     AND sha256 IS NULL AND NOT ended";
    let id = attachment.id;
    let update = store.db().write(update).bind(id.log_id.0).bind(id.id).bind(stream);
    Ok(update.bind(attachment.arrived).execute().await? == 1)
}

/// Says that all bytes have arrived by a stream; and whether that is the latest still.
pub(super) async fn complete(
    store: &Store,
    attachment: &Attachment,
    stream: i64,
    sum: &Sha256,
) -> Result<bool, Error> {
    let update = "UPDATE attachments SET arrived = size, sha256 = $4
                   WHERE log_id = $1 AND attachment_id = $2 AND stream = $3
                     AND sha256 IS NULL AND NOT ended";
    let id = attachment.id;
    let update = store.db().write(update).bind(id.log_id.0).bind(id.id).bind(stream);
    Ok(update.bind(sum.as_slice()).execute().await? == 1)
}

/// Forgets what has arrived by a stream and those before it.
pub(super) async fn begin_anew(
    store: &Store,
    attachment: &Attachment,
    stream: i64,
) -> Result<(), Error> {
    let update = "UPDATE attachments SET arrived = 0
                   WHERE log_id = $1 AND attachment_id = $2 AND stream = $3 AND sha256 IS NULL";
    let id = attachment.id;
    let update = store.db().write(update).bind(id.log_id.0).bind(id.id).bind(stream);
    update.execute().await?;
    Ok(())
}

/// How much of an attachment has arrived; `None`: it is gone.
pub(super) async fn stands(store: &Store, id: AttachmentId) -> Result<Option<i64>, Error> {
    let select = "SELECT arrived FROM attachments
                   WHERE log_id = $1 AND attachment_id = $2 AND NOT ended";
    let select = store.db().read(select).bind(id.log_id.0).bind(id.id);
    let found: Option<(i64,)> = select.fetch_optional().await?;
    Ok(found.map(|(arrived,)| arrived))
}

/// With a message what it holds is gone.
pub(crate) fn detach_deleted<'a>(
    log: &'a mut Locked<'_>,
    target: &'a Target,
    _: Seq,
) -> BoxFuture<'a, Result<(), Error>> {
    Box::pin(log.detach(target.seq, &[]))
}

/// The same of what is pruned. Nobody sees these messages any more, so what they hold may go
/// later, in chunks.
pub(crate) fn detach_pruned<'a>(
    log: &'a mut Locked<'_>,
    first: Seq,
) -> BoxFuture<'a, Result<(), Error>> {
    Box::pin(async move {
        let log_id = log.id();
        let any = "SELECT attachment_id FROM attachments
                    WHERE log_id = $1 AND message_seq < $2 LIMIT 1";
        let any = log.conn().query(any).bind(log_id.0).bind(first);
        if any.fetch_optional::<(Uuid,)>().await?.is_none() {
            return Ok(());
        }
        let note = "INSERT INTO attachment_remains (log_id, before_seq) VALUES ($1, $2)
                    ON CONFLICT (log_id) DO UPDATE SET before_seq = excluded.before_seq";
        log.conn().query(note).bind(log_id.0).bind(first).execute().await?;
        Ok(())
    })
}

/// Has attachments of pruned messages removed, in chunks. No message is added to these, so this
/// needs no lock; it may run anywhere, and at once.
pub(super) async fn let_go_of_pruned(db: &Db, now: Micros) -> Result<(), Error> {
    let select = "SELECT log_id, before_seq FROM attachment_remains LIMIT $1";
    let limit = i64::try_from(DUE).unwrap_or(i64::MAX);
    let remains: Vec<(Uuid, Seq)> = db.read(select).bind(limit).fetch_all().await?;
    // Where it was said meanwhile that there is more, it stays.
    let done = "DELETE FROM attachment_remains WHERE log_id = $1 AND before_seq = $2";
    for (log_id, before) in remains {
        let mut steps = 0;
        let mut more = true;
        while more && steps < STEPS {
            more = let_go_of_chunk(db, log_id, before, now).await?;
            steps += 1;
        }
        if !more {
            db.write(done).bind(log_id).bind(before).execute().await?;
        }
    }
    Ok(())
}

/// Has a chunk of them removed. Says whether there may be more.
async fn let_go_of_chunk(db: &Db, log_id: Uuid, before: Seq, now: Micros) -> Result<bool, Error> {
    let select = "SELECT attachment_id FROM attachments
                   WHERE log_id = $1 AND message_seq < $2 ORDER BY message_seq LIMIT $3";
    let update = "UPDATE attachments SET message_seq = NULL, ended = TRUE
                   WHERE log_id = $1 AND attachment_id = $2 AND message_seq < $3";
    let insert = "INSERT INTO attachment_ends (log_id, attachment_id, due) VALUES ($1, $2, $3)
                  ON CONFLICT (log_id, attachment_id) DO UPDATE SET due = excluded.due";
    let mut tx = db.begin().await?;
    let select = tx.query(select).bind(log_id).bind(before).bind(CHUNK);
    let chunk: Vec<(Uuid,)> = select.fetch_all().await?;
    for (id,) in &chunk {
        tx.query(update).bind(log_id).bind(*id).bind(before).execute().await?;
        tx.query(insert).bind(log_id).bind(*id).bind(now + SETTLES).execute().await?;
    }
    tx.commit().await?;
    Ok(i64::try_from(chunk.len()).is_ok_and(|found| found == CHUNK))
}

/// Attachments at which it is time to look, and when that was to be.
pub(super) async fn due(db: &Db, now: Micros) -> Result<Vec<(AttachmentId, Micros)>, Error> {
    let select = "SELECT log_id, attachment_id, due FROM attachment_ends
                   WHERE due <= $1 ORDER BY due LIMIT $2";
    let limit = i64::try_from(DUE).unwrap_or(i64::MAX);
    let due: Vec<(Uuid, Uuid, Micros)> = db.read(select).bind(now).bind(limit).fetch_all().await?;
    let named = |(log_id, id, due)| (AttachmentId { log_id: LogId(log_id), id }, due);
    Ok(due.into_iter().map(named).collect())
}

/// Whether the bytes of an attachment are to be removed now. One that waited in vain for a
/// message is given up first, and is looked at again once nothing is written there any more; one
/// that a message holds is looked at no more.
pub(super) async fn ends(
    db: &Db,
    id: AttachmentId,
    due: Micros,
    now: Micros,
) -> Result<bool, Error> {
    let select = "SELECT ended FROM attachments WHERE log_id = $1 AND attachment_id = $2";
    let select = db.read(select).bind(id.log_id.0).bind(id.id);
    let found: Option<(bool,)> = select.fetch_optional().await?;
    if found == Some((true,)) {
        return Ok(true);
    }
    let give_up = "UPDATE attachments SET ended = TRUE
                    WHERE log_id = $1 AND attachment_id = $2 AND (message_seq IS NULL) IS TRUE";
    let ended = db.write(give_up).bind(id.log_id.0).bind(id.id).execute().await?;
    if ended == 1 {
        put_off(db, id, due, now).await?;
    } else {
        let delete = "DELETE FROM attachment_ends
                       WHERE log_id = $1 AND attachment_id = $2 AND due = $3";
        let delete = db.write(delete).bind(id.log_id.0).bind(id.id).bind(due);
        delete.execute().await?;
    }
    Ok(false)
}

/// Looks at an attachment again a little later, unless that was said meanwhile.
pub(super) async fn put_off(
    db: &Db,
    id: AttachmentId,
    due: Micros,
    now: Micros,
) -> Result<(), Error> {
    let update = "UPDATE attachment_ends SET due = $4
                   WHERE log_id = $1 AND attachment_id = $2 AND due = $3";
    let update = db.write(update).bind(id.log_id.0).bind(id.id).bind(due);
    update.bind(now + AGAIN.max(SETTLES)).execute().await?;
    Ok(())
}

/// Forgets an attachment whose bytes are removed: last when to look at it, so that what is cut
/// short is gone on with.
pub(super) async fn forget(db: &Db, id: AttachmentId) -> Result<(), Error> {
    for delete in [
        "DELETE FROM attachment_spans WHERE log_id = $1 AND attachment_id = $2",
        "DELETE FROM attachments WHERE log_id = $1 AND attachment_id = $2",
        "DELETE FROM attachment_ends WHERE log_id = $1 AND attachment_id = $2",
    ] {
        db.write(delete).bind(id.log_id.0).bind(id.id).execute().await?;
    }
    Ok(())
}
