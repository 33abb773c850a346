//! Each RPC end to end within one process: real gRPC, on each database.

mod batch_get_rooms;
mod beside_membership;
mod create_room;
mod delete_room;
mod get_or_create_channel;
mod get_or_create_direct_room;
mod get_room;
mod harness;
mod lifecycle;
mod list_my_rooms;
mod logs;
mod roster;
mod update_room;
