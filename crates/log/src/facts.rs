//! Facts of other services on their way into a log. They are obeyed, not judged.

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;
use parlance_db::{AssertSqlSafe, Conn, rows};
use parlance_types::{LogId, Micros, Role, RoomId, RoomKind, Seq, TenantId, UserId};

use crate::change::{Executed, Transaction};
use crate::codec::Envelope;
use crate::head::{self, HeadRow, PRESENT_EPOCH};
use crate::person::{self, OWN};
use crate::write::{Party, Who};
use crate::{
    Effects, Error, Kind, Locked, NewEvent, Projection, Rules, Windows, broadcast, codec, hidden,
    prune, purge, room_id,
};

/// Who numbers facts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Source {
    Membership,
    Room,
}

/// One change of a source, as one or more event payloads.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Fact {
    pub version: i64,
    /// None in a silent fact.
    pub events: Vec<Bytes>,
    /// What a silent fact says.
    pub silent: Option<Projection>,
}

/// What a log is. Never changes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum LogIdentity {
    /// A room's.
    Room { room_id: RoomId, kind: RoomKind },
    /// A user's own: it has silent facts alone.
    Own(UserId),
}

impl LogIdentity {
    /// What the head keeps of it: an id, and a kind.
    fn stored(&self) -> (&str, i16) {
        match self {
            Self::Room { room_id, kind } => (room_id.as_str(), *kind as i16),
            Self::Own(user_id) => (user_id.as_str(), OWN),
        }
    }
}

/// Facts of one source for one log, in contiguous ascending order of version.
#[derive(Clone, Debug)]
pub struct FactBatch {
    pub tenant_id: TenantId,
    pub log_id: LogId,
    pub source: Source,
    pub facts: Vec<Fact>,
    /// Needed by the fact that creates the log.
    pub identity: Option<LogIdentity>,
}

/// What a fact batch came to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Applied {
    pub applied: i64,
    pub head: Seq,
    pub closed: bool,
}

impl Transaction for FactBatch {
    type Done = Applied;

    /// It may refuse when some facts are applied, and locks rows of users.
    const SHARES: bool = false;

    fn log(&self) -> LogId {
        self.log_id
    }

    fn who(&self) -> Who {
        Who { tenant_id: self.tenant_id.clone(), party: Party::Suite }
    }

    /// Applies what is new of the batch.
    async fn execute(&self, conn: &mut Conn, now: Micros) -> Result<Executed<Applied>, Error> {
        let head = head::lock(conn, self.log_id, None).await?;
        if head.is_none()
            && let Some(done) = purge::apply(conn, self).await?
        {
            return Ok(Executed { done: Ok(done), appended: None, closed: true });
        }
        let mut log = lock(conn, now, self, head).await?;
        if log.row.tenant_id != self.tenant_id.as_str() {
            return Err(Error::log_not_found());
        }
        let before = *applied(&mut log.row, self.source);
        let (mut users, mut said) = (BTreeSet::new(), Vec::new());
        if log.row.head == 0 && broadcast::open(&mut log).await? {
            users.insert(UserId::everybody());
        }
        for fact in self.facts.iter().filter(|fact| fact.version > before) {
            let applied = applied(&mut log.row, self.source);
            if fact.version != *applied + 1 {
                return Err(Error::FactGap { applied: before });
            }
            *applied = fact.version;
            if log.row.closed_seq.is_some() {
                continue;
            }
            match &fact.silent {
                Some(silent) if log.row.kind == OWN => said.push(silent),
                Some(silent) => person::bar(&mut log, silent, &mut users).await?,
                None if log.row.kind == OWN => {
                    return Err(Error::invalid("facts", "must be silent in a user's own log"));
                }
                None => {
                    for event in &fact.events {
                        if log.row.closed_seq.is_none() {
                            append(&mut log, event, &mut users).await?;
                        }
                    }
                }
            }
        }
        // Only after the head is saved: rows of users are the last that are locked.
        let own = (!said.is_empty()).then(|| UserId::new(&log.row.room_id));
        let closed = log.row.closed_seq.is_some();
        let applied = *applied(&mut log.row, self.source);
        let done = Applied { applied, head: log.row.head, closed };
        if done.applied == before {
            return Ok(Executed { done: Ok(done), appended: None, closed });
        }
        let appended = log.save(users.iter().chain(&own).cloned().collect()).await?;
        let told = bump_user_heads(conn, &self.tenant_id, &users).await?;
        person::greet(conn, self.log_id, &told).await?;
        if let Some(user_id) = &own {
            person::say(conn, &self.tenant_id, user_id, &said).await?;
        }
        Ok(Executed { done: Ok(done), appended, closed })
    }
}

