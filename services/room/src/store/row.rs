//! The row of a room.

use std::fmt::Display;

use parlance_types::{LogId, RoomId, TenantId, UserId};
use uuid::Uuid;

use crate::Error;
use crate::domain::{
    Description, Founding, History, Join, Kind, Members, Metadata, Name, Pair, Picture, Post, Room,
    Settings, State, UniqueId,
};

/// The columns of [`RoomRow`], in the order in which an insert binds them.
macro_rules! columns {
    () => {
        "tenant_id, log_id, room_id, unique_id, kind, name, picture, description, metadata,
         post_rule, add_rule, remove_rule, join_rule, allow_preview, history, capacity,
         creator, pair_low, pair_high, founding, state, version, rules_version,
         pushed_rules_version, deleter, create_time, update_time"
    };
}
pub(super) use columns;

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
    }
}

/// Names a column that holds what no code of ours writes.
fn impossible(column: &'static str, row: &impl Display) -> Error {
    Error::Impossible { table: "rooms", column, row: row.to_string() }
}

impl RoomRow {
    fn settings(&self) -> Result<Settings, Error> {
        let bad = |column| move || impossible(column, &self.log_id);
        Ok(Settings {
            post: Post::from_i16(self.post_rule).ok_or_else(bad("post_rule"))?,
            add: Members::from_i16(self.add_rule).ok_or_else(bad("add_rule"))?,
            remove: Members::from_i16(self.remove_rule).ok_or_else(bad("remove_rule"))?,
            join: Join::from_i16(self.join_rule).ok_or_else(bad("join_rule"))?,
            allow_preview: self.allow_preview,
            history: History::from_i16(self.history).ok_or_else(bad("history"))?,
            capacity: self.capacity,
        })
    }

    fn pair(&self) -> Option<Pair> {
        let (low, high) = (self.pair_low.as_ref()?, self.pair_high.as_ref()?);
        Pair::new(UserId::new(low.clone()), UserId::new(high.clone()))
    }

    fn founding(&self) -> Result<Founding, Error> {
        serde_json::from_str(&self.founding).map_err(|_| impossible("founding", &self.log_id))
    }

    fn metadata(&self) -> Result<Metadata, Error> {
        let pairs = serde_json::from_str(&self.metadata);
        pairs.map(Metadata::stored).map_err(|_| impossible("metadata", &self.log_id))
    }
}

impl TryFrom<RoomRow> for Room {
    type Error = Error;

    fn try_from(row: RoomRow) -> Result<Self, Error> {
        Ok(Self {
            settings: row.settings()?,
            pair: row.pair(),
            founding: row.founding()?,
            metadata: row.metadata()?,
            kind: Kind::from_i16(row.kind).ok_or_else(|| impossible("kind", &row.log_id))?,
            state: State::from_i16(row.state).ok_or_else(|| impossible("state", &row.log_id))?,
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

/// What is stored as JSON: it cannot fail for these types.
pub(super) fn json(value: &impl serde::Serialize) -> String {
    serde_json::to_string(value).expect("maps and lists of texts are JSON")
}
