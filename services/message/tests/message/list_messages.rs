//! `ListMessages`.

use parlance_db::{Db, test_on_each_db};
use parlance_proto::message::v1::list_messages_request::Position;
use parlance_proto::message::v1::{
    ListMessagesRequest, ListMessagesResponse, Message, MessageContent, RoomKind,
    SendMessageRequest,
};
use parlance_rpc::{Principal, Reason};
use prost::Message as _;

use crate::harness::{
    Client, TENANT, World, bad_ids, delete, edit, refused, saying, send, text, unread, violates,
    words,
};
use crate::rights;
use crate::rooms::{group, plan};

test_on_each_db!(parlance_message::MIGRATIONS =>
    the_latest_come_first_and_in_ascending_order,
    a_page_has_10_messages_unless_asked_otherwise,
    only_messages_are_listed,
    a_walk_to_older_ones_misses_nothing_while_the_room_moves,
    a_walk_to_newer_ones_reaches_what_was_sent_meanwhile,
    before_and_after_begin_where_they_say,
    around_gives_both_sides,
    a_page_holds_no_more_than_clients_take_and_a_walk_misses_nothing,
    around_a_message_its_neighbours_come_as_far_as_clients_take_them,
    a_token_holds_for_its_own_query_only,
    a_token_dies_with_its_room,
    reading_marks_nothing_unless_asked,
    mark_read_marks_up_to_the_newest_of_the_page,
    a_member_who_sees_since_the_join_reads_from_there_on,
    a_removed_user_sees_nothing_and_all_of_it_when_added_again,
    a_preview_shows_strangers_the_latest_20,
    a_preview_is_shown_to_those_who_were_removed_like_anybody,
    a_preview_needs_the_rooms_consent,
    a_member_who_asks_for_a_preview_reads_normally,
    a_service_that_acts_for_nobody_reads_every_room,
    strangers_are_refused,
    bad_input_is_refused_by_name,
);

fn lobby() -> ListMessagesRequest {
    ListMessagesRequest { room_id: "lobby".to_owned(), ..ListMessagesRequest::default() }
}

fn at(position: Position, page_size: i32) -> ListMessagesRequest {
    ListMessagesRequest { position: Some(position), page_size, ..lobby() }
}

async fn list(client: &mut Client, request: ListMessagesRequest) -> ListMessagesResponse {
    client.messages.list_messages(request).await.expect("list").into_inner()
}

fn seqs(messages: &[Message]) -> Vec<i64> {
    messages.iter().map(|message| message.seq).collect()
}

/// A group of Ann and Bob where Ann has sent `n` messages, from seq 3 on.
async fn with_messages(world: &World, n: usize) -> Client {
    group(world, "lobby", &["ann", "bob"]).await;
    say(world, n).await
}

async fn say(world: &World, n: usize) -> Client {
    let mut ann = world.user("ann");
    for n in 0..n {
        send(&mut ann, "lobby", &n.to_string()).await;
    }
    ann
}

/// B-100.
async fn the_latest_come_first_and_in_ascending_order(db: Db) {
    let world = World::open(db).await;
    let mut ann = with_messages(&world, 5).await;
    let first = list(&mut ann, ListMessagesRequest { page_size: 3, ..lobby() }).await;
    assert_eq!(seqs(&first.messages), [5, 6, 7]);
    assert_eq!(words(&first.messages[0]), Some("2"));

    let page_token = first.next_page_token;
    let next = ListMessagesRequest { page_size: 3, page_token, ..lobby() };
    let second = list(&mut ann, next).await;
    assert_eq!((seqs(&second.messages), second.next_page_token), (vec![3, 4], String::new()));
}

/// B-181.
async fn a_page_has_10_messages_unless_asked_otherwise(db: Db) {
    let world = World::open(db).await;
    let mut ann = with_messages(&world, 101).await;
    for (page_size, count) in [(0, 10), (1, 1), (100, 100), (101, 100), (i32::MAX, 100)] {
        let page = list(&mut ann, ListMessagesRequest { page_size, ..lobby() }).await;
        assert_eq!(page.messages.len(), count, "{page_size}");
        assert!(!page.next_page_token.is_empty(), "{page_size}");
    }
}

