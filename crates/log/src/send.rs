//! The append of messages: checks, numbers and rows in one transaction.
//!
//! On Postgres it is one call of a function, see `append_messages_v5` in the
//! migrations; on SQLite the same steps from here. The suite holds the two equal.

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;
use parlance_db::{Conn, Stored};
use parlance_types::{
    LogId, MemberRule, MessageId, Micros, Role, RoomId, RoomKind, Seq, TenantId, UserId,
    stored_enum,
};
use uuid::Uuid;

use crate::{
    Actor, Appended, EpochId, Error, Kind, Locked, Membership, NewEvent, RequestKey, StoredEvent,
    attachable, codec,
};

/// A message on its way into a log. What is wrong with it can only be known by the log.
#[derive(Clone, Debug)]
pub struct Entry {
    pub(crate) log_id: LogId,
    /// Whose message it is: the actor's, unless the system brings in what somebody wrote
    /// elsewhere.
    sender: Option<UserId>,
    /// Who sends; without a user the system, which needs no membership.
    pub(crate) actor: Actor,
    pub(crate) request: RequestKey,
    digest: [u8; 32],
    counted: bool,
    /// Of a reply: what its thread began with.
    root: Option<Seq>,
    mentions: Mentions,
    /// How long the message is there; `None`: for ever.
    expires: Option<Micros>,
    pub(crate) priority: Priority,
    /// What it holds of its sender's uploads.
    attachments: Vec<Uuid>,
    pub(crate) payload: Bytes,
}

/// Which of what one caller has waiting is refused first.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub enum Priority {
    Low,
    #[default]
    Normal,
    High,
}

/// Whom a message calls on: those of them who are members.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Mentions {
    /// Users, each once, in order.
    pub users: BTreeSet<UserId>,
    /// Whether it is everybody.
    pub everyone: bool,
}

/// Who is called on where everybody is, as the append takes it. No user has such an id.
const EVERYONE: &str = "\u{1}";

impl Mentions {
    pub fn is_empty(&self) -> bool {
        !self.everyone && self.users.is_empty()
    }

    /// As the append takes them: the ids, a line each.
    fn lines(&self) -> Option<String> {
        if self.everyone {
            return Some(EVERYONE.to_owned());
        }
        let users: Vec<_> = self.users.iter().map(UserId::as_str).collect();
        (!users.is_empty()).then(|| users.join("\n"))
    }
}

/// An accepted message; the same for every repeat of its request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Sent {
    pub message_id: MessageId,
    pub time: Micros,
    /// The epoch the message was stored in.
    pub epoch: EpochId,
}

impl Entry {
    /// A message of the actor's user, or of the system. `counted`: it is unread for those who
    /// have not read it. `payload` does not show the request's id yet.
    pub fn new(
        log_id: LogId,
        actor: Actor,
        request: RequestKey,
        counted: bool,
        payload: Bytes,
    ) -> Self {
        let digest = codec::digest(&payload);
        let payload = codec::echoing(payload, &request);
        Self {
            log_id,
            sender: actor.user.clone(),
            actor,
            request,
            digest,
            counted,
            root: None,
            mentions: Mentions::default(),
            expires: None,
            priority: Priority::default(),
            attachments: Vec::new(),
            payload,
        }
    }

    /// The same message, of which `payload` is stored: of a reply it names what its thread began
    /// with, `root`. A repeat is told by what the caller said.
    #[must_use]
    pub fn storing(self, root: Option<Seq>, payload: Bytes) -> Self {
        let payload = codec::echoing(payload, &self.request);
        Self { root, payload, ..self }
    }

    /// The same message, calling on some.
    #[must_use]
    pub fn mentioning(self, mentions: Mentions) -> Self {
        Self { mentions, ..self }
    }

    /// The same message, which expires so long after it is stored, as `payload` says.
    #[must_use]
    pub fn expiring(self, after: Option<Micros>) -> Self {
        Self { expires: after, ..self }
    }

    /// The same message as one of a user who sent it elsewhere, where the actor is nobody.
    #[must_use]
    pub fn sent_by(self, sender: Option<UserId>) -> Self {
        Self { sender, ..self }
    }

    /// The same message, of another priority. It is no part of what is stored.
    #[must_use]
    pub fn prior(self, priority: Priority) -> Self {
        Self { priority, ..self }
    }

