//! Rooms in protobuf: on the wire, in events and in recorded replies.

use std::collections::BTreeMap;

use parlance_outbox::OutboxLog;
use parlance_proto::membership::v1 as roster;
use parlance_proto::message::v1 as log;
use parlance_proto::message::v1::event::Body;
use parlance_proto::room::v1 as pb;
use parlance_types::{History, JoinRule, LogId, MemberRule, Micros, Role, RoomKind, UserId};
use prost::Message as _;
use prost_types::Timestamp;

pub(crate) use parlance_proto::message::v1::Event;

use super::{
    Founding, LiveFounding, LogRules, Room, RoomEvent, RosterRules, Settings, TenantRules,
    UniqueId, Visibility, is_of_members,
};

/// A room as callers see it.
pub(crate) fn room(room: &Room) -> pb::Room {
    pb::Room {
        room_id: room.room_id.to_string(),
        unique_id: room.unique_id.as_ref().map(UniqueId::as_str).unwrap_or_default().to_owned(),
        kind: kind(room.kind).into(),
        name: room.name.as_str().to_owned(),
        picture: room.picture.as_str().to_owned(),
        description: room.description.as_str().to_owned(),
        metadata: room.metadata.get().clone(),
        settings: Some(settings(&room.settings)),
        creator_user_id: room.creator.as_ref().map(ToString::to_string).unwrap_or_default(),
        create_time: Some(timestamp(room.create_time)),
        update_time: Some(timestamp(room.update_time)),
        etag: room.etag(),
        fields: room.fields.get().clone(),
        live: room.founding.live().map(live),
        visibility: visibility(room).into(),
    }
}

/// A room as those see it who are no longer in.
pub(crate) fn left_room(room: &Room) -> pb::Room {
    if !is_of_members(room.kind) {
        return self::room(room);
    }
    pb::Room {
        room_id: room.room_id.to_string(),
        kind: kind(room.kind).into(),
        ..pb::Room::default()
    }
}

fn visibility(room: &Room) -> pb::RoomVisibility {
    match (room.kind, room.visibility) {
        (RoomKind::Channel, Visibility::Unlisted) => pb::RoomVisibility::Unlisted,
        (RoomKind::Channel, Visibility::Listed) => pb::RoomVisibility::Listed,
        _ => pb::RoomVisibility::Unspecified,
    }
}

fn live(live: &LiveFounding) -> pb::LiveSettings {
    pb::LiveSettings {
        destroy_delay: Some(span(live.destroy_delay)),
        single_device: live.single_device,
        empty_timeout: live.seat.is_none().then(|| span(live.empty_timeout)),
    }
}

/// What is particular to the roster of a live room.
pub(crate) fn live_roster(live: &LiveFounding, rules: TenantRules) -> roster::LiveRoster {
    let seat = live.seat.as_ref().map(|seat| roster::FirstSeat {
        resource: seat.resource.clone(),
        session_id: seat.session_id.clone(),
        max_rooms: rules.max_live_rooms_per_user,
        from_log_id: seat.from.clone().unwrap_or_default(),
    });
    roster::LiveRoster {
        destroy_delay: Some(span(live.destroy_delay)),
        empty_timeout: Some(span(live.empty_timeout)),
        single_device: live.single_device,
        seat,
    }
}

fn span(span: Micros) -> prost_types::Duration {
    let nanos = i32::try_from(span.rem_euclid(1_000_000) * 1000).expect("below 10^9");
    prost_types::Duration { seconds: span.div_euclid(1_000_000), nanos }
}

/// The form in which the room of a reply is recorded.
pub(crate) fn encode_room(stored: &Room) -> Vec<u8> {
    room(stored).encode_to_vec()
}

/// The event that a room begins with.
pub(crate) fn created_event(room: &Room) -> log::Event {
    let rules = log_rules(room.log_rules());
    log::Event {
        actor_id: room.creator.as_ref().map(ToString::to_string).unwrap_or_default(),
        effects: Some(log::Effects { rules: Some(rules), ..log::Effects::default() }),
        body: Some(Body::RoomCreated(log::RoomCreated {
            kind: kind(room.kind).into(),
            name: room.name.as_str().to_owned(),
            picture: room.picture.as_str().to_owned(),
            description: room.description.as_str().to_owned(),
            metadata: room.metadata.get().clone(),
            fields: room.fields.get().clone(),
        })),
        ..log::Event::default()
    }
}

/// The event that tells of an update, with the values from here on.
pub(crate) fn updated_event(room: &Room, event: &RoomEvent) -> log::Event {
    let rules = event.rules_changed.then(|| log_rules(room.log_rules()));
    log::Event {
        actor_id: event.actor.as_ref().map(ToString::to_string).unwrap_or_default(),
        effects: rules.map(|rules| log::Effects { rules: Some(rules), ..log::Effects::default() }),
        body: Some(Body::RoomUpdated(log::RoomUpdated {
            name: room.name.as_str().to_owned(),
            picture: room.picture.as_str().to_owned(),
            description: room.description.as_str().to_owned(),
            metadata: room.metadata.get().clone(),
            fields: room.fields.get().clone(),
            changed_fields: event.changed.iter().map(ToString::to_string).collect(),
        })),
        ..log::Event::default()
    }
}

