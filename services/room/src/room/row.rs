//! The row of a room.

use parlance_db::{StoreError, Stored};
use parlance_types::{
    History, JoinRule, LogId, MemberRule, Pairs, RoomId, RoomKind, TenantId, UserId,
};
use uuid::Uuid;

use super::{
    AllowedFields, Description, Fields, Name, Pair, Picture, Room, Settings, State, TenantRules,
    UniqueId, Visibility, Windows,
};

/// The columns of [`RoomRow`], in the order in which an insert binds them.
macro_rules! columns {
    () => {
        "tenant_id, log_id, room_id, unique_id, kind, name, picture, description, metadata,
         post_rule, add_rule, remove_rule, join_rule, allow_preview, history, capacity,
         creator, pair_low, pair_high, founding, state, version, rules_version,
         pushed_rules_version, deleter, create_time, update_time, key_owners, metadata_rule,
         retention, fields, kept, visibility, slow_mode, edit_window, delete_window"
    };
}
pub(super) use columns;

/// The columns of [`RoomRow`] with what the tenant allows, of one statement.
macro_rules! selected {
    () => {
        concat!(
            $crate::room::row::columns!(),
            ", members, bound_keys, (SELECT s.allowed_fields FROM tenant_settings s
                 WHERE s.tenant_id = rooms.tenant_id) AS allowed_fields,
               (SELECT s.max_live_rooms_per_user FROM tenant_settings s
                 WHERE s.tenant_id = rooms.tenant_id) AS max_live_rooms_per_user,
               (SELECT s.retention FROM tenant_settings s
                 WHERE s.tenant_id = rooms.tenant_id) AS tenant_retention"
        )
    };
}
pub(super) use selected;

parlance_db::row! {
    pub(super) struct RoomRow {
        tenant_id: String,
        log_id: Uuid,
        room_id: String,
        unique_id: Option<String>,
        kind: i16,
        name: String,
        picture: String,
        description: String,
        metadata: String,
        post_rule: i16,
        add_rule: i16,
        remove_rule: i16,
        join_rule: i16,
        allow_preview: bool,
        history: i16,
        capacity: i32,
        creator: Option<String>,
        pair_low: Option<String>,
        pair_high: Option<String>,
        founding: String,
        state: i16,
        version: i64,
        rules_version: i64,
        pushed_rules_version: i64,
        deleter: Option<String>,
        create_time: i64,
        update_time: i64,
        key_owners: String,
        metadata_rule: i16,
        retention: i64,
        fields: String,
        kept: i64,
        visibility: i16,
        slow_mode: i64,
        edit_window: i64,
        delete_window: i64,
        members: i64,
        bound_keys: String,
        allowed_fields: Option<String>,
        max_live_rooms_per_user: Option<i32>,
        tenant_retention: Option<i64>,
    }
}

impl RoomRow {
    const fn stored(&self) -> Stored<Uuid> {
        Stored { table: "rooms", row: self.log_id }
    }

    fn settings(&self) -> Result<Settings, StoreError> {
        let stored = self.stored();
        Ok(Settings {
            post: stored.value("post_rule", MemberRule::from_i16(self.post_rule))?,
            add: stored.value("add_rule", MemberRule::from_i16(self.add_rule))?,
            remove: stored.value("remove_rule", MemberRule::from_i16(self.remove_rule))?,
            join: stored.value("join_rule", JoinRule::from_i16(self.join_rule))?,
            allow_preview: self.allow_preview,
            history: stored.value("history", History::from_i16(self.history))?,
            capacity: self.capacity,
            metadata: stored.value("metadata_rule", MemberRule::from_i16(self.metadata_rule))?,
            retention: self.retention,
            windows: Windows {
                slow_mode: self.slow_mode,
                edit: self.edit_window,
                delete: self.delete_window,
            },
        })
    }

    fn fields(&self) -> Result<Fields, StoreError> {
        let stored = self.stored();
        let values = stored.value("fields", serde_json::from_str(&self.fields).ok())?;
        Ok(Fields::stored(allowed(self.allowed_fields.as_deref())?, values))
    }

