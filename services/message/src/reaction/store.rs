//! Reactions in SQL. The row of a message has their counts, written in the transaction that
//! changes them, so that who reads a message counts nothing.

use futures::future::BoxFuture;
use parlance_db::{Conn, Db, Joined};
use parlance_log::{
    Actor, Change, Error, Kind, Locked, NewEvent, Store, Target, View, has_expired, with_view,
};
use parlance_types::{LogId, MessageId, Micros, Seq, UserId};
use uuid::Uuid;

use super::grpc::{added_event, removed_event};
use super::{
    Add, Added, Before, Listing, Reaction, Remove, add, keeps, one_less, one_more, target,
};
use crate::message::{ReactionCount, codec};

/// Reactions to messages that are gone which one step lets go of at most.
const CHUNK: i64 = 100;

/// How many of those that are left are looked for at once, and the steps of each before others
/// have their turn.
const REMAINS: i64 = 100;
const STEPS: usize = 100;

parlance_db::row! {
    /// A message whose reactions are listed.
    struct OfRow {
        message_seq: Seq,
        sender_id: String,
        expire_time: Option<Micros>,
    }
}

parlance_db::row! {
    struct ReactionRow {
        reaction_seq: Seq,
        reaction_time: Micros,
        user_id: String,
        reaction_kind: String,
    }
}

