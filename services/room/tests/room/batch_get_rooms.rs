//! `BatchGetRooms`.

use parlance_db::{Db, test_on_each_db};
use parlance_proto::room::v1 as pb;
use parlance_rpc::{Principal, Reason};
use parlance_types::UserId;
use prost::Message as _;

use crate::harness::{
    Client, Harness, channel, create, delete, direct, group, largest, refused, violates,
};
use crate::roster::Fault;

test_on_each_db!(parlance_room::MIGRATIONS =>
    rooms_come_in_the_order_asked_for,
    what_the_caller_may_not_see_is_left_out,
    what_is_wrong_with_a_request_is_named,
    an_outage_is_never_an_empty_answer,
    rooms_that_do_not_fit_are_named,
);

fn ask(room_ids: &[&str], unique_ids: &[&str]) -> pb::BatchGetRoomsRequest {
    let own = |ids: &[&str]| ids.iter().map(ToString::to_string).collect();
    let (room_ids, unique_ids) = (own(room_ids), own(unique_ids));
    pb::BatchGetRoomsRequest { room_ids, unique_ids, include_members: false }
}

async fn found(client: &mut Client, request: pb::BatchGetRoomsRequest) -> Vec<String> {
    let reply = client.rooms.batch_get_rooms(request).await.expect("rooms").into_inner();
    reply.rooms.into_iter().map(|room| room.room_id).collect()
}

async fn rooms_come_in_the_order_asked_for(db: Db) {
    let suite = Harness::new(db).await;
    let mut ann = suite.user("ann");
    for room_id in ["a", "b", "c"] {
        create(&mut ann, group(room_id, &[])).await;
    }
    let news = ann.rooms.get_or_create_channel(channel("news")).await.expect("created");
    let news = news.into_inner().room.expect("a room").room_id;
    let request = ask(&["c", "a", "b"], &["missing", "news"]);
    assert_eq!(found(&mut ann, request).await, ["c", "a", "b", &news]);
}

/// B-045.
async fn what_the_caller_may_not_see_is_left_out(db: Db) {
    let suite = Harness::new(db).await;
    let mut ann = suite.user("ann");
    create(&mut ann, group("ours", &["bob"])).await;
    create(&mut ann, group("mine", &[])).await;
    create(&mut ann, group("gone", &["bob"])).await;
    ann.rooms.delete_room(delete("gone", "")).await.expect("deleted");
    let pair = ann.rooms.get_or_create_direct_room(direct("cid")).await.expect("created");
    let pair = pair.into_inner().room.expect("a room").room_id;
    let request = ask(&["gone", "mine", "ours", &pair], &[]);
    assert_eq!(found(&mut suite.user("bob"), request.clone()).await, ["ours"]);
    let all = found(&mut suite.backend(), request.clone()).await;
    assert_eq!(all, ["mine", "ours", &pair]);
    let mut other = suite.caller("other", Principal::User(UserId::new("ann")));
    assert!(found(&mut other, request).await.is_empty());
}

async fn what_is_wrong_with_a_request_is_named(db: Db) {
    let suite = Harness::new(db).await;
    let mut ann = suite.user("ann");
    violates(ann.rooms.batch_get_rooms(ask(&[], &[])).await, "room_ids");
    let many: Vec<_> = (0..101).map(|n| n.to_string()).collect();
    let many: Vec<_> = many.iter().map(String::as_str).collect();
    violates(ann.rooms.batch_get_rooms(ask(&many, &[])).await, "room_ids");
    assert!(found(&mut ann, ask(&many[..100], &[])).await.is_empty());
    let too_long = "x".repeat(129);
    for bad in ["a", "", "\n", "a\0b", &too_long] {
        let bad = ["a", bad];
        violates(ann.rooms.batch_get_rooms(ask(&bad, &[])).await, "room_ids[1]");
        violates(ann.rooms.batch_get_rooms(ask(&[], &bad)).await, "unique_ids[1]");
    }
}

async fn an_outage_is_never_an_empty_answer(db: Db) {
    let suite = Harness::new(db).await;
    create(&mut suite.user("ann"), group("g", &[])).await;
    suite.roster.break_rpc("BatchGetRoles", Fault::Refuse(Reason::StoreUnavailable));
    let reply = suite.user("ann").rooms.batch_get_rooms(ask(&["g"], &[])).await;
    refused(reply, Reason::MembershipUnavailable);
}

/// The client accepts 4 MiB, as clients do.
async fn rooms_that_do_not_fit_are_named(db: Db) {
    let suite = Harness::new(db).await;
    let mut ann = suite.user("ann");
    let ids: Vec<_> = (0..100).map(|n| format!("{n:0>128}")).collect();
    for room_id in &ids {
        create(&mut ann, largest(room_id)).await;
    }
    let (mut got, mut missing) = (Vec::new(), ids.clone());
    while !missing.is_empty() {
        let missing_ids: Vec<_> = missing.iter().map(String::as_str).collect();
        let reply = ann.rooms.batch_get_rooms(ask(&missing_ids, &[])).await.expect("rooms");
        let reply = reply.into_inner();
        assert!(reply.encoded_len() < (3 << 20) + 20_000, "{}", reply.encoded_len());
        assert!(reply.rooms.len() >= missing.len().min(50), "{}", reply.rooms.len());
        got.extend(reply.rooms.into_iter().map(|room| room.room_id));
        missing = reply.left_out_room_ids;
    }
    assert_eq!(got, ids);
}