async fn only_messages_are_listed(db: Db) {
    let world = World::open(db).await;
    let room = group(&world, "lobby", &["ann"]).await;
    let mut ann = world.user("ann");
    assert_eq!(list(&mut ann, lobby()).await.messages, []);

    let message_id = send(&mut ann, "lobby", "1").await.message_id;
    room.join("bob").await;
    edit(&mut ann, &message_id, "one").await;
    send(&mut ann, "lobby", "2").await;

    let page = list(&mut ann, lobby()).await;
    assert_eq!(seqs(&page.messages), [3, 6]);
    assert_eq!((words(&page.messages[0]), page.messages[0].edit_seq), (Some("one"), 5));
}

/// Walks to the end, with something happening after every page.
async fn walk(
    client: &mut Client,
    request: ListMessagesRequest,
    meanwhile: impl AsyncFn(&ListMessagesResponse),
) -> Vec<Vec<i64>> {
    let (mut pages, mut page_token) = (Vec::new(), String::new());
    loop {
        let page = list(client, ListMessagesRequest { page_token, ..request.clone() }).await;
        pages.push(seqs(&page.messages));
        if page.next_page_token.is_empty() {
            return pages;
        }
        meanwhile(&page).await;
        page_token = page.next_page_token;
    }
}

/// B-100, B-102.
async fn a_walk_to_older_ones_misses_nothing_while_the_room_moves(db: Db) {
    let world = World::open(db).await;
    let mut ann = with_messages(&world, 11).await;
    for position in [None, Some(Position::BeforeSeq(14))] {
        let request = ListMessagesRequest { page_size: 4, position, ..lobby() };
        let pages = walk(&mut ann, request, async |page| {
            let mut ann = world.user("ann");
            // The token stands on the oldest of the page.
            delete(&mut ann, &page.messages[0].message_id).await;
            send(&mut ann, "lobby", "more").await;
        })
        .await;
        // The first walk begins at the head, the second below it.
        if position.is_none() {
            assert_eq!(pages, [vec![10, 11, 12, 13], vec![6, 7, 8, 9], vec![3, 4, 5]]);
        } else {
            assert_eq!(pages.concat().len(), 11);
        }
    }
}

/// B-102, B-144, B-179.
async fn a_walk_to_newer_ones_reaches_what_was_sent_meanwhile(db: Db) {
    let world = World::open(db).await;
    let mut ann = with_messages(&world, 8).await;
    let pages = walk(&mut ann, at(Position::AfterSeq(0), 4), async |page| {
        let mut ann = world.user("ann");
        if page.messages[0].seq == 3 {
            delete(&mut ann, &page.messages[3].message_id).await;
            send(&mut ann, "lobby", "more").await;
        }
    })
    .await;
    assert_eq!(pages, [vec![3, 4, 5, 6], vec![7, 8, 9, 10], vec![12]]);
}

/// B-102.
async fn before_and_after_begin_where_they_say(db: Db) {
    let world = World::open(db).await;
    let mut ann = with_messages(&world, 5).await;
    let expected: [(Position, &[i64], bool); 8] = [
        (Position::BeforeSeq(6), &[4, 5], true),
        (Position::BeforeSeq(5), &[3, 4], false),
        (Position::BeforeSeq(1), &[], false),
        (Position::BeforeSeq(i64::MAX), &[6, 7], true),
        (Position::AfterSeq(0), &[3, 4], true),
        (Position::AfterSeq(4), &[5, 6], true),
        (Position::AfterSeq(5), &[6, 7], false),
        (Position::AfterSeq(i64::MAX), &[], false),
    ];
    for (position, messages, more) in expected {
        let page = list(&mut ann, at(position, 2)).await;
        assert_eq!(seqs(&page.messages), messages, "{position:?}");
        assert_eq!(!page.next_page_token.is_empty(), more, "{position:?}");
    }
}

/// B-102.
async fn around_gives_both_sides(db: Db) {
    let world = World::open(db).await;
    let mut ann = with_messages(&world, 7).await;
    let expected: [(i64, i32, &[i64]); 6] = [
        (6, 4, &[4, 5, 6, 7]),
        (6, 5, &[4, 5, 6, 7, 8]),
        (6, 1, &[6]),
        (1, 4, &[3, 4]),
        (9, 4, &[7, 8, 9]),
        (i64::MAX, 4, &[8, 9]),
    ];
    for (seq, size, messages) in expected {
        let page = list(&mut ann, at(Position::AroundSeq(seq), size)).await;
        assert_eq!(seqs(&page.messages), messages, "{seq} {size}");
        assert_eq!(page.next_page_token, "");
    }
}

