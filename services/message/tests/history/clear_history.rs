//! `ClearHistory`.

use parlance_db::{Db, test_on_each_db};
use parlance_proto::message::v1::history_service_client::HistoryServiceClient;
use parlance_proto::message::v1::pin_service_client::PinServiceClient;
use parlance_proto::message::v1::subscribe_response::Frame;
use parlance_proto::message::v1::{
    ClearHistoryRequest, GetMessageRequest, ListMessagesRequest, ListPinsRequest,
    ListUserLogsRequest, MemberRole, PinMessageRequest, Skipped,
};
use parlance_rpc::Reason;
use tonic::{Response, Status};

use crate::harness::{
    Client, TENANT, World, bad_ids, bad_message_ids, edit, editing, get, refused, send, unread,
    violates, words,
};
use crate::rights;
use crate::rooms::{group, plan};
use crate::stream::harness::{from, seqs};

test_on_each_db!(parlance_message::MIGRATIONS =>
    nothing_that_was_cleared_is_on_any_path_of_the_caller,
    a_history_is_cleared_up_to_a_message_and_never_less_again,
    a_stream_skips_what_was_cleared,
    a_clearing_ends_with_the_membership,
    where_history_shows_since_the_join_the_later_one_counts,
    a_history_is_cleared_by_a_user,
    what_is_no_place_in_the_room_is_refused,
    strangers_are_refused,
);

async fn try_clear(client: &Client, room_id: &str, through: &str) -> Result<i64, Status> {
    let mut history = HistoryServiceClient::new(client.transport.clone());
    let (room_id, through_message_id) = (room_id.to_owned(), through.to_owned());
    let cleared = history.clear_history(ClearHistoryRequest { room_id, through_message_id });
    Ok(cleared.await?.into_inner().cleared_through_seq)
}

async fn clear(client: &Client, room_id: &str, through: &str) -> i64 {
    try_clear(client, room_id, through).await.expect("cleared")
}

async fn page(client: &mut Client, room_id: &str) -> Vec<String> {
    let request = ListMessagesRequest { room_id: room_id.to_owned(), ..Default::default() };
    let page = client.messages.list_messages(request).await.expect("a page").into_inner();
    page.messages.iter().map(|message| words(message).expect("a text").to_owned()).collect()
}

/// The last message of the only room in a user's list.
async fn last(world: &World, user: &str) -> Option<String> {
    let request = ListUserLogsRequest { user_id: user.to_owned(), ..Default::default() };
    let page = world.internal(TENANT).user_logs.list_user_logs(request).await.expect("a list");
    let last = page.into_inner().logs.remove(0).last_message?;
    words(&last).map(ToOwned::to_owned)
}

async fn pins(client: &Client) -> usize {
    let mut pins = PinServiceClient::new(client.transport.clone());
    let request = ListPinsRequest { room_id: "lobby".to_owned() };
    pins.list_pins(request).await.expect("pins").into_inner().pins.len()
}

/// B-039, B-041.
async fn nothing_that_was_cleared_is_on_any_path_of_the_caller(db: Db) {
    let world = World::open(db).await;
    let room = plan("lobby").member("ann", MemberRole::Owner).members(&["bob"]);
    room.make(&world).await;
    let (mut ann, mut bob) = (world.user("ann"), world.user("bob"));
    let first = send(&mut ann, "lobby", "first").await;
    let mine = send(&mut bob, "lobby", "mine").await;
    let second = send(&mut ann, "lobby", "second").await;
    let message_id = first.message_id.clone();
    let mut pinning = PinServiceClient::new(ann.transport.clone());
    let pin = pinning.pin_message(PinMessageRequest { message_id }).await.expect("pinned");
    assert_eq!((unread(&mut bob).await, pins(&bob).await), (1, 1));

    let cleared = clear(&bob, "lobby", "").await;
    assert_eq!(cleared, pin.into_inner().pin_seq);
    assert_eq!(page(&mut bob, "lobby").await, Vec::<String>::new());
    assert_eq!((unread(&mut bob).await, pins(&bob).await), (0, 0));
    assert_eq!(last(&world, "bob").await, None);
    for sent in [&first, &mine, &second] {
        let request = GetMessageRequest { message_id: sent.message_id.clone() };
        refused(bob.messages.get_message(request).await, Reason::MessageNotFound);
    }
    let own = bob.messages.edit_message(editing(&mine.message_id, "still mine")).await;
    refused(own, Reason::MessageNotFound);

    // For the others all of it is there.
    assert_eq!(page(&mut ann, "lobby").await, ["first", "mine", "second"]);
    assert_eq!((pins(&ann).await, last(&world, "ann").await.as_deref()), (1, Some("second")));
    edit(&mut ann, &second.message_id, "again").await;
    assert_eq!((unread(&mut bob).await, page(&mut bob, "lobby").await.len()), (0, 0));

    // What comes after it is as ever.
    let third = send(&mut ann, "lobby", "third").await;
    assert_eq!(page(&mut bob, "lobby").await, ["third"]);
    assert_eq!((unread(&mut bob).await, last(&world, "bob").await.as_deref()), (1, Some("third")));
    assert_eq!(words(&get(&mut bob, &third.message_id).await), Some("third"));
}

