//! The service on each database: each RPC end to end within one process, over real gRPC,
//! and beside it what lies below, in a folder for each noun.

mod callers;
mod growth;
mod harness;
mod rights;
mod rooms;
mod stream;
mod world;

mod attachment {
    mod growth;
    mod harness;
    mod held;
    mod readers;
    mod removal;
    mod s3;
    mod uploads;
}

mod broadcast {
    mod contacts;
    mod growth;
    mod rights;
    mod streams;
    mod suspensions;
}

mod expiry {
    pub(crate) mod expiries;
    mod growth;
    mod races;
}

mod fact {
    mod apply_facts;
    pub(crate) mod blocks;
    mod facts;
    mod hidden_peers;
    mod mutes;
    mod suspensions;
}

mod filter {
    mod filters;
    mod growth;
}

mod hide {
    mod growth;
    mod hide_messages;
    mod hide_room;
}

mod history {
    pub(crate) mod clear_for_all;
    mod clear_history;
    mod purge;
    mod races;
    mod retention;
}

mod hook {
    pub(crate) mod checks;
    mod failures;
    mod growth;
    pub(crate) mod judge;
}

mod inbox {
    mod get_unread;
    mod list_user_logs;
    mod lists;
    mod recount_unread;
    mod walks;
}

mod log {
    mod epochs;
    mod faults;
    mod high_water;
    mod order;
    mod races;
    mod sends;
    mod silence;
    mod turns;
    mod views;
}

mod mark {
    mod list_receipts;
    mod mark_all_read;
    mod mark_delivered;
    mod mark_read;
    mod mark_unread;
    mod marks;
}

mod mention {
    mod growth;
    mod list_mentions;
}

mod message {
    mod changes;
    mod delete_message;
    mod echo;
    mod edit_message;
    mod get_message;
    mod list_messages;
    mod origin;
    mod priority;
    mod send_message;
    pub(crate) mod send_messages;
    mod windows;
}

mod notice {
    mod publish_notice;
    mod seat_ended;
    pub(crate) mod send_notice;
}

mod pin {
    mod pins;
}

mod operator {
    mod get_counters;
}

mod thread {
    mod growth;
    mod list_replies;
}

mod reaction {
    mod growth;
    mod races;
    pub(crate) mod reactions;
    mod shown;
}
