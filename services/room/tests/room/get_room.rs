//! `GetRoom`.

use parlance_db::{Db, test_on_each_db};
use parlance_rpc::{Principal, Reason};

use crate::harness::{
    Harness, SECOND, channel, create, delete, direct, get, group, refused, violates,
};
use crate::roster::Fault;

test_on_each_db!(parlance_room::MIGRATIONS =>
    members_see_their_group_and_strangers_do_not,
    a_channel_is_open_to_every_user,
    a_direct_room_of_others_does_not_exist,
    a_service_sees_every_room,
    an_outage_is_never_a_refusal,
    a_user_who_is_suspended_sees_a_channel_for_a_minute_at_most,
    what_is_wrong_with_a_request_is_named,
);

/// B-052, B-203.
async fn members_see_their_group_and_strangers_do_not(db: Db) {
    let suite = Harness::new(db).await;
    create(&mut suite.user("ann"), group("g", &["bob"])).await;
    for user in ["ann", "bob"] {
        suite.user(user).rooms.get_room(get("g")).await.expect("a member sees it");
    }
    refused(suite.user("cid").rooms.get_room(get("g")).await, Reason::NotAMember);
    refused(suite.user("cid").rooms.get_room(get("h")).await, Reason::RoomNotFound);
    let mut for_cid = suite.service_for("cid");
    refused(for_cid.rooms.get_room(get("g")).await, Reason::NotAMember);
    suite.user("ann").rooms.delete_room(delete("g", "")).await.expect("deleted");
    refused(suite.user("ann").rooms.get_room(get("g")).await, Reason::RoomNotFound);
}

/// B-052.
async fn a_channel_is_open_to_every_user(db: Db) {
    let suite = Harness::new(db).await;
    let found = suite.user("ann").rooms.get_or_create_channel(channel("news")).await;
    let room = found.expect("created").into_inner().room.expect("a room");
    let seen = suite.user("eve").rooms.get_room(get(&room.room_id)).await.expect("seen");
    assert_eq!(seen.into_inner().room, Some(room));
}

async fn a_user_who_is_suspended_sees_a_channel_for_a_minute_at_most(db: Db) {
    let suite = Harness::new(db).await;
    let found = suite.user("ann").rooms.get_or_create_channel(channel("news")).await;
    let room = found.expect("created").into_inner().room.expect("a room");
    let get = || {
        let mut eve = suite.user("eve");
        let request = get(&room.room_id);
        async move { eve.rooms.get_room(request).await }
    };
    get().await.expect("seen");
    suite.roster.break_rpc("EnsureUser", Fault::Refuse(Reason::Suspended));
    suite.clock.advance(60 * SECOND);
    for _ in 0..2 {
        refused(get().await, Reason::Suspended);
    }
    // Once it is over, at once.
    suite.roster.mend("EnsureUser");
    get().await.expect("seen");
    // Of whom is known that they exist, an outage keeps nothing.
    suite.roster.break_rpc("EnsureUser", Fault::Refuse(Reason::StoreUnavailable));
    suite.clock.advance(60 * SECOND);
    get().await.expect("seen");
    let asked = suite.roster.calls("EnsureUser");
    get().await.expect("seen, and not asked for");
    assert_eq!(suite.roster.calls("EnsureUser"), asked);
}

async fn a_direct_room_of_others_does_not_exist(db: Db) {
    let suite = Harness::new(db).await;
    let found = suite.user("ann").rooms.get_or_create_direct_room(direct("bob")).await;
    let room = found.expect("created").into_inner().room.expect("a room");
    for user in ["ann", "bob"] {
        suite.user(user).rooms.get_room(get(&room.room_id)).await.expect("one of the two");
    }
    let mut cid = suite.user("cid");
    let hidden = cid.rooms.get_room(get(&room.room_id)).await.expect_err("hidden");
    let missing = cid.rooms.get_room(get("missing")).await.expect_err("missing");
    assert_eq!(Reason::of(&hidden), Some(Reason::RoomNotFound));
    assert_eq!(hidden.message(), missing.message());
    assert_eq!(hidden.details(), missing.details());
}

async fn a_service_sees_every_room(db: Db) {
    let suite = Harness::new(db).await;
    create(&mut suite.user("ann"), group("g", &[])).await;
    let found = suite.user("ann").rooms.get_or_create_direct_room(direct("bob")).await;
    let direct = found.expect("created").into_inner().room.expect("a room");
    for principal in [Principal::Service, Principal::Operator] {
        let mut client = suite.caller("acme", principal);
        for room_id in ["g", &direct.room_id] {
            client.rooms.get_room(get(room_id)).await.expect("seen");
        }
    }
    let mut other = suite.caller("other", Principal::Service);
    refused(other.rooms.get_room(get("g")).await, Reason::RoomNotFound);
    let mut internal = suite.caller("acme", Principal::Internal(None));
    refused(internal.rooms.get_room(get("g")).await, Reason::NotAllowed);
}

async fn an_outage_is_never_a_refusal(db: Db) {
    let suite = Harness::new(db).await;
    create(&mut suite.user("ann"), group("g", &[])).await;
    suite.roster.break_rpc("BatchGetRoles", Fault::Refuse(Reason::StoreUnavailable));
    let reply = suite.user("ann").rooms.get_room(get("g")).await;
    refused(reply, Reason::MembershipUnavailable);
}

async fn what_is_wrong_with_a_request_is_named(db: Db) {
    let suite = Harness::new(db).await;
    for room_id in ["", "a\0", &"x".repeat(129)] {
        violates(suite.user("ann").rooms.get_room(get(room_id)).await, "room_id");
    }
}
