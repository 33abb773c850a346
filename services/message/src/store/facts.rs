//! Facts of other services on their way into a log. They are obeyed, not judged.

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;
use parlance_types::{Micros, Seq, TenantId, UserId};
use sqlx::QueryBuilder;

use super::Applied;
use super::sql::{Conn, HeadRow, Log, NewEvent, PRESENT_EPOCH, kind, on};
use crate::Error;
use crate::codec::{self, Body, Envelope};
use crate::domain::{Appended, Effects, FactBatch, LogIdentity, Role, Rules, Source};

/// Applies what is new of a batch, within the transaction of `conn`.
pub(super) async fn apply(
    conn: &mut Conn,
    now: Micros,
    batch: &FactBatch,
) -> Result<(Applied, Option<Appended>), Error> {
    let mut log = match Log::lock(conn, batch.log_id, None, now).await? {
        Some(log) => log,
        None => create(conn, now, batch).await?,
    };
    if log.row.tenant_id != batch.tenant_id.as_str() {
        return Err(Error::LogNotFound);
    }
    let before = *applied(&mut log.row, batch.source);
    let mut users = BTreeSet::new();
    for fact in batch.facts.iter().filter(|fact| fact.version > before) {
        let applied = applied(&mut log.row, batch.source);
        if fact.version != *applied + 1 {
            return Err(Error::FactGap { applied: before });
        }
        *applied = fact.version;
        for event in &fact.events {
            if log.row.closed_seq.is_none() {
                append(conn, &mut log, event, &mut users).await?;
            }
        }
    }
    let done = Applied {
        applied: *applied(&mut log.row, batch.source),
        head: log.row.head,
        closed: log.row.closed_seq.is_some(),
    };
    if done.applied == before {
        return Ok((done, None));
    }
    let appended = log.save(conn, users.iter().cloned().collect()).await?;
    bump_user_heads(conn, &batch.tenant_id, &users).await?;
    Ok((done, appended))
}

fn applied(row: &mut HeadRow, source: Source) -> &mut i64 {
    match source {
        Source::Membership => &mut row.applied_membership,
        Source::Room => &mut row.applied_room,
    }
}

/// Creates the log of a batch that begins with the membership's first fact.
async fn create(conn: &mut Conn, now: Micros, batch: &FactBatch) -> Result<Log, Error> {
    let Some(first) = batch.facts.first().filter(|_| batch.source == Source::Membership) else {
        return Err(Error::LogNotFound);
    };
    if first.version != 1 {
        return Err(Error::FactGap { applied: 0 });
    }
    let Some(identity) = &batch.identity else {
        return Err(Error::Invalid {
            field: "identity".to_owned(),
            rule: "must be set to create a log".to_owned(),
        });
    };
    insert_head(conn, now, batch, identity).await?;
    // Locked only now: another may have created it meanwhile.
    let mut log = Log::lock(conn, batch.log_id, None, now).await?.ok_or(Error::LogNotFound)?;
    if log.row.head == 0 {
        take_room_id(conn, batch, identity).await?;
        // In the epoch that holds under the lock, which may have begun since the insert.
        log.enter_epoch(conn, 1).await?;
    }
    Ok(log)
}

async fn insert_head(
    conn: &mut Conn,
    now: Micros,
    batch: &FactBatch,
    identity: &LogIdentity,
) -> Result<(), sqlx::Error> {
    let (epoch, _): (i64, String) =
        on!(&mut *conn, |c| sqlx::query_as(PRESENT_EPOCH).fetch_one(c).await?);
    let insert = "
        INSERT INTO heads (log_id, tenant_id, room_id, kind, head, head_time, ord, first_seq,
                           first_ord, last_message, post_rule, allow_preview, history, epoch,
                           applied_membership, applied_room)
        VALUES ($1, $2, $3, $4, 0, $5, 0, 1, 1, 0, $6, $7, $8, $9, 0, 0)
        ON CONFLICT (log_id) DO NOTHING";
    let rules = Rules::default();
    on!(conn, |c| sqlx::query(insert)
        .bind(batch.log_id.0)
        .bind(batch.tenant_id.as_str())
        .bind(identity.room_id.as_str())
        .bind(identity.kind as i16)
        .bind(now)
        .bind(rules.post as i16)
        .bind(rules.allow_preview)
        .bind(rules.history as i16)
        .bind(epoch)
        .execute(c)
        .await
        .map(drop))
}

/// Makes the log the room's present life, unless another life is still open.
async fn take_room_id(
    conn: &mut Conn,
    batch: &FactBatch,
    identity: &LogIdentity,
) -> Result<(), Error> {
    // Of two logs that want the id at once one waits here, and then does not see the
    // other closed.
    let take = "
        INSERT INTO room_logs (tenant_id, room_id, log_id) VALUES ($1, $2, $3)
        ON CONFLICT (tenant_id, room_id) DO UPDATE SET log_id = excluded.log_id
        WHERE EXISTS (SELECT 1 FROM heads h
                      WHERE h.log_id = room_logs.log_id AND h.closed_seq IS NOT NULL)";
    let taken = on!(conn, |c| sqlx::query(take)
        .bind(batch.tenant_id.as_str())
        .bind(identity.room_id.as_str())
        .bind(batch.log_id.0)
        .execute(c)
        .await?
        .rows_affected());
    if taken == 0 { Err(Error::RoomIdTaken) } else { Ok(()) }
}

