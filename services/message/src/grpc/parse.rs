//! Requests from the wire, field by field, with the names of the contract.

use std::collections::HashSet;
use std::time::Duration;

use parlance_proto::message::v1 as pb;
use parlance_proto::message::v1::list_messages_request::Position as PbPosition;
use parlance_proto::message::v1::publish_notice_request::Notice as PbNotice;
use parlance_rpc::Caller;
use parlance_types::{
    InvalidId, LogId, MessageId, PageSize, RequestId, RoomId, Seq, TenantId, UserId,
};
use prost::Message as _;

use crate::Error;
use crate::codec::{self, Body};
use crate::domain::{Content, Fact, FactBatch, Listing, LogIdentity, Position, Source};

type Parsed<T> = Result<T, Error>;

/// How many rooms one call may ask about.
const MAX_ROOMS: usize = 100;
/// How many facts one call may bring.
const MAX_FACTS: usize = 1000;
/// How many events a fact may have.
const MAX_FACT_EVENTS: usize = 16;
/// The longest that a member types without being told again.
const MAX_TYPING: Duration = Duration::from_mins(5);
/// How long the event of a fact may be.
const MAX_EVENT_BYTES: usize = 256 * 1024;

const ID_RULE: &str = "must have 1 to 128 bytes and no control characters";

fn id<T>(field: &str, parsed: Result<T, InvalidId>) -> Parsed<T> {
    parsed.map_err(|InvalidId| Error::invalid(field, ID_RULE))
}

pub(super) fn room_id(room_id: String) -> Parsed<RoomId> {
    id("room_id", RoomId::parse(room_id))
}

pub(super) fn user_id(user_id: String) -> Parsed<UserId> {
    id("user_id", UserId::parse(user_id))
}

/// The request id among those of its caller. An empty one is none.
pub(super) fn request_id(caller: &Caller, request_id: String) -> Parsed<Option<RequestId>> {
    if request_id.is_empty() {
        return Ok(None);
    }
    let request_id = id("request_id", RequestId::parse(request_id))?;
    Ok(Some(caller.own(request_id)))
}

pub(super) fn message_id(field: &str, message_id: &str) -> Parsed<MessageId> {
    message_id.parse().map_err(|InvalidId| Error::invalid(field, "must be a message id"))
}

pub(super) fn page_size(page_size: i32) -> Parsed<PageSize> {
    PageSize::parse(page_size).ok_or_else(|| Error::invalid("page_size", "must not be negative"))
}

/// A position that was read or delivered.
pub(super) fn seq(field: &str, seq: Seq) -> Parsed<Seq> {
    at_least(field, seq, 1)
}

fn at_least(field: &str, seq: Seq, least: Seq) -> Parsed<Seq> {
    if seq >= least {
        Ok(seq)
    } else {
        Err(Error::invalid(field, format!("must be at least {least}")))
    }
}

/// How long a member goes on typing; `None`: has stopped.
pub(super) fn typing(notice: Option<PbNotice>) -> Parsed<Option<Duration>> {
    let Some(PbNotice::Typing(typing)) = notice else {
        return Err(Error::invalid("notice", "must be set"));
    };
    let lasts = typing.lasts.unwrap_or_default().try_into();
    let lasts = lasts.ok().filter(|lasts| *lasts <= MAX_TYPING);
    let rule = || Error::invalid("typing.lasts", "must be at most 5 minutes");
    Ok(Some(lasts.ok_or_else(rule)?).filter(|lasts: &Duration| !lasts.is_zero()))
}

/// Rooms, each once.
pub(super) fn room_ids(room_ids: Vec<String>) -> Parsed<Vec<RoomId>> {
    if room_ids.len() > MAX_ROOMS {
        return Err(Error::invalid("room_ids", format!("must have at most {MAX_ROOMS} entries")));
    }
    let mut seen = HashSet::new();
    let mut parsed = Vec::with_capacity(room_ids.len());
    for (n, room_id) in room_ids.into_iter().enumerate() {
        let field = format!("room_ids[{n}]");
        let room_id = id(&field, RoomId::parse(room_id))?;
        if !seen.insert(room_id.clone()) {
            return Err(Error::invalid(field, "must not be named twice"));
        }
        parsed.push(room_id);
    }
    Ok(parsed)
}

