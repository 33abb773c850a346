//! Requests into values that cannot be wrong; every refusal names its field.

use std::collections::BTreeSet;

use parlance_proto::membership::v1 as pb;
use parlance_proto::message::v1 as pb_message;
use parlance_types::{LogId, PageSize, RequestId, RoomId, UserId};
use prost::Message;
use sha2::{Digest, Sha256};

use crate::Error;
use crate::domain::{Grant, JoinRule, MemberRule, Profile, RequestKey, Role, RoomKind, Rules};

/// The most entries of a list in a request.
const MAX_LIST: usize = 100;

const MAX_REASON_CHARS: usize = 256;

pub(super) fn room_id(id: String) -> Result<RoomId, Error> {
    RoomId::parse(id).map_err(|invalid| Error::invalid("room_id", invalid.to_string()))
}

pub(super) fn user_id(field: impl Into<String>, id: String) -> Result<UserId, Error> {
    UserId::parse(id).map_err(|invalid| Error::invalid(field, invalid.to_string()))
}

/// A user who may be left out.
pub(super) fn optional_user_id(field: &str, id: String) -> Result<Option<UserId>, Error> {
    if id.is_empty() { Ok(None) } else { user_id(field, id).map(Some) }
}

pub(super) fn log_id(field: impl Into<String>, id: &str) -> Result<LogId, Error> {
    id.parse().map_err(|_| Error::invalid(field, "must be a UUID"))
}

/// 1 to 100 users, each once.
pub(super) fn user_ids(field: &str, ids: Vec<String>) -> Result<Vec<UserId>, Error> {
    length(field, ids.len(), 1..=MAX_LIST)?;
    each_once(field, ids)
}

/// At most 100 users, each once.
pub(super) fn optional_user_ids(field: &str, ids: Vec<String>) -> Result<Vec<UserId>, Error> {
    length(field, ids.len(), 0..=MAX_LIST)?;
    each_once(field, ids)
}

fn each_once(field: &str, ids: Vec<String>) -> Result<Vec<UserId>, Error> {
    let mut seen = BTreeSet::new();
    let mut parsed = Vec::with_capacity(ids.len());
    for (index, id) in ids.into_iter().enumerate() {
        let id = user_id(format!("{field}[{index}]"), id)?;
        if !seen.insert(id.clone()) {
            return Err(Error::invalid(format!("{field}[{index}]"), "must be named once"));
        }
        parsed.push(id);
    }
    Ok(parsed)
}

pub(super) fn length(
    field: &str,
    length: usize,
    allowed: std::ops::RangeInclusive<usize>,
) -> Result<(), Error> {
    if allowed.contains(&length) {
        return Ok(());
    }
    let (min, max) = allowed.into_inner();
    let rule = if min == 0 {
        format!("must have at most {max} entries")
    } else {
        format!("must have {min} to {max} entries")
    };
    Err(Error::invalid(field, rule))
}

pub(super) fn page_size(size: i32) -> Result<usize, Error> {
    let size = PageSize::parse(size);
    size.map(PageSize::get).ok_or_else(|| Error::invalid("page_size", "must not be negative"))
}

pub(super) fn reason(reason: String) -> Result<String, Error> {
    if reason.contains('\0') {
        return Err(Error::invalid("reason", "must not contain U+0000"));
    }
    if reason.chars().count() > MAX_REASON_CHARS {
        return Err(Error::invalid("reason", "must have at most 256 characters"));
    }
    Ok(reason)
}

/// Names the attempt that `message` is, if it has a request id. The hash covers the
/// method and every field: maps are sorted, and defaults are not encoded.
pub(super) fn request(
    method: &str,
    request_id: &str,
    message: &impl Message,
) -> Result<Option<RequestKey>, Error> {
    if request_id.is_empty() {
        return Ok(None);
    }
    let request_id = RequestId::parse(request_id)
        .map_err(|invalid| Error::invalid("request_id", invalid.to_string()))?;
    let mut hash = Sha256::new();
    hash.update(method.as_bytes());
    hash.update([0]);
    hash.update(message.encode_to_vec());
    Ok(Some(RequestKey { request_id, hash: hash.finalize().into() }))
}

pub(super) fn role(field: impl Into<String>, role: i32) -> Result<Role, Error> {
    match pb_message::MemberRole::try_from(role) {
        Ok(pb_message::MemberRole::Member) => Ok(Role::Member),
        Ok(pb_message::MemberRole::Admin) => Ok(Role::Admin),
        Ok(pb_message::MemberRole::Owner) => Ok(Role::Owner),
        _ => Err(Error::invalid(field, "must be a role")),
    }
}

