//! Requests from the wire, made into values that cannot be wrong.

use parlance_proto::membership::v1 as roster;
use parlance_proto::message::v1 as log;
use parlance_proto::room::v1 as pb;
use parlance_rpc::fields::{duration, each, given, ids as ids_of, length, pairs, room_id, user_id};
use parlance_types::{History, JoinRule, MemberRule, Micros, RoomId, RoomKind, UserId};

use crate::Error;
use crate::room::{
    Actor, Change, ChannelWish, Description, DirectWish, Field, FieldsDraft, Founding,
    LiveFounding, MAX_MEMBERS, Name, Names, NewRoom, Picture, SettingsDraft, UniqueId, Update,
    Visibility, Windows,
};

/// The fields that an update may name, those of the settings by their whole path.
const FIELDS: [&str; 6] = ["name", "picture", "description", "metadata", "fields", "visibility"];
const SETTINGS: [&str; 12] = [
    "settings.post",
    "settings.add",
    "settings.remove",
    "settings.join",
    "settings.allow_preview",
    "settings.history",
    "settings.capacity",
    "settings.metadata",
    "settings.retention",
    "settings.slow_mode",
    "settings.edit_window",
    "settings.delete_window",
];

/// The longest that a live room waits for somebody, and how long for the first one unless the
/// call says.
const MAX_WAIT: Micros = 3 * 60 * 60 * 1_000_000;
const EMPTY_TIMEOUT: Micros = 5 * 60 * 1_000_000;

/// How many paths a mask may have: each, and "settings", and some of them twice.
const MAX_PATHS: usize = 100;

pub(super) fn new_room(actor: &Actor, request: pb::CreateRoomRequest) -> Result<NewRoom, Error> {
    let kind = match log::RoomKind::try_from(request.kind) {
        Ok(log::RoomKind::Group) => RoomKind::Group,
        Ok(log::RoomKind::Channel) => RoomKind::Channel,
        Ok(log::RoomKind::Broadcast) if actor.is_tenant() => RoomKind::Broadcast,
        Ok(log::RoomKind::Broadcast) => {
            return Err(Error::NotAllowed("only services and operators make broadcasts"));
        }
        Ok(log::RoomKind::Live) if actor.is_tenant() => RoomKind::Live,
        _ => return Err(Error::invalid("kind", "must be group or channel")),
    };
    let unique_id = given(request.unique_id);
    if unique_id.is_some() && kind != RoomKind::Channel {
        return Err(Error::invalid("unique_id", "is for channels"));
    }
    let owner = given(request.owner_user_id).map(|id| user_id("owner_user_id", id));
    let members = each("member_user_ids", request.member_user_ids, 0..=MAX_MEMBERS, user_id)?;
    no_people(kind, owner.is_some(), !members.is_empty())?;
    if request.live.is_some() && kind != RoomKind::Live {
        return Err(Error::invalid("live", "is for live rooms"));
    }
    if kind == RoomKind::Group && !members.is_empty() && owner.is_none() && actor.user.is_none() {
        let rule = "must name the owner: a group with members has one";
        return Err(Error::invalid("owner_user_id", rule));
    }
    let draft = settings("settings", &request.settings.unwrap_or_default())?;
    let visibility = visibility("visibility", request.visibility)?;
    visibility.suit(kind, "visibility")?;
    Ok(NewRoom {
        visibility,
        room_id: given(request.room_id).map(|id| room_id("room_id", id)).transpose()?,
        kind,
        unique_id: unique_id.map(|id| UniqueId::parse("unique_id", id)).transpose()?,
        name: Name::parse("name", request.name)?,
        picture: Picture::parse("picture", request.picture)?,
        description: Description::parse("description", request.description)?,
        metadata: pairs("metadata", request.metadata)?,
        fields: FieldsDraft::parse("fields", request.fields)?,
        settings: draft.resolve("settings", kind)?,
        pair: None,
        founding: match kind {
            RoomKind::Live => Founding::of_live(None, live(&request.live.unwrap_or_default())?),
            _ => Founding::parse(actor, owner.transpose()?, &members)?,
        },
    })
}

/// Refuses to name first members of a room that begins with nobody.
fn no_people(kind: RoomKind, owner: bool, members: bool) -> Result<(), Error> {
    let (of_members, of_owner) = match kind {
        RoomKind::Live => ("a live room is entered", "who enters first is the owner"),
        RoomKind::Broadcast => ("everybody is in a broadcast", "nobody owns a broadcast"),
        RoomKind::Direct | RoomKind::Group | RoomKind::Channel => return Ok(()),
    };
    if members {
        return Err(Error::invalid("member_user_ids", format!("must be empty: {of_members}")));
    }
    if owner {
        return Err(Error::invalid("owner_user_id", format!("must be empty: {of_owner}")));
    }
    Ok(())
}

/// How a live room lives that a service makes.
fn live(live: &pb::LiveSettings) -> Result<LiveFounding, Error> {
    Ok(LiveFounding {
        destroy_delay: wait("live.destroy_delay", live.destroy_delay)?.unwrap_or_default(),
        empty_timeout: wait("live.empty_timeout", live.empty_timeout)?.unwrap_or(EMPTY_TIMEOUT),
        single_device: live.single_device,
        seat: None,
    })
}

