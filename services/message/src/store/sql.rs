//! One SQL body for both databases, and the log under its lock.

use bytes::Bytes;
use parlance_db::Db;
use parlance_types::{LogId, Micros, RoomId, Seq, TenantId, UserId};
use sqlx::pool::PoolConnection;
use sqlx::{PgConnection, Sqlite};

use crate::Error;
use crate::domain::{Appended, EpochId, StoredEvent};

/// The connection of a writer.
pub(super) enum Conn {
    /// The one connection that writes, taken for one transaction at a time.
    Sqlite(PoolConnection<Sqlite>),
    Postgres(Box<PgConnection>),
}

/// Runs one body on whichever connection it is; compiled once per driver.
macro_rules! on {
    ($conn:expr, |$c:ident| $body:expr) => {
        match $conn {
            $crate::store::sql::Conn::Sqlite(conn) => {
                let $c = &mut **conn;
                $body
            }
            $crate::store::sql::Conn::Postgres(conn) => {
                let $c = &mut **conn;
                $body
            }
        }
    };
}
pub(super) use on;

/// The kinds of events that the store tells apart.
pub(super) mod kind {
    pub(in crate::store) const OTHER: i16 = 0;
    pub(in crate::store) const MESSAGE: i16 = 1;
    pub(in crate::store) const EDIT: i16 = 2;
    pub(in crate::store) const DELETE: i16 = 3;
}

impl Conn {
    /// A connection for one transaction; the pool is rid of one to Postgres.
    pub(super) async fn take(db: &Db) -> Result<Self, sqlx::Error> {
        Ok(match db {
            Db::Sqlite(db) => Self::Sqlite(Box::pin(db.write.acquire()).await?),
            Db::Postgres(db) => {
                Self::Postgres(Box::new(Box::pin(db.pool.acquire()).await?.detach()))
            }
        })
    }

    /// Gives the connection up; `clean`: no transaction is open on it.
    pub(super) fn end(self, clean: bool) {
        if let (Self::Sqlite(conn), false) = (self, clean) {
            drop(conn.detach());
        }
    }

    /// Begins a transaction; on SQLite with the write lock taken.
    pub(super) async fn begin(&mut self) -> Result<(), sqlx::Error> {
        let begin = match self {
            Self::Sqlite(_) => "BEGIN IMMEDIATE",
            Self::Postgres(_) => "BEGIN ISOLATION LEVEL READ COMMITTED",
        };
        self.execute(begin).await
    }

    pub(super) async fn commit(&mut self) -> Result<(), sqlx::Error> {
        self.execute("COMMIT").await
    }

    pub(super) async fn rollback(&mut self) -> Result<(), sqlx::Error> {
        self.execute("ROLLBACK").await
    }

    async fn execute(&mut self, sql: &'static str) -> Result<(), sqlx::Error> {
        on!(self, |c| sqlx::query(sql).execute(c).await.map(drop))
    }
}

parlance_db::row! {
    /// A row of `heads`.
    #[derive(Clone, Debug)]
    pub(super) struct HeadRow {
        pub(super) tenant_id: String,
        pub(super) room_id: String,
        pub(super) kind: i16,
        pub(super) head: Seq,
        pub(super) head_time: Micros,
        pub(super) ord: i64,
        pub(super) last_message: Seq,
        pub(super) closed_seq: Option<Seq>,
        pub(super) post_rule: i16,
        pub(super) allow_preview: bool,
        pub(super) history: i16,
        pub(super) epoch: i64,
        pub(super) applied_membership: i64,
        pub(super) applied_room: i64,
    }
}

/// An event that has no place yet.
#[derive(Clone, Debug)]
pub(super) struct NewEvent<'a> {
    pub(super) kind: i16,
    /// Empty: the system.
    pub(super) sender: &'a str,
    pub(super) request: Option<(&'a str, [u8; 32])>,
    pub(super) target: Option<Seq>,
    pub(super) counted: bool,
    pub(super) payload: Bytes,
}

/// A log whose head this transaction has locked.
pub(super) struct Log {
    pub(super) id: LogId,
    pub(super) row: HeadRow,
    epoch: (i64, EpochId),
    now: Micros,
    events: Vec<StoredEvent>,
}

/// Takes the lock: the row comes back as the last holder of the lock left it. A log of
/// another tenant than the one that is named is neither locked nor waited for.
const LOCK: &str = "
    UPDATE heads SET head = head WHERE log_id = $1 AND ($2 IS NULL OR tenant_id = $2)
    RETURNING tenant_id, room_id, kind, head, head_time, ord, last_message, closed_seq,
              post_rule, allow_preview, history, epoch, applied_membership, applied_room";

const SAVE: &str = "
    UPDATE heads SET head = $2, head_time = $3, ord = $4, last_message = $5, closed_seq = $6,
           post_rule = $7, allow_preview = $8, history = $9, epoch = $10,
           applied_membership = $11, applied_room = $12
     WHERE log_id = $1";

const INSERT_EVENT: &str = "
    INSERT INTO events (log_id, seq, time, ord, kind, sender_id, request_id, digest, counted,
                        target_seq, payload)
    VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11)";

pub(super) const PRESENT_EPOCH: &str =
    "SELECT number, epoch_id FROM epochs ORDER BY number DESC LIMIT 1";

