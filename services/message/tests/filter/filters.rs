//! Words that the users of a tenant may not write.

use parlance_db::{Db, test_on_each_db};
use parlance_message::hook::OnFailure;
use parlance_proto::message::v1 as pb;
use parlance_proto::message::v1::{FilterAction, RoomKind};
use parlance_rpc::{Principal, Reason};
use parlance_types::UserId;
use tonic_types::StatusExt as _;

use crate::harness::{Client, TENANT, World, edit, editing, get, refused, saying, send};
use crate::harness::{violates, words};
use crate::hook::checks::{named, sent};
use crate::hook::judge::Judge;
use crate::message::send_messages::send_messages;
use crate::rooms::{group, only_admins_post, plan};
use crate::world::reopen;

test_on_each_db!(parlance_message::MIGRATIONS =>
    words_are_masked_in_messages_and_edits,
    a_masked_message_keeps_what_else_it_has,
    words_are_refused_in_messages_and_edits_and_the_field_is_named,
    only_the_text_is_judged,
    a_repeat_is_not_judged_and_is_told_by_what_its_caller_wrote,
    who_may_not_write_is_told_so_whatever_they_write,
    those_who_act_for_nobody_are_not_judged,
    a_filter_is_of_its_tenant,
    a_filter_holds_on_every_node_once_it_is_put,
    a_filter_that_cannot_be_read_is_not_one_without_words,
    a_hook_sees_what_the_filter_leaves,
    a_filter_is_put_whole_read_and_taken_away,
    what_is_wrong_with_a_filter_is_named,
    only_the_suite_puts_filters,
);

fn filter(words: &[&str], action: FilterAction) -> pb::ContentFilter {
    let words = words.iter().map(ToString::to_string).collect();
    pb::ContentFilter { words, action: action.into() }
}

pub(super) async fn put(world: &World, words: &[&str], action: FilterAction) {
    let filter = Some(filter(words, action));
    let request = pb::PutContentFilterRequest { filter };
    world.internal(TENANT).filters.put_content_filter(request).await.expect("put");
}

async fn kept(world: &World, tenant_id: &str) -> pb::ContentFilter {
    let request = pb::GetContentFilterRequest {};
    let kept = world.internal(tenant_id).filters.get_content_filter(request).await;
    kept.expect("a filter").into_inner().filter.expect("a filter")
}

/// The lobby of Ann and Bob, whose tenant does not want "darn".
async fn lobby(db: Db, action: FilterAction) -> (World, Client) {
    let world = World::open(db).await;
    group(&world, "lobby", &["ann", "bob"]).await;
    put(&world, &["darn"], action).await;
    let ann = world.user("ann");
    (world, ann)
}

async fn said(client: &mut Client, text: &str) -> String {
    let id = send(client, "lobby", text).await.message_id;
    words(&get(client, &id).await).expect("a text").to_owned()
}

/// B-053.
async fn words_are_masked_in_messages_and_edits(db: Db) {
    let (_world, mut ann) = lobby(db, FilterAction::Mask).await;
    assert_eq!(said(&mut ann, "Darn it").await, "**** it");
    assert_eq!(said(&mut ann, "darned").await, "darned");
    let id = send(&mut ann, "lobby", "hello").await.message_id;
    edit(&mut ann, &id, "DARN").await;
    assert_eq!(words(&get(&mut ann, &id).await), Some("****"));
    let answers = send_messages(&mut ann, vec![named("1", "darn!"), named("2", "fine")]).await;
    assert_eq!(words(&get(&mut ann, &answers[0].message_id).await), Some("****!"));
    assert_eq!(answers[1].seq, answers[0].seq + 1);
}

