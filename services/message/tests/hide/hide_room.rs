//! `HideRoom`.

use parlance_db::{Db, test_on_each_db};
use parlance_proto::message::v1::hide_service_client::HideServiceClient;
use parlance_proto::message::v1::{
    GetUnreadRequest, HideRoomRequest, HideRoomResponse, ListUserLogsRequest, RecountUnreadRequest,
    RoomKind, SendMessageRequest,
};
use parlance_rpc::Reason;
use tonic::{Response, Status};

use crate::harness::{
    Client, TENANT, World, bad_ids, delete, edit, refused, saying, send, unread, violates,
};
use crate::rights;
use crate::rooms::{group, plan};
use crate::stream::harness::latest;

test_on_each_db!(parlance_message::MIGRATIONS =>
    a_hidden_room_is_out_of_the_list_until_its_next_message,
    what_does_not_count_leaves_a_room_hidden,
    a_room_is_hidden_for_the_caller_alone_and_all_else_stays,
    a_user_who_becomes_a_member_again_has_not_hidden_the_room,
    a_message_beside_the_hiding_is_never_lost_with_it,
    a_room_is_hidden_by_a_user,
    strangers_are_refused,
    bad_input_is_refused_by_name,
);

async fn hide(client: &Client, room_id: &str) -> Result<Response<HideRoomResponse>, Status> {
    let mut hide = HideServiceClient::new(client.transport.clone());
    hide.hide_room(HideRoomRequest { room_id: room_id.to_owned() }).await
}

/// The rooms in a user's list, the latest activity first.
async fn listed(world: &World, user: &str) -> Vec<String> {
    let request = ListUserLogsRequest { user_id: user.to_owned(), ..Default::default() };
    let page = world.internal(TENANT).user_logs.list_user_logs(request).await.expect("a list");
    page.into_inner().logs.into_iter().map(|log| log.room_id).collect()
}

/// What is unread in the lobby, whether it is in the total or not.
async fn of_lobby(client: &mut Client) -> i64 {
    let request = GetUnreadRequest { room_ids: vec!["lobby".to_owned()], ..Default::default() };
    client.inbox.get_unread(request).await.expect("unread").into_inner().rooms[0].unread
}

/// B-039.
async fn a_hidden_room_is_out_of_the_list_until_its_next_message(db: Db) {
    let world = World::open(db).await;
    let (mut ann, mut bob) = (world.user("ann"), world.user("bob"));
    for room in ["lobby", "other"] {
        group(&world, room, &["ann", "bob"]).await;
        send(&mut ann, room, "hello").await;
    }
    for _ in 0..2 {
        hide(&bob, "lobby").await.expect("hidden");
        assert_eq!(listed(&world, "bob").await, ["other"]);
        assert_eq!((unread(&mut bob).await, of_lobby(&mut bob).await), (1, 1));
    }
    let recounted = bob.inbox.recount_unread(RecountUnreadRequest {}).await.expect("recounted");
    let recounted = recounted.into_inner();
    assert_eq!((recounted.total, recounted.differences), (1, vec![]));

    world.clock.advance(1);
    send(&mut ann, "lobby", "are you there?").await;
    assert_eq!(listed(&world, "bob").await, ["lobby", "other"]);
    assert_eq!(unread(&mut bob).await, 3);

    // One's own message counts, too.
    hide(&bob, "lobby").await.expect("hidden");
    world.clock.advance(1);
    send(&mut bob, "lobby", "yes").await;
    assert_eq!(listed(&world, "bob").await, ["lobby", "other"]);
}

async fn what_does_not_count_leaves_a_room_hidden(db: Db) {
    let world = World::open(db).await;
    let room = group(&world, "lobby", &["ann", "bob"]).await;
    let mut ann = world.user("ann");
    let first = send(&mut ann, "lobby", "first").await.message_id;
    let second = send(&mut ann, "lobby", "second").await.message_id;
    hide(&world.user("bob"), "lobby").await.expect("hidden");
    edit(&mut ann, &first, "better").await;
    delete(&mut ann, &second).await;
    let uncounted = SendMessageRequest { uncounted: true, ..saying("lobby", "by the way") };
    ann.messages.send_message(uncounted).await.expect("sent");
    room.join("cas").await;
    assert_eq!(listed(&world, "bob").await, Vec::<String>::new());
}

async fn a_room_is_hidden_for_the_caller_alone_and_all_else_stays(db: Db) {
    let world = World::open(db).await;
    let pair = plan("lobby").kind(RoomKind::Direct).members(&["ann", "bob"]);
    pair.make(&world).await;
    let (mut ann, bob) = (world.user("ann"), world.user("bob"));
    let mut stream = world.subscribe(bob.clone(), latest(&["lobby"])).await;
    stream.live().await;
    hide(&bob, "lobby").await.expect("hidden");
    assert_eq!(listed(&world, "ann").await, ["lobby"]);
    let sent = send(&mut ann, "lobby", "hello").await;
    assert_eq!(stream.event().await.seq, sent.seq);
}

async fn a_user_who_becomes_a_member_again_has_not_hidden_the_room(db: Db) {
    let world = World::open(db).await;
    let room = group(&world, "lobby", &["ann", "bob"]).await;
    hide(&world.user("bob"), "lobby").await.expect("hidden");
    room.leave("bob").await;
    room.join("bob").await;
    assert_eq!(listed(&world, "bob").await, ["lobby"]);
    // Nor who is made a member once more.
    hide(&world.user("bob"), "lobby").await.expect("hidden");
    room.join("bob").await;
    assert_eq!(listed(&world, "bob").await, ["lobby"]);
}

async fn a_message_beside_the_hiding_is_never_lost_with_it(db: Db) {
    let world = World::open(db).await;
    group(&world, "lobby", &["ann", "bob"]).await;
    let (mut ann, mut bob) = (world.user("ann"), world.user("bob"));
    for round in 0..20 {
        let before = of_lobby(&mut bob).await;
        let (hidden, _) = tokio::join!(hide(&bob, "lobby"), send(&mut ann, "lobby", "hello"));
        hidden.expect("hidden");
        // Hidden after the message came, or back with it; the next one brings it in any case.
        send(&mut ann, "lobby", "hello").await;
        assert_eq!(listed(&world, "bob").await, ["lobby"], "round {round}");
        assert_eq!(unread(&mut bob).await, before + 2, "round {round}");
    }
}

async fn a_room_is_hidden_by_a_user(db: Db) {
    let world = World::open(db).await;
    group(&world, "lobby", &["ann"]).await;
    refused(hide(&world.backend(), "lobby").await, Reason::UserRequired);
    hide(&world.service_for("ann"), "lobby").await.expect("hidden");
    assert_eq!(listed(&world, "ann").await, Vec::<String>::new());
}

async fn strangers_are_refused(db: Db) {
    let world = World::open(db).await;
    rights::of_room_call(&world, async |client: Client, room: &str| {
        hide(&client, room).await.map(drop)
    })
    .await;
}

async fn bad_input_is_refused_by_name(db: Db) {
    let world = World::open(db).await;
    for room_id in bad_ids() {
        violates(hide(&world.user("ann"), &room_id).await, "room_id");
    }
}
