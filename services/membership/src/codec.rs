//! The encoding of facts and replies.

use parlance_proto::membership::v1 as pb;
use parlance_proto::message::v1 as pb_message;
use parlance_proto::message::v1::event::Body;
use parlance_proto::message::v1::{
    Effects, Hiding, LeaveCause, MemberGrant, MemberMute, MemberRole, MembersJoined, MembersLeft,
    Projection, RolesChanged, RoomClosed,
};
use parlance_rpc::Violation;
use parlance_types::{Micros, Role, RoomKind, UserId};
use prost::Message as _;
use prost_types::Timestamp;

use crate::membership::Outcome;
use crate::roster::{Cause, Grant, Membership, Step};

pub(crate) use parlance_outbox::Silent;
pub(crate) use parlance_proto::message::v1::Event;

/// The last moment of the year 9999: until then is whoever is muted for ever.
const LAST: Micros = 253_402_300_799_999_999;

/// Reads the event of a room's creation, made by the room service.
pub(crate) fn creation(encoded: &[u8]) -> Option<Event> {
    let event = Event::decode(encoded).ok()?;
    let of_log = event.seq != 0 || event.time.is_some() || !event.event_id.is_empty();
    let creates = matches!(event.body, Some(Body::RoomCreated(_)));
    (creates && !of_log).then_some(event)
}

/// The event that tells of a step.
pub(crate) fn event(actor: Option<&UserId>, step: &Step) -> Event {
    let (effects, body) = match step {
        Step::Gained(grants) => {
            let members = self::grants(grants);
            let gained = members.clone();
            (
                Effects { gained, ..Effects::default() },
                Body::MembersJoined(MembersJoined { members }),
            )
        }
        Step::Lost { user_ids, cause, reason } => {
            let user_ids = self::user_ids(user_ids);
            let lost_user_ids = user_ids.clone();
            let left = MembersLeft {
                user_ids,
                removed: *cause == Cause::Removed,
                reason: reason.clone(),
                cause: self::cause(*cause).into(),
            };
            (Effects { lost_user_ids, ..Effects::default() }, Body::MembersLeft(left))
        }
        Step::Roles(grants) => {
            let members = self::grants(grants);
            let roles = members.clone();
            (Effects { roles, ..Effects::default() }, Body::RolesChanged(RolesChanged { members }))
        }
    };
    by(actor, effects, body)
}

const fn cause(cause: Cause) -> LeaveCause {
    match cause {
        Cause::Left => LeaveCause::Left,
        Cause::LeaseEnded => LeaveCause::LeaseEnded,
        Cause::Removed => LeaveCause::Removed,
        Cause::Switched => LeaveCause::Switched,
    }
}

/// Says of members that they may not write until then.
pub(crate) fn mute(event: &mut Event, mutes: &[(UserId, Micros)]) {
    let mute = |(user_id, until): &(UserId, Micros)| MemberMute {
        user_id: user_id.as_str().to_owned(),
        until: Some(timestamp((*until).min(LAST))),
    };
    event.effects.get_or_insert_default().mutes = mutes.iter().map(mute).collect();
}

/// Says of members that they may write again.
pub(crate) fn unmute(event: &mut Event, users: &[UserId]) {
    let mute = |user_id: &UserId| MemberMute { user_id: user_id.as_str().to_owned(), until: None };
    event.effects.get_or_insert_default().mutes = users.iter().map(mute).collect();
}

/// Says of a user until when they are suspended; `None`: no longer.
pub(crate) fn suspension(until: Option<Micros>) -> Silent {
    let until = until.map(|until| timestamp(until.min(LAST)));
    let suspension = Some(pb_message::Suspension { until });
    Silent::Projection(Projection { suspension, ..Projection::default() })
}

/// Says of a user whom they blocked, and whom they unblocked.
pub(crate) fn blocks(changes: &[(UserId, bool)]) -> Silent {
    let blocks = block_changes(changes);
    Silent::Projection(Projection { blocks, ..Projection::default() })
}

/// Says of a user whom they blocked so that these are told nothing of it.
pub(crate) fn hidden_blocks(changes: &[(UserId, bool)]) -> Silent {
    Silent::Hiding(Hiding { blocks: block_changes(changes), ..Hiding::default() })
}

/// Says of members of a direct room that they were blocked there, or unblocked.
pub(crate) fn peer_blocks(changes: &[(UserId, bool)]) -> Silent {
    let peer_blocks = block_changes(changes);
    Silent::Projection(Projection { peer_blocks, ..Projection::default() })
}