impl Log {
    /// Locks a log; `None` if there is none, or not of the tenant.
    pub(super) async fn lock(
        conn: &mut Conn,
        log_id: LogId,
        tenant_id: Option<&str>,
        now: Micros,
    ) -> Result<Option<Self>, sqlx::Error> {
        let row: Option<HeadRow> = on!(conn, |c| sqlx::query_as(LOCK)
            .bind(log_id.0)
            .bind(tenant_id)
            .fetch_optional(c)
            .await?);
        let Some(row) = row else { return Ok(None) };
        // Read under the lock, so that the epochs of a log never go back.
        let (number, id): (i64, String) =
            on!(conn, |c| sqlx::query_as(PRESENT_EPOCH).fetch_one(c).await?);
        Ok(Some(Self { id: log_id, row, epoch: (number, EpochId(id)), now, events: Vec::new() }))
    }

    /// Notes that the log is of the present epoch from `first` on.
    pub(super) async fn enter_epoch(
        &mut self,
        conn: &mut Conn,
        first: Seq,
    ) -> Result<(), sqlx::Error> {
        self.row.epoch = self.epoch.0;
        let insert = "INSERT INTO log_epochs (log_id, epoch, first_seq) VALUES ($1, $2, $3)";
        on!(conn, |c| sqlx::query(insert)
            .bind(self.id.0)
            .bind(self.epoch.0)
            .bind(first)
            .execute(c)
            .await
            .map(drop))
    }

    pub(super) const fn epoch(&self) -> &EpochId {
        &self.epoch.1
    }

    /// Gives an event the next place and stores it there.
    pub(super) async fn append(
        &mut self,
        conn: &mut Conn,
        event: NewEvent<'_>,
    ) -> Result<(Seq, Micros), sqlx::Error> {
        let row = &mut self.row;
        let (seq, time) = (row.head + 1, row.head_time.max(self.now));
        (row.head, row.head_time) = (seq, time);
        row.ord += i64::from(event.counted);
        if event.kind == kind::MESSAGE {
            row.last_message = seq;
        }
        let ord = row.ord;
        if row.epoch < self.epoch.0 {
            self.enter_epoch(conn, seq).await?;
        }
        let (request_id, digest) = event.request.unzip();
        on!(conn, |c| sqlx::query(INSERT_EVENT)
            .bind(self.id.0)
            .bind(seq)
            .bind(time)
            .bind(ord)
            .bind(event.kind)
            .bind(event.sender)
            .bind(request_id)
            .bind(digest.as_ref().map(<[u8; 32]>::as_slice))
            .bind(event.counted)
            .bind(event.target)
            .bind(event.payload.as_ref())
            .execute(c)
            .await?
            .rows_affected());
        self.events.push(StoredEvent { seq, time, payload: event.payload });
        Ok((seq, time))
    }

    /// Writes the head back; what was appended is ready to be published.
    pub(super) async fn save(
        self,
        conn: &mut Conn,
        users: Vec<UserId>,
    ) -> Result<Option<Appended>, sqlx::Error> {
        let row = &self.row;
        on!(conn, |c| sqlx::query(SAVE)
            .bind(self.id.0)
            .bind(row.head)
            .bind(row.head_time)
            .bind(row.ord)
            .bind(row.last_message)
            .bind(row.closed_seq)
            .bind(row.post_rule)
            .bind(row.allow_preview)
            .bind(row.history)
            .bind(row.epoch)
            .bind(row.applied_membership)
            .bind(row.applied_room)
            .execute(c)
            .await?
            .rows_affected());
        Ok((!self.events.is_empty()).then(|| Appended {
            tenant_id: TenantId::new(self.row.tenant_id),
            log_id: self.id,
            room_id: RoomId::new(self.row.room_id),
            epoch: self.epoch.1,
            events: self.events,
            users,
        }))
    }
}

/// The role of a present member.
pub(super) async fn role(
    conn: &mut Conn,
    log_id: LogId,
    user_id: &str,
) -> Result<Option<i16>, sqlx::Error> {
    let select = "SELECT role FROM members
                  WHERE log_id = $1 AND user_id = $2 AND removed_seq IS NULL";
    on!(conn, |c| sqlx::query_scalar(select).bind(log_id.0).bind(user_id).fetch_optional(c).await)
}

/// What was stored under a request id: its place, time and digest.
pub(super) async fn stored_before(
    conn: &mut Conn,
    log_id: LogId,
    sender: &str,
    request_id: &str,
) -> Result<Option<(Seq, Micros, Vec<u8>)>, sqlx::Error> {
    let select = "SELECT seq, time, digest FROM events
                  WHERE log_id = $1 AND sender_id = $2 AND request_id = $3";
    on!(conn, |c| sqlx::query_as(select)
        .bind(log_id.0)
        .bind(sender)
        .bind(request_id)
        .fetch_optional(c)
        .await)
}

/// What a stranger to a room is told: not even that it is there, if it is direct.
pub(super) const fn stranger(kind: i16) -> Error {
    if kind == crate::domain::RoomKind::Direct as i16 {
        Error::RoomNotFound
    } else {
        Error::NotAMember
    }
}