async fn a_token_holds_for_its_own_query_only(db: Db) {
    let world = World::open(db).await;
    let mut ann = with_messages(&world, 5).await;
    group(&world, "cellar", &["ann"]).await;
    plan("lobby").of_tenant("globex").members(&["ann"]).make(&world).await;
    let first = list(&mut ann, ListMessagesRequest { page_size: 2, ..lobby() }).await;
    let page_token = first.next_page_token;
    let next = ListMessagesRequest { page_size: 1, page_token, ..lobby() };

    // Another page size is another page of the same query.
    assert_eq!(seqs(&list(&mut ann, next.clone()).await.messages), [5]);

    let room_id = "cellar".to_owned();
    let foreign = Principal::User(parlance_types::UserId::new("ann"));
    let position = Some(Position::BeforeSeq(6));
    for (mut client, request) in [
        (ann.clone(), ListMessagesRequest { room_id, ..next.clone() }),
        (ann.clone(), ListMessagesRequest { position, ..next.clone() }),
        (ann, ListMessagesRequest { position: Some(Position::AfterSeq(0)), ..next.clone() }),
        (world.user("bob"), next.clone()),
        (world.backend(), next.clone()),
        (world.client("globex", foreign), next),
    ] {
        violates(client.messages.list_messages(request).await, "page_token");
    }
}

async fn a_token_dies_with_its_room(db: Db) {
    let world = World::open(db).await;
    let room = group(&world, "lobby", &["ann"]).await;
    let mut ann = say(&world, 3).await;
    let page_token =
        list(&mut ann, ListMessagesRequest { page_size: 1, ..lobby() }).await.next_page_token;
    room.close().await;
    group(&world, "lobby", &["ann"]).await;
    say(&world, 3).await;

    let request = ListMessagesRequest { page_size: 1, page_token, ..lobby() };
    violates(ann.messages.list_messages(request).await, "page_token");
}

/// B-101.
async fn reading_marks_nothing_unless_asked(db: Db) {
    let world = World::open(db).await;
    with_messages(&world, 3).await;
    let mut bob = world.user("bob");
    list(&mut bob, lobby()).await;
    assert_eq!(unread(&mut bob).await, 3);
}

/// B-101, B-121.
async fn mark_read_marks_up_to_the_newest_of_the_page(db: Db) {
    let world = World::open(db).await;
    with_messages(&world, 4).await;
    let mut bob = world.user("bob");
    let mut receipts = world.follow("lobby").await;
    let marking = |position| ListMessagesRequest { mark_read: true, ..at(position, 2) };

    list(&mut bob, marking(Position::AfterSeq(0))).await;
    assert_eq!(unread(&mut bob).await, 2);
    assert_eq!(receipts.receipt().await, ("bob".to_owned(), 4, 4));

    // An older page lowers nothing, an empty one marks nothing.
    list(&mut bob, marking(Position::BeforeSeq(4))).await;
    list(&mut bob, marking(Position::BeforeSeq(1))).await;
    assert_eq!(unread(&mut bob).await, 2);
    list(&mut bob, ListMessagesRequest { mark_read: true, ..lobby() }).await;
    assert_eq!(unread(&mut bob).await, 0);
    assert_eq!(receipts.receipt().await, ("bob".to_owned(), 6, 6));

    let nobody = ListMessagesRequest { mark_read: true, ..lobby() };
    refused(world.backend().messages.list_messages(nobody).await, Reason::UserRequired);
}

/// B-067.
async fn a_member_who_sees_since_the_join_reads_from_there_on(db: Db) {
    let world = World::open(db).await;
    let room = plan("lobby").since_join().members(&["ann"]).make(&world).await;
    say(&world, 3).await;
    room.join("bob").await;
    say(&world, 2).await;

    let mut bob = world.user("bob");
    for request in [
        lobby(),
        at(Position::AfterSeq(0), 10),
        at(Position::AroundSeq(7), 10),
        at(Position::BeforeSeq(i64::MAX), 10),
    ] {
        let page = list(&mut bob, request).await;
        assert_eq!((seqs(&page.messages), page.next_page_token), (vec![7, 8], String::new()));
    }
    let before_the_join = list(&mut bob, at(Position::BeforeSeq(7), 10)).await;
    assert_eq!(before_the_join.messages, []);
    assert_eq!(list(&mut world.user("ann"), lobby()).await.messages.len(), 5);
}