/// The first so many after a place, whose columns can only be read by the index of their order.
macro_rules! list {
    ($place:literal, $of:literal) => {
        with_view!(
            nothing: "NULL AS message_seq, NULL AS sender_id, NULL AS expire_time, NULL AS reaction_seq,
                      NULL AS reaction_time, NULL AS user_id, NULL AS reaction_kind",
            columns: "m.seq, m.sender_id, m.expire_time, r.reaction_seq, r.time, r.user_id, r.kind",
            from: concat!(
                "(SELECT e.seq, e.sender_id, e.deleted_seq, e.expire_time FROM events e
                   WHERE e.log_id = $1 AND e.seq = $4 AND e.kind = $5
                     AND e.seq >= (SELECT shown FROM viewed)) m
                 LEFT JOIN
                 (SELECT s.reaction_seq, s.time, s.user_id, s.kind FROM reactions s
                   WHERE s.log_id = $1 AND (",
                $place,
                ") > (",
                $of,
                ", $6) AND (",
                $place,
                ") <= (",
                $of,
                ", 9223372036854775807) ORDER BY ",
                $place,
                " LIMIT $7) r ON m.deleted_seq IS NULL"
            ),
        )
    };
}

const LIST: &str = list!("s.message_seq, s.reaction_seq", "$4");
const LIST_OF_KIND: &str = list!("s.kind, s.message_seq, s.reaction_seq", "$8, $4");

/// What was found of a message: who sent it, and reactions.
pub(super) type Found = (Option<UserId>, Vec<Reaction>);

/// At most `limit` of the reactions to a message after a place, the oldest first, if its viewer
/// may see it, and the view.
pub(super) async fn list(
    store: &Store,
    viewer: Option<&UserId>,
    listing: &Listing,
    after: Seq,
    limit: usize,
) -> Result<Option<(View, Option<Found>)>, Error> {
    let MessageId { log_id, seq } = listing.message_id;
    let select = if listing.kind.is_some() { LIST_OF_KIND } else { LIST };
    let limit = i64::try_from(limit).unwrap_or(i64::MAX);
    let found =
        store.view_with::<Joined<OfRow, Option<ReactionRow>>>(log_id, viewer, select, |select| {
            let select = select.bind(seq).bind(Kind::Message.number()).bind(after).bind(limit);
            match &listing.kind {
                Some(kind) => select.bind(kind.as_str()),
                None => select,
            }
        });
    let Some((view, rows)) = found.await? else { return Ok(None) };
    let mut found: Option<Found> = None;
    let now = store.now();
    for Joined(OfRow { sender_id, expire_time, .. }, row) in rows {
        let sender = (!sender_id.is_empty()).then(|| UserId::new(sender_id));
        let (_, reactions) = found.get_or_insert_with(|| (sender, Vec::new()));
        reactions.extend(row.filter(|_| !has_expired(expire_time, now)).map(reaction));
    }
    if let Some((_, reactions)) = &mut found {
        reactions.sort_unstable_by_key(|reaction| reaction.seq);
    }
    Ok(Some((view, found)))
}

fn reaction(row: ReactionRow) -> Reaction {
    Reaction {
        user: UserId::new(row.user_id),
        kind: row.reaction_kind,
        seq: row.reaction_seq,
        time: row.reaction_time,
    }
}

impl Change for Add {
    type Done = Seq;

    fn log_id(&self) -> LogId {
        self.message_id.log_id
    }

    fn actor(&self) -> &Actor {
        &self.actor
    }

    async fn run(&self, log: &mut Locked<'_>) -> Result<Seq, Error> {
        let Self { user, message_id, kind, .. } = self;
        let view = log.view(Some(user)).await?;
        let found = log.message(message_id.seq).await?;
        let target = target(&view, user, message_id.seq, found.as_ref())?;
        view.may_write(log.now())?;
        keeps(target, log.now())?;
        let mut before = read(log, *message_id, user).await?;
        let replaced = match add(&before, kind, self.replace)? {
            Added::Already(seq) => return Ok(seq),
            Added::Replacing(replaced) => replaced,
        };
        let body = added_event(*message_id, kind, replaced.clone());
        let event = NewEvent::new(Some(user), body).about(message_id.seq);
        let (seq, time) = log.append(event).await?;
        for before_it in &replaced {
            remove(log, message_id.seq, user, before_it).await?;
            one_less(&mut before.counts, before_it);
        }
        let insert = "INSERT INTO reactions
                        (log_id, message_seq, reaction_seq, time, user_id, kind)
                      VALUES ($1, $2, $3, $4, $5, $6)";
        let log_id = log.id();
        let insert = log.conn().query(insert).bind(log_id.0).bind(message_id.seq).bind(seq);
        insert.bind(time).bind(user.as_str()).bind(kind.as_str()).execute().await?;
        one_more(&mut before.counts, kind.as_str());
        save(log, message_id.seq, &before.counts).await?;
        Ok(seq)
    }
}

impl Change for Remove {
    type Done = ();

    fn log_id(&self) -> LogId {
        self.message_id.log_id
    }

    fn actor(&self) -> &Actor {
        &self.actor
    }

    async fn run(&self, log: &mut Locked<'_>) -> Result<(), Error> {
        let Self { user, message_id, kind, .. } = self;
        let view = log.view(Some(user)).await?;
        let found = log.message(message_id.seq).await?;
        let target = target(&view, user, message_id.seq, found.as_ref())?;
        view.may_write(log.now())?;
        let gone = target.is_gone(log.now());
        if gone || !remove(log, message_id.seq, user, kind.as_str()).await? {
            return Ok(());
        }
        let mut counts = counts(log, *message_id).await?;
        one_less(&mut counts, kind.as_str());
        save(log, message_id.seq, &counts).await?;
        let event = NewEvent::new(Some(user), removed_event(*message_id, kind));
        log.append(event.about(message_id.seq)).await?;
        Ok(())
    }
}

/// What a message has of reactions.
async fn read(log: &mut Locked<'_>, message_id: MessageId, user: &UserId) -> Result<Before, Error> {
    let counts = counts(log, message_id).await?;
    let select = "SELECT kind, reaction_seq FROM reactions
                   WHERE log_id = $1 AND message_seq = $2 AND user_id = $3";
    let select = log.conn().query(select).bind(message_id.log_id.0).bind(message_id.seq);
    let mut own: Vec<(String, Seq)> = select.bind(user.as_str()).fetch_all().await?;
    own.sort_unstable_by_key(|(_, seq)| *seq);
    Ok(Before { counts, own })
}

/// The counts of a message's reactions.
async fn counts(log: &mut Locked<'_>, message_id: MessageId) -> Result<Vec<ReactionCount>, Error> {
    let select = "SELECT reaction_counts FROM events WHERE log_id = $1 AND seq = $2";
    let select = log.conn().query(select).bind(message_id.log_id.0).bind(message_id.seq);
    let (counts,): (Option<Vec<u8>>,) = select.fetch_one().await?;
    counts.map_or(Ok(Vec::new()), |counts| codec::stored_counts(message_id, &counts))
}

async fn save(log: &mut Locked<'_>, message: Seq, counts: &[ReactionCount]) -> Result<(), Error> {
    let counts = (!counts.is_empty()).then(|| codec::counts(counts));
    let update = "UPDATE events SET reaction_counts = $3 WHERE log_id = $1 AND seq = $2";
    let log_id = log.id();
    let update = log.conn().query(update).bind(log_id.0).bind(message).bind(counts);
    update.execute().await?;
    Ok(())
}

/// Takes a reaction of a user away, if it is there.
async fn remove(
    log: &mut Locked<'_>,
    message: Seq,
    user: &UserId,
    kind: &str,
) -> Result<bool, Error> {
    let delete = "DELETE FROM reactions
                   WHERE log_id = $1 AND message_seq = $2 AND user_id = $3 AND kind = $4";
    let log_id = log.id();
    let delete = log.conn().query(delete).bind(log_id.0).bind(message);
    Ok(delete.bind(user.as_str()).bind(kind).execute().await? == 1)
}

/// With a message its reactions are gone. There may be any number of them: what more than a
/// chunk of their rows there is, is left to the sweep.
pub(crate) fn forget_deleted<'a>(
    log: &'a mut Locked<'_>,
    target: &'a Target,
    _: Seq,
) -> BoxFuture<'a, Result<(), Error>> {
    Box::pin(async move {
        let update = "UPDATE events SET reaction_counts = NULL
                       WHERE log_id = $1 AND seq = $2 AND reaction_counts IS NOT NULL";
        let log_id = log.id();
        let update = log.conn().query(update).bind(log_id.0).bind(target.seq);
        if update.execute().await? == 0 {
            return Ok(());
        }
        forget(log, target.seq, target.seq).await
    })
}

