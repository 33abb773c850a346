//! `UserLogService.ListUserLogs`.

use std::collections::BTreeSet;

use parlance_db::{Db, test_on_each_db};
use parlance_proto::message::v1::{
    ListUserLogIdsRequest, ListUserLogsRequest, ListUserLogsResponse, MarkUnreadRequest,
    MemberRole, MessageContent, RoomKind, UserLog, UserLogFilter, UserLogOrder,
};
use parlance_types::LogId;
use prost_types::Timestamp;

use crate::harness::{InternalClient, TENANT, World, bad_ids, delete, edit, send, violates, words};
use crate::rights;
use crate::rooms::{group, plan};

test_on_each_db!(parlance_message::MIGRATIONS =>
    the_latest_activity_comes_first_with_what_is_unread,
    the_last_message_is_one_that_the_member_may_see,
    logs_without_a_message_are_left_out_when_asked,
    a_filter_takes_kinds_roles_unread_and_active_logs,
    by_creation_the_newest_comes_first_page_by_page,
    the_first_page_tells_how_many_there_are,
    named_logs_come_without_pages,
    the_ids_of_all_logs_come_at_once,
    only_open_logs_of_the_user_are_listed,
    a_walk_misses_nothing_while_logs_move,
    a_token_holds_for_its_own_query_only,
    only_the_suite_itself_may_call,
    bad_input_is_refused_by_name,
);

fn of(user: &str) -> ListUserLogsRequest {
    ListUserLogsRequest { user_id: user.to_owned(), ..ListUserLogsRequest::default() }
}

async fn list(client: &mut InternalClient, request: ListUserLogsRequest) -> ListUserLogsResponse {
    client.user_logs.list_user_logs(request).await.expect("list").into_inner()
}

fn rooms(logs: &[UserLog]) -> Vec<&str> {
    logs.iter().map(|log| log.room_id.as_str()).collect()
}

/// Groups of Ann and Bob, each a second after the one before.
async fn groups(world: &World, rooms: &[&str]) {
    for room in rooms {
        world.clock.advance(1_000_000);
        group(world, room, &["ann", "bob"]).await;
    }
}

/// B-042, B-046, B-048, B-050.
async fn the_latest_activity_comes_first_with_what_is_unread(db: Db) {
    let world = World::open(db).await;
    groups(&world, &["a", "b"]).await;
    world.clock.advance(1_000_000);
    let room = plan("c").members(&["ann"]).member("bob", MemberRole::Admin);
    let room = room.make(&world).await;
    world.clock.advance(1_000_000);
    let sent = send(&mut world.user("ann"), "a", "hello").await;

    let page = list(&mut world.internal(TENANT), of("bob")).await;

    assert_eq!(rooms(&page.logs), ["a", "c", "b"]);
    assert_eq!(page.next_page_token, "");
    let [a, c, _] = &page.logs[..] else { panic!("three logs") };
    assert_eq!((a.unread, a.marked_unread, a.read_seq, a.head), (1, false, 2, 3));
    assert_eq!((a.role(), a.activity_time), (MemberRole::Member, sent.send_time));
    let last = a.last_message.as_ref().expect("a message");
    assert_eq!((last.message_id.as_str(), words(last)), (&*sent.message_id, Some("hello")));
    assert_eq!((last.room_id.as_str(), last.sender_id.as_str()), ("a", "ann"));
    assert_eq!((c.role(), &c.last_message, c.unread), (MemberRole::Admin, &None, 0));
    assert_eq!(c.log_id.parse::<LogId>(), Ok(room.log_id));
}

/// B-050.
async fn the_last_message_is_one_that_the_member_may_see(db: Db) {
    let world = World::open(db).await;
    let room = plan("lobby").since_join().members(&["ann"]).make(&world).await;
    let mut ann = world.user("ann");
    let mut logs = world.internal(TENANT);
    let last = async |logs: &mut InternalClient, user: &str| {
        let mut page = list(logs, of(user)).await;
        let message = page.logs.remove(0).last_message;
        message.and_then(|message| message.content).map(|MessageContent { text, .. }| text)
    };
    send(&mut ann, "lobby", "before").await;
    room.join("bob").await;
    assert_eq!(last(&mut logs, "ann").await.as_deref(), Some("before"));
    assert_eq!(last(&mut logs, "bob").await, None);

    let id = send(&mut ann, "lobby", "aftr").await.message_id;
    edit(&mut ann, &id, "after").await;
    assert_eq!(last(&mut logs, "bob").await.as_deref(), Some("after"));

    delete(&mut ann, &id).await;
    assert_eq!(last(&mut logs, "ann").await.as_deref(), Some("before"));
    assert_eq!(last(&mut logs, "bob").await, None);
}