/// B-041.
async fn a_history_is_cleared_up_to_a_message_and_never_less_again(db: Db) {
    let world = World::open(db).await;
    let room = group(&world, "lobby", &["ann", "bob"]).await;
    let (mut ann, mut bob) = (world.user("ann"), world.user("bob"));
    let mut sent = Vec::new();
    for n in 0..4 {
        sent.push(send(&mut ann, "lobby", &n.to_string()).await);
    }
    assert_eq!(clear(&bob, "lobby", &sent[1].message_id).await, sent[1].seq);
    assert_eq!((page(&mut bob, "lobby").await, unread(&mut bob).await), (texts(&["2", "3"]), 2));
    for through in [&sent[1].message_id, &sent[0].message_id, &format!("{}-1", room.log_id)] {
        assert_eq!(clear(&bob, "lobby", through).await, sent[1].seq);
    }
    assert_eq!(clear(&bob, "lobby", &sent[2].message_id).await, sent[2].seq);
    assert_eq!((page(&mut bob, "lobby").await, unread(&mut bob).await), (texts(&["3"]), 1));
}

fn texts(texts: &[&str]) -> Vec<String> {
    texts.iter().map(|text| (*text).to_owned()).collect()
}

/// B-041.
async fn a_stream_skips_what_was_cleared(db: Db) {
    let world = World::open(db).await;
    let room = group(&world, "lobby", &["ann", "bob"]).await;
    let (mut ann, bob) = (world.user("ann"), world.user("bob"));
    for n in 0..3 {
        send(&mut ann, "lobby", &n.to_string()).await;
    }
    let mut open = world.subscribe(bob.clone(), from(&room, "", 0)).await;
    assert_eq!(seqs(&open.events_until(5).await), [1, 2, 3, 4, 5]);
    assert_eq!(clear(&bob, "lobby", "").await, 5);
    let next = send(&mut ann, "lobby", "next").await.seq;
    let mut stream = world.subscribe(bob, from(&room, "", 0)).await;
    assert_eq!(stream.attached().await.resume_from, 0);
    let (room_id, from_seq, to_seq) = ("lobby".to_owned(), 1, 5);
    assert_eq!(stream.next().await, Frame::Skipped(Skipped { room_id, from_seq, to_seq }));
    assert_eq!(seqs(&stream.events_until(next).await), [next]);
    // One that was there already goes on.
    assert_eq!(seqs(&open.events_until(next).await), [next]);
    // The others get all of it.
    let mut all = world.subscribe(ann, from(&room, "", 0)).await;
    assert_eq!(seqs(&all.events_until(next).await), [1, 2, 3, 4, 5, 6]);
}

/// B-041.
async fn a_clearing_ends_with_the_membership(db: Db) {
    let world = World::open(db).await;
    let room = group(&world, "lobby", &["ann", "bob"]).await;
    let (mut ann, mut bob) = (world.user("ann"), world.user("bob"));
    send(&mut ann, "lobby", "before").await;
    for leaves in [true, false] {
        clear(&bob, "lobby", "").await;
        assert_eq!(page(&mut bob, "lobby").await, Vec::<String>::new());
        if leaves {
            room.leave("bob").await;
        }
        room.join("bob").await;
        assert_eq!(page(&mut bob, "lobby").await, ["before"]);
    }
}

async fn where_history_shows_since_the_join_the_later_one_counts(db: Db) {
    let world = World::open(db).await;
    let room = plan("lobby").since_join().members(&["ann"]).make(&world).await;
    let (mut ann, mut bob) = (world.user("ann"), world.user("bob"));
    let before = send(&mut ann, "lobby", "before").await.message_id;
    room.join("bob").await;
    let after = send(&mut ann, "lobby", "after").await.message_id;
    send(&mut ann, "lobby", "last").await;
    clear(&bob, "lobby", &before).await;
    assert_eq!(page(&mut bob, "lobby").await, ["after", "last"]);
    clear(&bob, "lobby", &after).await;
    assert_eq!(page(&mut bob, "lobby").await, ["last"]);
    assert_eq!(last(&world, "bob").await.as_deref(), Some("last"));
}

async fn a_history_is_cleared_by_a_user(db: Db) {
    let world = World::open(db).await;
    group(&world, "lobby", &["ann"]).await;
    let backend = try_clear(&world.backend(), "lobby", "").await.map(Response::new);
    refused(backend, Reason::UserRequired);
    send(&mut world.user("ann"), "lobby", "hello").await;
    clear(&world.service_for("ann"), "lobby", "").await;
    assert_eq!(page(&mut world.user("ann"), "lobby").await, Vec::<String>::new());
}

/// B-186.
async fn what_is_no_place_in_the_room_is_refused(db: Db) {
    let world = World::open(db).await;
    let room = group(&world, "lobby", &["ann", "bob"]).await;
    group(&world, "other", &["ann"]).await;
    let ann = world.user("ann");
    for bad in bad_ids() {
        violates(try_clear(&ann, &bad, "").await.map(Response::new), "room_id");
    }
    for bad in bad_message_ids().into_iter().filter(|bad| !bad.is_empty()) {
        violates(try_clear(&ann, "lobby", bad).await.map(Response::new), "through_message_id");
    }
    let elsewhere = send(&mut ann.clone(), "other", "elsewhere").await.message_id;
    let result = try_clear(&ann, "lobby", &elsewhere).await.map(Response::new);
    violates(result, "through_message_id");
    let ahead = format!("{}-3", room.log_id);
    let result = try_clear(&ann, "lobby", &ahead).await.map(Response::new);
    refused(result, Reason::MessageNotFound);
    // Whoever may not see the room does not learn what is in it.
    let result = try_clear(&world.user("eve"), "lobby", &elsewhere).await.map(Response::new);
    refused(result, Reason::NotAMember);
}

async fn strangers_are_refused(db: Db) {
    let world = World::open(db).await;
    rights::of_room_call(&world, async |client: Client, room: &str| {
        try_clear(&client, room, "").await.map(drop)
    })
    .await;
}