/// Says of members of a direct room that the other one does not see what they write, or does again.
pub(crate) fn hidden_peers(changes: &[(UserId, bool)]) -> Silent {
    Silent::Hiding(Hiding { peers: block_changes(changes), ..Hiding::default() })
}

fn block_changes(changes: &[(UserId, bool)]) -> Vec<pb_message::BlockChange> {
    let change = |(user_id, blocked): &(UserId, bool)| pb_message::BlockChange {
        user_id: user_id.as_str().to_owned(),
        blocked: *blocked,
    };
    changes.iter().map(change).collect()
}

/// The last event of a log.
pub(crate) fn closing(actor: Option<&UserId>) -> Event {
    let effects = Effects { closed: true, ..Effects::default() };
    by(actor, effects, Body::RoomClosed(RoomClosed {}))
}

/// An event of an actor's.
pub(crate) fn by(actor: Option<&UserId>, effects: Effects, body: Body) -> Event {
    let actor_id = actor.map(|actor| actor.as_str().to_owned()).unwrap_or_default();
    Event { actor_id, effects: Some(effects), body: Some(body), ..Event::default() }
}

/// The reply that tells the outcome of a change.
pub(crate) fn reply(outcome: &Outcome) -> Vec<u8> {
    match outcome {
        Outcome::Joined { membership, already } => {
            let membership = Some(self::membership(membership));
            pb::JoinRoomResponse { membership, already_member: *already }.encode_to_vec()
        }
        Outcome::Left => pb::LeaveRoomResponse {}.encode_to_vec(),
        Outcome::Added { added, already } => pb::AddMembersResponse {
            added: added.iter().map(membership).collect(),
            already_member_user_ids: user_ids(already),
        }
        .encode_to_vec(),
        Outcome::Removed { user_ids } => {
            pb::RemoveMembersResponse { removed_user_ids: self::user_ids(user_ids) }.encode_to_vec()
        }
        Outcome::Edited => pb::EditMembersResponse {}.encode_to_vec(),
        Outcome::RoleSet { membership } => {
            let membership = Some(self::membership(membership));
            pb::ChangeRoleResponse { membership }.encode_to_vec()
        }
    }
}

pub(crate) fn membership(membership: &Membership) -> pb::Membership {
    pb::Membership {
        room_id: membership.room_id.as_str().to_owned(),
        user_id: membership.user_id.as_str().to_owned(),
        role: role(membership.role).into(),
        join_time: Some(timestamp(membership.joined)),
    }
}

pub(crate) const fn role(role: Role) -> MemberRole {
    match role {
        Role::Member => MemberRole::Member,
        Role::Admin => MemberRole::Admin,
        Role::Owner => MemberRole::Owner,
    }
}

pub(crate) fn parse_role(field: impl Into<String>, role: i32) -> Result<Role, Violation> {
    match MemberRole::try_from(role) {
        Ok(MemberRole::Member) => Ok(Role::Member),
        Ok(MemberRole::Admin) => Ok(Role::Admin),
        Ok(MemberRole::Owner) => Ok(Role::Owner),
        _ => Err(Violation::new(field, "must be a role")),
    }
}

pub(crate) const fn kind(kind: RoomKind) -> pb_message::RoomKind {
    match kind {
        RoomKind::Direct => pb_message::RoomKind::Direct,
        RoomKind::Group => pb_message::RoomKind::Group,
        RoomKind::Channel => pb_message::RoomKind::Channel,
        RoomKind::Broadcast => pb_message::RoomKind::Broadcast,
        RoomKind::Live => pb_message::RoomKind::Live,
    }
}

pub(crate) fn timestamp(time: Micros) -> Timestamp {
    let micros = i32::try_from(time.rem_euclid(1_000_000)).expect("below a million");
    Timestamp { seconds: time.div_euclid(1_000_000), nanos: micros * 1000 }
}

fn grants(grants: &[Grant]) -> Vec<MemberGrant> {
    let grant = |grant: &Grant| MemberGrant {
        user_id: grant.user_id.as_str().to_owned(),
        role: role(grant.role).into(),
    };
    grants.iter().map(grant).collect()
}

pub(crate) fn user_ids(user_ids: &[UserId]) -> Vec<String> {
    user_ids.iter().map(|user_id| user_id.as_str().to_owned()).collect()
}
