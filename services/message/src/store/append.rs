//! The append of messages: checks, numbers and rows in one transaction.
//!
//! On Postgres it is one call of a function, see `migrations/postgres/0002_append.sql`;
//! on SQLite the same steps from here. The suite holds the two equal.

use std::collections::BTreeMap;

use bytes::Bytes;
use parlance_types::{LogId, Micros, RoomId, Seq, TenantId};
use sqlx::PgConnection;

use super::sql::{Conn, Log, NewEvent, kind, on, role, stored_before};
use crate::Error;
use crate::domain::{Appended, EpochId, PostRule, Role, RoomKind, StoredEvent};

/// A message on its way into a log.
#[derive(Clone, Debug)]
pub(super) struct Entry {
    pub(super) log_id: LogId,
    /// Empty: the system.
    pub(super) sender: String,
    /// The caller's, or one made for this entry alone, so that it can be run again.
    pub(super) request_id: String,
    pub(super) digest: [u8; 32],
    pub(super) counted: bool,
    pub(super) payload: Bytes,
}

/// What came of an entry.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    Stored = 0,
    Repeated = 1,
    Reused = 2,
    NoLog = 3,
    Closed = 4,
    NotAMember = 5,
    Restricted = 6,
}

/// What came of an entry, and where it stands.
#[derive(Clone, Debug)]
pub(super) struct Outcome {
    pub(super) verdict: Verdict,
    pub(super) seq: Seq,
    pub(super) time: Micros,
    pub(super) epoch: EpochId,
    /// The tenant and room of the log, if there is one.
    pub(super) room: Option<(TenantId, RoomId)>,
}

/// Appends entries, which are sorted by log, in one transaction. One outcome per entry.
pub(super) async fn append(
    conn: &mut Conn,
    now: Micros,
    entries: &[Entry],
) -> Result<Vec<Outcome>, Error> {
    if let Conn::Postgres(conn) = conn {
        return call(conn, now, entries).await;
    }
    conn.begin().await?;
    let outcomes = step_by_step(conn, now, entries).await?;
    conn.commit().await?;
    Ok(outcomes)
}

