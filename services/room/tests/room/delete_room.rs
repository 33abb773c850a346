//! `DeleteRoom`.

use parlance_db::{Db, test_on_each_db};
use parlance_proto::message::v1::MemberRole;
use parlance_rpc::{Principal, Reason};

use crate::harness::{Harness, create, delete, direct, get, group, refused, violates};
use crate::roster::Fault;

test_on_each_db!(parlance_room::MIGRATIONS =>
    a_deleted_room_is_gone_and_its_id_free,
    only_owners_and_services_may,
    the_log_names_who_deleted_the_room,
    either_user_of_a_direct_room_may,
    a_repeated_request_says_ok_and_touches_no_new_life,
    an_outage_below_is_said,
    what_is_wrong_with_a_request_is_named,
);

/// B-002.
async fn a_deleted_room_is_gone_and_its_id_free(db: Db) {
    let suite = Harness::new(db).await;
    let mut ann = suite.user("ann");
    let old = create(&mut ann, group("g", &["bob"])).await;
    let (old_log, _) = suite.roster.of("g");

    ann.rooms.delete_room(delete("g", "")).await.expect("deleted");

    assert!(suite.roster.state().rosters[&old_log].closed);
    refused(ann.rooms.get_room(get("g")).await, Reason::RoomNotFound);
    refused(ann.rooms.delete_room(delete("g", "")).await, Reason::RoomNotFound);
    let new = create(&mut suite.user("bob"), group("g", &[])).await;
    let (new_log, roster) = suite.roster.of("g");
    assert_ne!(new_log, old_log);
    assert_ne!(new.etag, old.etag);
    assert_eq!(roster.members.keys().collect::<Vec<_>>(), ["bob"]);
}

async fn only_owners_and_services_may(db: Db) {
    let suite = Harness::new(db).await;
    create(&mut suite.user("ann"), group("g", &["bob", "cid"])).await;
    create(&mut suite.user("ann"), group("h", &[])).await;
    suite.roster.change("g", |roster| {
        roster.members.insert("cid".to_owned(), MemberRole::Admin);
    });
    for user in ["bob", "cid"] {
        let reply = suite.user(user).rooms.delete_room(delete("g", "")).await;
        refused(reply, Reason::NotAllowed);
    }
    let reply = suite.user("eve").rooms.delete_room(delete("g", "")).await;
    refused(reply, Reason::NotAMember);
    let mut other = suite.caller("other", Principal::Service);
    refused(other.rooms.delete_room(delete("g", "")).await, Reason::RoomNotFound);
    let mut for_bob = suite.service_for("bob");
    refused(for_bob.rooms.delete_room(delete("g", "")).await, Reason::NotAllowed);
    suite.user("ann").rooms.delete_room(delete("g", "")).await.expect("its owner may");
    suite.backend().rooms.delete_room(delete("h", "")).await.expect("a service may");
}

async fn the_log_names_who_deleted_the_room(db: Db) {
    let suite = Harness::new(db).await;
    for (deleter, mut client) in [(Some("bob"), suite.user("bob")), (None, suite.backend())] {
        create(&mut suite.user("ann"), group("g", &["bob"])).await;
        suite.roster.change("g", |roster| {
            roster.members.insert("bob".to_owned(), MemberRole::Owner);
        });
        let (log_id, _) = suite.roster.of("g");
        // Begun by the deleter, finished by another owner.
        suite.roster.break_rpc("CloseRoster", Fault::Refuse(Reason::LogUnavailable));
        refused(client.rooms.delete_room(delete("g", "")).await, Reason::LogUnavailable);
        suite.roster.mend("CloseRoster");
        suite.user("ann").rooms.delete_room(delete("g", "")).await.expect("finished");
        let closed_by = suite.roster.state().rosters[&log_id].closed_by.clone();
        assert_eq!(closed_by.as_deref(), deleter);
    }
}

async fn either_user_of_a_direct_room_may(db: Db) {
    let suite = Harness::new(db).await;
    suite.roster.state().users.insert(("acme".to_owned(), "ann".to_owned()));
    for user in ["ann", "bob"] {
        let found = suite.user("ann").rooms.get_or_create_direct_room(direct("bob")).await;
        let room_id = found.expect("created").into_inner().room.expect("a room").room_id;
        let reply = suite.user("cid").rooms.delete_room(delete(&room_id, "")).await;
        refused(reply, Reason::RoomNotFound);
        suite.user(user).rooms.delete_room(delete(&room_id, "")).await.expect("deleted");
    }
}

async fn a_repeated_request_says_ok_and_touches_no_new_life(db: Db) {
    let suite = Harness::new(db).await;
    let mut ann = suite.user("ann");
    create(&mut ann, group("g", &[])).await;
    let mut twin = suite.user("ann");
    let (one, other) = tokio::join!(
        ann.rooms.delete_room(delete("g", "r1")),
        twin.rooms.delete_room(delete("g", "r1"))
    );
    one.expect("deleted");
    other.expect("deleted");
    create(&mut ann, group("g", &[])).await;
    ann.rooms.delete_room(delete("g", "r1")).await.expect("a repeat");
    ann.rooms.get_room(get("g")).await.expect("the new one stays");
    refused(ann.rooms.delete_room(delete("h", "r1")).await, Reason::RequestIdReused);
}

async fn an_outage_below_is_said(db: Db) {
    let suite = Harness::new(db).await;
    let mut ann = suite.user("ann");
    create(&mut ann, group("g", &[])).await;
    suite.roster.break_rpc("BatchGetRoles", Fault::Refuse(Reason::StoreUnavailable));
    let reply = ann.rooms.delete_room(delete("g", "")).await;
    refused(reply, Reason::MembershipUnavailable);
    suite.roster.mend("BatchGetRoles");
    ann.rooms.get_room(get("g")).await.expect("nothing was changed");
    suite.roster.break_rpc("CloseRoster", Fault::Refuse(Reason::LogUnavailable));
    refused(ann.rooms.delete_room(delete("g", "")).await, Reason::LogUnavailable);
}

async fn what_is_wrong_with_a_request_is_named(db: Db) {
    let suite = Harness::new(db).await;
    let mut ann = suite.user("ann");
    for room_id in ["", "a\0", &"x".repeat(129)] {
        violates(ann.rooms.delete_room(delete(room_id, "")).await, "room_id");
    }
    violates(ann.rooms.delete_room(delete("g", "a\nb")).await, "request_id");
}
