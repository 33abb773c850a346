//! The id of a request, in the event that the request brings about.

use parlance_db::{Db, test_on_each_db};
use parlance_log::codec;
use parlance_proto::message::v1 as pb;
use parlance_proto::message::v1::event::Body;
use prost::Message as _;

use crate::harness::{World, delete, edit, editing, saying, send, text};
use crate::rooms::group;
use crate::stream::harness::{from, latest};

test_on_each_db!(parlance_message::MIGRATIONS =>
    a_message_and_an_edit_show_the_id_that_their_caller_gave,
    what_is_deleted_shows_no_id,
    a_request_that_another_version_stored_is_found_as_a_repeat,
);

fn sending(request_id: &str) -> pb::SendMessageRequest {
    pb::SendMessageRequest { request_id: request_id.to_owned(), ..saying("lobby", "helo") }
}

fn correcting(request_id: &str, message_id: &str) -> pb::EditMessageRequest {
    pb::EditMessageRequest { request_id: request_id.to_owned(), ..editing(message_id, "hello") }
}

/// Who did what is in the room after its members, and under which id.
fn echoes(events: &[pb::Event]) -> Vec<(&str, &str)> {
    let after = events.iter().filter(|event| event.seq > 2);
    after.map(|event| (event.actor_id.as_str(), event.request_id.as_str())).collect()
}

/// B-141.
async fn a_message_and_an_edit_show_the_id_that_their_caller_gave(db: Db) {
    let world = World::open(db).await;
    let room = group(&world, "lobby", &["ann", "bob"]).await;
    let mut own = world.subscribe(world.user("ann"), latest(&["lobby"])).await;
    own.all_caught_up(1).await;
    let mut ann = world.user("ann");

    let sent = ann.messages.send_message(sending("of the phone")).await.expect("send");
    let message_id = sent.into_inner().message_id;
    ann.messages.edit_message(correcting("of the desk", &message_id)).await.expect("edit");
    world.backend().messages.send_message(sending("of a backend")).await.expect("send");
    send(&mut ann, "lobby", "without").await;
    edit(&mut ann, &message_id, "without").await;

    let expected = [
        ("ann", "of the phone"),
        ("ann", "of the desk"),
        ("", "of a backend"),
        ("ann", ""),
        ("ann", ""),
    ];
    assert_eq!(echoes(&own.events_until(7).await), expected);
    let mut replay = world.subscribe(world.user("bob"), from(&room, "", 0)).await;
    assert_eq!(echoes(&replay.events_until(7).await), expected);
}

async fn what_is_deleted_shows_no_id(db: Db) {
    let world = World::open(db).await;
    let room = group(&world, "lobby", &["ann"]).await;
    let mut ann = world.user("ann");
    let sent = ann.messages.send_message(sending("r1")).await.expect("send").into_inner();
    ann.messages.edit_message(correcting("r2", &sent.message_id)).await.expect("edit");
    delete(&mut ann, &sent.message_id).await;

    let mut replay = world.subscribe(world.user("ann"), from(&room, "", 0)).await;
    assert_eq!(echoes(&replay.events_until(5).await), [("ann", ""); 3]);
    let again = ann.messages.send_message(sending("r1")).await.expect("a repeat").into_inner();
    assert_eq!(again, sent);
}

/// Replicas that do not show ids yet, and those that do, have one database.
async fn a_request_that_another_version_stored_is_found_as_a_repeat(db: Db) {
    let world = World::open(db.clone()).await;
    let room = group(&world, "lobby", &["ann"]).await;
    let mut ann = world.user("ann");
    let sent = ann.messages.send_message(sending("r1")).await.expect("send").into_inner();
    let correct = || correcting("r2", &sent.message_id);
    let edited = ann.messages.edit_message(correct()).await.expect("edit").into_inner();

    let content = |words| Some(pb::MessageContent { r#type: "text".to_owned(), ..text(words) });
    let message =
        Body::MessageSent(pb::MessageSent { content: content("helo"), ..Default::default() });
    let edit = Body::MessageEdited(pb::MessageEdited {
        message_id: sent.message_id.clone(),
        message_seq: sent.seq,
        content: content("hello"),
        ..pb::MessageEdited::default()
    });
    for (seq, body) in [(sent.seq, message), (edited.seq, edit)] {
        let event =
            pb::Event { actor_id: "ann".to_owned(), body: Some(body), ..Default::default() };
        let before = event.encode_to_vec();
        let select = "SELECT digest, payload FROM events WHERE log_id = $1 AND seq = $2";
        let stored = db.read(select).bind(room.log_id.0).bind(seq).fetch_one().await;
        let (digest, payload): (Vec<u8>, Vec<u8>) = stored.expect("an event");
        assert_eq!(digest, codec::digest(&before), "what the other version compares");
        assert_ne!(payload, before);
        let update = "UPDATE events SET payload = $3 WHERE log_id = $1 AND seq = $2";
        let update = db.write(update).bind(room.log_id.0).bind(seq).bind(before);
        update.execute().await.expect("as the other version stored it");
    }

    let again = ann.messages.send_message(sending("r1")).await.expect("a repeat").into_inner();
    assert_eq!(again, sent);
    let again = ann.messages.edit_message(correct()).await.expect("a repeat").into_inner();
    assert_eq!(again, edited);
}