/// What is to be published of outcomes: what was stored, and after an interrupted
/// run also what is found stored.
pub(super) fn appended(entries: &[Entry], outcomes: &[Outcome], found: bool) -> Vec<Appended> {
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

async fn call(
    conn: &mut PgConnection,
    now: Micros,
    entries: &[Entry],
) -> Result<Vec<Outcome>, Error> {
    let column = |get: fn(&Entry) -> &str| entries.iter().map(get).collect::<Vec<_>>();
    let logs: Vec<_> = entries.iter().map(|entry| entry.log_id.0).collect();
    let digests: Vec<_> = entries.iter().map(|entry| entry.digest.as_slice()).collect();
    let counted: Vec<_> = entries.iter().map(|entry| entry.counted).collect();
    let payloads: Vec<_> = entries.iter().map(|entry| entry.payload.as_ref()).collect();
    let call = "SELECT r_verdict, r_seq, r_time, r_epoch, r_tenant, r_room
                FROM append_messages_v1($1, $2, $3, $4, $5, $6, $7)";
    let rows: Vec<Row> = sqlx::query_as(call)
        .bind(now)
        .bind(logs)
        .bind(column(|entry| &entry.sender))
        .bind(column(|entry| &entry.request_id))
        .bind(digests)
        .bind(counted)
        .bind(payloads)
        .fetch_all(conn)
        .await?;
    if rows.len() != entries.len() {
        return Err(Error::Impossible { table: "append_messages_v1", column: "rows" });
    }
    rows.into_iter().map(outcome).collect()
}

fn outcome((verdict, seq, time, epoch, tenant_id, room_id): Row) -> Result<Outcome, Error> {
    let verdict = match verdict {
        0 => Verdict::Stored,
        1 => Verdict::Repeated,
        2 => Verdict::Reused,
        3 => Verdict::NoLog,
        4 => Verdict::Closed,
        5 => Verdict::NotAMember,
        6 => Verdict::Restricted,
        _ => {
            return Err(Error::Impossible { table: "append_messages_v1", column: "r_verdict" });
        }
    };
    Ok(Outcome {
        verdict,
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
    entries: &[Entry],
) -> Result<Vec<Outcome>, Error> {
    let mut outcomes = Vec::with_capacity(entries.len());
    for entries in entries.chunk_by(|a, b| a.log_id == b.log_id) {
        let log_id = entries[0].log_id;
        let Some(mut log) = Log::lock(conn, log_id, None, now).await? else {
            outcomes.extend(entries.iter().map(|_| Outcome {
                verdict: Verdict::NoLog,
                seq: 0,
                time: 0,
                epoch: EpochId::default(),
                room: None,
            }));
            continue;
        };
        let room = (TenantId::new(&log.row.tenant_id), RoomId::new(&log.row.room_id));
        let before = log.row.head;
        // The place of each sender's last message.
        let mut own: BTreeMap<&str, (Seq, i64)> = BTreeMap::new();
        for entry in entries {
            let mut outcome = judge(conn, &log, entry).await?;
            outcome.room = Some(room.clone());
            if outcome.verdict == Verdict::Stored {
                (outcome.seq, outcome.time) = log.append(conn, message(entry)).await?;
                outcome.epoch = log.epoch().clone();
                own.insert(&entry.sender, (log.row.head, log.row.ord));
            }
            outcomes.push(outcome);
        }
        raise_own_marks(conn, log_id, own).await?;
        if log.row.head > before {
            log.save(conn, Vec::new()).await?;
        }
    }
    Ok(outcomes)
}

async fn judge(conn: &mut Conn, log: &Log, entry: &Entry) -> Result<Outcome, Error> {
    let mut outcome = Outcome {
        verdict: Verdict::Stored,
        seq: 0,
        time: 0,
        epoch: EpochId::default(),
        room: None,
    };
    // A repeat before rights: it gets its first reply whatever happened since.
    let before = stored_before(conn, log.id, &entry.sender, &entry.request_id).await?;
    if let Some((seq, time, digest)) = before {
        if digest != entry.digest {
            outcome.verdict = Verdict::Reused;
            return Ok(outcome);
        }
        let epoch = epoch_of(conn, log.id, seq).await?;
        return Ok(Outcome { verdict: Verdict::Repeated, seq, time, epoch, room: None });
    }
    if log.row.closed_seq.is_some() {
        outcome.verdict = Verdict::Closed;
    } else if !entry.sender.is_empty() {
        outcome.verdict = match role(conn, log.id, &entry.sender).await? {
            // Strangers do not learn that a direct room is there.
            None if log.row.kind == RoomKind::Direct as i16 => Verdict::NoLog,
            None => Verdict::NotAMember,
            Some(role)
                if log.row.post_rule == PostRule::Admins as i16 && role < Role::Admin as i16 =>
            {
                Verdict::Restricted
            }
            Some(_) => Verdict::Stored,
        };
    }
    Ok(outcome)
}

/// The epoch that an event was stored in.
async fn epoch_of(conn: &mut Conn, log_id: LogId, seq: Seq) -> Result<EpochId, sqlx::Error> {
    let select = "SELECT e.epoch_id FROM log_epochs l JOIN epochs e ON e.number = l.epoch
                  WHERE l.log_id = $1 AND l.first_seq <= $2
                  ORDER BY l.first_seq DESC, l.epoch DESC LIMIT 1";
    let id =
        on!(conn, |c| sqlx::query_scalar(select).bind(log_id.0).bind(seq).fetch_one(c).await?);
    Ok(EpochId(id))
}

/// Answering is reading.
async fn raise_own_marks(
    conn: &mut Conn,
    log_id: LogId,
    own: BTreeMap<&str, (Seq, i64)>,
) -> Result<(), sqlx::Error> {
    let raise = "UPDATE members SET read_seq = $3, read_ord = $4, marked_unread = FALSE,
                        delivered_seq = $3
                  WHERE log_id = $1 AND user_id = $2";
    for (user_id, (seq, ord)) in own {
        on!(&mut *conn, |c| sqlx::query(raise)
            .bind(log_id.0)
            .bind(user_id)
            .bind(seq)
            .bind(ord)
            .execute(c)
            .await?
            .rows_affected());
    }
    Ok(())
}

fn message(entry: &Entry) -> NewEvent<'_> {
    NewEvent {
        kind: kind::MESSAGE,
        sender: &entry.sender,
        request: Some((&entry.request_id, entry.digest)),
        target: None,
        counted: entry.counted,
        payload: entry.payload.clone(),
    }
}