    /// The same message, holding uploads of its sender's.
    #[must_use]
    pub fn holding(self, attachments: Vec<Uuid>) -> Self {
        Self { attachments, ..self }
    }

    /// What its request is told by.
    pub const fn request(&self) -> &RequestKey {
        &self.request
    }

    /// `None`: the system.
    pub const fn sender(&self) -> Option<&UserId> {
        self.sender.as_ref()
    }

    /// Whether it is for the log to judge what the sender may.
    const fn is_judged(&self) -> bool {
        self.actor.user.is_some()
    }

    /// Empty: the system.
    fn sender_id(&self) -> &str {
        self.sender().map_or("", UserId::as_str)
    }

    /// What it holds as the append takes it: the ids, a line each.
    fn attachment_lines(&self) -> Option<String> {
        let ids: Vec<_> = self.attachments.iter().map(Uuid::to_string).collect();
        (!ids.is_empty()).then(|| ids.join("\n"))
    }
}

stored_enum! {
    /// What came of an entry.
    Verdict {
        Stored = 0,
        Repeated = 1,
        Reused = 2,
        NoLog = 3,
        Closed = 4,
        NotAMember = 5,
        Restricted = 6,
        Muted = 7,
        Blocked = 8,
        Suspended = 9,
        SlowMode = 10,
        Unattachable = 11,
    }
}

/// What came of an entry, and where it stands.
#[derive(Clone, Debug)]
pub(crate) struct Outcome {
    pub(crate) verdict: Verdict,
    pub(crate) seq: Seq,
    /// Of a sender who may not write yet: until when.
    pub(crate) time: Micros,
    pub(crate) epoch: EpochId,
    /// The tenant and room of the log, if there is one.
    pub(crate) room: Option<(TenantId, RoomId)>,
}

impl Outcome {
    fn of(verdict: Verdict) -> Self {
        Self { verdict, seq: 0, time: 0, epoch: EpochId::default(), room: None }
    }
}

/// Appends entries, which are sorted by log, in one transaction. One outcome per entry.
pub(crate) async fn append(
    conn: &mut Conn,
    now: Micros,
    entries: &[&Entry],
) -> Result<Vec<Outcome>, Error> {
    if let Conn::Postgres(_) = conn {
        return call(conn, now, entries).await;
    }
    conn.begin().await?;
    let outcomes = step_by_step(conn, now, entries).await?;
    conn.commit().await?;
    Ok(outcomes)
}

/// What is to be published of outcomes: what was stored, and after an interrupted
/// run also what is found stored.
pub(crate) fn appended(entries: &[&Entry], outcomes: &[Outcome], found: bool) -> Vec<Appended> {
    let mut all: Vec<Appended> = Vec::new();
    for (entry, outcome) in entries.iter().zip(outcomes) {
        let new = outcome.verdict == Verdict::Stored;
        let Some((tenant_id, room_id)) =
            outcome.room.as_ref().filter(|_| new || found && outcome.verdict == Verdict::Repeated)
        else {
            continue;
        };
        let payload = entry.payload.clone();
        let event = StoredEvent { seq: outcome.seq, time: outcome.time, payload };
        let follows = |last: &&mut Appended| {
            last.log_id == entry.log_id
                && last.epoch == outcome.epoch
                && last.events.last().is_some_and(|last| last.seq + 1 == event.seq)
        };
        if let Some(last) = all.last_mut().filter(follows) {
            last.events.push(event);
        } else {
            all.push(Appended {
                tenant_id: tenant_id.clone(),
                log_id: entry.log_id,
                room_id: room_id.clone(),
                epoch: outcome.epoch.clone(),
                events: vec![event],
                users: Vec::new(),
            });
        }
    }
    all
}

type Row = (i16, Option<Seq>, Option<Micros>, Option<String>, Option<String>, Option<String>);

