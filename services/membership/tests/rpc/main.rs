//! The membership service through gRPC, on both databases.

mod add_members;
mod change_role;
mod get_membership;
mod harness;
mod join_room;
mod leave_room;
mod list_room_members;
mod list_user_memberships;
mod log_away;
mod remove_members;
mod rosters;
mod rosters_seen;
mod tenants;
mod users;
