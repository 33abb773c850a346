//! What rooms are and what it means to change them. Knows neither gRPC nor SQL.

mod create;
mod delete;
mod janitor;
mod lifecycle;
mod quick;
mod read;
mod room;
mod rooms;
mod settings;
mod text;
mod update;

pub use create::NewRoom;
pub(crate) use janitor::{ABANDONED_GRACE, GRACE};
pub use quick::{ChannelWish, DirectWish};
pub use read::Names;
pub use room::{Actor, Founding, Kind, Pair, Role, Room, RoomEvent, State};
pub use rooms::{Changed, Deadline, Repeatable, Rooms};
pub use settings::{History, Join, LogRules, Members, Post, RosterRules, Settings, SettingsDraft};
pub use text::{Description, Metadata, Name, Picture, UniqueId};
pub use update::{Change, Field, Update};
