//! `ReactionService`: who reacts, repeats, limits, lists.

use parlance_db::{Db, test_on_each_db};
use parlance_message::message::Deletion;
use parlance_proto::message::v1 as pb;
use parlance_proto::message::v1::reaction_service_client::ReactionServiceClient;
use parlance_proto::message::v1::{MemberRole, RoomKind};
use parlance_rpc::{Reason, Transport};
use tonic::{Response, Status};

use crate::harness::{Client, World, bad_message_ids, delete, get, refused, send, violates};
use crate::rights;
use crate::rooms::{Own, Room, group, plan};
use crate::world::actor;

test_on_each_db!(parlance_message::MIGRATIONS =>
    members_react_and_take_it_back,
    a_repeat_is_no_event,
    a_reaction_takes_the_place_of_the_others,
    a_user_has_8_reactions_and_a_message_100_kinds,
    every_member_reacts_where_only_admins_send,
    a_reaction_is_a_users,
    strangers_add_nothing,
    strangers_remove_nothing,
    strangers_list_nothing,
    what_is_wrong_with_a_request_is_named,
    a_deleted_message_has_no_reactions,
    reactions_are_listed_page_by_page_the_oldest_first,
    a_token_holds_for_its_own_query_only,
    users_who_are_blocked_are_counted_and_not_listed,
);

/// Kind, count, and whether it is the viewer's own.
pub(super) type Count = (String, i64, bool);

pub(super) fn count(kind: &str, count: i64, own: bool) -> Count {
    (kind.to_owned(), count, own)
}

pub(super) fn counts_of(message: &pb::Message) -> Vec<Count> {
    message.reactions.iter().map(|it| count(&it.kind, it.count, it.own)).collect()
}

/// The counts of a message, as a viewer gets it.
pub(super) async fn counts(client: &Client, message_id: &str) -> Vec<Count> {
    counts_of(&get(&mut client.clone(), message_id).await)
}

pub(super) fn reactions(client: &Client) -> ReactionServiceClient<Transport> {
    ReactionServiceClient::new(client.transport.clone())
}

pub(crate) async fn add(
    client: &Client,
    message_id: &str,
    kind: &str,
) -> Result<Response<pb::AddReactionResponse>, Status> {
    let (message_id, kind) = (message_id.to_owned(), kind.to_owned());
    reactions(client)
        .add_reaction(pb::AddReactionRequest { message_id, kind, replace: false })
        .await
}

pub(super) async fn replace(
    client: &Client,
    message_id: &str,
    kind: &str,
) -> Result<Response<pb::AddReactionResponse>, Status> {
    let (message_id, kind) = (message_id.to_owned(), kind.to_owned());
    reactions(client).add_reaction(pb::AddReactionRequest { message_id, kind, replace: true }).await
}

pub(crate) async fn remove(
    client: &Client,
    message_id: &str,
    kind: &str,
) -> Result<Response<pb::RemoveReactionResponse>, Status> {
    let (message_id, kind) = (message_id.to_owned(), kind.to_owned());
    reactions(client).remove_reaction(pb::RemoveReactionRequest { message_id, kind }).await
}

/// Adds a reaction; gives the place of its event.
pub(super) async fn react(client: &Client, message_id: &str, kind: &str) -> i64 {
    add(client, message_id, kind).await.expect("added").into_inner().reaction_seq
}

pub(crate) fn of(message_id: &str) -> pb::ListReactionsRequest {
    let message_id = message_id.to_owned();
    pb::ListReactionsRequest { message_id, page_size: 100, ..Default::default() }
}

pub(crate) async fn list(
    client: &Client,
    request: pb::ListReactionsRequest,
) -> Result<Response<pb::ListReactionsResponse>, Status> {
    reactions(client).list_reactions(request).await
}

/// Who reacted, how and where.
pub(super) async fn listed(
    client: &Client,
    request: pb::ListReactionsRequest,
) -> Vec<(String, String, i64)> {
    let page = list(client, request).await.expect("a page").into_inner();
    let reaction = |it: pb::Reaction| (it.user_id, it.kind, it.reaction_seq);
    page.reactions.into_iter().map(reaction).collect()
}

fn reaction(user: &str, kind: &str, seq: i64) -> (String, String, i64) {
    (user.to_owned(), kind.to_owned(), seq)
}

/// A group that Ann owns, and a message of hers.
pub(super) async fn lobby(world: &World) -> (Room, String) {
    let room = plan("lobby").owned(&["ann", "bob", "cas"]).make(world).await;
    let message_id = send(&mut world.user("ann"), "lobby", "tea at four").await.message_id;
    (room, message_id)
}

