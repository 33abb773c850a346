//! Edits and deletions.

use parlance_types::{MessageId, Micros, Seq, UserId};

use super::sql::{Conn, Log, NewEvent, kind, on, stored_before, stranger};
use crate::Error;
use crate::codec;
use crate::domain::{Appended, Deletion, Edit, Edited, History, Role};

/// An edit with a request id: the caller's, or one made for it alone.
#[derive(Clone, Debug)]
pub(super) struct NamedEdit {
    pub(super) edit: Edit,
    pub(super) request_id: String,
}

parlance_db::row! {
    /// The row of a message.
    struct Target {
        sender_id: String,
        ord: i64,
        counted: bool,
        deleted_seq: Option<Seq>,
        payload: Vec<u8>,
    }
}

/// Appends an edit, within the transaction of `conn`.
pub(super) async fn edit(
    conn: &mut Conn,
    now: Micros,
    NamedEdit { edit, request_id }: &NamedEdit,
) -> Result<(Edited, Option<Appended>), Error> {
    let MessageId { log_id, seq: target_seq } = edit.message_id;
    let editor = edit.editor.as_ref();
    let sender = editor.map_or("", UserId::as_str);
    let mut log = lock(conn, now, edit.message_id, edit.tenant_id.as_str()).await?;

    // The reply that the message answers is not the editor's to give.
    let content = edit.content.clone().replying_to(None);
    let digest = codec::digest(&codec::message_edited(editor, edit.message_id, &content));
    if let Some((seq, time, before)) = stored_before(conn, log_id, sender, request_id).await? {
        let same = before == digest;
        return if same { Ok((Edited { seq, time }, None)) } else { Err(Error::RequestIdReused) };
    }
    if log.row.closed_seq.is_some() {
        return Err(Error::RoomNotFound);
    }
    rights(conn, &log, editor, target_seq).await?;
    let target = target(conn, edit.message_id).await?.ok_or(Error::MessageNotFound)?;
    if target.sender_id != sender {
        return Err(Error::NotTheSender);
    }
    if target.deleted_seq.is_some() {
        return Err(Error::MessageDeleted);
    }
    let reply_to = codec::content(&target.payload).map_err(bad_payload)?.and_then(|c| c.reply_to());
    let event = NewEvent {
        kind: kind::EDIT,
        sender,
        request: Some((request_id, digest)),
        target: Some(target_seq),
        counted: false,
        payload: codec::message_edited(editor, edit.message_id, &content.replying_to(reply_to)),
    };
    let (seq, time) = log.append(conn, event).await?;
    let update = "UPDATE events SET content_seq = $3 WHERE log_id = $1 AND seq = $2";
    on!(&mut *conn, |c| sqlx::query(update)
        .bind(log_id.0)
        .bind(target_seq)
        .bind(seq)
        .execute(c)
        .await?
        .rows_affected());
    Ok((Edited { seq, time }, log.save(conn, Vec::new()).await?))
}

/// Appends a deletion and blanks what it deletes, within the transaction of `conn`.
pub(super) async fn delete(
    conn: &mut Conn,
    now: Micros,
    deletion: &Deletion,
) -> Result<(Seq, Option<Appended>), Error> {
    let target_seq = deletion.message_id.seq;
    let actor = deletion.actor.as_ref();
    let sender = actor.map_or("", UserId::as_str);
    let mut log = lock(conn, now, deletion.message_id, deletion.tenant_id.as_str()).await?;
    let target = target(conn, deletion.message_id).await?;

    if let Some(deleted) = target.as_ref().and_then(|target| target.deleted_seq)
        && deleted_by(conn, deletion.message_id, deleted).await? == sender
    {
        // A repeat, before rights are judged.
        return Ok((deleted, None));
    }
    if log.row.closed_seq.is_some() {
        return Err(Error::RoomNotFound);
    }
    let role = rights(conn, &log, actor, target_seq).await?;
    let target = target.ok_or(Error::MessageNotFound)?;
    if target.sender_id != sender && role < Role::Admin as i16 {
        return Err(Error::NotTheSender);
    }
    if let Some(deleted) = target.deleted_seq {
        return Ok((deleted, None));
    }
    let event = NewEvent {
        kind: kind::DELETE,
        sender,
        request: None,
        target: Some(target_seq),
        counted: false,
        payload: codec::message_deleted(actor, deletion.message_id),
    };
    let (seq, _) = log.append(conn, event).await?;
    blank(conn, deletion.message_id, seq, &target).await?;
    Ok((seq, log.save(conn, Vec::new()).await?))
}

