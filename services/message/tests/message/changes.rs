//! Edits and deletions.

use futures::future::BoxFuture;
use parlance_db::{Db, test_on_each_db};
use parlance_log::{Locked, Target};
use parlance_message::Error;
use parlance_message::message::{Deletion, Edit, Message, OnDelete, Range, codec};
use parlance_proto::message::v1::{MemberRole, RoomKind};
use parlance_rpc::Reason;
use parlance_types::{LogId, MessageId, Seq};

use crate::rooms::{closed, gained, lost, plan, role};
use crate::world::{World, actor, content, draft, refused};

test_on_each_db!(parlance_message::MIGRATIONS =>
    an_edit_is_an_event_and_the_content_from_then_on,
    a_repeat_of_an_edit_changes_nothing_even_after_a_later_one,
    only_the_sender_edits_while_a_member,
    an_edit_keeps_the_reply,
    a_deletion_leaves_no_byte_of_the_content,
    senders_admins_and_the_system_delete_and_nobody_else,
    deleting_again_gives_the_same_place,
    changes_of_what_is_not_a_message_are_refused,
    what_a_noun_keeps_of_a_message_goes_with_it,
    pages_hold_messages_only_from_either_end,
);

async fn read(world: &World, message_id: MessageId) -> Message {
    world.message(message_id).await.expect("a message")
}

/// B-104.
async fn an_edit_is_an_event_and_the_content_from_then_on(db: Db) {
    let world = World::open(db).await;
    let log_id = world.group("r", &["ann", "bob"]).await;
    let sent = world.say(log_id, "ann", "one").await;
    world.clock.advance(1_000_000);
    for (seq, text) in [(4, "two"), (5, "three")] {
        let edited = world.edit(sent.message_id, "ann", text, text).await.expect("an edit");
        assert_eq!((edited.seq, edited.time), (seq, 2_000_000));
        let message = read(&world, sent.message_id).await;
        assert_eq!(message.content, Some(codec::encoded(&content(text))));
        assert_eq!((message.time, message.edit), (1_000_000, Some((seq, 2_000_000))));
    }
    // An edit is not a message: it counts for nobody.
    assert_eq!(world.unread("bob", log_id).await, Some(1));
}

async fn a_repeat_of_an_edit_changes_nothing_even_after_a_later_one(db: Db) {
    let world = World::open(db).await;
    let log_id = world.group("r", &["ann", "bob"]).await;
    let sent = world.send(log_id, "bob", "s", "one").await.expect("sent").message_id;
    let first = world.edit(sent, "bob", "a", "two").await.expect("an edit");
    world.edit(sent, "bob", "b", "three").await.expect("an edit");
    assert_eq!(world.edit(sent, "bob", "a", "two").await.expect("a repeat"), first);
    assert_eq!(read(&world, sent).await.content, Some(codec::encoded(&content("three"))));
    for (request_id, text) in [("a", "other"), ("s", "one")] {
        refused(world.edit(sent, "bob", request_id, text).await, Reason::RequestIdReused);
    }
    world.fact(log_id, 2, lost("bob")).await.expect("a fact");
    world.delete(sent, "ann").await.expect("deleted");
    world.fact(log_id, 3, closed()).await.expect("a fact");
    assert_eq!(world.edit(sent, "bob", "a", "two").await.expect("a repeat"), first);
    assert_eq!(world.head(log_id).await, 8);
}

async fn only_the_sender_edits_while_a_member(db: Db) {
    let world = World::open(db).await;
    let log_id = world.group("r", &["ann", "bob"]).await;
    let of_bob = world.say(log_id, "bob", "x").await.message_id;
    let of_system = world.say(log_id, "", "x").await.message_id;
    for (message_id, editor) in [(of_bob, "ann"), (of_bob, ""), (of_system, "ann")] {
        refused(world.edit(message_id, editor, "e", "y").await, Reason::NotTheSender);
    }
    assert!(world.edit(of_system, "", "e", "y").await.is_ok());
    refused(world.edit(of_bob, "eve", "e", "y").await, Reason::NotAMember);
    world.fact(log_id, 2, lost("bob")).await.expect("a fact");
    refused(world.edit(of_bob, "bob", "e", "y").await, Reason::NotAMember);
    world.delete(of_bob, "ann").await.expect("deleted");
    world.fact(log_id, 3, gained("bob")).await.expect("a fact");
    refused(world.edit(of_bob, "bob", "e", "y").await, Reason::MessageDeleted);
    world.fact(log_id, 4, closed()).await.expect("a fact");
    refused(world.edit(of_bob, "bob", "e", "y").await, Reason::RoomNotFound);
}