pub(super) fn kind(kind: i32) -> Result<RoomKind, Error> {
    match pb_message::RoomKind::try_from(kind) {
        Ok(pb_message::RoomKind::Direct) => Ok(RoomKind::Direct),
        Ok(pb_message::RoomKind::Group) => Ok(RoomKind::Group),
        Ok(pb_message::RoomKind::Channel) => Ok(RoomKind::Channel),
        _ => Err(Error::invalid("kind", "must be a kind of room")),
    }
}

/// The first members of a room, each once.
pub(super) fn grants(members: Vec<pb_message::MemberGrant>) -> Result<Vec<Grant>, Error> {
    // The creator and 100 others.
    length("members", members.len(), 0..=MAX_LIST + 1)?;
    let mut seen = BTreeSet::new();
    let mut grants = Vec::with_capacity(members.len());
    for (index, member) in members.into_iter().enumerate() {
        let field = |name: &str| format!("members[{index}].{name}");
        let user_id = user_id(field("user_id"), member.user_id)?;
        if !seen.insert(user_id.clone()) {
            return Err(Error::invalid(field("user_id"), "must be named once"));
        }
        grants.push(Grant { user_id, role: role(field("role"), member.role)? });
    }
    Ok(grants)
}

/// Those of the members who come into being.
pub(super) fn ensured(ids: Vec<String>, members: &[Grant]) -> Result<Vec<UserId>, Error> {
    length("ensure_user_ids", ids.len(), 0..=MAX_LIST + 1)?;
    let ids = each_once("ensure_user_ids", ids)?;
    let stranger = |id: &UserId| !members.iter().any(|member| member.user_id == *id);
    match ids.iter().position(stranger) {
        Some(index) => {
            Err(Error::invalid(format!("ensure_user_ids[{index}]"), "must be one of members"))
        }
        None => Ok(ids),
    }
}

pub(super) fn rules(rules: Option<pb::RosterRules>) -> Result<Rules, Error> {
    let rules = rules.ok_or_else(|| Error::invalid("rules", "must be set"))?;
    let join = match pb::JoinRule::try_from(rules.join) {
        Ok(pb::JoinRule::Anyone) => JoinRule::Anyone,
        Ok(pb::JoinRule::AddedOnly) => JoinRule::AddedOnly,
        _ => return Err(Error::invalid("rules.join", "must be a rule")),
    };
    let add = member_rule("rules.add", rules.add)?;
    let remove = member_rule("rules.remove", rules.remove)?;
    if rules.capacity < 1 {
        return Err(Error::invalid("rules.capacity", "must be at least 1"));
    }
    Ok(Rules { join, add, remove, capacity: rules.capacity })
}

fn member_rule(field: &str, rule: i32) -> Result<MemberRule, Error> {
    match pb::MemberRule::try_from(rule) {
        Ok(pb::MemberRule::Members) => Ok(MemberRule::Members),
        Ok(pb::MemberRule::Admins) => Ok(MemberRule::Admins),
        _ => Err(Error::invalid(field, "must be a rule")),
    }
}

pub(super) fn rules_version(version: i64) -> Result<i64, Error> {
    if version < 0 {
        return Err(Error::invalid("rules_version", "must not be negative"));
    }
    Ok(version)
}

/// A user to be written; `field` is where it stands in the request.
pub(super) fn user(field: &str, user: pb::User) -> Result<(UserId, Profile), Error> {
    let id = user_id(format!("{field}.user_id"), user.user_id)?;
    let profile = Profile::parse(user.name, user.picture, user.metadata);
    let profile =
        profile.map_err(|wrong| Error::invalid(format!("{field}.{}", wrong.field), wrong.rule))?;
    Ok((id, profile))
}

/// 1 to 100 users to be written, each once.
pub(super) fn users(users: Vec<pb::User>) -> Result<Vec<(UserId, Profile)>, Error> {
    length("users", users.len(), 1..=MAX_LIST)?;
    let mut seen = BTreeSet::new();
    let mut parsed = Vec::with_capacity(users.len());
    for (index, entry) in users.into_iter().enumerate() {
        let (id, profile) = user(&format!("users[{index}]"), entry)?;
        if !seen.insert(id.clone()) {
            let field = format!("users[{index}].user_id");
            return Err(Error::invalid(field, "must be named once"));
        }
        parsed.push((id, profile));
    }
    Ok(parsed)
}
