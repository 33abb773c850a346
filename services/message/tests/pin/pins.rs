//! `PinService`: rights, limit, repeats, deletion, stream and replay.

use futures::future::join_all;
use parlance_db::{Db, test_on_each_db};
use parlance_proto::message::v1 as pb;
use parlance_proto::message::v1::event::Body;
use parlance_proto::message::v1::pin_service_client::PinServiceClient;
use parlance_proto::message::v1::{MemberRole, RoomKind};
use parlance_rpc::{Reason, Transport};
use tonic::{Response, Status};

use crate::harness::{
    Client, World, bad_ids, bad_message_ids, delete, edit, refused, send, violates, words,
};
use crate::rights;
use crate::rooms::{Room, plan};
use crate::stream::harness::{from, seqs};

test_on_each_db!(parlance_message::MIGRATIONS =>
    owners_and_admins_pin_and_unpin,
    both_users_of_a_direct_room_pin,
    strangers_are_refused,
    what_cannot_be_pinned_is_named,
    a_repeat_is_no_event,
    a_room_has_at_most_50_pins_whoever_pins_at_once,
    a_deleted_message_is_pinned_no_more,
    a_pin_beside_a_deletion_does_not_outlive_it,
    pins_read_as_their_messages_do_and_only_where_they_may_be_read,
    pins_are_streamed_and_replayed_in_their_place,
);

/// A group that ann owns, with bob in it.
async fn lobby(world: &World) -> Room {
    plan("lobby").member("ann", MemberRole::Owner).members(&["bob"]).make(world).await
}

fn pins(client: &Client) -> PinServiceClient<Transport> {
    PinServiceClient::new(client.transport.clone())
}

async fn pin(
    client: &Client,
    message_id: &str,
) -> Result<Response<pb::PinMessageResponse>, Status> {
    let message_id = message_id.to_owned();
    pins(client).pin_message(pb::PinMessageRequest { message_id }).await
}

async fn unpin(
    client: &Client,
    message_id: &str,
) -> Result<Response<pb::UnpinMessageResponse>, Status> {
    let message_id = message_id.to_owned();
    pins(client).unpin_message(pb::UnpinMessageRequest { message_id }).await
}

async fn list(client: &Client, room_id: &str) -> Result<Vec<pb::Pin>, Status> {
    let room_id = room_id.to_owned();
    Ok(pins(client).list_pins(pb::ListPinsRequest { room_id }).await?.into_inner().pins)
}

/// The words of the pinned messages, the latest pin first.
async fn listed(client: &Client, room_id: &str) -> Vec<String> {
    let pins = list(client, room_id).await.expect("pins").into_iter();
    let message = |pin: pb::Pin| pin.message.expect("a message");
    pins.map(|pin| words(&message(pin)).unwrap_or("(none)").to_owned()).collect()
}

/// B-109.
async fn owners_and_admins_pin_and_unpin(db: Db) {
    let world = World::open(db).await;
    let room = lobby(&world).await;
    let (ann, mut bob) = (world.user("ann"), world.user("bob"));
    let message_id = send(&mut bob, "lobby", "tea at four").await.message_id;

    refused(pin(&bob, &message_id).await, Reason::NotAllowed);
    let pinned = pin(&ann, &message_id).await.expect("pinned").into_inner();
    let found = list(&bob, "lobby").await.expect("pins").pop().expect("a pin");
    assert_eq!((found.pin_seq, found.pinner_id.as_str()), (pinned.pin_seq, "ann"));
    assert_eq!(found.pin_time.expect("a time").seconds, 1);
    assert_eq!(found.message.expect("a message").message_id, message_id);

    refused(unpin(&bob, &message_id).await, Reason::NotAllowed);
    room.set_role("bob", MemberRole::Admin).await;
    unpin(&bob, &message_id).await.expect("unpinned");
    assert_eq!(listed(&bob, "lobby").await, Vec::<String>::new());

    // A caller that acts for nobody has every right; one that acts for a user has theirs.
    room.set_role("bob", MemberRole::Member).await;
    let for_bob = world.service_for("bob");
    refused(pin(&for_bob, &message_id).await, Reason::NotAllowed);
    pin(&world.backend(), &message_id).await.expect("pinned");
    assert_eq!(list(&bob, "lobby").await.expect("pins")[0].pinner_id, "");
}

async fn both_users_of_a_direct_room_pin(db: Db) {
    let world = World::open(db).await;
    plan("pair").kind(RoomKind::Direct).members(&["ann", "bob"]).make(&world).await;
    let (mut ann, bob) = (world.user("ann"), world.user("bob"));
    let message_id = send(&mut ann, "pair", "hello").await.message_id;
    pin(&bob, &message_id).await.expect("pinned");
    unpin(&ann, &message_id).await.expect("unpinned");
}

async fn strangers_are_refused(db: Db) {
    let world = World::open(db).await;
    let listing = async |client: Client, room: &str| list(&client, room).await.map(drop);
    rights::of_room_call(&world, listing).await;
    // A member who may read the message is told that only admins pin.
    let allowed = |result: Result<(), Status>| match result {
        Err(status) if Reason::of(&status) == Some(Reason::NotAllowed) => Ok(()),
        result => result,
    };
    let pinning = async |client: Client, id: &str| allowed(pin(&client, id).await.map(drop));
    rights::of_message_call(&world, pinning).await;
}