async fn a_masked_message_keeps_what_else_it_has(db: Db) {
    let (world, mut ann) = lobby(db, FilterAction::Mask).await;
    let root = send(&mut ann, "lobby", "tea?").await.message_id;
    let mut request = named("r1", "darn you");
    let content = request.content.as_mut().expect("a content");
    content.reply_to_message_id.clone_from(&root);
    content.mentions = Some(pb::Mentions { user_ids: vec!["bob".to_owned()], everyone: false });
    content.properties.insert("k".to_owned(), "v".to_owned());
    "text".clone_into(&mut content.r#type);
    let written = content.clone();
    let mut stream = world.follow("lobby").await;
    let reply = sent(&mut ann, request).await;
    let event = stream.event().await;
    assert_eq!((event.seq, event.request_id.as_str()), (reply.seq, "r1"));
    let read = get(&mut ann, &reply.message_id).await;
    assert_eq!(read.thread_root_id, root);
    let masked = pb::MessageContent { text: "**** you".to_owned(), ..written };
    assert_eq!(read.content, Some(masked));
    assert_eq!(get(&mut ann, &root).await.reply_count, 1);
}

/// B-053.
async fn words_are_refused_in_messages_and_edits_and_the_field_is_named(db: Db) {
    let (_world, mut ann) = lobby(db, FilterAction::Refuse).await;
    let before = send(&mut ann, "lobby", "darned").await;
    let answer = ann.messages.send_message(saying("lobby", "Darn it")).await;
    let status = refused(answer, Reason::ContentFiltered);
    let wrong = status.get_details_bad_request().expect("a BadRequest").field_violations;
    assert_eq!(wrong[0].field, "content.text");
    let answer = ann.messages.edit_message(editing(&before.message_id, "darn")).await;
    refused(answer, Reason::ContentFiltered);
    let after = send(&mut ann, "lobby", "fine").await;
    assert_eq!(after.seq, before.seq + 1, "nothing else is stored");
}

async fn only_the_text_is_judged(db: Db) {
    let (_world, mut ann) = lobby(db, FilterAction::Refuse).await;
    let mut request = saying("lobby", "");
    let content = request.content.as_mut().expect("a content");
    "darn".clone_into(&mut content.r#type);
    content.properties.insert("darn".to_owned(), "darn".to_owned());
    sent(&mut ann, request).await;
}

async fn a_repeat_is_not_judged_and_is_told_by_what_its_caller_wrote(db: Db) {
    let world = World::open(db).await;
    group(&world, "lobby", &["ann"]).await;
    let mut ann = world.user("ann");
    let first = sent(&mut ann, named("r1", "darn it")).await;
    let request = || pb::EditMessageRequest {
        request_id: "e1".to_owned(),
        ..editing(&first.message_id, "darn")
    };
    let edited = ann.messages.edit_message(request()).await.expect("edited").into_inner();
    for action in [FilterAction::Refuse, FilterAction::Mask] {
        put(&world, &["darn"], action).await;
        assert_eq!(sent(&mut ann, named("r1", "darn it")).await, first);
        let again = ann.messages.edit_message(request()).await.expect("a repeat").into_inner();
        assert_eq!(again, edited);
        for other in ["darn", "something else"] {
            refused(ann.messages.send_message(named("r1", other)).await, Reason::RequestIdReused);
        }
    }
    let masked = sent(&mut ann, named("r2", "darn it")).await;
    assert_eq!(sent(&mut ann, named("r2", "darn it")).await, masked);
    refused(ann.messages.send_message(named("r2", "**** it")).await, Reason::RequestIdReused);
}

async fn who_may_not_write_is_told_so_whatever_they_write(db: Db) {
    let (world, mut ann) = lobby(db, FilterAction::Refuse).await;
    plan("pair").kind(RoomKind::Direct).members(&["ann", "bob"]).make(&world).await;
    group(&world, "ruled", &["ann"]).await.set_rules(only_admins_post()).await;
    let mut eve = world.user("eve");
    refused(eve.messages.send_message(saying("lobby", "darn")).await, Reason::NotAMember);
    refused(eve.messages.send_message(saying("pair", "darn")).await, Reason::RoomNotFound);
    refused(ann.messages.send_message(saying("nowhere", "darn")).await, Reason::RoomNotFound);
    refused(ann.messages.send_message(saying("ruled", "darn")).await, Reason::PostingRestricted);
    let id = send(&mut ann, "pair", "hello").await.message_id;
    refused(eve.messages.edit_message(editing(&id, "darn")).await, Reason::MessageNotFound);
}

async fn those_who_act_for_nobody_are_not_judged(db: Db) {
    let (world, _ann) = lobby(db, FilterAction::Refuse).await;
    assert_eq!(said(&mut world.backend(), "darn it").await, "darn it");
    let for_ann = world.service_for("ann").messages.send_message(saying("lobby", "darn")).await;
    refused(for_ann, Reason::ContentFiltered);
}

async fn a_filter_is_of_its_tenant(db: Db) {
    let (world, mut ann) = lobby(db, FilterAction::Refuse).await;
    plan("lobby").of_tenant("globex").members(&["ann"]).make(&world).await;
    let mut other = world.client("globex", Principal::User(UserId::new("ann")));
    assert_eq!(said(&mut other, "darn it").await, "darn it");
    assert_eq!(kept(&world, "globex").await.words, Vec::<String>::new());
    refused(ann.messages.send_message(saying("lobby", "darn")).await, Reason::ContentFiltered);
}

async fn a_filter_holds_on_every_node_once_it_is_put(db: Db) {
    let here = World::open(db.clone()).await;
    let there = World::open(reopen(&db).await).await;
    group(&here, "lobby", &["ann"]).await;
    let mut ann = there.user("ann");
    for (list, said_there) in [(&["darn"][..], "**** it"), (&["it"], "darn **"), (&[], "darn it")] {
        // The other node has just looked.
        said(&mut ann, "hello").await;
        put(&here, list, FilterAction::Mask).await;
        assert_eq!(said(&mut ann, "darn it").await, said_there);
    }
}

async fn a_filter_that_cannot_be_read_is_not_one_without_words(db: Db) {
    let (world, mut ann) = lobby(db.clone(), FilterAction::Refuse).await;
    let rename = "ALTER TABLE content_filters RENAME TO away";
    db.write(rename).execute().await.expect("renamed");
    let fresh = World::open(db.clone()).await;
    let answer = fresh.user("ann").messages.send_message(saying("lobby", "hello")).await;
    refused(answer, Reason::Internal);
    let rename = "ALTER TABLE away RENAME TO content_filters";
    db.write(rename).execute().await.expect("renamed");
    refused(ann.messages.send_message(saying("lobby", "darn")).await, Reason::ContentFiltered);
    drop(world);
}

/// B-162.
async fn a_hook_sees_what_the_filter_leaves(db: Db) {
    let judge = Judge::default();
    let world = judge.world(db, OnFailure::Closed).await;
    group(&world, "lobby", &["ann"]).await;
    let mut ann = world.user("ann");
    put(&world, &["heck"], FilterAction::Mask).await;
    assert_eq!(said(&mut ann, "darn heck").await, "**** ****");
    assert_eq!(said(&mut ann, "oh heck").await, "oh ****");
    put(&world, &["heck"], FilterAction::Refuse).await;
    refused(ann.messages.send_message(saying("lobby", "heck")).await, Reason::ContentFiltered);
    assert_eq!(judge.texts(), ["darn ****", "oh ****"]);
}

async fn a_filter_is_put_whole_read_and_taken_away(db: Db) {
    let world = World::open(db).await;
    let many: Vec<_> = (0..2000).map(|n| format!("word {n:0>59}")).collect();
    let many: Vec<_> = many.iter().map(String::as_str).collect();
    for (list, action) in [
        (&["b", "a"][..], FilterAction::Refuse),
        (&many, FilterAction::Mask),
        (&["ß", "赌博"], FilterAction::Mask),
        (&[], FilterAction::Mask),
    ] {
        put(&world, list, action).await;
        assert_eq!(kept(&world, TENANT).await, filter(list, action));
    }
}

async fn what_is_wrong_with_a_filter_is_named(db: Db) {
    let world = World::open(db).await;
    let mut filters = world.internal(TENANT).filters;
    let mut put = async |words: Vec<String>| {
        let filter = Some(pb::ContentFilter { words, action: FilterAction::Mask.into() });
        filters.put_content_filter(pb::PutContentFilterRequest { filter }).await
    };
    for wrong in ["", " a", "a\n", &"x".repeat(65)] {
        violates(put(vec!["a".to_owned(), wrong.to_owned()]).await, "filter.words[1]");
    }
    let many = (0..2001).map(|n| n.to_string()).collect();
    violates(put(many).await, "filter.words");
    assert_eq!(kept(&world, TENANT).await.words, Vec::<String>::new());
}

async fn only_the_suite_puts_filters(db: Db) {
    let world = World::open(db).await;
    for principal in [Principal::User(UserId::new("ann")), Principal::Service, Principal::Operator]
    {
        let mut client = world.logs(Some(crate::harness::caller(TENANT, principal))).filters;
        let answer = client.put_content_filter(pb::PutContentFilterRequest::default()).await;
        refused(answer, Reason::NotAllowed);
        refused(
            client.get_content_filter(pb::GetContentFilterRequest {}).await,
            Reason::NotAllowed,
        );
    }
}