/// How long a live room waits for somebody, in microseconds.
pub(crate) fn wait(
    field: &str,
    span: Option<prost_types::Duration>,
) -> Result<Option<Micros>, Error> {
    let Some(span) = duration(field, span)? else { return Ok(None) };
    let wait = Micros::try_from(span.as_micros()).ok().filter(|wait| *wait <= MAX_WAIT);
    wait.map(Some).ok_or_else(|| Error::invalid(field, "must be at most 3 h"))
}

pub(super) fn direct_wish(
    actor: &Actor,
    request: pb::GetOrCreateDirectRoomRequest,
) -> Result<DirectWish, Error> {
    let other = user_id("user_id", request.user_id)?;
    let first = given(request.first_user_id).map(|id| user_id("first_user_id", id));
    let metadata = pairs("metadata", request.metadata)?;
    DirectWish::parse(actor, other, first.transpose()?, metadata)
}

pub(super) fn channel_wish(request: pb::GetOrCreateChannelRequest) -> Result<ChannelWish, Error> {
    Ok(ChannelWish {
        unique_id: UniqueId::parse("unique_id", request.unique_id)?,
        name: Name::parse("name", request.name)?,
        picture: Picture::parse("picture", request.picture)?,
        metadata: pairs("metadata", request.metadata)?,
        fields: FieldsDraft::parse("fields", request.fields)?,
        visibility: visibility("visibility", request.visibility)?,
    })
}

/// Whether a channel is listed.
fn visibility(field: &str, visibility: i32) -> Result<Visibility, Error> {
    match pb::RoomVisibility::try_from(visibility) {
        Ok(pb::RoomVisibility::Unspecified | pb::RoomVisibility::Unlisted) => {
            Ok(Visibility::Unlisted)
        }
        Ok(pb::RoomVisibility::Listed) => Ok(Visibility::Listed),
        Err(_) => Err(Error::invalid(field, "is not known")),
    }
}

pub(super) fn names(request: pb::BatchGetRoomsRequest) -> Result<Names, Error> {
    Names::parse(request.room_ids, request.unique_ids)
}

pub(super) fn update(actor: &Actor, request: pb::UpdateRoomRequest) -> Result<Update, Error> {
    let room = request.room.ok_or_else(|| Error::invalid("room", "is required"))?;
    let room_id = room_id("room.room_id", room.room_id.clone())?;
    let mask = request.update_mask.unwrap_or_default().paths;
    length("update_mask", mask.len(), 0..=MAX_PATHS)?;
    let users = |field, ids| ids_of(field, ids, 0..=MAX_MEMBERS, UserId::parse);
    let add = users("add_user_ids", request.add_user_ids)?;
    let remove = users("remove_user_ids", request.remove_user_ids)?;
    if let Some(at) = remove.iter().position(|user| actor.user.as_ref() == Some(user)) {
        let rule = "must not be the caller, who leaves instead";
        return Err(Error::invalid(format!("remove_user_ids[{at}]"), rule));
    }
    if let Some(at) = remove.iter().position(|user| add.contains(user)) {
        return Err(Error::invalid(format!("remove_user_ids[{at}]"), "must not be added, too"));
    }
    if mask.is_empty() && add.is_empty() && remove.is_empty() {
        return Err(Error::invalid("update_mask", "must name at least one field"));
    }
    let mut change = Change::default();
    for path in all_paths(&mask)? {
        change.set(field(path, &room)?);
    }
    if let Some(etag) = given(room.etag) {
        if etag.contains('\0') {
            return Err(Error::invalid("room.etag", "must not contain U+0000"));
        }
        change.only_if(etag);
    }
    Ok(Update { room_id, change, add, remove })
}

pub(super) fn deletions(request: pb::BatchDeleteRoomsRequest) -> Result<Vec<RoomId>, Error> {
    Ok(ids_of("room_ids", request.room_ids, 1..=MAX_MEMBERS, RoomId::parse)?)
}

/// The fields of a mask, each once; "settings" stands for all of its own.
fn all_paths(mask: &[String]) -> Result<Vec<&'static str>, Error> {
    let known = || FIELDS.iter().chain(&SETTINGS).copied();
    if let Some(strange) = mask
        .iter()
        .find(|path| path.as_str() != "settings" && !known().any(|field| field == path.as_str()))
    {
        let shown: String = strange.chars().filter(|c| !c.is_control()).take(64).collect();
        let rule = format!("must not name \"{shown}\", which cannot be updated");
        return Err(Error::invalid("update_mask", rule));
    }
    let named = |field: &&str| {
        mask.iter().any(|path| path == field || (path == "settings" && field.contains('.')))
    };
    Ok(known().filter(named).collect())
}