fn applied(row: &mut HeadRow, source: Source) -> &mut i64 {
    match source {
        Source::Membership => &mut row.applied_membership,
        Source::Room => &mut row.applied_room,
    }
}

/// The log of a batch under its lock. It begins with the membership's first fact if there
/// was no `head`.
async fn lock<'c>(
    conn: &'c mut Conn,
    now: Micros,
    batch: &FactBatch,
    head: Option<HeadRow>,
) -> Result<Locked<'c>, Error> {
    if let Some(row) = head {
        return Locked::of(conn, batch.log_id, row, now).await;
    }
    let identity = creates(batch)?;
    insert_head(conn, now, batch, identity).await?;
    // Locked only now: another may have created it meanwhile.
    let row = head::lock(conn, batch.log_id, None).await?.ok_or(Error::log_not_found())?;
    let mut log = Locked::of(conn, batch.log_id, row, now).await?;
    if let LogIdentity::Room { room_id, .. } = identity
        && log.row.head == 0
    {
        room_id::take(log.conn(), &batch.tenant_id, room_id, batch.log_id).await?;
        // In the epoch that holds under the lock, which may have begun since the insert.
        log.enter_epoch(1).await?;
    }
    Ok(log)
}

/// What the log is that a batch creates.
fn creates(batch: &FactBatch) -> Result<&LogIdentity, Error> {
    let Some(first) = batch.facts.first().filter(|_| batch.source == Source::Membership) else {
        return Err(Error::log_not_found());
    };
    if first.version != 1 {
        return Err(Error::FactGap { applied: 0 });
    }
    let identity = batch.identity.as_ref();
    identity.ok_or_else(|| Error::invalid("identity", "must be set to create a log"))
}

async fn insert_head(
    conn: &mut Conn,
    now: Micros,
    batch: &FactBatch,
    identity: &LogIdentity,
) -> Result<(), Error> {
    let (epoch, _): (i64, String) = conn.query(PRESENT_EPOCH).fetch_one().await?;
    let insert = "
        INSERT INTO heads (log_id, tenant_id, room_id, kind, head, head_time, ord, first_seq,
                           first_ord, deleted, message_time, post_rule, allow_preview, history, epoch,
                           applied_membership, applied_room)
        VALUES ($1, $2, $3, $4, 0, $5, 0, 1, 1, 0, 0, $6, $7, $8, $9, 0, 0)
        ON CONFLICT (log_id) DO NOTHING";
    let (rules, (id, kind)) = (Rules::default(), identity.stored());
    let insert = conn
        .query(insert)
        .bind(batch.log_id.0)
        .bind(batch.tenant_id.as_str())
        .bind(id)
        .bind(kind)
        .bind(now)
        .bind(rules.post as i16)
        .bind(rules.allow_preview)
        .bind(rules.history as i16)
        .bind(epoch);
    insert.execute().await?;
    Ok(())
}

/// Appends one event of a fact and obeys its effects.
async fn append(
    log: &mut Locked<'_>,
    payload: &Bytes,
    users: &mut BTreeSet<UserId>,
) -> Result<(), Error> {
    let Envelope { actor, effects, kind, .. } = codec::envelope(payload)
        .map_err(|_| Error::invalid("facts", "must hold encoded events"))?;
    if kind != Kind::Fact {
        return Err(Error::invalid("facts", "must not hold messages, edits or deletions"));
    }
    let event = NewEvent::encoded(kind, actor.as_ref(), payload.clone());
    let (seq, time) = log.append(event).await?;
    obey(log, seq, time, &effects).await?;
    users.extend(effects.gained.into_iter().map(|(user, _)| user).chain(effects.lost));
    Ok(())
}

