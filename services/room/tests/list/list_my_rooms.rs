//! `ListMyRooms`.

use std::collections::BTreeMap;

use parlance_db::{Db, test_on_each_db};
use parlance_proto::message::v1 as log;
use parlance_proto::room::v1 as pb;
use parlance_rpc::{Principal, Reason};
use parlance_types::UserId;
use prost::Message as _;
use prost_types::{FieldMask, Timestamp};

use crate::harness::{Harness, channel, create, delete, group, largest, refused, violates};
use crate::roster::Fault;

test_on_each_db!(parlance_room::MIGRATIONS =>
    logs_get_the_names_of_their_rooms,
    rooms_that_are_being_deleted_are_left_out,
    pages_follow_the_tokens_of_the_logs,
    a_token_holds_for_its_own_query_only,
    filters_and_orders_are_those_of_the_logs,
    a_part_of_the_name_narrows_the_list_page_by_page,
    values_of_fields_narrow_the_list,
    a_call_looks_at_500_rooms_at_most,
    by_name_rooms_come_in_order_page_by_page,
    members_come_along_when_asked,
    what_is_wrong_with_a_filter_is_named,
    only_users_have_rooms,
    an_outage_below_is_said,
    a_page_holds_no_more_than_clients_take,
);

fn ask(page_size: i32, page_token: &str, include_empty: bool) -> pb::ListMyRoomsRequest {
    let page_token = page_token.to_owned();
    pb::ListMyRoomsRequest { page_size, page_token, include_empty, ..Default::default() }
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
        mentions: 2,
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
    assert_eq!(my.mentions, 2);
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

/// B-049.
async fn filters_and_orders_are_those_of_the_logs(db: Db) {
    let suite = Harness::new(db).await;
    let mut ann = suite.user("ann");
    suite.logs.state().page.total_size = Some(7);
    let since = Timestamp { seconds: 5, nanos: 0 };
    let wish = pb::ListMyRoomsRequest {
        kinds: vec![log::RoomKind::Group.into()],
        roles: vec![log::MemberRole::Admin.into()],
        unread_only: true,
        active_since: Some(since),
        order: pb::MyRoomsOrder::Creation.into(),
        ..ask(3, "", true)
    };
    let page = ann.lists.list_my_rooms(wish.clone()).await.expect("a page").into_inner();
    assert_eq!(page.total_size, Some(7));
    let asked = suite.logs.state().asked[0].1.clone();
    assert_eq!((asked.order(), asked.page_size), (log::UserLogOrder::Creation, 3));
    let filter = asked.filter.expect("a filter");
    assert_eq!((filter.kinds, filter.roles), (wish.kinds, wish.roles));
    assert_eq!((filter.unread_only, filter.active_since), (true, Some(since)));
}

/// Groups of Ann with these names, and what the logs say of them.
async fn named(suite: &Harness, names: &[&str]) {
    let mut logs = Vec::new();
    for (at, name) in names.iter().enumerate() {
        let room_id = format!("room {at}");
        let name = (*name).to_owned();
        create(&mut suite.user("ann"), pb::CreateRoomRequest { name, ..group(&room_id, &[]) })
            .await;
        logs.push(seen(suite, &room_id));
    }
    suite.logs.state().page = log::ListUserLogsResponse { logs, ..Default::default() };
}

/// The names of a page, and where to go on.
fn names(page: &pb::ListMyRoomsResponse) -> (Vec<&str>, String) {
    let rooms = page.rooms.iter().flat_map(|my| &my.room);
    (rooms.map(|room| room.name.as_str()).collect(), page.next_page_token.clone())
}

/// B-049.
async fn a_part_of_the_name_narrows_the_list_page_by_page(db: Db) {
    let suite = Harness::new(db).await;
    let mut ann = suite.user("ann");
    named(&suite, &["Tea", "Ale", "Green tea", "Steam", "TEA", "Wine", "Teak"]).await;
    suite.logs.state().page.total_size = Some(7);
    let (mut walked, mut page_token) = (Vec::new(), String::new());
    for size in [2, 2, 1] {
        let name_contains = "tEa".to_owned();
        let wish = pb::ListMyRoomsRequest { name_contains, ..ask(2, &page_token, true) };
        let page = ann.lists.list_my_rooms(wish).await.expect("a page").into_inner();
        let (found, next) = names(&page);
        assert_eq!((found.len(), page.total_size), (size, None));
        walked.extend(found.into_iter().map(ToOwned::to_owned));
        page_token = next;
    }
    assert_eq!(
        (walked.join(" "), page_token.as_str()),
        ("Tea Green tea Steam TEA Teak".into(), "")
    );
}

/// B-034.
async fn values_of_fields_narrow_the_list(db: Db) {
    let suite = Harness::new(db).await;
    let allowed_fields = vec!["city".to_owned(), "topic".to_owned()];
    let set = pb::SetTenantSettingsRequest {
        settings: Some(pb::TenantSettings { allowed_fields, ..Default::default() }),
        update_mask: Some(FieldMask { paths: vec!["allowed_fields".to_owned()] }),
    };
    suite.caller("acme", Principal::Operator).settings.set_tenant_settings(set).await.expect("set");
    let pairs = |pairs: &[(&str, &str)]| -> BTreeMap<String, String> {
        pairs.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
    };
    let mut ann = suite.user("ann");
    let mut logs = Vec::new();
    for (name, fields) in [
        ("Tea in Ulm", pairs(&[("topic", "tea"), ("city", "Ulm")])),
        ("Tea", pairs(&[("topic", "tea")])),
        ("None", pairs(&[])),
    ] {
        let name = name.to_owned();
        create(&mut ann, pb::CreateRoomRequest { name: name.clone(), fields, ..group(&name, &[]) })
            .await;
        logs.push(seen(&suite, &name));
    }
    suite.logs.state().page = log::ListUserLogsResponse { logs, ..Default::default() };
    for order in [pb::MyRoomsOrder::Activity, pb::MyRoomsOrder::Name] {
        for (fields, found) in [
            (pairs(&[("topic", "tea")]), 2),
            (pairs(&[("topic", "tea"), ("city", "Ulm")]), 1),
            (pairs(&[("city", "Bonn")]), 0),
            (pairs(&[("size", "7")]), 0),
            (pairs(&[]), 3),
        ] {
            let order = order.into();
            let wish = pb::ListMyRoomsRequest { fields, order, ..ask(10, "", true) };
            let page = ann.lists.list_my_rooms(wish).await.expect("a page").into_inner();
            assert_eq!((page.rooms.len(), page.next_page_token.as_str()), (found, ""));
        }
    }
}

async fn a_call_looks_at_500_rooms_at_most(db: Db) {
    let suite = Harness::new(db).await;
    let mut ann = suite.user("ann");
    named(&suite, &["Tea"]).await;
    let tea = suite.logs.state().page.logs[0].clone();
    let nothing = |n| log::UserLog { log_id: format!("{n:0>32x}"), ..log::UserLog::default() };
    let mut logs: Vec<_> = (0..599).map(nothing).collect();
    logs.push(tea);
    suite.logs.state().page.logs = logs;
    let name_contains = "tea".to_owned();
    let wish = pb::ListMyRoomsRequest { name_contains, ..ask(10, "", true) };
    let page = ann.lists.list_my_rooms(wish.clone()).await.expect("a page").into_inner();
    assert!(page.rooms.is_empty());
    assert_eq!(suite.logs.state().asked.len(), 5);
    let wish = pb::ListMyRoomsRequest { page_token: page.next_page_token, ..wish };
    let page = ann.lists.list_my_rooms(wish).await.expect("a page").into_inner();
    assert_eq!(names(&page), (vec!["Tea"], String::new()));
}

/// B-049.
async fn by_name_rooms_come_in_order_page_by_page(db: Db) {
    let suite = Harness::new(db).await;
    let mut ann = suite.user("ann");
    named(&suite, &["beer", "Ale", "ale two", "", "Wine", "cider"]).await;
    let by_name = |page_token: &str| pb::ListMyRoomsRequest {
        order: pb::MyRoomsOrder::Name.into(),
        ..ask(4, page_token, true)
    };
    let first = ann.lists.list_my_rooms(by_name("")).await.expect("a page").into_inner();
    let (found, token) = names(&first);
    assert_eq!((found, first.total_size), (vec!["", "Ale", "ale two", "beer"], Some(6)));
    ann.rooms.delete_room(delete("room 3", "")).await.expect("deleted");
    let next = ann.lists.list_my_rooms(by_name(&token)).await.expect("a page").into_inner();
    assert_eq!(names(&next), (vec!["cider", "Wine"], String::new()));
    assert_eq!(next.total_size, Some(5));
    violates(ann.lists.list_my_rooms(ask(4, &token, true)).await, "page_token");
    let name_contains = "E".to_owned();
    let wish = pb::ListMyRoomsRequest { name_contains, ..by_name("") };
    let page = ann.lists.list_my_rooms(wish).await.expect("a page").into_inner();
    assert_eq!(
        (names(&page).0, page.total_size),
        (vec!["Ale", "ale two", "beer", "cider"], Some(5))
    );
    suite.logs.state().page = log::ListUserLogsResponse::default();
    let page = ann.lists.list_my_rooms(by_name("")).await.expect("a page").into_inner();
    assert_eq!((page.rooms.len(), page.total_size), (0, Some(0)));
    suite.logs.state().down = true;
    refused(ann.lists.list_my_rooms(by_name("")).await, Reason::LogUnavailable);
}

/// B-047.
async fn members_come_along_when_asked(db: Db) {
    let suite = Harness::new(db).await;
    let mut ann = suite.user("ann");
    create(&mut ann, group("g", &["bob", "cid"])).await;
    ann.rooms.get_or_create_channel(channel("news")).await.expect("made");
    let news = suite.roster.open_rosters_but("g");
    let news = log::UserLog { log_id: news, ..log::UserLog::default() };
    let logs = vec![seen(&suite, "g"), news];
    suite.logs.state().page = log::ListUserLogsResponse { logs, ..Default::default() };
    for order in [pb::MyRoomsOrder::Activity, pb::MyRoomsOrder::Name] {
        let (include_members, order) = (true, order.into());
        let wish = pb::ListMyRoomsRequest { include_members, order, ..ask(10, "", true) };
        let page = ann.lists.list_my_rooms(wish).await.expect("a page").into_inner();
        let members = |room_id: &str| {
            let is = |my: &&pb::MyRoom| {
                (my.room.as_ref().expect("a room").room_id == "g") == (room_id == "g")
            };
            let my = page.rooms.iter().find(is).expect("listed");
            (my.member_user_ids.join(" "), my.member_count)
        };
        assert_eq!(members("g"), ("ann bob cid".to_owned(), 3));
        assert_eq!(members("news"), (String::new(), 0));
    }
    ann.lists.list_my_rooms(ask(10, "", true)).await.expect("a page");
    assert_eq!(suite.roster.calls("BatchGetMembers"), 2);
    suite.roster.break_rpc("BatchGetMembers", Fault::Refuse(Reason::StoreUnavailable));
    let wish = pb::ListMyRoomsRequest { include_members: true, ..ask(10, "", true) };
    refused(ann.lists.list_my_rooms(wish).await, Reason::MembershipUnavailable);
}

async fn what_is_wrong_with_a_filter_is_named(db: Db) {
    let suite = Harness::new(db).await;
    let mut ann = suite.user("ann");
    let base = || ask(10, "", true);
    let pairs = |count: u8| (0..count).map(|n| (n.to_string(), String::new())).collect();
    for (wish, field) in [
        (pb::ListMyRoomsRequest { kinds: vec![0], ..base() }, "kinds"),
        (pb::ListMyRoomsRequest { kinds: vec![99], ..base() }, "kinds"),
        (pb::ListMyRoomsRequest { kinds: vec![1; 11], ..base() }, "kinds"),
        (pb::ListMyRoomsRequest { roles: vec![0], ..base() }, "roles"),
        (pb::ListMyRoomsRequest { roles: vec![1; 11], ..base() }, "roles"),
        (pb::ListMyRoomsRequest { order: 9, ..base() }, "order"),
        (pb::ListMyRoomsRequest { name_contains: "a\0".to_owned(), ..base() }, "name_contains"),
        (pb::ListMyRoomsRequest { name_contains: "a".repeat(257), ..base() }, "name_contains"),
        (pb::ListMyRoomsRequest { fields: pairs(11), ..base() }, "fields"),
        (
            pb::ListMyRoomsRequest {
                active_since: Some(Timestamp { seconds: i64::MAX, nanos: 0 }),
                ..base()
            },
            "active_since",
        ),
        (
            pb::ListMyRoomsRequest {
                active_since: Some(Timestamp { seconds: 0, nanos: -1 }),
                ..base()
            },
            "active_since",
        ),
    ] {
        violates(ann.lists.list_my_rooms(wish).await, field);
    }
    assert!(suite.logs.state().asked.is_empty());
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
