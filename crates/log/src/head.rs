//! A log whose head a transaction has locked.

use std::collections::BTreeSet;

use parlance_db::{AssertSqlSafe, Conn, Stored, rows};
use parlance_types::{LogId, Micros, RoomId, RoomKind, Seq, TenantId, UserId};
use uuid::Uuid;

use crate::member::MemberRow;
use crate::person::Blocked;
use crate::view::suspended;
use crate::{
    Appended, EpochId, Error, Hidden, Kind, Membership, Mentions, NewEvent, RequestKey, Rules,
    StoredEvent, View, Windows,
};

parlance_db::row! {
    /// A row of `heads`.
    #[derive(Clone, Debug)]
    pub(crate) struct HeadRow {
        pub(crate) tenant_id: String,
        pub(crate) room_id: String,
        pub(crate) kind: i16,
        pub(crate) head: Seq,
        pub(crate) head_time: Micros,
        pub(crate) ord: i64,
        pub(crate) first_seq: Seq,
        pub(crate) deleted: i64,
        pub(crate) message_time: Micros,
        pub(crate) closed_seq: Option<Seq>,
        pub(crate) post_rule: i16,
        pub(crate) allow_preview: bool,
        pub(crate) history: i16,
        pub(crate) epoch: i64,
        pub(crate) applied_membership: i64,
        pub(crate) applied_room: i64,
        pub(crate) slow_mode: Micros,
        pub(crate) edit_window: Micros,
        pub(crate) delete_window: Micros,
        /// The latest message that mentioned anybody; 0: none did.
        pub(crate) mention_seq: Seq,
    }
}

/// A log under its lock: what is read here holds until the change is committed.
#[derive(Debug)]
pub struct Locked<'c> {
    conn: &'c mut Conn,
    pub(crate) id: LogId,
    pub(crate) row: HeadRow,
    epoch: (i64, EpochId),
    now: Micros,
    events: Vec<StoredEvent>,
}

parlance_db::row! {
    /// The row of a message.
    #[derive(Clone, Debug)]
    pub struct Target {
        pub seq: Seq,
        pub time: Micros,
        /// Empty: the system.
        pub sender_id: String,
        /// Countable messages up to here.
        pub ord: i64,
        pub counted: bool,
        /// How often it was edited.
        pub edits: i16,
        pub deleted_seq: Option<Seq>,
        /// Of a reply: what its thread began with.
        pub root_seq: Option<Seq>,
        /// When it expires; `None`: never.
        pub expire_time: Option<Micros>,
        pub payload: Vec<u8>,
    }
}

/// The levels of the buckets that deleted messages are counted in; see the schema.
pub(crate) const LEVELS: [i16; 5] = [0, 1, 2, 3, 4];

/// Takes the lock: the row comes back as the last holder of the lock left it. A log of
/// another tenant than the one that is named is neither locked nor waited for.
const LOCK: &str = "
    UPDATE heads SET head = head WHERE log_id = $1 AND ($2 IS NULL OR tenant_id = $2)
    RETURNING tenant_id, room_id, kind, head, head_time, ord, first_seq, deleted,
              message_time, closed_seq, post_rule, allow_preview, history, epoch, applied_membership,
              applied_room, slow_mode, edit_window, delete_window, mention_seq";

const SAVE: &str = "
    UPDATE heads SET head = $2, head_time = $3, ord = $4, deleted = $5, message_time = $6,
           closed_seq = $7, post_rule = $8, allow_preview = $9, history = $10, epoch = $11,
           applied_membership = $12, applied_room = $13, slow_mode = $14, edit_window = $15,
           delete_window = $16, mention_seq = $17
     WHERE log_id = $1";

/// Holds the row of a member, as [`LOCK`] does that of the log.
const HOLD_MEMBER: &str = "
    UPDATE members SET role = role WHERE log_id = $1 AND user_id = $2
    RETURNING role, joined_seq, cleared_seq, muted_until, suspended_until, has_blocks, peer_blocked,
              has_hidden";

const INSERT_EVENT: &str = "
    INSERT INTO events (log_id, seq, time, ord, kind, sender_id, request_id, digest, counted,
                        target_seq, payload, root_seq, expire_time)
    VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13)";

pub(crate) const PRESENT_EPOCH: &str =
    "SELECT number, epoch_id FROM epochs ORDER BY number DESC LIMIT 1";