async fn obey(
    log: &mut Locked<'_>,
    seq: Seq,
    time: Micros,
    effects: &Effects,
) -> Result<(), Error> {
    if let Some(Rules { post, allow_preview, history }) = effects.rules {
        log.row.post_rule = post as i16;
        log.row.allow_preview = allow_preview;
        log.row.history = history as i16;
    }
    if let Some(Windows { slow_mode, edit, delete }) = effects.windows {
        log.row.slow_mode = slow_mode;
        log.row.edit_window = edit;
        log.row.delete_window = delete;
    }
    // A log that begins keeps events for ever if nothing else is said.
    if let Some(retention) = effects.retention.filter(|retention| seq > 1 || *retention > 0) {
        prune::keep(log, retention).await?;
    }
    if effects.closed {
        log.row.closed_seq = Some(seq);
        broadcast::close(log).await?;
        prune::schedule(log).await?;
    }
    gain(log, seq, time, &effects.gained).await?;
    let log_id = log.id;
    if !effects.lost.is_empty() {
        let delete = "DELETE FROM members WHERE (log_id, user_id) IN (VALUES ($1, $2..))";
        hidden::leave(log.conn(), log_id, effects.lost.iter().map(UserId::as_str)).await?;
        let lost = effects.lost.iter().map(UserId::as_str);
        log.conn().query(delete).bind(log_id.0).bind_list(lost).execute().await?;
    }
    let update = "UPDATE members SET role = $3
                  WHERE log_id = $1 AND user_id = $2";
    for (user_id, role) in &effects.roles {
        let update = log.conn().query(update).bind(log_id.0).bind(user_id.as_str());
        update.bind(*role as i16).execute().await?;
    }
    // One event mutes its users until one time; only those who join bring times of their own.
    for mutes in effects.mutes.chunk_by(|(_, a), (_, b)| a == b) {
        let update = "UPDATE members SET muted_until = $1
                      WHERE (log_id, user_id) IN (VALUES ($2, $3..))";
        let update = log.conn().query(update).bind(mutes[0].1).bind(log_id.0);
        let muted = mutes.iter().map(|(user_id, _)| user_id.as_str());
        update.bind_list(muted).execute().await?;
    }
    Ok(())
}

/// Makes users members from `seq` on; joining is reading.
async fn gain(
    log: &mut Locked<'_>,
    seq: Seq,
    time: Micros,
    gained: &[(UserId, Role)],
) -> Result<(), Error> {
    if gained.is_empty() {
        return Ok(());
    }
    let (log_id, ord) = (log.id, log.row.ord);
    let tenant_id = log.row.tenant_id.clone();
    // Each user once, in order.
    let gained: BTreeMap<_, _> = gained.iter().map(|(user, role)| (user, *role as i16)).collect();
    let members = rows(6, gained.len(), "($1, $+, $2, $+, $3, $4, $3, $5, $3, FALSE)");
    let insert = format!(
        "INSERT INTO members (log_id, user_id, tenant_id, role, joined_seq, joined_time, read_seq,
                              read_ord, delivered_seq, marked_unread)
         VALUES {members}
         ON CONFLICT (log_id, user_id) DO UPDATE SET role = excluded.role,
                joined_seq = excluded.joined_seq, joined_time = excluded.joined_time,
                read_seq = excluded.read_seq, read_ord = excluded.read_ord,
                delivered_seq = excluded.delivered_seq, marked_unread = FALSE,
                hidden_ord = -1, cleared_seq = 0, cleared_ord = 0,
                muted_until = 0, has_hidden = FALSE"
    );
    let insert = log.conn().query(AssertSqlSafe(insert)).once();
    let mut insert = insert.bind(log_id.0).bind(tenant_id).bind(seq).bind(time).bind(ord);
    for (user_id, role) in gained {
        insert = insert.bind(user_id.as_str()).bind(role);
    }
    insert.execute().await?;
    Ok(())
}

/// Tells streams of these users that their list of rooms changed. The last locks that
/// are taken, in order of user. Gives what was said of those of whom something was.
async fn bump_user_heads(
    conn: &mut Conn,
    tenant_id: &TenantId,
    users: &BTreeSet<UserId>,
) -> Result<Vec<(String, i64, Micros, bool)>, Error> {
    if users.is_empty() {
        return Ok(Vec::new());
    }
    let heads = rows(2, users.len(), "($1, $+, 1)");
    let insert = format!(
        "INSERT INTO user_heads (tenant_id, user_id, version) VALUES {heads}
         ON CONFLICT (tenant_id, user_id) DO UPDATE SET version = user_heads.version + 1
         RETURNING user_id, said, suspended_until, has_blocks"
    );
    let mut insert = conn.query(AssertSqlSafe(insert)).once().bind(tenant_id.as_str());
    for user_id in users {
        insert = insert.bind(user_id.as_str());
    }
    let mut told: Vec<(String, i64, Micros, bool)> = insert.fetch_all().await?;
    told.retain(|(_, said, ..)| *said > 0);
    Ok(told)
}