/// B-047.
async fn logs_without_a_message_are_left_out_when_asked(db: Db) {
    let world = World::open(db).await;
    groups(&world, &["a", "b"]).await;
    send(&mut world.user("ann"), "a", "hello").await;
    let mut logs = world.internal(TENANT);
    for (skip_empty, expected) in [(false, vec!["a", "b"]), (true, vec!["a"])] {
        let page = list(&mut logs, ListUserLogsRequest { skip_empty, ..of("bob") }).await;
        let mut found = rooms(&page.logs);
        found.sort_unstable();
        assert_eq!(found, expected);
    }
}

fn filtered(filter: UserLogFilter) -> ListUserLogsRequest {
    ListUserLogsRequest { filter: Some(filter), ..of("bob") }
}

/// B-049.
async fn a_filter_takes_kinds_roles_unread_and_active_logs(db: Db) {
    let world = World::open(db).await;
    groups(&world, &["a", "b"]).await;
    plan("c")
        .kind(RoomKind::Channel)
        .members(&["ann"])
        .member("bob", MemberRole::Owner)
        .make(&world)
        .await;
    plan("d").kind(RoomKind::Direct).members(&["ann", "bob"]).make(&world).await;
    world.clock.advance(1_000_000);
    let sent = send(&mut world.user("ann"), "b", "hello").await;
    send(&mut world.user("bob"), "d", "own").await;
    let mut logs = world.internal(TENANT);
    let mut found = async |filter: UserLogFilter| {
        let page = list(&mut logs, filtered(filter)).await;
        let mut found: Vec<_> = page.logs.into_iter().map(|log| log.room_id).collect();
        assert_eq!(page.total_size, Some(i64::try_from(found.len()).expect("few")));
        found.sort_unstable();
        found
    };
    let kinds = |kinds: &[RoomKind]| UserLogFilter {
        kinds: kinds.iter().map(|kind| i32::from(*kind)).collect(),
        ..UserLogFilter::default()
    };
    assert_eq!(found(kinds(&[])).await, ["a", "b", "c", "d"]);
    assert_eq!(found(kinds(&[RoomKind::Group])).await, ["a", "b"]);
    assert_eq!(found(kinds(&[RoomKind::Direct, RoomKind::Channel])).await, ["c", "d"]);
    let owned = UserLogFilter { roles: vec![MemberRole::Owner.into()], ..Default::default() };
    assert_eq!(found(owned).await, ["c"]);
    let unread_only = UserLogFilter { unread_only: true, ..Default::default() };
    assert_eq!(found(unread_only.clone()).await, ["b"]);
    mark_unread(&world, "bob", "a").await;
    assert_eq!(found(unread_only.clone()).await, ["a", "b"]);
    let active = UserLogFilter { active_since: sent.send_time, ..unread_only };
    assert_eq!(found(active).await, ["b"]);
    delete(&mut world.user("ann"), &sent.message_id).await;
    let unread_only = UserLogFilter { unread_only: true, ..Default::default() };
    assert_eq!(found(unread_only).await, ["a"]);
}

async fn mark_unread(world: &World, user: &str, room: &str) {
    let request = MarkUnreadRequest { room_id: room.to_owned() };
    world.user(user).marks.mark_unread(request).await.expect("marked");
}