/// Locks the head of a log; `None` if there is none, or not of the tenant.
pub(crate) async fn lock(
    conn: &mut Conn,
    log_id: LogId,
    tenant_id: Option<&TenantId>,
) -> Result<Option<HeadRow>, Error> {
    let lock = conn.query(LOCK).bind(log_id.0).bind(tenant_id.map(TenantId::as_str));
    Ok(lock.fetch_optional().await?)
}

/// Those of the logs whose heads nobody holds at this moment. Only Postgres can tell.
pub(crate) async fn free(conn: &mut Conn, logs: &BTreeSet<LogId>) -> Result<Vec<LogId>, Error> {
    let select = "SELECT log_id FROM heads WHERE log_id IN ($1..) FOR UPDATE SKIP LOCKED";
    let free = conn.query(select).bind_list(logs.iter().map(|log_id| log_id.0));
    let free: Vec<(Uuid,)> = free.fetch_all().await?;
    Ok(free.into_iter().map(|(log_id,)| LogId(log_id)).collect())
}

impl HeadRow {
    /// What `member` may see of the log in the present epoch.
    pub(crate) fn view(
        &self,
        log_id: LogId,
        epoch: EpochId,
        member: Option<Membership>,
        now: Micros,
    ) -> Result<View, Error> {
        let stored = Stored { table: "heads", row: log_id };
        Ok(View {
            tenant_id: TenantId::new(&self.tenant_id),
            log_id,
            room_id: RoomId::new(&self.room_id),
            kind: stored.value("kind", RoomKind::from_i16(self.kind))?,
            rules: Rules::stored(log_id, self.post_rule, self.allow_preview, self.history)?,
            head: self.head,
            head_time: self.head_time,
            epoch,
            first_seq: self.first_seq,
            closed: self.closed_seq,
            suspended: suspended(member.as_ref(), now),
            member,
            blocked: Blocked::default(),
            hidden: Hidden::default(),
        })
    }
}

impl Target {
    /// `None`: the system.
    pub fn sender(&self) -> Option<UserId> {
        (!self.sender_id.is_empty()).then(|| UserId::new(&self.sender_id))
    }

    /// Whether its content is nobody's any more: it was deleted, or has expired and soon is.
    pub fn is_gone(&self, now: Micros) -> bool {
        self.deleted_seq.is_some() || has_expired(self.expire_time, now)
    }
}

/// Whether the time of a message that may expire is over.
pub fn has_expired(expires: Option<Micros>, now: Micros) -> bool {
    expires.is_some_and(|expires| expires <= now)
}

impl<'c> Locked<'c> {
    /// Locks a log; `None` if there is none, or not of the tenant.
    pub(crate) async fn lock(
        conn: &'c mut Conn,
        log_id: LogId,
        tenant_id: Option<&TenantId>,
        now: Micros,
    ) -> Result<Option<Self>, Error> {
        let Some(row) = lock(conn, log_id, tenant_id).await? else { return Ok(None) };
        Ok(Some(Self::of(conn, log_id, row, now).await?))
    }

    /// A log that is locked, by its row.
    pub(crate) async fn of(
        conn: &'c mut Conn,
        id: LogId,
        row: HeadRow,
        now: Micros,
    ) -> Result<Self, Error> {
        // Read under the lock, so that the epochs of a log never go back.
        let (number, epoch): (i64, String) = conn.query(PRESENT_EPOCH).fetch_one().await?;
        Ok(Self { conn, id, row, epoch: (number, EpochId(epoch)), now, events: Vec::new() })
    }

    /// The log.
    pub const fn id(&self) -> LogId {
        self.id
    }

    /// What binds members who are neither owners nor admins.
    pub const fn windows(&self) -> Windows {
        let HeadRow { slow_mode, edit_window: edit, delete_window: delete, .. } = self.row;
        Windows { slow_mode, edit, delete }
    }

    /// Whether its room was deleted.
    pub const fn is_closed(&self) -> bool {
        self.row.closed_seq.is_some()
    }

    /// The first event that is left.
    pub const fn first(&self) -> Seq {
        self.row.first_seq
    }

    /// Whether an event is still part of it: neither cleared for all nor let go of.
    pub const fn holds(&self, seq: Seq) -> bool {
        seq >= self.row.first_seq && seq <= self.row.head
    }

    /// The time of the change.
    pub const fn now(&self) -> Micros {
        self.now
    }