async fn lock(
    conn: &mut Conn,
    now: Micros,
    message_id: MessageId,
    tenant_id: &str,
) -> Result<Log, Error> {
    let log = Log::lock(conn, message_id.log_id, Some(tenant_id), now).await?;
    log.ok_or(Error::MessageNotFound)
}

/// The role of who changes a message: of a member who may see it.
async fn rights(
    conn: &mut Conn,
    log: &Log,
    user: Option<&UserId>,
    target: Seq,
) -> Result<i16, Error> {
    let Some(user) = user else { return Ok(Role::Owner as i16) };
    let select = "SELECT role, joined_seq FROM members
                  WHERE log_id = $1 AND user_id = $2 AND removed_seq IS NULL";
    let member: Option<(i16, Seq)> = on!(conn, |c| sqlx::query_as(select)
        .bind(log.id.0)
        .bind(user.as_str())
        .fetch_optional(c)
        .await?);
    let (role, joined) = member.ok_or(stranger(log.row.kind))?;
    if log.row.history != History::All as i16 && target < joined {
        return Err(Error::MessageNotFound);
    }
    Ok(role)
}

async fn target(conn: &mut Conn, message_id: MessageId) -> Result<Option<Target>, sqlx::Error> {
    let select = "SELECT sender_id, ord, counted, deleted_seq, payload FROM events
                  WHERE log_id = $1 AND seq = $2 AND kind = 1";
    on!(conn, |c| sqlx::query_as(select)
        .bind(message_id.log_id.0)
        .bind(message_id.seq)
        .fetch_optional(c)
        .await)
}

async fn deleted_by(
    conn: &mut Conn,
    message_id: MessageId,
    deleted: Seq,
) -> Result<String, sqlx::Error> {
    let select = "SELECT sender_id FROM events WHERE log_id = $1 AND seq = $2";
    on!(conn, |c| sqlx::query_scalar(select)
        .bind(message_id.log_id.0)
        .bind(deleted)
        .fetch_one(c)
        .await)
}

/// Takes the content out of a message and all its edits.
async fn blank(
    conn: &mut Conn,
    message_id: MessageId,
    deleted: Seq,
    target: &Target,
) -> Result<(), Error> {
    let log_id = message_id.log_id.0;
    let select = "SELECT seq, payload FROM events
                  WHERE log_id = $1 AND target_seq = $2 AND kind = 2";
    let edits: Vec<(Seq, Vec<u8>)> = on!(&mut *conn, |c| sqlx::query_as(select)
        .bind(log_id)
        .bind(message_id.seq)
        .fetch_all(c)
        .await?);
    let message = [(message_id.seq, target.payload.clone())];
    for (seq, payload) in message.into_iter().chain(edits) {
        let tombstone = codec::tombstone(&payload).map_err(bad_payload)?;
        let update = "UPDATE events SET payload = $3, deleted_seq = $4
                      WHERE log_id = $1 AND seq = $2";
        on!(&mut *conn, |c| sqlx::query(update)
            .bind(log_id)
            .bind(seq)
            .bind(tombstone.as_ref())
            .bind(deleted)
            .execute(c)
            .await?
            .rows_affected());
    }
    if target.counted {
        let insert = "INSERT INTO gone (log_id, ord) VALUES ($1, $2)";
        on!(conn, |c| sqlx::query(insert)
            .bind(log_id)
            .bind(target.ord)
            .execute(c)
            .await?
            .rows_affected());
    }
    Ok(())
}

fn bad_payload(_: prost::DecodeError) -> Error {
    Error::Impossible { table: "events", column: "payload" }
}