/// B-067, B-073, B-075, B-200, B-201.
async fn a_removed_user_sees_nothing_and_all_of_it_when_added_again(db: Db) {
    let world = World::open(db).await;
    let room = group(&world, "lobby", &["ann", "bob"]).await;
    send(&mut world.user("bob"), "lobby", "mine").await;
    room.leave("bob").await;
    say(&world, 2).await;

    let mut bob = world.user("bob");
    refused(bob.messages.list_messages(lobby()).await, Reason::NotAMember);
    assert_eq!(seqs(&list(&mut world.user("ann"), lobby()).await.messages), [3, 5, 6]);
    room.join("bob").await;
    assert_eq!(seqs(&list(&mut bob, lobby()).await.messages), [3, 5, 6]);
}

/// B-035.
async fn a_preview_shows_strangers_the_latest_20(db: Db) {
    let world = World::open(db).await;
    plan("lobby").allow_preview().members(&["ann"]).make(&world).await;
    say(&world, 25).await;
    let mut eve = world.user("eve");
    let preview = ListMessagesRequest { preview: true, ..lobby() };

    // Size and position do not matter.
    for request in [
        preview.clone(),
        ListMessagesRequest { page_size: 1, ..preview.clone() },
        ListMessagesRequest { preview: true, ..at(Position::BeforeSeq(5), 100) },
    ] {
        let page = list(&mut eve, request).await;
        assert_eq!(seqs(&page.messages), (8..28).collect::<Vec<_>>());
        assert_eq!(page.next_page_token, "");
    }

    let page_token = "x".to_owned();
    let paged = ListMessagesRequest { page_token, ..preview.clone() };
    violates(eve.messages.list_messages(paged).await, "page_token");
    let marking = ListMessagesRequest { mark_read: true, ..preview };
    violates(eve.messages.list_messages(marking).await, "mark_read");
    refused(eve.messages.list_messages(lobby()).await, Reason::NotAMember);
}

async fn a_preview_is_shown_to_those_who_were_removed_like_anybody(db: Db) {
    let world = World::open(db).await;
    let room = plan("lobby").allow_preview().since_join().members(&["ann", "bob"]);
    let room = room.make(&world).await;
    send(&mut world.user("ann"), "lobby", "1").await;
    room.leave("bob").await;
    let preview = ListMessagesRequest { preview: true, ..lobby() };
    for user in ["bob", "eve"] {
        let mut client = world.user(user);
        refused(client.messages.list_messages(lobby()).await, Reason::NotAMember);
        let page = client.messages.list_messages(preview.clone()).await.expect("a preview");
        assert_eq!(page.into_inner().messages.len(), 1);
    }
}

/// B-035.
async fn a_preview_needs_the_rooms_consent(db: Db) {
    let world = World::open(db).await;
    group(&world, "lobby", &["ann"]).await;
    let direct = plan("pair").kind(RoomKind::Direct).allow_preview().members(&["ann", "bob"]);
    direct.make(&world).await;
    let mut eve = world.user("eve");
    let preview = |room_id: &str| ListMessagesRequest {
        room_id: room_id.to_owned(),
        preview: true,
        ..ListMessagesRequest::default()
    };
    refused(eve.messages.list_messages(preview("lobby")).await, Reason::PreviewNotAllowed);
    for room in ["pair", "nowhere"] {
        refused(eve.messages.list_messages(preview(room)).await, Reason::RoomNotFound);
    }
}

async fn a_member_who_asks_for_a_preview_reads_normally(db: Db) {
    let world = World::open(db).await;
    let mut ann = with_messages(&world, 30).await;
    let preview = ListMessagesRequest { preview: true, page_size: 25, ..lobby() };
    for mut client in [ann.clone(), world.backend()] {
        let page = list(&mut client, preview.clone()).await;
        assert_eq!(page.messages.len(), 25);
        assert!(!page.next_page_token.is_empty());
    }
    let first = list(&mut ann, preview.clone()).await;
    let page_token = first.next_page_token;
    let next = list(&mut ann, ListMessagesRequest { page_token, ..preview }).await;
    assert_eq!(next.messages.len(), 5);
}

/// B-086.
async fn a_service_that_acts_for_nobody_reads_every_room(db: Db) {
    let world = World::open(db).await;
    let room = plan("lobby").kind(RoomKind::Direct).since_join().members(&["ann", "bob"]);
    room.make(&world).await;
    say(&world, 2).await;
    for principal in [Principal::Service, Principal::Operator] {
        let mut client = world.client(TENANT, principal);
        assert_eq!(seqs(&list(&mut client, lobby()).await.messages), [3, 4]);
    }
}