    /// The transaction of the change, for tables of the noun's own.
    pub const fn conn(&mut self) -> &mut Conn {
        self.conn
    }

    /// The place and time of what was stored under a request key: the change is a repeat.
    pub async fn repeat(
        &mut self,
        sender: Option<&UserId>,
        request: &RequestKey,
        digest: [u8; 32],
    ) -> Result<Option<(Seq, Micros)>, Error> {
        let sender = sender.map_or("", UserId::as_str);
        match self.stored_before(sender, request).await? {
            Some((seq, time, before)) if before == digest => Ok(Some((seq, time))),
            Some(_) => Err(Error::request_id_reused()),
            None => Ok(None),
        }
    }

    pub(crate) async fn stored_before(
        &mut self,
        sender: &str,
        request: &RequestKey,
    ) -> Result<Option<(Seq, Micros, Vec<u8>)>, Error> {
        let select = "SELECT seq, time, digest FROM events
                      WHERE log_id = $1 AND sender_id = $2 AND request_id = $3";
        let select = self.conn.query(select).bind(self.id.0).bind(sender).bind(request.as_str());
        Ok(select.fetch_optional().await?)
    }

    /// The present membership of a user.
    pub async fn member(&mut self, user_id: &UserId) -> Result<Option<Membership>, Error> {
        let select = "SELECT role, joined_seq, cleared_seq, muted_until, suspended_until,
                             has_blocks, peer_blocked, has_hidden
                        FROM members WHERE log_id = $1 AND user_id = $2";
        let select = self.conn.query(select).bind(self.id.0).bind(user_id.as_str());
        let row: Option<MemberRow> = select.fetch_optional().await?;
        row.map(|row| row.membership(self.id)).transpose()
    }

    /// What `viewer` may see of the log, as far as blocks do not matter. Their row is held, too:
    /// a suspension is written there without the lock of the log, and none comes between what is
    /// judged here and its commit.
    pub async fn view(&mut self, viewer: Option<&UserId>) -> Result<View, Error> {
        let mut member = None;
        if let Some(viewer) = viewer {
            let hold = self.conn.query(HOLD_MEMBER).bind(self.id.0).bind(viewer.as_str());
            let row: Option<MemberRow> = hold.fetch_optional().await?;
            member = row.map(|row| row.membership(self.id)).transpose()?;
        }
        self.row.view(self.id, self.epoch.1.clone(), member, self.now)
    }

    /// A message, deleted or not; `None` where the log holds none.
    pub async fn message(&mut self, seq: Seq) -> Result<Option<Target>, Error> {
        let select = "SELECT seq, time, sender_id, ord, counted, edits, deleted_seq, root_seq,
                             expire_time, payload
                        FROM events WHERE log_id = $1 AND seq = $2 AND kind = $3";
        let select = self.conn.query(select).bind(self.id.0).bind(seq).bind(Kind::Message.number());
        Ok(select.fetch_optional().await?)
    }

    /// Gives an event the next place and stores it there.
    pub async fn append(&mut self, event: NewEvent<'_>) -> Result<(Seq, Micros), Error> {
        let row = &mut self.row;
        let (seq, time) = (row.head + 1, row.head_time.max(self.now));
        (row.head, row.head_time) = (seq, time);
        row.ord += i64::from(event.counted);
        if event.kind == Kind::Message {
            row.message_time = time;
        }
        let ord = row.ord;
        if row.epoch < self.epoch.0 {
            self.enter_epoch(seq).await?;
        }
        let (request, digest) = event.request.unzip();
        let insert = self
            .conn
            .query(INSERT_EVENT)
            .bind(self.id.0)
            .bind(seq)
            .bind(time)
            .bind(ord)
            .bind(event.kind.number())
            .bind(event.sender)
            .bind(request.map(RequestKey::as_str))
            .bind(digest.as_ref().map(<[u8; 32]>::as_slice))
            .bind(event.counted)
            .bind(event.target)
            .bind(event.payload.as_ref())
            .bind(event.root)
            .bind(event.expires.map(|after| time.saturating_add(after)));
        insert.execute().await?;
        self.events.push(StoredEvent { seq, time, payload: event.payload });
        Ok((seq, time))
    }

