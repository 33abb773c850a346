//! What the gRPC services of callers share.

use parlance_db::Stored;
use parlance_requests::RequestKey;
use parlance_rpc::{Caller, Deadline, Violation, caller, fields};
use parlance_types::{InvalidId, InvalidPageToken, Micros, Query, RoomId, UserId, cut};
use prost::Message;
use prost_types::Timestamp;
use tonic::{Request, Response, Status};

use crate::Error;
use crate::handler::Handler;
use crate::roster::store::{Act, Asked, Waiting};
use crate::roster::{Pending, may_add};

const MAX_REASON_CHARS: usize = 256;
const MAX_TEXT_CHARS: usize = 500;

/// The last second of the year 9999, after which a time has no text.
const LAST_SECOND: i64 = 253_402_300_799;

/// Who calls, until when, and what is asked.
pub(crate) fn open<T>(request: Request<T>) -> Result<(Caller, Deadline, T), Status> {
    let caller = caller(&request)?;
    let deadline = Deadline::of(&request).reserve();
    Ok((caller, deadline, request.into_inner()))
}

/// Makes a change that stands in the log when this returns.
pub(crate) async fn change<R: Message + Default>(
    handler: &Handler,
    deadline: Deadline,
    caller: &Caller,
    room_id: RoomId,
    act: impl Act + 'static,
    request: Option<RequestKey>,
) -> Result<Response<R>, Status> {
    let actor = handler.actor(deadline, caller).await?;
    let stored = Stored { table: "requests", row: room_id.clone() };
    let request = request.map(|request| request.in_room(room_id.clone()));
    let asked = Asked { actor, room_id, act, request };
    let store = handler.store.clone();
    let reply = handler.settle(deadline, async move { store.act(&asked).await }).await?;
    let reply = stored.value("reply", R::decode(reply.as_slice()).ok());
    Ok(Response::new(reply.map_err(Error::from)?))
}

/// A page of what waits for an answer, and the token of the page after it: in a room, if it is
/// named, for those who let in there; else of the caller in all rooms.
pub(crate) async fn pending(
    handler: &Handler,
    deadline: Deadline,
    caller: &Caller,
    kind: Pending,
    (room_id, page_size, page_token): (String, i32, String),
) -> Result<(Vec<Waiting>, String), Status> {
    let size = fields::page_size(page_size)?.get();
    let room_id = fields::given(room_id).map(|id| fields::room_id("room_id", id)).transpose()?;
    let actor = handler.actor(deadline, caller).await?;
    let (tenant, name, listed) = (caller.tenant_id.as_str(), name(caller), format!("{kind:?}"));
    let store = &handler.store;
    let (query, mut found) = if let Some(room_id) = &room_id {
        let roster = handler.roster_seen(deadline, &actor, room_id, may_add).await?;
        let log_id = roster.log_id.to_string();
        let query = Query::new(&["pending", tenant, name, &listed, &log_id]);
        let after = position(query, &page_token, UserId::parse)?;
        let found = store.pending_in(roster.log_id, kind, after.as_ref(), size + 1);
        (query, deadline.bound(found).await?)
    } else {
        let user_id = caller.require_user()?;
        let query = Query::new(&["pending", tenant, name, &listed]);
        let after = position(query, &page_token, RoomId::parse)?;
        let found = store.pending_of(&caller.tenant_id, user_id, kind, after.as_ref(), size + 1);
        (query, deadline.bound(found).await?)
    };
    let last = cut(&mut found, size);
    let next = last.map(|last| match room_id {
        Some(_) => query.token(last.user_id.as_str()),
        None => query.token(last.room_id.as_str()),
    });
    Ok((found, next.unwrap_or_default()))
}

/// Who a page token was made for.
pub(crate) fn name(caller: &Caller) -> &str {
    caller.user().map_or("", UserId::as_str)
}

/// After which id the page of a token begins. What is in a token may be forged: it is
/// parsed like every other id.
pub(crate) fn position<T>(
    query: Query,
    token: &str,
    parse: impl Fn(String) -> Result<T, InvalidId>,
) -> Result<Option<T>, Violation> {
    let id: Option<String> = fields::page_token(query.position(token))?;
    fields::page_token(id.map(parse).transpose().map_err(|_| InvalidPageToken))
}

/// Why something was done.
pub(crate) fn reason(reason: String) -> Result<String, Violation> {
    said("reason", reason, MAX_REASON_CHARS)
}

/// What is said to something.
pub(crate) fn text(text: String) -> Result<String, Violation> {
    said("text", text, MAX_TEXT_CHARS)
}

fn said(field: &str, text: String, most: usize) -> Result<String, Violation> {
    if text.contains('\0') {
        return Err(Violation::new(field, "must not contain U+0000"));
    }
    if text.chars().count() > most {
        return Err(Violation::new(field, format!("must have at most {most} characters")));
    }
    Ok(text)
}

/// The end of something, if it has one.
pub(crate) fn until(field: &str, until: Option<Timestamp>) -> Result<Option<Micros>, Violation> {
    let micros = |time: Timestamp| {
        let within = (0..=LAST_SECOND).contains(&time.seconds);
        fields::micros(&time).filter(|_| within)
    };
    let wrong = || Violation::new(field, "must be a time from 1970 to 9999");
    until.map(|until| micros(until).ok_or_else(wrong)).transpose()
}