/// B-063, B-073, B-176, B-184.
async fn strangers_are_refused(db: Db) {
    let world = World::open(db).await;
    rights::of_room_call(&world, async |mut client: Client, room: &str| {
        let request = ListMessagesRequest { room_id: room.to_owned(), ..lobby() };
        client.messages.list_messages(request).await.map(drop)
    })
    .await;
}

/// B-186.
async fn bad_input_is_refused_by_name(db: Db) {
    let world = World::open(db).await;
    let mut ann = with_messages(&world, 1).await;
    for room_id in bad_ids() {
        let request = ListMessagesRequest { room_id, ..lobby() };
        violates(ann.messages.list_messages(request).await, "room_id");
    }
    let token = |page_token: &str, position: Option<Position>| ListMessagesRequest {
        page_token: page_token.to_owned(),
        position,
        ..lobby()
    };
    for (request, field) in [
        (ListMessagesRequest { page_size: -1, ..lobby() }, "page_size"),
        (ListMessagesRequest { page_size: i32::MIN, ..lobby() }, "page_size"),
        (at(Position::BeforeSeq(0), 1), "before_seq"),
        (at(Position::BeforeSeq(i64::MIN), 1), "before_seq"),
        (at(Position::AfterSeq(-1), 1), "after_seq"),
        (at(Position::AroundSeq(0), 1), "around_seq"),
        (token("%%%", None), "page_token"),
        (token("\0", None), "page_token"),
        (token("bm90IGpzb24", None), "page_token"),
        (token("x", Some(Position::BeforeSeq(1))), "page_token"),
        (token("x", Some(Position::AroundSeq(1))), "page_token"),
    ] {
        violates(ann.messages.list_messages(request).await, field);
    }
}

/// A group of Ann where she has sent so many of the largest messages, from seq 3 on.
async fn with_largest_messages(world: &World, count: usize) -> Client {
    group(world, "lobby", &["ann"]).await;
    let mut ann = world.user("ann");
    let properties = (0..32).map(|n| (format!("{n:0>64}"), "x".repeat(1024))).collect();
    let content = MessageContent { properties, ..text(&"\u{10348}".repeat(4000)) };
    for _ in 0..count {
        let content = Some(content.clone());
        ann.messages
            .send_message(SendMessageRequest { content, ..saying("lobby", "") })
            .await
            .expect("sent");
    }
    ann
}

/// B-181. The client accepts 4 MiB, as clients do.
async fn a_page_holds_no_more_than_clients_take_and_a_walk_misses_nothing(db: Db) {
    let world = World::open(db).await;
    let mut ann = with_largest_messages(&world, 130).await;
    for (position, newest_first) in [(None, true), (Some(Position::AfterSeq(0)), false)] {
        let request = ListMessagesRequest { page_size: 100, position, ..lobby() };
        let first = list(&mut ann, request.clone()).await;
        assert!((2 << 20..3 << 20).contains(&first.encoded_len()), "{}", first.encoded_len());
        let mut pages = walk(&mut ann, request, async |page| {
            assert!(page.messages.len() >= 50 && page.encoded_len() <= 3 << 20);
        })
        .await;
        assert_eq!(pages.len(), 3);
        if newest_first {
            pages.reverse();
        }
        assert_eq!(pages.concat(), (3..133).collect::<Vec<_>>());
    }
    let marked = ListMessagesRequest { mark_read: true, ..at(Position::AfterSeq(0), 100) };
    let page = list(&mut ann, marked).await;
    assert!(page.encoded_len() <= 3 << 20);
}

async fn around_a_message_its_neighbours_come_as_far_as_clients_take_them(db: Db) {
    let world = World::open(db).await;
    let mut ann = with_largest_messages(&world, 110).await;
    for (around, has) in [(2, 3..30), (50, 30..70), (112, 90..113)] {
        let page = list(&mut ann, at(Position::AroundSeq(around), 100)).await;
        assert!((2 << 20..3 << 20).contains(&page.encoded_len()), "{}", page.encoded_len());
        let seqs = seqs(&page.messages);
        assert!(seqs.windows(2).all(|pair| pair[0] + 1 == pair[1]), "{seqs:?}");
        assert!(has.into_iter().all(|seq| seqs.contains(&seq)), "{seqs:?}");
    }
}
