//! `FactService`: what other services of the suite put into logs.

use parlance_log::{Fact, FactBatch, Kind, LogIdentity, Projection, Source, Store, codec};
use parlance_proto::message::v1 as pb;
use parlance_proto::message::v1::fact_service_server::FactService;
use parlance_rpc::{Deadline, fields, internal};
use parlance_types::{InvalidId, LogId, RoomId, TenantId, UserId};
use prost::Message as _;
use tonic::{Request, Response, Status};

use crate::Error;

/// How many facts one call may bring.
const MAX_FACTS: usize = 1000;
/// How many events a fact may have.
const MAX_FACT_EVENTS: usize = 16;
/// How many users a silent fact may say to be blocked.
const MAX_BLOCKS: usize = 1000;
/// How many members of a direct room there are.
const MAX_PEERS: usize = 2;
/// How long the event of a fact may be.
const MAX_EVENT_BYTES: usize = 256 * 1024;

/// Lets other services of the suite put facts into logs.
#[derive(Clone, Debug)]
pub struct FactGrpc {
    store: Store,
}

impl FactGrpc {
    pub const fn new(store: Store) -> Self {
        Self { store }
    }
}

#[tonic::async_trait]
impl FactService for FactGrpc {
    async fn apply_facts(
        &self,
        request: Request<pb::ApplyFactsRequest>,
    ) -> Result<Response<pb::ApplyFactsResponse>, Status> {
        let (caller, deadline) = (internal(&request)?, Deadline::of(&request));
        let batch = facts(caller.tenant_id, request.into_inner())?;
        let applied = deadline.bound(self.store.apply(batch)).await?;
        let (closed, head) = (applied.closed, applied.head);
        Ok(Response::new(pb::ApplyFactsResponse { applied: applied.applied, head, closed }))
    }
}

/// Facts of another service for a log of `tenant_id`.
fn facts(tenant_id: TenantId, request: pb::ApplyFactsRequest) -> Result<FactBatch, Error> {
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

fn identity(identity: pb::LogIdentity) -> Result<LogIdentity, Error> {
    if !identity.user_id.is_empty() {
        return Ok(LogIdentity::Own(fields::user_id("identity.user_id", identity.user_id)?));
    }
    let kind = codec::room_kind(identity.kind())
        .ok_or_else(|| Error::invalid("identity.kind", "must be a known kind"))?;
    let room_id = fields::id("identity.room_id", RoomId::parse(identity.room_id))?;
    Ok(LogIdentity::Room { room_id, kind })
}

fn fact(field: &str, fact: pb::Fact) -> Result<Fact, Error> {
    if let Some(hiding) = fact.hiding {
        if !fact.events.is_empty() || fact.silent.is_some() {
            let rule = "must be all that a fact says";
            return Err(Error::invalid(format!("{field}.hiding"), rule));
        }
        let silent = Some(self::hiding(&format!("{field}.hiding"), hiding)?);
        return Ok(Fact { version: fact.version, events: Vec::new(), silent });
    }
    if let Some(said) = fact.silent {
        if !fact.events.is_empty() {
            let rule = "must be empty in a silent fact";
            return Err(Error::invalid(format!("{field}.events"), rule));
        }
        let silent = Some(silent(&format!("{field}.silent"), said)?);
        return Ok(Fact { version: fact.version, events: Vec::new(), silent });
    }
    if !(1..=MAX_FACT_EVENTS).contains(&fact.events.len()) {
        let rule = format!("must have 1 to {MAX_FACT_EVENTS} entries");
        return Err(Error::invalid(format!("{field}.events"), rule));
    }
    for (n, event) in fact.events.iter().enumerate() {
        fact_event(event).map_err(|rule| Error::invalid(format!("{field}.events[{n}]"), rule))?;
    }
    let events = fact.events.into_iter().map(Into::into).collect();
    Ok(Fact { version: fact.version, events, silent: None })
}

/// What a silent fact says, in bounds, of users with good ids.
fn silent(field: &str, silent: pb::Projection) -> Result<Projection, Error> {
    bounded(format!("{field}.peer_blocks"), &silent.peer_blocks, MAX_PEERS)?;
    bounded(format!("{field}.blocks"), &silent.blocks, MAX_BLOCKS)?;
    Ok(codec::projection(silent))
}

/// The same of users who are told nothing of their being blocked.
fn hiding(field: &str, hiding: pb::Hiding) -> Result<Projection, Error> {
    bounded(format!("{field}.peers"), &hiding.peers, MAX_PEERS)?;
    bounded(format!("{field}.blocks"), &hiding.blocks, MAX_BLOCKS)?;
    Ok(codec::hiding(hiding))
}

fn bounded(field: String, changes: &[pb::BlockChange], most: usize) -> Result<(), Error> {
    fields::length(&field, changes.len(), 0..=most)?;
    let bad = |change: &pb::BlockChange| UserId::parse(change.user_id.as_str()).is_err();
    if changes.iter().any(bad) {
        return Err(Error::invalid(field, "must name users by good ids"));
    }
    Ok(())
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
    if envelope.effects.first != 0 {
        return Err("must not say what is left of the log");
    }
    if envelope.kind != Kind::Fact {
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
