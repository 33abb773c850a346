//! `BatchDeleteRooms`.

use parlance_db::{Db, test_on_each_db};
use parlance_proto::errors::v1::Reason;
use parlance_proto::room::v1 as pb;
use parlance_rpc::Principal;

use crate::harness::{Client, Harness, create, direct, get, group, refused, violates};
use crate::roster::Fault;

test_on_each_db!(parlance_room::MIGRATIONS =>
    every_room_has_its_outcome,
    a_repeated_request_touches_no_new_life,
    an_outage_of_one_is_the_outcome_of_that_one,
    what_is_wrong_with_a_request_is_named,
);

fn request(room_ids: &[&str], request_id: &str) -> pb::BatchDeleteRoomsRequest {
    let room_ids = room_ids.iter().map(ToString::to_string).collect();
    pb::BatchDeleteRoomsRequest { room_ids, request_id: request_id.to_owned() }
}

async fn outcomes(client: &mut Client, request: pb::BatchDeleteRoomsRequest) -> Vec<Reason> {
    let ids = request.room_ids.clone();
    let reply = client.rooms.batch_delete_rooms(request).await.expect("outcomes").into_inner();
    let told: Vec<_> = reply.deletions.iter().map(|deletion| &deletion.room_id).collect();
    assert_eq!(told, ids.iter().collect::<Vec<_>>());
    reply.deletions.iter().map(pb::RoomDeletion::refusal).collect()
}

const DELETED: Reason = Reason::Unspecified;

/// B-040.
async fn every_room_has_its_outcome(db: Db) {
    let suite = Harness::new(db).await;
    let (mut ann, mut bob) = (suite.user("ann"), suite.user("bob"));
    for room_id in ["one", "two"] {
        create(&mut ann, group(room_id, &["bob"])).await;
    }
    create(&mut bob, group("bob's", &["ann"])).await;
    create(&mut bob, group("foreign", &[])).await;
    suite.roster.state().users.insert(("acme".to_owned(), "ann".to_owned()));
    let pair = bob.rooms.get_or_create_direct_room(direct("cid")).await.expect("made");
    let pair = pair.into_inner().room.expect("a room").room_id;

    let asked = request(&["one", "bob's", "nowhere", "foreign", &pair, "two"], "");
    let told = outcomes(&mut ann, asked).await;

    let expected = [
        DELETED,
        Reason::NotAllowed,
        Reason::RoomNotFound,
        Reason::NotAMember,
        Reason::RoomNotFound,
        DELETED,
    ];
    assert_eq!(told, expected);
    for gone in ["one", "two"] {
        refused(ann.rooms.get_room(get(gone)).await, Reason::RoomNotFound);
    }
    ann.rooms.get_room(get("bob's")).await.expect("there");
    let mut other = suite.caller("other", Principal::Service);
    assert_eq!(outcomes(&mut other, request(&["bob's"], "")).await, [Reason::RoomNotFound]);
    let mut backend = suite.backend();
    assert_eq!(outcomes(&mut backend, request(&["bob's", "foreign"], "")).await, [DELETED; 2]);
}

async fn a_repeated_request_touches_no_new_life(db: Db) {
    let suite = Harness::new(db).await;
    let mut ann = suite.user("ann");
    create(&mut ann, group("g", &[])).await;
    create(&mut ann, group("h", &[])).await;
    let asked = request(&["g", "nowhere"], "r1");
    for _ in 0..2 {
        let told = outcomes(&mut ann, asked.clone()).await;
        assert_eq!(told, [DELETED, Reason::RoomNotFound]);
        create(&mut ann, group("g", &[])).await;
        let told = outcomes(&mut ann, asked.clone()).await;
        assert_eq!(told, [DELETED, Reason::RoomNotFound], "the first reply");
        ann.rooms.get_room(get("g")).await.expect("the new one is there");
        ann.rooms.delete_room(crate::harness::delete("g", "")).await.expect("deleted");
    }
    // Another payload: of the room that it deleted the id is taken, of another it is not.
    let told = outcomes(&mut ann, request(&["g", "h"], "r1")).await;
    assert_eq!(told, [Reason::RequestIdReused, DELETED]);
}

async fn an_outage_of_one_is_the_outcome_of_that_one(db: Db) {
    let suite = Harness::new(db).await;
    let mut ann = suite.user("ann");
    create(&mut ann, group("g", &[])).await;
    suite.roster.break_rpc("CloseRoster", Fault::Refuse(Reason::LogUnavailable));
    let told = outcomes(&mut ann, request(&["g", "nowhere"], "r1")).await;
    assert_eq!(told, [Reason::LogUnavailable, Reason::RoomNotFound]);
    suite.roster.mend("CloseRoster");
    let told = outcomes(&mut ann, request(&["g", "nowhere"], "r1")).await;
    assert_eq!(told, [DELETED, Reason::RoomNotFound]);
}

async fn what_is_wrong_with_a_request_is_named(db: Db) {
    let suite = Harness::new(db).await;
    let mut ann = suite.user("ann");
    create(&mut ann, group("g", &[])).await;
    violates(ann.rooms.batch_delete_rooms(request(&[], "")).await, "room_ids");
    let many: Vec<_> = (0..101).map(|n| n.to_string()).collect();
    let many: Vec<_> = many.iter().map(String::as_str).collect();
    violates(ann.rooms.batch_delete_rooms(request(&many, "")).await, "room_ids");
    for bad in ["", "g", "g\0", &"x".repeat(129)] {
        violates(ann.rooms.batch_delete_rooms(request(&["g", bad], "")).await, "room_ids[1]");
    }
    violates(ann.rooms.batch_delete_rooms(request(&["g"], "r\n")).await, "request_id");
    ann.rooms.get_room(get("g")).await.expect("there");
}