    /// Notes whom a message calls on: of the users who are named, those who are members.
    pub async fn mention(
        &mut self,
        sender: &str,
        message: Seq,
        mentions: &Mentions,
    ) -> Result<(), Error> {
        if mentions.is_empty() {
            return Ok(());
        }
        self.row.mention_seq = self.row.mention_seq.max(message);
        if mentions.everyone {
            let insert = "INSERT INTO mentions (log_id, user_id, seq, sender_id)
                          VALUES ($1, '', $2, $3)";
            let insert = self.conn.query(insert).bind(self.id.0).bind(message).bind(sender);
            insert.execute().await?;
            return Ok(());
        }
        let insert = "INSERT INTO mentions (log_id, user_id, seq, sender_id)
                      SELECT log_id, user_id, $1, $2 FROM members
                       WHERE (log_id, user_id) IN (VALUES ($3, $4..))";
        let insert = self.conn.query(insert).bind(message).bind(sender).bind(self.id.0);
        insert.bind_list(mentions.users.iter().map(UserId::as_str)).execute().await?;
        Ok(())
    }

    /// Notes that a message calls on nobody.
    pub async fn mention_nobody(&mut self, message: Seq) -> Result<(), Error> {
        if self.row.mention_seq < message {
            // Neither it nor any later one calls on anybody.
            return Ok(());
        }
        let delete = "DELETE FROM mentions WHERE log_id = $1 AND seq = $2";
        self.conn.query(delete).bind(self.id.0).bind(message).execute().await?;
        Ok(())
    }

    /// Has the log looked at when a message of it expires.
    pub(crate) async fn expire(&mut self, at: Micros) -> Result<(), Error> {
        let insert = "INSERT INTO expiries (log_id, due) VALUES ($1, $2)
                      ON CONFLICT (log_id) DO UPDATE SET due = excluded.due
                       WHERE expiries.due > excluded.due";
        self.conn.query(insert).bind(self.id.0).bind(at).execute().await?;
        Ok(())
    }

    /// Takes a message that is deleted out of the count of what is unread.
    pub async fn discount(&mut self, deleted: &Target) -> Result<(), Error> {
        if !deleted.counted {
            return Ok(());
        }
        self.row.deleted += 1;
        let buckets = rows(2, LEVELS.len(), "($1, $+, $+, 1)");
        let insert = format!(
            "INSERT INTO gone (log_id, level, bucket, count) VALUES {buckets}
             ON CONFLICT (log_id, level, bucket) DO UPDATE SET count = gone.count + 1"
        );
        let mut insert = self.conn.query(AssertSqlSafe(insert)).bind(self.id.0);
        for level in LEVELS {
            insert = insert.bind(level).bind(deleted.ord >> (5 * level));
        }
        insert.execute().await?;
        Ok(())
    }

    /// Notes that the log is of the present epoch from `first` on.
    pub(crate) async fn enter_epoch(&mut self, first: Seq) -> Result<(), Error> {
        self.row.epoch = self.epoch.0;
        let insert = "INSERT INTO log_epochs (log_id, epoch, first_seq) VALUES ($1, $2, $3)";
        let insert = self.conn.query(insert).bind(self.id.0).bind(self.epoch.0).bind(first);
        insert.execute().await?;
        Ok(())
    }

    pub(crate) const fn epoch(&self) -> &EpochId {
        &self.epoch.1
    }

    pub(crate) const fn has_appended(&self) -> bool {
        !self.events.is_empty()
    }

    /// Writes the head back; what was appended is ready to be published.
    pub(crate) async fn save(self, users: Vec<UserId>) -> Result<Option<Appended>, Error> {
        let row = &self.row;
        let save = self
            .conn
            .query(SAVE)
            .bind(self.id.0)
            .bind(row.head)
            .bind(row.head_time)
            .bind(row.ord)
            .bind(row.deleted)
            .bind(row.message_time)
            .bind(row.closed_seq)
            .bind(row.post_rule)
            .bind(row.allow_preview)
            .bind(row.history)
            .bind(row.epoch)
            .bind(row.applied_membership)
            .bind(row.applied_room)
            .bind(row.slow_mode)
            .bind(row.edit_window)
            .bind(row.delete_window)
            .bind(row.mention_seq);
        save.execute().await?;
        Ok((!self.events.is_empty() || !users.is_empty()).then(|| Appended {
            tenant_id: TenantId::new(self.row.tenant_id),
            log_id: self.id,
            room_id: RoomId::new(self.row.room_id),
            epoch: self.epoch.1,
            events: self.events,
            users,
        }))
    }
}