/// The same of what is pruned.
pub(crate) fn forget_pruned<'a>(
    log: &'a mut Locked<'_>,
    first: Seq,
) -> BoxFuture<'a, Result<(), Error>> {
    Box::pin(forget(log, 0, first - 1))
}

/// Lets go of a chunk of the reactions to messages from `first` to `last`, and notes where there
/// are more.
async fn forget(log: &mut Locked<'_>, first: Seq, last: Seq) -> Result<(), Error> {
    let log_id = log.id();
    if forget_chunk(log.conn(), log_id, first, last).await? {
        let note = "INSERT INTO reaction_remains (log_id, first_seq, last_seq) VALUES ($1, $2, $3)
                    ON CONFLICT (log_id, first_seq) DO UPDATE SET last_seq = excluded.last_seq";
        let note = log.conn().query(note).bind(log_id.0).bind(first).bind(last);
        note.execute().await?;
    }
    Ok(())
}

/// Lets go of a chunk of the reactions to messages from `first` to `last`. Says whether there
/// are more.
async fn forget_chunk(
    conn: &mut Conn,
    log_id: LogId,
    first: Seq,
    last: Seq,
) -> Result<bool, Error> {
    let end = "SELECT r.message_seq, r.reaction_seq FROM reactions r
                WHERE r.log_id = $1 AND r.message_seq >= $2 AND r.message_seq <= $3
                ORDER BY r.message_seq, r.reaction_seq LIMIT 1 OFFSET $4";
    let end = conn.query(end).bind(log_id.0).bind(first).bind(last).bind(CHUNK);
    let end: Option<(Seq, Seq)> = end.fetch_optional().await?;
    // Of the messages before it all go, and of its own message those before it. In two
    // statements: what Postgres supposes of pairs is too much for an index.
    let (message, reaction) = end.unwrap_or((last + 1, 0));
    let all = "DELETE FROM reactions
                WHERE log_id = $1 AND message_seq >= $2 AND message_seq < $3";
    conn.query(all).bind(log_id.0).bind(first).bind(message).execute().await?;
    let some = "DELETE FROM reactions
                 WHERE log_id = $1 AND message_seq = $2 AND reaction_seq < $3";
    conn.query(some).bind(log_id.0).bind(message).bind(reaction).execute().await?;
    Ok(end.is_some())
}

/// Lets go of what is left of reactions, in chunks. Nobody adds to it, so this needs no lock; it
/// may run anywhere, and at once.
pub(super) async fn sweep(db: &Db) -> Result<(), Error> {
    let select = "SELECT log_id, first_seq, last_seq FROM reaction_remains LIMIT $1";
    let remains: Vec<(Uuid, Seq, Seq)> = db.read(select).bind(REMAINS).fetch_all().await?;
    // Where it was said meanwhile that there is more, it stays.
    let done = "DELETE FROM reaction_remains
                 WHERE log_id = $1 AND first_seq = $2 AND last_seq = $3";
    for (log_id, first, last) in remains {
        let mut steps = 0;
        let mut more = true;
        while more && steps < STEPS {
            // Of a file there is one that writes: others have it between the chunks.
            let mut conn = db.writer().await?;
            more = forget_chunk(&mut conn, LogId(log_id), first, last).await?;
            steps += 1;
        }
        if !more {
            db.write(done).bind(log_id).bind(first).bind(last).execute().await?;
        }
    }
    Ok(())
}