/// B-114.
async fn members_react_and_take_it_back(db: Db) {
    let world = World::open(db).await;
    let (_, message_id) = lobby(&world).await;
    let (ann, bob, cas) = (world.user("ann"), world.user("bob"), world.user("cas"));
    assert_eq!(counts(&ann, &message_id).await, []);
    for (client, kind, seq) in [(&bob, "tea", 4), (&ann, "ale", 5), (&ann, "tea", 6)] {
        assert_eq!(react(client, &message_id, kind).await, seq);
    }
    let both = |tea, ale| vec![count("tea", 2, tea), count("ale", 1, ale)];
    assert_eq!(counts(&ann, &message_id).await, both(true, true));
    assert_eq!(counts(&bob, &message_id).await, both(true, false));
    assert_eq!(counts(&cas, &message_id).await, both(false, false));
    assert_eq!(counts(&world.backend(), &message_id).await, both(false, false));
    assert_eq!(counts(&world.service_for("bob"), &message_id).await, both(true, false));
    let page = list(&cas, of(&message_id)).await.expect("a page").into_inner();
    assert_eq!(page.reactions[0].reaction_time.expect("a time").seconds, 1);

    remove(&bob, &message_id, "tea").await.expect("removed");
    assert_eq!(counts(&bob, &message_id).await, [count("tea", 1, false), count("ale", 1, false)]);
    remove(&ann, &message_id, "tea").await.expect("removed");
    // A kind that comes again comes last.
    assert_eq!(react(&bob, &message_id, "tea").await, 9);
    assert_eq!(counts(&bob, &message_id).await, [count("ale", 1, false), count("tea", 1, true)]);
    let expected = [reaction("ann", "ale", 5), reaction("bob", "tea", 9)];
    assert_eq!(listed(&cas, of(&message_id)).await, expected);
}

async fn a_repeat_is_no_event(db: Db) {
    let world = World::open(db).await;
    let (_, message_id) = lobby(&world).await;
    let bob = world.user("bob");
    for _ in 0..2 {
        assert_eq!(react(&bob, &message_id, "tea").await, 4);
        let replaced = replace(&bob, &message_id, "tea").await.expect("the only one");
        assert_eq!(replaced.into_inner().reaction_seq, 4);
    }
    for _ in 0..2 {
        remove(&bob, &message_id, "tea").await.expect("removed");
        remove(&bob, &message_id, "ale").await.expect("never there");
    }
    assert_eq!(counts(&bob, &message_id).await, []);
    assert_eq!(send(&mut world.user("ann"), "lobby", "next").await.seq, 6);
}

async fn a_reaction_takes_the_place_of_the_others(db: Db) {
    let world = World::open(db).await;
    let (_, message_id) = lobby(&world).await;
    let (ann, bob) = (world.user("ann"), world.user("bob"));
    react(&ann, &message_id, "tea").await;
    for kind in ["tea", "ale", "gin"] {
        react(&bob, &message_id, kind).await;
    }
    // One event, whether or not the reaction is new.
    for (kind, seq) in [("gin", 8), ("rum", 9), ("tea", 10)] {
        for _ in 0..2 {
            let replaced = replace(&bob, &message_id, kind).await.expect("replaced");
            assert_eq!(replaced.into_inner().reaction_seq, seq, "{kind}");
        }
        let mine = listed(&bob, of(&message_id)).await.split_off(1);
        assert_eq!(mine, [reaction("bob", kind, seq)]);
    }
    assert_eq!(counts(&bob, &message_id).await, [count("tea", 2, true)]);
    assert_eq!(counts(&ann, &message_id).await, [count("tea", 2, true)]);
}

async fn a_user_has_8_reactions_and_a_message_100_kinds(db: Db) {
    let world = World::open(db).await;
    let users: Vec<_> = (0..14).map(|n| format!("user {n}")).collect();
    let ids: Vec<_> = users.iter().map(String::as_str).collect();
    group(&world, "lobby", &ids).await;
    let clients: Vec<_> = ids.iter().map(|user| world.user(user)).collect();
    let message_id = send(&mut clients[0].clone(), "lobby", "hello").await.message_id;
    for n in 0..8 {
        react(&clients[0], &message_id, &n.to_string()).await;
    }
    let status = refused(add(&clients[0], &message_id, "8").await, Reason::TooManyReactions);
    assert_eq!(status.message(), "a user has at most 8 reactions to a message");
    react(&clients[0], &message_id, "7").await;
    remove(&clients[0], &message_id, "0").await.expect("removed");
    react(&clients[0], &message_id, "0").await;

    for n in 8..100 {
        react(&clients[n / 8], &message_id, &n.to_string()).await;
    }
    let last = &clients[13];
    let status = refused(add(last, &message_id, "100").await, Reason::TooManyReactions);
    assert_eq!(status.message(), "a message has at most 100 kinds of reactions");
    react(last, &message_id, "99").await;
    refused(replace(last, &message_id, "100").await, Reason::TooManyReactions);
    // Kinds that were the user's alone make room.
    replace(&clients[0], &message_id, "100").await.expect("replaced");
    let found = counts(last, &message_id).await;
    assert_eq!((found.len(), found.last()), (93, Some(&count("100", 1, false))));
}

