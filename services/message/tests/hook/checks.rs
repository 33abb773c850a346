//! What a hook is asked, and what its answers come to.

use parlance_db::{Db, test_on_each_db};
use parlance_message::hook::{OnFailure, Options};
use parlance_proto::message::v1 as pb;
use parlance_proto::message::v1::RoomKind;
use parlance_rpc::{Principal, Reason};
use parlance_types::{TenantId, UserId};
use tonic_types::StatusExt as _;

use super::judge::{Judge, asking};
use crate::harness::{Client, TENANT, World, edit, editing, get, refused, saying, send, words};
use crate::message::send_messages::send_messages;
use crate::rooms::{group, only_admins_post, plan};

test_on_each_db!(parlance_message::MIGRATIONS =>
    a_message_is_accepted_refused_or_stored_with_another_content,
    what_a_hook_says_of_a_refusal_is_told_within_bounds,
    an_edit_is_looked_at_too,
    mentions_and_threads_are_those_of_the_content_that_is_stored,
    a_repeat_is_not_asked_for_and_is_told_by_what_its_caller_wrote,
    what_was_stored_before_there_was_a_hook_is_not_asked_for_again,
    who_may_not_write_is_not_asked_for,
    those_who_act_for_nobody_are_not_asked_for,
    only_tenants_that_are_named_are_asked_for,
    messages_of_a_stream_are_looked_at_in_order,
);

pub(crate) fn named(request_id: &str, words: &str) -> pb::SendMessageRequest {
    pb::SendMessageRequest { request_id: request_id.to_owned(), ..saying("lobby", words) }
}

pub(crate) async fn sent(
    client: &mut Client,
    request: pb::SendMessageRequest,
) -> pb::SendMessageResponse {
    client.messages.send_message(request).await.expect("sent").into_inner()
}

/// The lobby of Ann and Bob, where a hook is asked.
async fn lobby(db: Db) -> (Judge, World) {
    let judge = Judge::default();
    let world = judge.world(db, OnFailure::Closed).await;
    group(&world, "lobby", &["ann", "bob"]).await;
    (judge, world)
}

/// B-162.
async fn a_message_is_accepted_refused_or_stored_with_another_content(db: Db) {
    let (judge, world) = lobby(db).await;
    let mut ann = world.user("ann");
    let first = sent(&mut ann, named("r1", "hello")).await;
    let [asked] = &judge.asked()[..] else { panic!("asked once") };
    assert_eq!((asked.tenant_id.as_str(), asked.room_id.as_str()), (TENANT, "lobby"));
    assert_eq!((asked.user_id.as_str(), asked.message_id.as_str()), ("ann", ""));
    assert_eq!(asked.request_id, "r1");

    let status = refused(ann.messages.send_message(named("r2", "bad")).await, Reason::HookRefused);
    let metadata = status.get_details_error_info().expect("an ErrorInfo").metadata;
    assert_eq!(metadata["hook_reason"], "BAD_WORD");
    assert_eq!(metadata["hook_text"], "we do not say bad");

    let mut answer = named("r3", "darn it");
    let content = answer.content.as_mut().expect("a content");
    content.reply_to_message_id.clone_from(&first.message_id);
    let stored = sent(&mut ann, answer).await;
    assert_eq!(
        judge.asked()[2].content.as_ref().expect("a content").reply_to_message_id,
        first.message_id
    );
    let read = get(&mut ann, &stored.message_id).await;
    assert_eq!((read.seq, words(&read)), (first.seq + 1, Some("**** it")));
    assert_eq!(read.content.expect("a content").reply_to_message_id, first.message_id);
}

async fn what_a_hook_says_of_a_refusal_is_told_within_bounds(db: Db) {
    let (_, world) = lobby(db).await;
    let mut ann = world.user("ann");
    let answer = ann.messages.send_message(saying("lobby", "refused at length")).await;
    let status = refused(answer, Reason::HookRefused);
    let metadata = status.get_details_error_info().expect("an ErrorInfo").metadata;
    assert_eq!(metadata["hook_reason"], "€".repeat(21));
    assert_eq!(metadata["hook_text"], "€".repeat(170));
}

/// B-162.
async fn an_edit_is_looked_at_too(db: Db) {
    let (judge, world) = lobby(db).await;
    let mut ann = world.user("ann");
    let id = send(&mut ann, "lobby", "hello").await.message_id;
    refused(ann.messages.edit_message(editing(&id, "bad")).await, Reason::HookRefused);
    let asked = judge.asked().remove(1);
    assert_eq!((asked.message_id, asked.room_id), (id.clone(), "lobby".to_owned()));
    edit(&mut ann, &id, "fine").await;
    assert_eq!(words(&get(&mut ann, &id).await), Some("fine"));
    let request =
        || pb::EditMessageRequest { request_id: "e1".to_owned(), ..editing(&id, "darn it") };
    let first = ann.messages.edit_message(request()).await.expect("edited").into_inner();
    assert_eq!(words(&get(&mut ann, &id).await), Some("**** it"));
    let asked = judge.asked().len();
    let again = ann.messages.edit_message(request()).await.expect("a repeat").into_inner();
    assert_eq!((again, judge.asked().len()), (first, asked));
    let other = pb::EditMessageRequest { request_id: "e1".to_owned(), ..editing(&id, "**** it") };
    refused(ann.messages.edit_message(other).await, Reason::RequestIdReused);
    // Whoever may not see the message is told so, and nobody is asked.
    let mut eve = world.user("eve");
    refused(eve.messages.edit_message(editing(&id, "bad")).await, Reason::NotAMember);
    assert_eq!(judge.asked().len(), asked);
}