    fn pair(&self) -> Option<Pair> {
        let (low, high) = (self.pair_low.as_ref()?, self.pair_high.as_ref()?);
        Pair::new(UserId::new(low.clone()), UserId::new(high.clone()))
    }
}

impl TryFrom<RoomRow> for Room {
    type Error = StoreError;

    fn try_from(row: RoomRow) -> Result<Self, StoreError> {
        let stored = row.stored();
        Ok(Self {
            settings: row.settings()?,
            visibility: stored.value("visibility", Visibility::from_i16(row.visibility))?,
            members: row.members,
            kept: row.kept,
            tenant: TenantRules::stored(row.max_live_rooms_per_user, row.tenant_retention),
            pair: row.pair(),
            fields: row.fields()?,
            founding: stored.value("founding", serde_json::from_str(&row.founding).ok())?,
            metadata: Pairs::stored(
                stored.value("metadata", serde_json::from_str(&row.metadata).ok())?,
            ),
            bound_keys: stored.value("bound_keys", serde_json::from_str(&row.bound_keys).ok())?,
            key_owners: stored.value("key_owners", serde_json::from_str(&row.key_owners).ok())?,
            kind: stored.value("kind", RoomKind::from_i16(row.kind))?,
            state: stored.value("state", State::from_i16(row.state))?,
            tenant_id: TenantId::new(row.tenant_id),
            log_id: LogId(row.log_id),
            room_id: RoomId::new(row.room_id),
            unique_id: row.unique_id.map(UniqueId::stored),
            name: Name::stored(row.name),
            picture: Picture::stored(row.picture),
            description: Description::stored(row.description),
            creator: row.creator.map(UserId::new),
            version: row.version,
            rules_version: row.rules_version,
            pushed_rules_version: row.pushed_rules_version,
            deleter: row.deleter.map(UserId::new),
            create_time: row.create_time,
            update_time: row.update_time,
        })
    }
}

/// What a room is called, and its fields.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Named {
    pub log_id: LogId,
    pub kind: RoomKind,
    pub name: Name,
    pub fields: Fields,
}

impl Room {
    pub(crate) fn named(&self) -> Named {
        let (name, fields) = (self.name.clone(), self.fields.clone());
        Named { log_id: self.log_id, kind: self.kind, name, fields }
    }
}

parlance_db::row! {
    pub(super) struct NamedRow {
        log_id: Uuid,
        kind: i16,
        name: String,
        fields: String,
        allowed_fields: Option<String>,
    }
}

impl TryFrom<NamedRow> for Named {
    type Error = StoreError;

    fn try_from(row: NamedRow) -> Result<Self, StoreError> {
        let stored = Stored { table: "rooms", row: row.log_id };
        let values = stored.value("fields", serde_json::from_str(&row.fields).ok())?;
        let fields = Fields::stored(allowed(row.allowed_fields.as_deref())?, values);
        let kind = stored.value("kind", RoomKind::from_i16(row.kind))?;
        Ok(Self { log_id: LogId(row.log_id), kind, name: Name::stored(row.name), fields })
    }
}

/// Where a listed channel stands, and what narrows the list.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Listed {
    pub named: Named,
    pub members: i64,
}

parlance_db::row! {
    pub(super) struct ListedRow {
        members: i64,
    }
}

impl ListedRow {
    pub(super) fn listed(self, named: NamedRow) -> Result<Listed, StoreError> {
        Ok(Listed { named: named.try_into()?, members: self.members })
    }
}

/// The fields that a tenant allows, as they are stored.
pub(super) fn allowed(stored: Option<&str>) -> Result<AllowedFields, StoreError> {
    let Some(text) = stored else { return Ok(AllowedFields::default()) };
    let settings = Stored { table: "tenant_settings", row: "of a tenant" };
    settings.value("allowed_fields", serde_json::from_str(text).ok())
}

/// What is stored as JSON: it cannot fail for these types.
pub(super) fn json(value: &impl serde::Serialize) -> String {
    serde_json::to_string(value).expect("maps and lists of texts are JSON")
}