/// Appends one event of a fact and obeys its effects.
async fn append(
    conn: &mut Conn,
    log: &mut Log,
    payload: &Bytes,
    users: &mut BTreeSet<UserId>,
) -> Result<(), Error> {
    let invalid = |rule: &str| Error::Invalid { field: "facts".to_owned(), rule: rule.to_owned() };
    let Envelope { actor, effects, body } =
        codec::envelope(payload).map_err(|_| invalid("must hold encoded events"))?;
    if body != Body::Other {
        return Err(invalid("must not hold messages, edits or deletions"));
    }
    let event = NewEvent {
        kind: kind::OTHER,
        sender: actor.as_ref().map_or("", UserId::as_str),
        request: None,
        target: None,
        counted: false,
        payload: payload.clone(),
    };
    let (seq, _) = log.append(conn, event).await?;
    obey(conn, log, seq, &effects).await?;
    users.extend(effects.gained.into_iter().map(|(user, _)| user).chain(effects.lost));
    Ok(())
}

async fn obey(
    conn: &mut Conn,
    log: &mut Log,
    seq: Seq,
    effects: &Effects,
) -> Result<(), sqlx::Error> {
    if let Some(Rules { post, allow_preview, history }) = effects.rules {
        log.row.post_rule = post as i16;
        log.row.allow_preview = allow_preview;
        log.row.history = history as i16;
    }
    if effects.closed {
        log.row.closed_seq = Some(seq);
    }
    gain(conn, log, seq, &effects.gained).await?;
    if !effects.lost.is_empty() {
        on!(&mut *conn, |c| {
            let mut update = QueryBuilder::new("UPDATE members SET removed_seq = ");
            update.push_bind(seq).push(" WHERE log_id = ").push_bind(log.id.0);
            update.push(" AND removed_seq IS NULL AND user_id IN (");
            let mut list = update.separated(", ");
            for user_id in &effects.lost {
                list.push_bind(user_id.as_str());
            }
            update.push(")");
            update.build().persistent(false).execute(c).await?;
        });
    }
    let update = "UPDATE members SET role = $3
                  WHERE log_id = $1 AND user_id = $2 AND removed_seq IS NULL";
    for (user_id, role) in &effects.roles {
        on!(&mut *conn, |c| sqlx::query(update)
            .bind(log.id.0)
            .bind(user_id.as_str())
            .bind(*role as i16)
            .execute(c)
            .await?
            .rows_affected());
    }
    Ok(())
}

/// Makes users members from `seq` on; joining is reading.
async fn gain(
    conn: &mut Conn,
    log: &Log,
    seq: Seq,
    gained: &[(UserId, Role)],
) -> Result<(), sqlx::Error> {
    if gained.is_empty() {
        return Ok(());
    }
    // Each user once, in order.
    let gained: BTreeMap<_, _> = gained.iter().map(|(user, role)| (user, *role as i16)).collect();
    on!(conn, |c| {
        let mut insert = QueryBuilder::new(
            "INSERT INTO members (log_id, user_id, tenant_id, role, joined_seq, read_seq,
                                  read_ord, delivered_seq, marked_unread) ",
        );
        insert.push_values(gained, |mut row, (user_id, role)| {
            row.push_bind(log.id.0)
                .push_bind(user_id.as_str())
                .push_bind(log.row.tenant_id.as_str())
                .push_bind(role)
                .push_bind(seq)
                .push_bind(seq)
                .push_bind(log.row.ord)
                .push_bind(seq)
                .push("FALSE");
        });
        insert.push(
            " ON CONFLICT (log_id, user_id) DO UPDATE SET role = excluded.role,
                  joined_seq = excluded.joined_seq, removed_seq = NULL,
                  read_seq = excluded.read_seq, read_ord = excluded.read_ord,
                  delivered_seq = excluded.delivered_seq, marked_unread = FALSE",
        );
        insert.build().persistent(false).execute(c).await.map(drop)
    })
}

/// Tells streams of these users that their list of rooms changed. The last locks that
/// are taken, in order of user.
async fn bump_user_heads(
    conn: &mut Conn,
    tenant_id: &TenantId,
    users: &BTreeSet<UserId>,
) -> Result<(), sqlx::Error> {
    if users.is_empty() {
        return Ok(());
    }
    on!(conn, |c| {
        let mut insert = QueryBuilder::new("INSERT INTO user_heads (tenant_id, user_id, version) ");
        insert.push_values(users, |mut row, user_id| {
            row.push_bind(tenant_id.as_str()).push_bind(user_id.as_str()).push("1");
        });
        insert.push(
            " ON CONFLICT (tenant_id, user_id) DO UPDATE SET version = user_heads.version + 1",
        );
        insert.build().persistent(false).execute(c).await.map(drop)
    })
}
