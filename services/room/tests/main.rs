//! Each RPC end to end within one process: real gRPC, on each database.

mod beside_membership;
mod growth;
mod harness;
mod logs;
mod roster;
mod silence;

pub(crate) mod live {
    mod deadline;
    pub(crate) mod rooms;
}
mod list {
    mod list_channels;
    mod list_my_rooms;
    mod rooms_left;
}
mod metadata {
    mod bound_keys;
    mod patch_metadata;
}
pub(crate) mod tenant {
    mod defaults;
    mod filters;
    pub(crate) mod quotas;
    mod settings;
    mod users;
}
pub(crate) mod room {
    mod batch_delete_rooms;
    mod batch_get_rooms;
    pub(crate) mod broadcasts;
    mod create_room;
    mod delete_room;
    mod get_or_create_channel;
    mod get_or_create_direct_room;
    mod get_room;
    mod include_members;
    mod lifecycle;
    mod locked;
    mod update_people;
    mod update_room;
}
