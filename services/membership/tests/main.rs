//! The membership service through gRPC, on both databases.

mod growth;
mod harness;

pub(crate) mod block {
    pub(crate) mod blocks;
    mod silent;
}

mod invitation {
    mod invitations;
    mod races;
}

mod invite_link {
    mod links;
    mod races;
}

mod join_request {
    mod join_requests;
    mod races;
}

mod member {
    mod metadata;
}

mod membership {
    mod add_members;
    mod change_role;
    mod edit_members;
    mod get_membership;
    mod join_room;
    mod leave_room;
    mod list_room_members;
    mod list_user_memberships;
    mod locked;
    mod log_away;
    mod owners;
    mod remove_members;
    mod request_ids;
    mod silence;
    mod tenants;
}

mod moderation {
    pub(crate) mod bans;
    mod mutes;
    mod races;
    mod suspensions;
}

mod roster {
    mod broadcasts;
    mod changes;
    mod ended;
    mod left;
    mod views;
    pub(crate) mod watched;
}

mod privacy_list {
    mod lists;
}

pub(crate) mod seat {
    mod due;
    mod end_seats;
    mod enter_seat;
    mod leave_seats;
    mod lists;
    mod open_roster;
    mod races;
    pub(crate) mod rooms;
    mod switch_seat;
}

pub(crate) mod tenant {
    pub(crate) mod users;
}

mod user {
    mod search;
    mod users;
}