/// The event that tells of keys of the metadata that changed, by somebody or by nobody.
pub(crate) fn patched_event(
    actor: Option<&UserId>,
    set: BTreeMap<String, String>,
    deleted_keys: Vec<String>,
) -> log::Event {
    log::Event {
        actor_id: actor.map(ToString::to_string).unwrap_or_default(),
        body: Some(Body::MetadataPatched(log::MetadataPatched { set, deleted_keys })),
        ..log::Event::default()
    }
}

/// The log that the facts of a room go to.
pub(crate) fn outbox_log(room: &Room) -> OutboxLog {
    OutboxLog {
        log_id: room.log_id,
        tenant_id: room.tenant_id.clone(),
        room_id: room.room_id.clone(),
        kind: kind(room.kind),
    }
}

pub(crate) fn log_id(log_id: LogId) -> String {
    log_id.0.to_string()
}

/// The first members.
pub(crate) fn grants(founding: &Founding) -> Vec<log::MemberGrant> {
    let grant = |(user_id, held): (&str, Role)| {
        let role = match held {
            Role::Member => log::MemberRole::Member,
            Role::Admin => log::MemberRole::Admin,
            Role::Owner => log::MemberRole::Owner,
        };
        log::MemberGrant { user_id: user_id.to_owned(), role: role.into() }
    };
    founding.grants().map(grant).collect()
}

/// A role of a roster; `None`: not a member. A role that this version does not
/// know counts as the least.
pub(crate) fn role(role: i32) -> Option<Role> {
    match log::MemberRole::try_from(role) {
        Ok(log::MemberRole::Unspecified) => None,
        Ok(log::MemberRole::Owner) => Some(Role::Owner),
        Ok(log::MemberRole::Admin) => Some(Role::Admin),
        Ok(log::MemberRole::Member) | Err(_) => Some(Role::Member),
    }
}

pub(crate) const fn kind(kind: RoomKind) -> log::RoomKind {
    match kind {
        RoomKind::Direct => log::RoomKind::Direct,
        RoomKind::Group => log::RoomKind::Group,
        RoomKind::Channel => log::RoomKind::Channel,
        RoomKind::Broadcast => log::RoomKind::Broadcast,
        RoomKind::Live => log::RoomKind::Live,
    }
}

pub(crate) fn roster_rules(rules: RosterRules) -> roster::RosterRules {
    roster::RosterRules {
        join: join_rule(rules.join).into(),
        add: member_rule(rules.add).into(),
        remove: member_rule(rules.remove).into(),
        capacity: rules.capacity,
        watched: rules.watched,
    }
}

fn settings(settings: &Settings) -> pb::RoomSettings {
    let rules = log_rules(settings.log_rules());
    pb::RoomSettings {
        post: rules.post,
        add: member_rule(settings.add).into(),
        remove: member_rule(settings.remove).into(),
        join: join_rule(settings.join).into(),
        allow_preview: rules.allow_preview,
        history: rules.history,
        capacity: settings.capacity,
        metadata: member_rule(settings.metadata).into(),
        retention: rules.retention,
        slow_mode: rules.slow_mode,
        edit_window: rules.edit_window,
        delete_window: rules.delete_window,
    }
}

fn log_rules(rules: LogRules) -> log::LogRules {
    let post = match rules.post {
        MemberRule::Members => log::PostRule::Members,
        MemberRule::Admins => log::PostRule::Admins,
    };
    let history = match rules.history {
        History::All => log::HistoryVisibility::All,
        History::SinceJoin => log::HistoryVisibility::SinceJoin,
    };
    log::LogRules {
        post: post.into(),
        allow_preview: rules.allow_preview,
        history: history.into(),
        retention: seconds(rules.retention),
        slow_mode: seconds(rules.windows.slow_mode),
        edit_window: seconds(rules.windows.edit),
        delete_window: seconds(rules.windows.delete),
    }
}

/// Some seconds; none of 0.
pub(crate) fn seconds(seconds: i64) -> Option<prost_types::Duration> {
    (seconds > 0).then_some(prost_types::Duration { seconds, nanos: 0 })
}

const fn join_rule(rule: JoinRule) -> roster::JoinRule {
    match rule {
        JoinRule::Anyone => roster::JoinRule::Anyone,
        JoinRule::AddedOnly => roster::JoinRule::AddedOnly,
        JoinRule::Request => roster::JoinRule::Request,
    }
}

const fn member_rule(rule: MemberRule) -> roster::MemberRule {
    match rule {
        MemberRule::Members => roster::MemberRule::Members,
        MemberRule::Admins => roster::MemberRule::Admins,
    }
}

pub(crate) fn timestamp(time: Micros) -> Timestamp {
    let nanos = i32::try_from(time.rem_euclid(1_000_000) * 1000).expect("below 10^9");
    Timestamp { seconds: time.div_euclid(1_000_000), nanos }
}