/// B-049.
async fn by_creation_the_newest_comes_first_page_by_page(db: Db) {
    let world = World::open(db).await;
    let all = ["a", "b", "c", "d", "e"];
    groups(&world, &all).await;
    send(&mut world.user("ann"), "b", "hello").await;
    let order = UserLogOrder::Creation.into();
    let mut logs = world.internal(TENANT);
    let (mut seen, mut page_token) = (Vec::new(), String::new());
    loop {
        let request = ListUserLogsRequest { page_size: 2, page_token, order, ..of("bob") };
        let page = list(&mut logs, request).await;
        assert_eq!(page.total_size, seen.is_empty().then_some(5));
        seen.extend(page.logs.into_iter().map(|log| log.room_id));
        page_token = page.next_page_token;
        if page_token.is_empty() {
            break;
        }
        // By activity the token stands for another place.
        let other = ListUserLogsRequest { page_token: page_token.clone(), ..of("bob") };
        violates(logs.user_logs.list_user_logs(other).await, "page_token");
    }
    assert_eq!(seen, ["e", "d", "c", "b", "a"]);
}

async fn the_first_page_tells_how_many_there_are(db: Db) {
    let world = World::open(db).await;
    groups(&world, &["a", "b", "c"]).await;
    let mut logs = world.internal(TENANT);
    let first = list(&mut logs, ListUserLogsRequest { page_size: 2, ..of("bob") }).await;
    assert_eq!((first.logs.len(), first.total_size), (2, Some(3)));
    let page_token = first.next_page_token;
    let next = ListUserLogsRequest { page_size: 2, page_token, ..of("bob") };
    assert_eq!(list(&mut logs, next).await.total_size, None);
    assert_eq!(list(&mut logs, of("eve")).await.total_size, Some(0));
}

async fn named_logs_come_without_pages(db: Db) {
    let world = World::open(db).await;
    let a = group(&world, "a", &["ann", "bob"]).await;
    let b = group(&world, "b", &["ann"]).await;
    send(&mut world.user("ann"), "a", "hello").await;
    let nothing = "00000000-0000-0000-0000-000000000009".to_owned();
    let log_ids = vec![nothing, b.log_id.to_string(), a.log_id.to_string()];
    let mut logs = world.internal(TENANT);
    let page = list(&mut logs, ListUserLogsRequest { log_ids, ..of("bob") }).await;
    assert_eq!((rooms(&page.logs), page.logs[0].unread), (vec!["a"], 1));
    assert_eq!((page.next_page_token.as_str(), page.total_size), ("", None));
    let log_ids = vec![a.log_id.to_string()];
    let mut foreign = world.internal("globex");
    let page = list(&mut foreign, ListUserLogsRequest { log_ids, ..of("bob") }).await;
    assert!(page.logs.is_empty());
}

async fn the_ids_of_all_logs_come_at_once(db: Db) {
    let world = World::open(db).await;
    let a = group(&world, "a", &["ann", "bob"]).await;
    group(&world, "b", &["ann"]).await;
    let c = group(&world, "c", &["bob"]).await;
    send(&mut world.user("ann"), "a", "hello").await;
    let mut logs = world.internal(TENANT).user_logs;
    let request = ListUserLogIdsRequest { user_id: "bob".to_owned(), ..Default::default() };
    let mut ids = logs.list_user_log_ids(request.clone()).await.expect("ids").into_inner().log_ids;
    let mut both = [a.log_id, c.log_id].map(|log_id| log_id.to_string());
    ids.sort();
    both.sort();
    assert_eq!(ids, both);
    let full = ListUserLogIdsRequest { skip_empty: true, ..request };
    let ids = logs.list_user_log_ids(full).await.expect("ids").into_inner().log_ids;
    assert_eq!(ids, [a.log_id.to_string()]);
    let call = async |mut client: InternalClient| {
        client.user_logs.list_user_log_ids(ListUserLogIdsRequest::default()).await
    };
    rights::of_internal_call(&world, call).await;
    for user_id in bad_ids() {
        let request = ListUserLogIdsRequest { user_id, ..Default::default() };
        violates(logs.list_user_log_ids(request).await, "user_id");
    }
}

/// B-067, B-069, B-176.
async fn only_open_logs_of_the_user_are_listed(db: Db) {
    let world = World::open(db).await;
    let left = group(&world, "left", &["ann", "bob"]).await;
    let closed = group(&world, "closed", &["ann", "bob"]).await;
    group(&world, "anns", &["ann"]).await;
    plan("foreign").of_tenant("globex").members(&["bob"]).make(&world).await;
    left.leave("bob").await;
    closed.close().await;
    let mut logs = world.internal(TENANT);
    assert!(list(&mut logs, of("bob")).await.logs.is_empty());
    left.join("bob").await;
    assert_eq!(rooms(&list(&mut logs, of("bob")).await.logs), ["left"]);
    assert_eq!(rooms(&list(&mut world.internal("globex"), of("bob")).await.logs), ["foreign"]);
}