async fn call(conn: &mut Conn, now: Micros, entries: &[&Entry]) -> Result<Vec<Outcome>, Error> {
    let senders: Vec<_> = entries.iter().map(|entry| entry.sender_id()).collect();
    let requests: Vec<_> = entries.iter().map(|entry| entry.request.as_str()).collect();
    let logs: Vec<_> = entries.iter().map(|entry| entry.log_id.0).collect();
    let digests: Vec<_> = entries.iter().map(|entry| entry.digest.as_slice()).collect();
    let counted: Vec<_> = entries.iter().map(|entry| entry.counted).collect();
    let payloads: Vec<_> = entries.iter().map(|entry| entry.payload.as_ref()).collect();
    let roots: Vec<_> = entries.iter().map(|entry| entry.root).collect();
    let mentions: Vec<_> = entries.iter().map(|entry| entry.mentions.lines()).collect();
    let expires: Vec<_> = entries.iter().map(|entry| entry.expires).collect();
    let judged: Vec<_> = entries.iter().map(|entry| entry.is_judged()).collect();
    let attachments: Vec<_> = entries.iter().map(|entry| entry.attachment_lines()).collect();
    let call = "SELECT r_verdict, r_seq, r_time, r_epoch, r_tenant, r_room
                FROM append_messages_v5($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12)";
    let call = conn
        .query(call)
        .bind(now)
        .bind_array(logs)
        .bind_array(senders)
        .bind_array(requests)
        .bind_array(digests)
        .bind_array(counted)
        .bind_array(payloads)
        .bind_array(roots)
        .bind_array(mentions)
        .bind_array(expires)
        .bind_array(judged)
        .bind_array(attachments);
    let rows: Vec<Row> = call.fetch_all().await?;
    let stored = Stored { table: "append_messages_v5", row: entries.len() };
    stored.value("rows", (rows.len() == entries.len()).then_some(()))?;
    rows.into_iter().map(outcome).collect()
}

fn outcome((verdict, seq, time, epoch, tenant_id, room_id): Row) -> Result<Outcome, Error> {
    let stored = Stored { table: "append_messages_v5", row: verdict };
    Ok(Outcome {
        verdict: stored.value("r_verdict", Verdict::from_i16(verdict))?,
        seq: seq.unwrap_or_default(),
        time: time.unwrap_or_default(),
        epoch: EpochId(epoch.unwrap_or_default()),
        room: tenant_id.map(TenantId::new).zip(room_id.map(RoomId::new)),
    })
}

/// The same steps as the function's.
async fn step_by_step(
    conn: &mut Conn,
    now: Micros,
    entries: &[&Entry],
) -> Result<Vec<Outcome>, Error> {
    let mut outcomes = Vec::with_capacity(entries.len());
    for entries in entries.chunk_by(|a, b| a.log_id == b.log_id) {
        let Some(mut log) = Locked::lock(conn, entries[0].log_id, None, now).await? else {
            outcomes.extend(entries.iter().map(|_| Outcome::of(Verdict::NoLog)));
            continue;
        };
        let room = (TenantId::new(&log.row.tenant_id), RoomId::new(&log.row.room_id));
        // The place of each sender's last message.
        let mut own: BTreeMap<&str, (Seq, i64)> = BTreeMap::new();
        for entry in entries {
            let mut outcome = judge(&mut log, entry).await?;
            outcome.room = Some(room.clone());
            if outcome.verdict == Verdict::Stored {
                (outcome.seq, outcome.time) = log.append(message(entry)).await?;
                outcome.epoch = log.epoch().clone();
                // What was answered elsewhere and counts for nobody is not reading.
                if entry.is_judged() || entry.counted {
                    own.insert(entry.sender_id(), (log.row.head, log.row.ord));
                }
                if let Some(after) = entry.expires {
                    log.expire(outcome.time + after).await?;
                }
                reply(&mut log, entry, outcome.time).await?;
                log.mention(entry.sender_id(), outcome.seq, &entry.mentions).await?;
                log.attach(outcome.seq, &entry.attachments).await?;
            }
            outcomes.push(outcome);
        }
        raise_own_marks(&mut log, own).await?;
        if log.has_appended() {
            log.save(Vec::new()).await?;
        }
    }
    Ok(outcomes)
}

