//! `ListMyRooms`.

use parlance_db::{Db, test_on_each_db};
use parlance_proto::message::v1 as log;
use parlance_proto::room::v1 as pb;
use parlance_rpc::{Principal, Reason};
use parlance_types::UserId;
use prost::Message as _;
use prost_types::Timestamp;

use crate::harness::{Harness, create, delete, group, largest, refused, violates};
use crate::roster::Fault;

test_on_each_db!(parlance_room::MIGRATIONS =>
    logs_get_the_names_of_their_rooms,
    rooms_that_are_being_deleted_are_left_out,
    pages_follow_the_tokens_of_the_logs,
    a_token_holds_for_its_own_query_only,
    only_users_have_rooms,
    an_outage_below_is_said,
    a_page_holds_no_more_than_clients_take,
);

fn ask(page_size: i32, page_token: &str, include_empty: bool) -> pb::ListMyRoomsRequest {
    pb::ListMyRoomsRequest { page_size, page_token: page_token.to_owned(), include_empty }
}

/// What the logs say of a room.
fn seen(suite: &Harness, room_id: &str) -> log::UserLog {
    log::UserLog {
        log_id: suite.roster.of(room_id).0,
        room_id: room_id.to_owned(),
        role: log::MemberRole::Owner.into(),
        unread: 7,
        marked_unread: true,
        last_message: Some(log::Message { seq: 3, ..log::Message::default() }),
        activity_time: Some(Timestamp { seconds: 5, nanos: 0 }),
        read_seq: 0,
        head: 9,
        cursor: Some(log::Cursor { epoch: "e".to_owned(), seq: 9, time: None }),
    }
}

async fn logs_get_the_names_of_their_rooms(db: Db) {
    let suite = Harness::new(db).await;
    let mut ann = suite.user("ann");
    let one = create(&mut ann, group("one", &[])).await;
    let two = create(&mut ann, group("two", &[])).await;
    let logs = vec![seen(&suite, "two"), seen(&suite, "one")];
    suite.logs.state().page = log::ListUserLogsResponse { logs, ..Default::default() };

    let page = ann.lists.list_my_rooms(ask(0, "", true)).await.expect("a page").into_inner();

    let rooms: Vec<_> = page.rooms.iter().map(|my| my.room.clone().expect("a room")).collect();
    assert_eq!(rooms, [two, one]);
    let my = &page.rooms[0];
    assert_eq!((my.role(), my.unread, my.marked_unread), (log::MemberRole::Owner, 7, true));
    assert_eq!(my.last_message.as_ref().expect("a message").seq, 3);
    assert_eq!(my.activity_time.expect("a time").seconds, 5);
    assert_eq!(my.cursor.as_ref().expect("a cursor").seq, 9);
    assert_eq!(page.next_page_token, "");
    let (tenant, asked) = suite.logs.state().asked[0].clone();
    assert_eq!((tenant.as_str(), asked.user_id.as_str()), ("acme", "ann"));
    assert!(!asked.skip_empty);
}

async fn rooms_that_are_being_deleted_are_left_out(db: Db) {
    let suite = Harness::new(db).await;
    let mut ann = suite.user("ann");
    create(&mut ann, group("stays", &[])).await;
    create(&mut ann, group("goes", &[])).await;
    let logs = vec![seen(&suite, "goes"), seen(&suite, "stays")];
    suite.logs.state().page = log::ListUserLogsResponse { logs, ..Default::default() };
    suite.roster.break_rpc("CloseRoster", Fault::Refuse(Reason::StoreUnavailable));
    ann.rooms.delete_room(delete("goes", "")).await.expect_err("an outage");
    let page = ann.lists.list_my_rooms(ask(0, "", true)).await.expect("a page").into_inner();
    let ids: Vec<_> = page.rooms.iter().flat_map(|my| &my.room).map(|r| &*r.room_id).collect();
    assert_eq!(ids, ["stays"]);
}

async fn pages_follow_the_tokens_of_the_logs(db: Db) {
    let suite = Harness::new(db).await;
    let mut ann = suite.user("ann");
    suite.logs.state().page.next_page_token = "go on here".into();
    let page = ann.lists.list_my_rooms(ask(500, "", false)).await.expect("a page").into_inner();
    ann.lists.list_my_rooms(ask(3, &page.next_page_token, false)).await.expect("the next");
    let asked = suite.logs.state().asked.clone();
    let asked: Vec<_> =
        asked.iter().map(|(_, ask)| (ask.page_size, &*ask.page_token, ask.skip_empty)).collect();
    assert_eq!(asked, [(500, "", true), (3, "go on here", true)]);
}

async fn a_token_holds_for_its_own_query_only(db: Db) {
    let suite = Harness::new(db).await;
    let mut ann = suite.user("ann");
    suite.logs.state().page.next_page_token = "t".into();
    let page = ann.lists.list_my_rooms(ask(1, "", false)).await.expect("a page").into_inner();
    let token = page.next_page_token;
    violates(ann.lists.list_my_rooms(ask(1, &token, true)).await, "page_token");
    violates(ann.lists.list_my_rooms(ask(1, "nonsense", false)).await, "page_token");
    let mut other = suite.caller("other", Principal::User(UserId::new("ann")));
    for client in [&mut suite.user("bob"), &mut other] {
        violates(client.lists.list_my_rooms(ask(1, &token, false)).await, "page_token");
    }
    violates(ann.lists.list_my_rooms(ask(-1, "", false)).await, "page_size");
}

async fn only_users_have_rooms(db: Db) {
    let suite = Harness::new(db).await;
    let reply = suite.backend().lists.list_my_rooms(ask(0, "", true)).await;
    refused(reply, Reason::UserRequired);
    let mut for_ann = suite.service_for("ann");
    for_ann.lists.list_my_rooms(ask(0, "", true)).await.expect("a page");
}

async fn an_outage_below_is_said(db: Db) {
    let suite = Harness::new(db).await;
    suite.logs.state().down = true;
    let reply = suite.user("ann").lists.list_my_rooms(ask(0, "", true)).await;
    refused(reply, Reason::LogUnavailable);
}

/// The client accepts 4 MiB, as clients do.
async fn a_page_holds_no_more_than_clients_take(db: Db) {
    let suite = Harness::new(db).await;
    let mut ann = suite.user("ann");
    let mut logs = Vec::new();
    for n in 0..40 {
        let room_id = format!("{n:0>128}");
        create(&mut ann, largest(&room_id)).await;
        let content = log::MessageContent { text: "x".repeat(51_500), ..Default::default() };
        let last = log::Message { content: Some(content), ..Default::default() };
        logs.push(log::UserLog { last_message: Some(last), ..seen(&suite, &room_id) });
    }
    suite.logs.state().page = log::ListUserLogsResponse { logs, ..Default::default() };
    let page = ann.lists.list_my_rooms(ask(100, "", true)).await.expect("a page").into_inner();
    assert!((2 << 20..3 << 20).contains(&page.encoded_len()), "{}", page.encoded_len());
    assert!(page.rooms.len() >= 25);
    // The next page begins behind the last room of this one.
    let next = ask(1, &page.next_page_token, true);
    ann.lists.list_my_rooms(next).await.expect("the next");
    let asked = suite.logs.state().asked.last().cloned().expect("asked").1;
    assert_eq!(asked.page_token, format!("after {}", page.rooms.len()));
}