async fn what_cannot_be_pinned_is_named(db: Db) {
    let world = World::open(db).await;
    lobby(&world).await;
    let mut ann = world.user("ann");
    for bad in bad_message_ids() {
        violates(pin(&ann, bad).await, "message_id");
        violates(unpin(&ann, bad).await, "message_id");
    }
    for bad in bad_ids() {
        violates(list(&ann, &bad).await.map(Response::new), "room_id");
    }
    let message_id = send(&mut ann, "lobby", "hello").await.message_id;
    delete(&mut ann, &message_id).await;
    refused(pin(&ann, &message_id).await, Reason::MessageDeleted);
    unpin(&ann, &message_id).await.expect("nothing to do");
}

async fn a_repeat_is_no_event(db: Db) {
    let world = World::open(db).await;
    lobby(&world).await;
    let mut ann = world.user("ann");
    let sent = send(&mut ann, "lobby", "hello").await;
    for _ in 0..2 {
        let pinned = pin(&ann, &sent.message_id).await.expect("pinned").into_inner();
        assert_eq!(pinned.pin_seq, sent.seq + 1);
    }
    for _ in 0..2 {
        unpin(&ann, &sent.message_id).await.expect("unpinned");
    }
    assert_eq!(send(&mut ann, "lobby", "next").await.seq, sent.seq + 3);
}

async fn a_room_has_at_most_50_pins_whoever_pins_at_once(db: Db) {
    let world = World::open(db).await;
    lobby(&world).await;
    let mut ann = world.user("ann");
    let mut messages = Vec::new();
    for n in 0..53 {
        messages.push(send(&mut ann, "lobby", &n.to_string()).await.message_id);
    }
    for message_id in &messages[..49] {
        pin(&ann, message_id).await.expect("pinned");
    }
    let at_once = join_all(messages[49..].iter().map(|message_id| pin(&ann, message_id))).await;
    let (pinned, over): (Vec<_>, Vec<_>) = at_once.into_iter().partition(Result::is_ok);
    assert_eq!((pinned.len(), over.len()), (1, 3));
    for result in over {
        refused(result, Reason::TooManyPins);
    }
    assert_eq!(list(&ann, "lobby").await.expect("pins").len(), 50);

    pin(&ann, &messages[0]).await.expect("a repeat");
    unpin(&ann, &messages[0]).await.expect("unpinned");
    let rest = join_all(messages[49..].iter().map(|message_id| pin(&ann, message_id))).await;
    assert_eq!(rest.iter().filter(|result| result.is_ok()).count(), 2, "one more, and a repeat");
}

async fn a_deleted_message_is_pinned_no_more(db: Db) {
    let world = World::open(db).await;
    lobby(&world).await;
    let mut ann = world.user("ann");
    let first = send(&mut ann, "lobby", "first").await;
    let second = send(&mut ann, "lobby", "second").await;
    for sent in [&first, &second] {
        pin(&ann, &sent.message_id).await.expect("pinned");
    }
    let deleted = delete(&mut ann, &first.message_id).await;
    assert_eq!(listed(&ann, "lobby").await, ["second"]);
    // The deletion says so itself: no event follows it.
    assert_eq!(send(&mut ann, "lobby", "next").await.seq, deleted + 1);
}

async fn a_pin_beside_a_deletion_does_not_outlive_it(db: Db) {
    let world = World::open(db).await;
    lobby(&world).await;
    let (mut ann, mut deleter) = (world.user("ann"), world.user("ann"));
    for round in 0..20 {
        let message_id = send(&mut ann, "lobby", "hello").await.message_id;
        let pinning = pin(&ann, &message_id);
        let pinned = if round % 2 == 0 {
            tokio::join!(pinning, delete(&mut deleter, &message_id)).0
        } else {
            tokio::join!(delete(&mut deleter, &message_id), pinning).1
        };
        if let Err(status) = pinned {
            assert_eq!(Reason::of(&status), Some(Reason::MessageDeleted));
        }
        assert_eq!(listed(&ann, "lobby").await, Vec::<String>::new(), "round {round}");
    }
}

async fn pins_read_as_their_messages_do_and_only_where_they_may_be_read(db: Db) {
    let world = World::open(db).await;
    let room = plan("lobby").since_join().member("ann", MemberRole::Owner).make(&world);
    let room = room.await;
    let mut ann = world.user("ann");
    let before = send(&mut ann, "lobby", "before").await.message_id;
    room.join("bob").await;
    let after = send(&mut ann, "lobby", "after").await.message_id;
    for message_id in [&after, &before] {
        pin(&ann, message_id).await.expect("pinned");
    }
    edit(&mut ann, &after, "afterwards").await;
    assert_eq!(listed(&ann, "lobby").await, ["before", "afterwards"]);
    assert_eq!(listed(&world.user("bob"), "lobby").await, ["afterwards"]);
}

async fn pins_are_streamed_and_replayed_in_their_place(db: Db) {
    let world = World::open(db).await;
    let room = lobby(&world).await;
    let mut ann = world.user("ann");
    let subscribe = async || world.subscribe(world.user("bob"), from(&room, "", 0)).await;
    let mut live = subscribe().await;
    let message_id = send(&mut ann, "lobby", "hello").await.message_id;
    pin(&ann, &message_id).await.expect("pinned");
    unpin(&ann, &message_id).await.expect("unpinned");
    let told = live.events_until(5).await;
    assert_eq!(seqs(&told), [1, 2, 3, 4, 5]);
    let Some(Body::MessagePinned(pinned)) = &told[3].body else { panic!("{:?}", told[3]) };
    assert_eq!((pinned.message_id.as_str(), pinned.message_seq), (message_id.as_str(), 3));
    assert_eq!(told[3].actor_id, "ann");
    let Some(Body::MessageUnpinned(unpinned)) = &told[4].body else { panic!("{:?}", told[4]) };
    assert_eq!(unpinned.message_seq, 3);
    assert_eq!(subscribe().await.events_until(5).await, told);
}