/// The content of a new message.
pub(super) fn content(content: Option<pb::MessageContent>) -> Parsed<Content> {
    let content = content.ok_or_else(|| Error::invalid("content", "is required"))?;
    let reply_to = match content.reply_to_message_id.as_str() {
        "" => None,
        id => Some(message_id("content.reply_to_message_id", id)?),
    };
    Content::parse(content.r#type, content.text, content.properties, reply_to)
        .map_err(|invalid| Error::invalid(format!("content.{}", invalid.field), invalid.rule))
}

/// The content of an edit, which keeps what the message answers.
pub(super) fn new_content(new: Option<pb::MessageContent>) -> Parsed<Content> {
    if new.as_ref().is_some_and(|content| !content.reply_to_message_id.is_empty()) {
        return Err(Error::invalid(
            "content.reply_to_message_id",
            "must be empty: an edit keeps what the message answers",
        ));
    }
    content(new)
}

pub(super) fn listing(request: pb::ListMessagesRequest) -> Parsed<Listing> {
    let room_id = room_id(request.room_id)?;
    let size = page_size(request.page_size)?;
    let position = match request.position {
        None => Position::Latest,
        Some(PbPosition::BeforeSeq(seq)) => Position::Before(at_least("before_seq", seq, 1)?),
        Some(PbPosition::AfterSeq(seq)) => Position::After(at_least("after_seq", seq, 0)?),
        Some(PbPosition::AroundSeq(seq)) => {
            if !request.page_token.is_empty() {
                return Err(Error::invalid("page_token", "must be empty with around_seq"));
            }
            Position::Around(at_least("around_seq", seq, 1)?)
        }
    };
    Ok(Listing {
        room_id,
        position,
        size,
        page_token: request.page_token,
        preview: request.preview,
        mark_read: request.mark_read,
    })
}

/// Facts of another service for a log of `tenant_id`.
pub(super) fn facts(tenant_id: TenantId, request: pb::ApplyFactsRequest) -> Parsed<FactBatch> {
    let source = match request.source() {
        pb::FactSource::Membership => Source::Membership,
        pb::FactSource::Room => Source::Room,
        pb::FactSource::Unspecified => {
            return Err(Error::invalid("source", "must be a known source"));
        }
    };
    let log_id: LogId = request
        .log_id
        .parse()
        .map_err(|InvalidId| Error::invalid("log_id", "must be the id of a log"))?;
    let identity = request.identity.map(identity).transpose()?;
    if request.facts.len() > MAX_FACTS {
        return Err(Error::invalid("facts", format!("must have at most {MAX_FACTS} entries")));
    }
    let mut facts = Vec::with_capacity(request.facts.len());
    let mut last = None;
    for (n, fact) in request.facts.into_iter().enumerate() {
        let field = format!("facts[{n}]");
        let continues = last.map_or(fact.version >= 1, |last: i64| last + 1 == fact.version);
        if !continues || fact.version == i64::MAX {
            let rule = "must be 1 or more, and one more than the version before";
            return Err(Error::invalid(format!("{field}.version"), rule));
        }
        last = Some(fact.version);
        facts.push(self::fact(&field, fact)?);
    }
    let creates = facts.first().is_some_and(|fact| fact.version == 1);
    if creates && source == Source::Membership && identity.is_none() {
        return Err(Error::invalid("identity", "is required where the facts begin with version 1"));
    }
    Ok(FactBatch { tenant_id, log_id, source, facts, identity })
}

fn identity(identity: pb::LogIdentity) -> Parsed<LogIdentity> {
    let kind = codec::room_kind(identity.kind())
        .ok_or_else(|| Error::invalid("identity.kind", "must be a known kind"))?;
    let room_id = id("identity.room_id", RoomId::parse(identity.room_id))?;
    Ok(LogIdentity { room_id, kind })
}

fn fact(field: &str, fact: pb::Fact) -> Parsed<Fact> {
    if !(1..=MAX_FACT_EVENTS).contains(&fact.events.len()) {
        let rule = format!("must have 1 to {MAX_FACT_EVENTS} entries");
        return Err(Error::invalid(format!("{field}.events"), rule));
    }
    for (n, event) in fact.events.iter().enumerate() {
        fact_event(event).map_err(|rule| Error::invalid(format!("{field}.events[{n}]"), rule))?;
    }
    let events = fact.events.into_iter().map(Into::into).collect();
    Ok(Fact { version: fact.version, events })
}

/// What the event of a fact must be: readable, without a place, with good ids.
/// Whether it is true is not asked.
fn fact_event(payload: &[u8]) -> Result<(), &'static str> {
    if payload.len() > MAX_EVENT_BYTES {
        return Err("must have at most 256 KiB");
    }
    let not_an_event = |_| "must be an encoded event";
    let event = pb::Event::decode(payload).map_err(not_an_event)?;
    if event.seq != 0 || event.time.is_some() || !event.event_id.is_empty() {
        return Err("must not have a seq, a time or an id");
    }
    let envelope = codec::envelope(payload).map_err(not_an_event)?;
    if envelope.body != Body::Other {
        return Err("must not be about a message");
    }
    let effects = &envelope.effects;
    let granted = effects.gained.iter().chain(&effects.roles).map(|(user, _)| user);
    let users = granted.chain(&effects.lost).chain(&envelope.actor);
    for user in users {
        UserId::parse(user.as_str()).map_err(|InvalidId| "must name users by good ids")?;
    }
    Ok(())
}
