//! Requests from the wire, made into values that cannot be wrong.

use std::collections::HashSet;
use std::time::Duration;

use parlance_proto::presence::v1 as pb;
use parlance_types::{InvalidId, RoomId, UserId};

use crate::Error;
use crate::domain::{Active, InvalidSession, Lease, Leases, Resource, Session, Status};

/// How many users one call may name.
const MAX_USERS: usize = 100;

fn id<T>(field: impl Into<String>, id: Result<T, InvalidId>) -> Result<T, Error> {
    id.map_err(|invalid| Error::invalid(field, invalid.to_string()))
}

fn part<T>(field: &str, part: Result<T, InvalidSession>) -> Result<T, Error> {
    part.map_err(|invalid| Error::invalid(field, invalid.to_string()))
}

pub(super) fn room_id(room_id: String) -> Result<RoomId, Error> {
    id("room_id", RoomId::parse(room_id))
}

pub(super) fn resource(resource: String) -> Result<Resource, Error> {
    part("resource", Resource::parse(resource))
}

/// Users, each once.
pub(super) fn user_ids(user_ids: Vec<String>) -> Result<Vec<UserId>, Error> {
    if !(1..=MAX_USERS).contains(&user_ids.len()) {
        return Err(Error::invalid("user_ids", format!("must have 1 to {MAX_USERS} entries")));
    }
    let mut seen = HashSet::new();
    let mut parsed = Vec::with_capacity(user_ids.len());
    for (at, user_id) in user_ids.into_iter().enumerate() {
        let field = format!("user_ids[{at}]");
        let user_id = id(&field, UserId::parse(user_id))?;
        if !seen.insert(user_id.clone()) {
            return Err(Error::invalid(field, "must not come twice"));
        }
        parsed.push(user_id);
    }
    Ok(parsed)
}

/// What is said of a device.
pub(super) fn session(
    request: pb::OpenSessionRequest,
    leases: Leases,
) -> Result<(Resource, Session), Error> {
    let active = match pb::Availability::try_from(request.availability) {
        Ok(pb::Availability::Unspecified | pb::Availability::Online) => Active::Online,
        Ok(pb::Availability::Away) => Active::Away,
        _ => return Err(Error::invalid("availability", "must be online or away")),
    };
    let lease = request.lease.map(|lease| {
        let rule = |_| Error::invalid("lease", "must not be negative");
        Duration::try_from(lease).map_err(rule)
    });
    let resource = resource(request.resource)?;
    let status = part("status", Status::parse(request.status))?;
    let lease = part("lease", Lease::parse(lease.transpose()?, leases))?;
    Ok((resource, Session { active, status, lease }))
}