/// B-046.
async fn a_walk_misses_nothing_while_logs_move(db: Db) {
    let world = World::open(db).await;
    let all = ["a", "b", "c", "d", "e", "f", "g"];
    groups(&world, &all).await;
    let mut logs = world.internal(TENANT);
    let (mut seen, mut page_token) = (BTreeSet::new(), String::new());
    for pages in 0.. {
        let request = ListUserLogsRequest { page_size: 2, page_token, ..of("bob") };
        let page = list(&mut logs, request).await;
        assert!(page.logs.len() <= 2);
        seen.extend(page.logs.iter().map(|log| (log.room_id.clone(), log.head)));
        if page.next_page_token.is_empty() {
            break;
        }
        page_token = page.next_page_token;
        // "a" is the last of the walk down, and moves away from there.
        if pages == 0 {
            world.clock.advance(1_000_000);
            send(&mut world.user("ann"), "a", "hello").await;
        }
        assert!(pages < 20, "the walk ends");
    }
    let found: BTreeSet<_> = seen.iter().map(|(room, _)| room.as_str()).collect();
    assert_eq!(found, BTreeSet::from(all));
    assert!(seen.contains(&("a".to_owned(), 3)));
}

async fn a_token_holds_for_its_own_query_only(db: Db) {
    let world = World::open(db).await;
    groups(&world, &["a", "b"]).await;
    let mut logs = world.internal(TENANT);
    let first = list(&mut logs, ListUserLogsRequest { page_size: 1, ..of("bob") }).await;
    let page_token = first.next_page_token;
    let with = |request| ListUserLogsRequest { page_token: page_token.clone(), ..request };

    let page = list(&mut logs, with(of("bob"))).await;
    assert!(rooms(&page.logs).contains(&"a"));
    violates(logs.user_logs.list_user_logs(with(of("ann"))).await, "page_token");
    let other = ListUserLogsRequest { skip_empty: true, ..of("bob") };
    violates(logs.user_logs.list_user_logs(with(other)).await, "page_token");
    let mut foreign = world.internal("globex");
    violates(foreign.user_logs.list_user_logs(with(of("bob"))).await, "page_token");
}

async fn only_the_suite_itself_may_call(db: Db) {
    let world = World::open(db).await;
    let call = async |mut client: InternalClient| client.user_logs.list_user_logs(of("bob")).await;
    rights::of_internal_call(&world, call).await;
}

async fn bad_input_is_refused_by_name(db: Db) {
    let world = World::open(db).await;
    let mut logs = world.internal(TENANT);
    for user_id in bad_ids() {
        violates(logs.user_logs.list_user_logs(of(&user_id)).await, "user_id");
    }
    let request = ListUserLogsRequest { page_size: -1, ..of("bob") };
    violates(logs.user_logs.list_user_logs(request).await, "page_size");
    for (filter, field) in [
        (UserLogFilter { kinds: vec![99], ..Default::default() }, "filter.kinds"),
        (UserLogFilter { kinds: vec![1; 11], ..Default::default() }, "filter.kinds"),
        (UserLogFilter { roles: vec![0], ..Default::default() }, "filter.roles"),
        (UserLogFilter { roles: vec![1; 11], ..Default::default() }, "filter.roles"),
        (
            UserLogFilter {
                active_since: Some(Timestamp { seconds: i64::MAX, nanos: 0 }),
                ..Default::default()
            },
            "filter.active_since",
        ),
    ] {
        violates(logs.user_logs.list_user_logs(filtered(filter)).await, field);
    }
    let request = ListUserLogsRequest { order: 9, ..of("bob") };
    violates(logs.user_logs.list_user_logs(request).await, "order");
    let request = ListUserLogsRequest { log_ids: vec!["no".to_owned()], ..of("bob") };
    violates(logs.user_logs.list_user_logs(request).await, "log_ids[0]");
    for token in ["%%%", "\0", "e30"] {
        let request = ListUserLogsRequest { page_token: token.to_owned(), ..of("bob") };
        violates(logs.user_logs.list_user_logs(request).await, "page_token");
    }
}