async fn judge(log: &mut Locked<'_>, entry: &Entry) -> Result<Outcome, Error> {
    // A repeat before rights: it gets its first reply whatever happened since.
    let before = log.stored_before(entry.sender_id(), &entry.request).await?;
    if let Some((seq, time, digest)) = before {
        if digest != entry.digest {
            return Ok(Outcome::of(Verdict::Reused));
        }
        let epoch = epoch_of(log, seq).await?;
        return Ok(Outcome { verdict: Verdict::Repeated, seq, time, epoch, room: None });
    }
    if log.row.closed_seq.is_some() {
        return Ok(Outcome::of(Verdict::Closed));
    }
    if !entry.attachments.is_empty() {
        let found = log.uploads(&entry.attachments).await?;
        if attachable(&found, &entry.attachments, entry.sender(), None).is_err() {
            return Ok(Outcome::of(Verdict::Unattachable));
        }
    }
    let Some(sender) = &entry.actor.user else { return Ok(Outcome::of(Verdict::Stored)) };
    Ok(Outcome::of(match log.member(sender).await? {
        // Strangers do not learn that a direct room is there.
        None if log.row.kind == RoomKind::Direct as i16 => Verdict::NoLog,
        None => Verdict::NotAMember,
        Some(Membership { suspended_until: time, .. }) if time > log.now() => {
            return Ok(Outcome { time, ..Outcome::of(Verdict::Suspended) });
        }
        Some(member)
            if log.row.post_rule == MemberRule::Admins as i16 && member.role < Role::Admin =>
        {
            Verdict::Restricted
        }
        Some(Membership { muted_until: time, .. }) if time > log.now() => {
            return Ok(Outcome { time, ..Outcome::of(Verdict::Muted) });
        }
        Some(Membership { peer_blocked: true, .. }) => Verdict::Blocked,
        Some(member) if log.row.slow_mode > 0 && member.role < Role::Admin => {
            return pace(log, sender).await;
        }
        Some(_) => Verdict::Stored,
    }))
}

/// Lets a member send in slow mode, and notes it, if their wait is over.
async fn pace(log: &mut Locked<'_>, sender: &UserId) -> Result<Outcome, Error> {
    let (log_id, now) = (log.id, log.row.head_time.max(log.now()));
    let select = "SELECT sent_time FROM members WHERE log_id = $1 AND user_id = $2";
    let select = log.conn().query(select).bind(log_id.0).bind(sender.as_str());
    let (sent,): (Micros,) = select.fetch_one().await?;
    let time = sent.saturating_add(log.row.slow_mode);
    if sent > 0 && time > now {
        return Ok(Outcome { time, ..Outcome::of(Verdict::SlowMode) });
    }
    let update = "UPDATE members SET sent_time = $3 WHERE log_id = $1 AND user_id = $2";
    let update = log.conn().query(update).bind(log_id.0).bind(sender.as_str()).bind(now);
    update.execute().await?;
    Ok(Outcome::of(Verdict::Stored))
}

/// Counts a reply in its thread.
async fn reply(log: &mut Locked<'_>, entry: &Entry, time: Micros) -> Result<(), Error> {
    let (Some(root), log_id) = (entry.root, log.id) else { return Ok(()) };
    let update = "UPDATE events SET replies = replies + 1, reply_time = $3
                  WHERE log_id = $1 AND seq = $2";
    log.conn().query(update).bind(log_id.0).bind(root).bind(time).execute().await?;
    Ok(())
}

/// The epoch that an event was stored in.
async fn epoch_of(log: &mut Locked<'_>, seq: Seq) -> Result<EpochId, Error> {
    let log_id = log.id;
    let select = "SELECT e.epoch_id FROM log_epochs l JOIN epochs e ON e.number = l.epoch
                  WHERE l.log_id = $1 AND l.first_seq <= $2
                  ORDER BY l.first_seq DESC, l.epoch DESC LIMIT 1";
    let (id,) = log.conn().query(select).bind(log_id.0).bind(seq).fetch_one().await?;
    Ok(EpochId(id))
}

/// Answering is reading.
async fn raise_own_marks(
    log: &mut Locked<'_>,
    own: BTreeMap<&str, (Seq, i64)>,
) -> Result<(), Error> {
    let log_id = log.id;
    let raise = "UPDATE members SET read_seq = $3, read_ord = $4, marked_unread = FALSE,
                        delivered_seq = $3
                  WHERE log_id = $1 AND user_id = $2";
    for (user_id, (seq, ord)) in own {
        let raise = log.conn().query(raise).bind(log_id.0).bind(user_id).bind(seq).bind(ord);
        raise.execute().await?;
    }
    Ok(())
}

fn message(entry: &Entry) -> NewEvent<'_> {
    let mut event = NewEvent::encoded(Kind::Message, entry.sender(), entry.payload.clone());
    event.counted = entry.counted;
    event.root = entry.root;
    event.expires = entry.expires;
    event.requested(&entry.request, entry.digest)
}