async fn an_edit_keeps_the_reply(db: Db) {
    let world = World::open(db).await;
    let log_id = world.group("r", &["ann"]).await;
    let question = world.say(log_id, "ann", "question").await.message_id;
    let mut answer = draft(log_id, "ann", None, "answer");
    answer.content = answer.content.replying_to(Some(question));
    let answer = world.append(answer).await.expect("sent").message_id;
    for text in ["better", "best"] {
        world.edit(answer, "ann", text, text).await.expect("an edit");
        let expected = codec::encoded(&content(text).replying_to(Some(question)));
        assert_eq!(read(&world, answer).await.content, Some(expected));
    }
}

/// How many columns of any row of the log hold `needle`.
async fn traces(db: &Db, needle: &str) -> usize {
    let select = "SELECT sender_id || COALESCE(request_id, ''), payload, digest FROM events";
    let rows: Vec<(String, Vec<u8>, Option<Vec<u8>>)> =
        db.read(select).fetch_all().await.expect("rows");
    let holds = |bytes: &[u8]| bytes.windows(needle.len()).any(|bytes| bytes == needle.as_bytes());
    rows.iter()
        .map(|(text, payload, digest)| {
            [text.as_bytes(), payload, digest.as_deref().unwrap_or_default()]
                .into_iter()
                .filter(|bytes| holds(bytes))
                .count()
        })
        .sum()
}

/// B-105.
async fn a_deletion_leaves_no_byte_of_the_content(db: Db) {
    let world = World::open(db).await;
    let log_id = world.group("r", &["ann", "bob"]).await;
    let sent = world.send(log_id, "ann", "id", "the secret").await.expect("sent");
    for text in ["a secret still", "secret again"] {
        world.edit(sent.message_id, "ann", text, text).await.ok();
    }
    let edits = world.store.run(Edit {
        actor: actor("ann"),
        message_id: sent.message_id,
        request: None.into(),
        content: content("one more secret"),
        instead: None,
    });
    edits.await.expect("an edit");
    // Two edits have the word in their request ids too, which are not content.
    assert_eq!(traces(&world.db, "secret").await, 6);
    assert_eq!(world.unread("bob", log_id).await, Some(1));
    let seq = world.delete(sent.message_id, "ann").await.expect("deleted");
    assert_eq!(traces(&world.db, "secret").await, 2);
    assert_eq!(traces(&world.db, "the secret").await, 0);

    let message = read(&world, sent.message_id).await;
    assert_eq!((message.content, message.deleted), (None, Some(seq)));
    assert_eq!(message.sender, crate::world::named("ann"));
    assert_eq!(world.unread("bob", log_id).await, Some(0));
    // Numbers stay, and so does the reply.
    let events = world.store.events(log_id, 0, Seq::MAX).await.expect("events");
    assert_eq!(events.len(), usize::try_from(seq).expect("a length"));
    assert_eq!(world.send(log_id, "ann", "id", "the secret").await.expect("a repeat"), sent);
    assert_eq!(traces(&world.db, "the secret").await, 0);
}

async fn senders_admins_and_the_system_delete_and_nobody_else(db: Db) {
    let world = World::open(db).await;
    let log_id = world.group("r", &["ann", "bob", "cas"]).await;
    let deletes = async |by: &str| {
        let sent = world.say(log_id, "cas", "x").await;
        world.delete(sent.message_id, by).await
    };
    for by in ["cas", "ann", ""] {
        assert!(deletes(by).await.is_ok(), "{by}");
    }
    refused(deletes("bob").await, Reason::NotTheSender);
    refused(deletes("eve").await, Reason::NotAMember);
    world.fact(log_id, 2, role("bob", MemberRole::Admin)).await.expect("a fact");
    assert!(deletes("bob").await.is_ok());
    let direct = plan("d").kind(RoomKind::Direct).owned(&["ann", "bob"]);
    let direct = direct.make(&world).await.log_id;
    let sent = world.say(direct, "ann", "x").await.message_id;
    refused(world.delete(sent, "eve").await, Reason::RoomNotFound);
    world.fact(direct, 2, closed()).await.expect("a fact");
    refused(world.delete(sent, "ann").await, Reason::RoomNotFound);
}

async fn deleting_again_gives_the_same_place(db: Db) {
    let world = World::open(db).await;
    let log_id = world.group("r", &["ann", "bob", "cas"]).await;
    let sent = world.say(log_id, "bob", "x").await.message_id;
    let seq = world.delete(sent, "bob").await.expect("deleted");
    for by in ["bob", "ann", ""] {
        assert_eq!(world.delete(sent, by).await.expect("deleted"), seq);
    }
    refused(world.delete(sent, "cas").await, Reason::NotTheSender);
    // A repeat before rights, here too.
    world.fact(log_id, 2, lost("bob")).await.expect("a fact");
    assert_eq!(world.delete(sent, "bob").await.expect("a repeat"), seq);
    assert_eq!(world.head(log_id).await, seq + 1);
    assert_eq!(world.unread("ann", log_id).await, Some(0));
}