async fn every_member_reacts_where_only_admins_send(db: Db) {
    let world = World::open(db).await;
    let room = plan("news").kind(RoomKind::Channel).admins_post();
    room.member("ann", MemberRole::Owner).members(&["bob"]).make(&world).await;
    let message_id = send(&mut world.user("ann"), "news", "hello").await.message_id;
    react(&world.user("bob"), &message_id, "tea").await;
    assert_eq!(counts(&world.user("ann"), &message_id).await, [count("tea", 1, false)]);
}

async fn a_reaction_is_a_users(db: Db) {
    let world = World::open(db).await;
    let (_, message_id) = lobby(&world).await;
    let (backend, for_bob) = (world.backend(), world.service_for("bob"));
    refused(add(&backend, &message_id, "tea").await, Reason::UserRequired);
    refused(remove(&backend, &message_id, "tea").await, Reason::UserRequired);
    let seq = react(&for_bob, &message_id, "tea").await;
    assert_eq!(listed(&backend, of(&message_id)).await, [reaction("bob", "tea", seq)]);
    remove(&world.user("bob"), &message_id, "tea").await.expect("removed");
    assert_eq!(listed(&backend, of(&message_id)).await, []);
}

async fn strangers_add_nothing(db: Db) {
    let world = World::open(db).await;
    let call = async |client: Client, id: &str| add(&client, id, "tea").await.map(drop);
    rights::of_message_call(&world, call).await;
}

async fn strangers_remove_nothing(db: Db) {
    let world = World::open(db).await;
    let call = async |client: Client, id: &str| remove(&client, id, "tea").await.map(drop);
    rights::of_message_call(&world, call).await;
}

async fn strangers_list_nothing(db: Db) {
    let world = World::open(db).await;
    let call = async |client: Client, id: &str| list(&client, of(id)).await.map(drop);
    rights::of_message_call(&world, call).await;
}

async fn what_is_wrong_with_a_request_is_named(db: Db) {
    let world = World::open(db).await;
    let (_, message_id) = lobby(&world).await;
    let ann = world.user("ann");
    for bad in bad_message_ids() {
        violates(add(&ann, bad, "tea").await, "message_id");
        violates(remove(&ann, bad, "tea").await, "message_id");
        violates(list(&ann, of(bad)).await, "message_id");
    }
    let long = "x".repeat(65);
    for bad in ["", "a\nb", "\u{1}", &long] {
        violates(add(&ann, &message_id, bad).await, "kind");
        violates(remove(&ann, &message_id, bad).await, "kind");
        let request = pb::ListReactionsRequest { kind: bad.to_owned(), ..of(&message_id) };
        if !bad.is_empty() {
            violates(list(&ann, request).await, "kind");
        }
    }
    let request = pb::ListReactionsRequest { page_size: -1, ..of(&message_id) };
    violates(list(&ann, request).await, "page_size");
}

async fn a_deleted_message_has_no_reactions(db: Db) {
    let world = World::open(db).await;
    let (room, message_id) = lobby(&world).await;
    let (mut ann, bob) = (world.user("ann"), world.user("bob"));
    let other = send(&mut ann, "lobby", "another").await;
    for id in [&message_id, &other.message_id] {
        react(&bob, id, "tea").await;
    }
    let deleted = delete(&mut ann, &message_id).await;
    // As a version that does not know of reactions deletes it.
    let target = other.message_id.parse().expect("a message id");
    let deletion = Deletion { actor: actor("ann"), message_id: target, on_delete: &[] };
    world.service.store().run(deletion).await.expect("deleted");
    for id in [&message_id, &other.message_id] {
        assert_eq!(counts(&bob, id).await, []);
        assert_eq!(listed(&bob, of(id)).await, []);
        refused(add(&bob, id, "tea").await, Reason::MessageDeleted);
        remove(&bob, id, "tea").await.expect("nothing to do");
    }
    // The deletions say so themselves: no event follows them.
    assert_eq!(send(&mut ann, "lobby", "next").await.seq, deleted + 2);
    let store = world.service.store().db();
    let left = "SELECT COUNT(*) FROM reactions WHERE log_id = $1 AND message_seq = 3";
    let left: (i64,) = store.read(left).bind(room.log_id.0).fetch_one().await.expect("a count");
    assert_eq!(left, (0,));
}