async fn mentions_and_threads_are_those_of_the_content_that_is_stored(db: Db) {
    let (_, world) = lobby(db).await;
    let mut ann = world.user("ann");
    let root = send(&mut ann, "lobby", "tea?").await.message_id;
    let mut reply = saying("lobby", "darn you");
    let content = reply.content.as_mut().expect("a content");
    content.reply_to_message_id.clone_from(&root);
    content.mentions = Some(pb::Mentions { user_ids: vec!["bob".to_owned()], everyone: false });
    let reply = sent(&mut ann, reply).await;
    let read = get(&mut ann, &reply.message_id).await;
    assert_eq!((words(&read), &read.thread_root_id), (Some("**** you"), &root));
    assert_eq!(get(&mut ann, &root).await.reply_count, 1);
    let request = pb::GetUnreadRequest { room_ids: vec!["lobby".to_owned()], these_only: true };
    let unread = world.user("bob").inbox.get_unread(request).await.expect("unread").into_inner();
    assert_eq!(unread.rooms[0].mentions, 1);
}

async fn a_repeat_is_not_asked_for_and_is_told_by_what_its_caller_wrote(db: Db) {
    let (judge, world) = lobby(db).await;
    let mut ann = world.user("ann");
    let first = sent(&mut ann, named("r1", "darn it")).await;
    judge.is_away(true);
    assert_eq!(sent(&mut ann, named("r1", "darn it")).await, first);
    for other in ["**** it", "something else"] {
        refused(ann.messages.send_message(named("r1", other)).await, Reason::RequestIdReused);
    }
    // What was refused was never stored: its repeat is a new attempt.
    refused(ann.messages.send_message(named("r2", "hello")).await, Reason::HookUnavailable);
    judge.is_away(false);
    assert_eq!(sent(&mut ann, named("r2", "hello")).await.seq, first.seq + 1);
    assert_eq!(judge.texts(), ["darn it", "hello", "hello"]);
}

async fn what_was_stored_before_there_was_a_hook_is_not_asked_for_again(db: Db) {
    let world = World::open(db.clone()).await;
    group(&world, "lobby", &["ann"]).await;
    let mut ann = world.user("ann");
    let message = sent(&mut ann, named("r1", "bad")).await;
    let request = || pb::EditMessageRequest {
        request_id: "e1".to_owned(),
        ..editing(&message.message_id, "bad")
    };
    let edited = ann.messages.edit_message(request()).await.expect("edited").into_inner();
    let judge = Judge::default();
    let world = judge.world(db, OnFailure::Closed).await;
    let mut ann = world.user("ann");
    let again = sent(&mut ann, named("r1", "bad")).await;
    assert_eq!((again.message_id, again.seq), (message.message_id.clone(), message.seq));
    let again = ann.messages.edit_message(request()).await.expect("a repeat").into_inner();
    assert_eq!((again, judge.texts()), (edited, Vec::new()));
    // An edit is new, whatever it is of.
    let answer = ann.messages.edit_message(editing(&message.message_id, "bad")).await;
    refused(answer, Reason::HookRefused);
}

async fn who_may_not_write_is_not_asked_for(db: Db) {
    let (judge, world) = lobby(db).await;
    plan("pair").kind(RoomKind::Direct).members(&["ann", "bob"]).make(&world).await;
    let ruled = group(&world, "ruled", &["ann"]).await;
    ruled.set_rules(only_admins_post()).await;
    let (mut ann, mut eve) = (world.user("ann"), world.user("eve"));
    refused(eve.messages.send_message(saying("lobby", "bad")).await, Reason::NotAMember);
    refused(eve.messages.send_message(saying("pair", "bad")).await, Reason::RoomNotFound);
    refused(ann.messages.send_message(saying("ruled", "bad")).await, Reason::PostingRestricted);
    refused(ann.messages.send_message(saying("nowhere", "bad")).await, Reason::RoomNotFound);
    assert_eq!(judge.texts(), Vec::<String>::new());
}

async fn those_who_act_for_nobody_are_not_asked_for(db: Db) {
    let (judge, world) = lobby(db).await;
    send(&mut world.backend(), "lobby", "bad").await;
    let for_ann = world.service_for("ann").messages.send_message(saying("lobby", "bad")).await;
    refused(for_ann, Reason::HookRefused);
    assert_eq!(judge.texts(), ["bad"]);
}

async fn only_tenants_that_are_named_are_asked_for(db: Db) {
    let judge = Judge::default();
    let tenants = vec![TenantId::new("globex")];
    let world = asking(db, Options { tenants, ..judge.options(OnFailure::Closed) }).await;
    group(&world, "lobby", &["ann"]).await;
    plan("lobby").of_tenant("globex").members(&["ann"]).make(&world).await;
    send(&mut world.user("ann"), "lobby", "bad").await;
    let mut ann = world.client("globex", Principal::User(UserId::new("ann")));
    refused(ann.messages.send_message(saying("lobby", "bad")).await, Reason::HookRefused);
    assert_eq!(judge.asked().len(), 1);
}

/// B-162.
async fn messages_of_a_stream_are_looked_at_in_order(db: Db) {
    let (judge, world) = lobby(db).await;
    let ids: Vec<_> = (0..50).map(|n| n.to_string()).collect();
    let messages = ids.iter().map(|id| named(id, "darn it")).collect();
    let answers = send_messages(&mut world.user("ann"), messages).await;
    assert_eq!(answers.len(), 50);
    assert!(answers.is_sorted_by_key(|answer| answer.seq));
    let asked: Vec<_> = judge.asked().into_iter().map(|asked| asked.request_id).collect();
    assert_eq!(asked, ids);
    let last = &answers[49].message_id;
    assert_eq!(words(&get(&mut world.user("ann"), last).await), Some("**** it"));
}
