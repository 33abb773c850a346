//! Each RPC end to end within one process: real gRPC, on each database.

mod apply_facts;
mod callers;
mod delete_message;
mod edit_message;
mod get_counters;
mod get_message;
mod get_unread;
mod harness;
mod list_messages;
mod list_user_logs;
mod mark_all_read;
mod mark_delivered;
mod mark_read;
mod mark_unread;
mod publish_notice;
mod recount_unread;
mod rights;
mod rooms;
mod send_message;