/// The value of one field of the mask.
fn field(path: &str, room: &pb::Room) -> Result<Field, Error> {
    let settings = || {
        let all = room.settings.unwrap_or_default();
        // Fields that the mask does not name are not looked at.
        let one = pb::RoomSettings {
            post: if path == "settings.post" { all.post } else { 0 },
            add: if path == "settings.add" { all.add } else { 0 },
            remove: if path == "settings.remove" { all.remove } else { 0 },
            join: if path == "settings.join" { all.join } else { 0 },
            allow_preview: all.allow_preview,
            history: if path == "settings.history" { all.history } else { 0 },
            capacity: if path == "settings.capacity" { all.capacity } else { 0 },
            metadata: if path == "settings.metadata" { all.metadata } else { 0 },
            retention: all.retention.filter(|_| path == "settings.retention"),
            slow_mode: all.slow_mode.filter(|_| path == "settings.slow_mode"),
            edit_window: all.edit_window.filter(|_| path == "settings.edit_window"),
            delete_window: all.delete_window.filter(|_| path == "settings.delete_window"),
        };
        self::settings("room.settings", &one)
    };
    Ok(match path {
        "name" => Field::Name(Name::parse("room.name", room.name.clone())?),
        "picture" => Field::Picture(Picture::parse("room.picture", room.picture.clone())?),
        "description" => {
            let text = room.description.clone();
            Field::Description(Description::parse("room.description", text)?)
        }
        "metadata" => Field::Metadata(pairs("room.metadata", room.metadata.clone())?),
        "fields" => Field::Fields(FieldsDraft::parse("room.fields", room.fields.clone())?),
        "visibility" => Field::Visibility(visibility("room.visibility", room.visibility)?),
        "settings.post" => Field::Post(settings()?.post),
        "settings.add" => Field::Add(settings()?.add),
        "settings.remove" => Field::Remove(settings()?.remove),
        "settings.join" => Field::Join(settings()?.join),
        "settings.allow_preview" => Field::AllowPreview(settings()?.allow_preview),
        "settings.history" => Field::History(settings()?.history),
        "settings.capacity" => Field::Capacity(settings()?.capacity),
        "settings.metadata" => Field::Patch(settings()?.metadata),
        "settings.retention" => Field::Retention(settings()?.retention),
        "settings.slow_mode" => Field::SlowMode(settings()?.windows.slow_mode),
        "settings.edit_window" => Field::EditWindow(settings()?.windows.edit),
        "settings.delete_window" => Field::DeleteWindow(settings()?.windows.delete),
        _ => return Err(Error::invalid("update_mask", "names a field that cannot be updated")),
    })
}

/// A length of time in seconds, 0 if it is absent; -1, which is none, if it has a part of one.
pub(crate) fn whole_seconds(time: Option<prost_types::Duration>) -> i64 {
    time.map_or(0, |time| if time.nanos == 0 { time.seconds } else { -1 })
}

/// Rules from the wire; `at` is where they stand in the request.
pub(crate) fn settings(at: &str, settings: &pb::RoomSettings) -> Result<SettingsDraft, Error> {
    let unknown = |field: &str| Error::invalid(format!("{at}.{field}"), "is not a known rule");
    let members = |field: &str, rule: i32| match roster::MemberRule::try_from(rule) {
        Ok(roster::MemberRule::Unspecified) => Ok(None),
        Ok(roster::MemberRule::Members) => Ok(Some(MemberRule::Members)),
        Ok(roster::MemberRule::Admins) => Ok(Some(MemberRule::Admins)),
        Err(_) => Err(unknown(field)),
    };
    let draft = SettingsDraft {
        post: match log::PostRule::try_from(settings.post) {
            Ok(log::PostRule::Unspecified) => None,
            Ok(log::PostRule::Members) => Some(MemberRule::Members),
            Ok(log::PostRule::Admins) => Some(MemberRule::Admins),
            Err(_) => return Err(unknown("post")),
        },
        add: members("add", settings.add)?,
        remove: members("remove", settings.remove)?,
        join: match roster::JoinRule::try_from(settings.join) {
            Ok(roster::JoinRule::Unspecified) => None,
            Ok(roster::JoinRule::Anyone) => Some(JoinRule::Anyone),
            Ok(roster::JoinRule::AddedOnly) => Some(JoinRule::AddedOnly),
            Ok(roster::JoinRule::Request) => Some(JoinRule::Request),
            Err(_) => return Err(unknown("join")),
        },
        allow_preview: settings.allow_preview,
        history: match log::HistoryVisibility::try_from(settings.history) {
            Ok(log::HistoryVisibility::Unspecified) => None,
            Ok(log::HistoryVisibility::All) => Some(History::All),
            Ok(log::HistoryVisibility::SinceJoin) => Some(History::SinceJoin),
            Err(_) => return Err(unknown("history")),
        },
        capacity: Some(settings.capacity).filter(|capacity| *capacity != 0),
        metadata: members("metadata", settings.metadata)?,
        retention: whole_seconds(settings.retention),
        windows: Windows {
            slow_mode: whole_seconds(settings.slow_mode),
            edit: whole_seconds(settings.edit_window),
            delete: whole_seconds(settings.delete_window),
        },
    };
    draft.check(at)
}