async fn reactions_are_listed_page_by_page_the_oldest_first(db: Db) {
    let world = World::open(db).await;
    let (_, message_id) = lobby(&world).await;
    let other = send(&mut world.user("ann"), "lobby", "another").await.message_id;
    let mut expected = Vec::new();
    for kind in ["tea", "ale", "gin", "rum"] {
        for user in ["cas", "ann", "bob"] {
            react(&world.user(user), &other, kind).await;
            let seq = react(&world.user(user), &message_id, kind).await;
            expected.push(reaction(user, kind, seq));
        }
    }
    for (kind, size) in [("", 5), ("", 6), ("", 1), ("gin", 2), ("none", 2)] {
        let request =
            pb::ListReactionsRequest { kind: kind.to_owned(), page_size: size, ..of(&message_id) };
        let (mut found, mut token) = (Vec::new(), String::new());
        loop {
            let request = pb::ListReactionsRequest { page_token: token, ..request.clone() };
            let page = list(&world.user("bob"), request).await.expect("a page").into_inner();
            assert!(page.reactions.len() <= usize::try_from(size).expect("a size"));
            let reactions = page.reactions.into_iter();
            found.extend(reactions.map(|it| (it.user_id, it.kind, it.reaction_seq)));
            token = page.next_page_token;
            if token.is_empty() {
                break;
            }
        }
        let mut expected = expected.clone();
        expected.retain(|(_, of, _)| kind.is_empty() || of == kind);
        assert_eq!(found, expected, "{kind} {size}");
    }
    let by_default = pb::ListReactionsRequest { page_size: 0, ..of(&message_id) };
    assert_eq!(listed(&world.user("bob"), by_default).await, expected[..10]);
}

async fn a_token_holds_for_its_own_query_only(db: Db) {
    let world = World::open(db).await;
    let (_, message_id) = lobby(&world).await;
    let other = send(&mut world.user("ann"), "lobby", "another").await.message_id;
    let bob = world.user("bob");
    for kind in ["tea", "ale"] {
        react(&bob, &message_id, kind).await;
    }
    let request = pb::ListReactionsRequest { page_size: 1, ..of(&message_id) };
    let page = list(&bob, request.clone()).await.expect("a page").into_inner();
    let next = pb::ListReactionsRequest { page_token: page.next_page_token, ..request };
    assert_eq!(listed(&bob, next.clone()).await.len(), 1);
    for (client, request) in [
        (&bob, pb::ListReactionsRequest { message_id: other, ..next.clone() }),
        (&bob, pb::ListReactionsRequest { kind: "tea".to_owned(), ..next.clone() }),
        (&bob, pb::ListReactionsRequest { page_token: "%%%".to_owned(), ..next.clone() }),
        (&world.user("ann"), next.clone()),
    ] {
        violates(list(client, request).await, "page_token");
    }
    refused(list(&world.user("eve"), next).await, Reason::NotAMember);
}

async fn users_who_are_blocked_are_counted_and_not_listed(db: Db) {
    let world = World::open(db).await;
    let (_, message_id) = lobby(&world).await;
    let [ann, bob, cas] = ["ann", "bob", "cas"].map(|user| world.user(user));
    let of_bob = send(&mut bob.clone(), "lobby", "of bob").await.message_id;
    for kind in ["tea", "ale", "gin"] {
        react(&bob, &message_id, kind).await;
    }
    let seq = react(&cas, &message_id, "gin").await;
    Own::of(&world, "ann").block("bob", true).await;

    let expected = [count("tea", 1, false), count("ale", 1, false), count("gin", 2, false)];
    assert_eq!(counts(&ann, &message_id).await, expected);
    assert_eq!(listed(&ann, of(&message_id)).await, [reaction("cas", "gin", seq)]);
    assert_eq!(listed(&cas, of(&message_id)).await.len(), 4);
    // A page may be empty, and its token goes on.
    let request = pb::ListReactionsRequest { page_size: 2, ..of(&message_id) };
    let page = list(&ann, request.clone()).await.expect("a page").into_inner();
    assert_eq!(page.reactions, []);
    let request = pb::ListReactionsRequest { page_token: page.next_page_token, ..request };
    assert_eq!(listed(&ann, request).await, [reaction("cas", "gin", seq)]);
    // Of a message that is not shown nothing is.
    refused(list(&ann, of(&of_bob)).await, Reason::MessageNotFound);
}