async fn changes_of_what_is_not_a_message_are_refused(db: Db) {
    let world = World::open(db).await;
    let log_id = world.group("r", &["ann"]).await;
    let sent = world.say(log_id, "ann", "x").await.message_id;
    world.edit(sent, "ann", "e", "y").await.expect("an edit");
    let nowhere = LogId(uuid::Uuid::now_v7());
    for (log_id, seq) in [(log_id, 1), (log_id, 4), (log_id, 9), (nowhere, 3)] {
        let message_id = MessageId { log_id, seq };
        refused(world.edit(message_id, "ann", "f", "y").await, Reason::MessageNotFound);
        refused(world.delete(message_id, "ann").await, Reason::MessageNotFound);
        assert_eq!(world.message(message_id).await, None);
    }
}

/// A noun that keeps the numbers of messages.
fn forget<'a>(
    log: &'a mut Locked<'_>,
    target: &'a Target,
    _deleted: Seq,
) -> BoxFuture<'a, Result<(), Error>> {
    Box::pin(async move {
        let delete = "DELETE FROM kept WHERE seq = $1";
        log.conn().query(delete).bind(target.seq).execute().await?;
        Ok(())
    })
}

/// A noun that cannot let go.
fn refuse<'a>(
    _log: &'a mut Locked<'_>,
    _target: &'a Target,
    _deleted: Seq,
) -> BoxFuture<'a, Result<(), Error>> {
    Box::pin(async { Err(Error::invalid("noun", "keeps it")) })
}

async fn what_a_noun_keeps_of_a_message_goes_with_it(db: Db) {
    static NOUNS: OnDelete = &[forget];
    static NOT_ALL: OnDelete = &[forget, refuse];
    let world = World::open(db).await;
    let log_id = world.group("r", &["ann", "bob"]).await;
    let create = "CREATE TABLE kept (seq BIGINT NOT NULL)";
    world.db.write(create).execute().await.expect("a table");
    let sent = world.say(log_id, "ann", "x").await.message_id;
    let keep = "INSERT INTO kept (seq) VALUES ($1)";
    world.db.write(keep).bind(sent.seq).execute().await.expect("kept");
    let kept = async || {
        let count = world.db.read("SELECT COUNT(*) FROM kept").fetch_one::<(i64,)>().await;
        count.expect("a count").0
    };
    let delete = async |by: &str, on_delete| {
        world.store.run(Deletion { actor: actor(by), message_id: sent, on_delete }).await
    };
    assert!(delete("bob", NOUNS).await.is_err(), "not the sender");
    // One transaction: what one noun refuses no other has done.
    assert!(delete("ann", NOT_ALL).await.is_err());
    assert_eq!((kept().await, read(&world, sent).await.deleted), (1, None));
    let seq = delete("ann", NOUNS).await.expect("deleted");
    assert_eq!((kept().await, read(&world, sent).await.deleted), (0, Some(seq)));
    assert_eq!(delete("ann", NOT_ALL).await.expect("a repeat"), seq);
}

async fn pages_hold_messages_only_from_either_end(db: Db) {
    let world = World::open(db).await;
    let log_id = world.group("r", &["ann"]).await;
    let mut sent = Vec::new();
    for n in 0..6 {
        let message_id = world.say(log_id, "ann", "x").await.message_id;
        world.edit(message_id, "ann", &n.to_string(), "y").await.expect("an edit");
        sent.push(message_id.seq);
    }
    assert_eq!(sent, [3, 5, 7, 9, 11, 13]);
    let page = async |range, limit| {
        let page = world.page(log_id, None, range, limit).await;
        page.into_iter().map(|message| message.message_id.seq).collect::<Vec<_>>()
    };
    assert_eq!(page(Range::Before(Seq::MAX), 2).await, [11, 13]);
    assert_eq!(page(Range::Before(11), 2).await, [7, 9]);
    assert_eq!(page(Range::Before(3), 2).await, [0; 0]);
    assert_eq!(page(Range::After(0), 2).await, [3, 5]);
    assert_eq!(page(Range::After(5), 2).await, [7, 9]);
    assert_eq!(page(Range::After(Seq::MAX), 2).await, [0; 0]);
    assert_eq!(page(Range::Around(7), 3).await, [5, 7, 9]);
    assert_eq!(page(Range::Around(8), 3).await, [7, 9, 11]);
    assert_eq!(page(Range::Around(99), 4).await, [11, 13]);
}
