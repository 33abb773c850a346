//! PutPrivacyList, GetPrivacyList, ListPrivacyLists, SetDefaultPrivacyList,
//! DeclineDefaultPrivacyList.

use futures::future::join_all;
use parlance_db::Db;
use parlance_outbox::testing::Health;
use parlance_proto::membership::v1 as pb;
use parlance_proto::message::v1::RoomKind;
use parlance_rpc::Reason;
use parlance_types::LogId;
use tonic::{Code, Response, Status};
use uuid::Uuid;

use crate::block::blocks::{block, changes, is, listed, of_own, of_peers, unblock};
use crate::harness::{
    Member, World, bad_ids, eventually, opening, refused, refused_naming, strings, violates,
};

parlance_db::test_on_each_db!(
    parlance_membership::MIGRATIONS =>
        lists_are_put_whole_read_and_deleted,
        the_default_is_neither_replaced_nor_deleted_before_it_is_declined,
        whom_the_default_denies_is_blocked_for_as_long_as_it_is_the_default,
        another_default_is_told_by_its_differences,
        a_block_by_call_holds_whatever_list_is_the_default,
        who_denies_mutually_is_refused_as_well,
        two_who_deny_each_other_mutually_at_once_agree,
        a_direct_room_that_is_opened_later_knows_of_the_list,
        users_of_a_silent_tenant_who_are_denied_are_told_nothing,
        blocks_and_denials_are_bounded_together,
        a_default_of_a_thousand_tells_every_direct_room,
        a_default_waits_for_the_logs_and_a_repeat_finishes,
        lists_are_their_owners_alone,
        what_is_wrong_is_named,
);

fn deny(user: &str) -> pb::PrivacyItem {
    pb::PrivacyItem {
        user_id: user.to_owned(),
        action: pb::PrivacyAction::Deny.into(),
        mutual: false,
    }
}

fn mutually(user: &str) -> pb::PrivacyItem {
    pb::PrivacyItem { mutual: true, ..deny(user) }
}

fn allow(user: &str) -> pb::PrivacyItem {
    pb::PrivacyItem { action: pb::PrivacyAction::Allow.into(), ..deny(user) }
}

async fn put(
    world: &World,
    user: &str,
    name: &str,
    items: &[pb::PrivacyItem],
) -> Result<Response<()>, Status> {
    let list = Some(pb::PrivacyList { name: name.to_owned(), items: items.to_vec() });
    let request = pb::PutPrivacyListRequest { list };
    Ok(world.user(user).lists.put_privacy_list(request).await?.map(drop))
}

async fn set_default(world: &World, user: &str, name: &str) -> Result<Response<()>, Status> {
    let request = pb::SetDefaultPrivacyListRequest { name: name.to_owned() };
    Ok(world.user(user).lists.set_default_privacy_list(request).await?.map(drop))
}

async fn decline(world: &World, user: &str) -> Result<Response<()>, Status> {
    let request = pb::DeclineDefaultPrivacyListRequest {};
    Ok(world.user(user).lists.decline_default_privacy_list(request).await?.map(drop))
}

async fn get(world: &World, user: &str, name: &str) -> Result<Vec<pb::PrivacyItem>, Status> {
    let request = pb::GetPrivacyListRequest { name: name.to_owned() };
    let got = world.user(user).lists.get_privacy_list(request).await?.into_inner();
    Ok(got.list.expect("a list").items)
}

/// The lists of a user, the default with a star.
async fn names(world: &World, user: &str) -> Vec<String> {
    let lists = world.user(user).lists.list_privacy_lists(pb::ListPrivacyListsRequest {}).await;
    let lists = lists.expect("lists").into_inner().lists.into_iter();
    lists.map(|list| list.name + if list.is_default { "*" } else { "" }).collect()
}

/// How many facts the direct room has of blocks, and what they said.
fn told(world: &World, log_id: LogId) -> Vec<(String, bool)> {
    of_peers(&world.logs.log(log_id).silent)
}

async fn knows(world: &World, users: &[&str]) {
    world.know("acme", users).await;
}

/// B-153, B-154, B-155, B-156.
async fn lists_are_put_whole_read_and_deleted(db: Db) {
    let world = World::new(db);
    knows(&world, &["ann", "bob", "cleo", "dan"]).await;
    assert!(names(&world, "ann").await.is_empty());
    let first = [deny("bob"), allow("cleo"), mutually("dan")];
    put(&world, "ann", "work", &first).await.expect("made");
    put(&world, "ann", "home", &[deny("dan")]).await.expect("made");
    assert_eq!(get(&world, "ann", "work").await.expect("a list"), first);
    put(&world, "ann", "work", &[allow("dan")]).await.expect("replaced");
    put(&world, "ann", "work", &[allow("dan")]).await.expect("a repeat");
    assert_eq!(get(&world, "ann", "work").await.expect("a list"), [allow("dan")]);
    assert_eq!(names(&world, "ann").await, ["home", "work"]);

    // One without items is none.
    for _ in 0..2 {
        put(&world, "ann", "work", &[]).await.expect("deleted");
    }
    refused(get(&world, "ann", "work").await.map(Response::new), Reason::PrivacyListNotFound);
    refused(set_default(&world, "ann", "work").await, Reason::PrivacyListNotFound);
    assert_eq!(names(&world, "ann").await, ["home"]);
    // As long as it is no default, a list blocks nobody.
    assert!(world.logs.own_log("ann").silent.is_empty());
    for n in 1..10 {
        put(&world, "ann", &n.to_string(), &[deny("bob")]).await.expect("made");
    }
    let most = put(&world, "ann", "one more", &[deny("bob")]).await;
    assert_eq!(refused(most, Reason::TooManyBlocks).code(), Code::ResourceExhausted);
    put(&world, "ann", "one more", &[]).await.expect("there is none");
    put(&world, "ann", "9", &[deny("dan")]).await.expect("replaced");
    assert_eq!(names(&world, "ann").await.len(), 10);
}

/// B-155.
async fn the_default_is_neither_replaced_nor_deleted_before_it_is_declined(db: Db) {
    let world = World::new(db);
    knows(&world, &["ann", "bob", "cleo"]).await;
    put(&world, "ann", "a", &[deny("bob")]).await.expect("made");
    put(&world, "ann", "b", &[deny("cleo")]).await.expect("made");
    set_default(&world, "ann", "a").await.expect("set");
    for items in [&[deny("cleo")][..], &[deny("bob")], &[]] {
        let put = put(&world, "ann", "a", items).await;
        assert_eq!(refused(put, Reason::PrivacyListInUse).code(), Code::FailedPrecondition);
    }
    assert_eq!(names(&world, "ann").await, ["a*", "b"]);
    put(&world, "ann", "b", &[deny("bob")]).await.expect("another one");
    for _ in 0..2 {
        decline(&world, "ann").await.expect("declined");
    }
    assert_eq!(names(&world, "ann").await, ["a", "b"]);
    put(&world, "ann", "a", &[]).await.expect("deleted");
    assert_eq!(of_own(&world, "ann"), [is("bob", true), is("bob", false)]);
}

/// B-153, B-157.
async fn whom_the_default_denies_is_blocked_for_as_long_as_it_is_the_default(db: Db) {
    let world = World::new(db);
    let with_bob = world.direct("with bob", ["ann", "bob"]).await;
    let with_cleo = world.direct("with cleo", ["ann", "cleo"]).await;
    knows(&world, &["dan"]).await;
    put(&world, "ann", "a", &[deny("bob"), allow("cleo"), deny("dan")]).await.expect("made");
    for _ in 0..2 {
        set_default(&world, "ann", "a").await.expect("set");
    }
    assert_eq!(of_own(&world, "ann"), [is("bob", true), is("dan", true)]);
    assert_eq!(told(&world, with_bob), [is("bob", true)]);
    assert!(told(&world, with_cleo).is_empty());
    assert!(listed(&world, "ann").await.is_empty(), "that is what BlockUser blocked");
    decline(&world, "ann").await.expect("declined");
    let both = [is("bob", true), is("dan", true), is("bob", false), is("dan", false)];
    assert_eq!(of_own(&world, "ann"), both);
    assert_eq!(told(&world, with_bob), [is("bob", true), is("bob", false)]);
}

async fn another_default_is_told_by_its_differences(db: Db) {
    let world = World::new(db);
    let with_bob = world.direct("with bob", ["ann", "bob"]).await;
    let with_dan = world.direct("with dan", ["ann", "dan"]).await;
    knows(&world, &["cleo"]).await;
    put(&world, "ann", "a", &[deny("bob"), deny("cleo")]).await.expect("made");
    put(&world, "ann", "b", &[deny("bob"), deny("dan")]).await.expect("made");
    set_default(&world, "ann", "a").await.expect("set");
    set_default(&world, "ann", "b").await.expect("set");
    assert_eq!(names(&world, "ann").await, ["a", "b*"]);
    let own = of_own(&world, "ann");
    assert_eq!(own[..2], [is("bob", true), is("cleo", true)]);
    let mut later = own[2..].to_vec();
    later.sort();
    assert_eq!(later, [is("cleo", false), is("dan", true)]);
    assert_eq!(told(&world, with_bob), [is("bob", true)]);
    assert_eq!(told(&world, with_dan), [is("dan", true)]);
}

async fn a_block_by_call_holds_whatever_list_is_the_default(db: Db) {
    let world = World::new(db);
    let pair = world.direct("pair", ["ann", "bob"]).await;
    block(&world, "ann", "bob").await.expect("blocked");
    put(&world, "ann", "a", &[allow("bob")]).await.expect("made");
    put(&world, "ann", "b", &[deny("bob")]).await.expect("made");
    set_default(&world, "ann", "a").await.expect("set");
    set_default(&world, "ann", "b").await.expect("set");
    assert_eq!(listed(&world, "ann").await, ["bob"]);
    // Either of both may go first.
    unblock(&world, "ann", "bob").await;
    assert!(listed(&world, "ann").await.is_empty());
    block(&world, "ann", "bob").await.expect("it is so already");
    decline(&world, "ann").await.expect("declined");
    assert_eq!(told(&world, pair), [is("bob", true)]);
    unblock(&world, "ann", "bob").await;
    assert_eq!(told(&world, pair), [is("bob", true), is("bob", false)]);
    assert_eq!(of_own(&world, "ann"), [is("bob", true), is("bob", false)]);
}

/// B-157.
async fn who_denies_mutually_is_refused_as_well(db: Db) {
    let world = World::new(db);
    let pair = world.direct("pair", ["ann", "bob"]).await;
    put(&world, "ann", "a", &[mutually("bob")]).await.expect("made");
    set_default(&world, "ann", "a").await.expect("set");
    assert_eq!(told(&world, pair), [is("bob", true), is("ann", true)]);
    assert!(of_own(&world, "bob").is_empty(), "what he sees is his");
    // Ann is refused for two reasons, and told of neither's end.
    block(&world, "bob", "ann").await.expect("blocked");
    unblock(&world, "bob", "ann").await;
    assert_eq!(told(&world, pair).len(), 2);
    block(&world, "bob", "ann").await.expect("blocked");
    decline(&world, "ann").await.expect("declined");
    assert_eq!(told(&world, pair)[2..], [is("bob", false)]);
    unblock(&world, "bob", "ann").await;
    assert_eq!(told(&world, pair)[3..], [is("ann", false)]);
}

/// Whatever order they come in, the log is told what holds in the end.
async fn two_who_deny_each_other_mutually_at_once_agree(db: Db) {
    let world = World::new(db);
    let pair = world.direct("pair", ["ann", "bob"]).await;
    put(&world, "ann", "a", &[mutually("bob")]).await.expect("made");
    put(&world, "bob", "b", &[mutually("ann")]).await.expect("made");
    let last = |user: &str| {
        let told = told(&world, pair);
        told.iter().rev().find(|(of, _)| of == user).is_some_and(|(_, blocked)| *blocked)
    };
    for _ in 0..10 {
        let (ann, bob) =
            tokio::join!(set_default(&world, "ann", "a"), set_default(&world, "bob", "b"));
        ann.expect("set");
        bob.expect("set");
        assert!(last("ann") && last("bob"));
        let (ann, bob) = tokio::join!(decline(&world, "ann"), block(&world, "bob", "ann"));
        ann.expect("declined");
        bob.expect("blocked");
        assert!(last("ann") && last("bob"), "Bob denies her, and mutually");
        let (bob, ()) = tokio::join!(decline(&world, "bob"), async {
            unblock(&world, "bob", "ann").await;
        });
        bob.expect("declined");
        assert!(!last("ann") && !last("bob"));
    }
}

async fn a_direct_room_that_is_opened_later_knows_of_the_list(db: Db) {
    let world = World::new(db);
    for round in 0..10 {
        let (ann, bob) = (format!("ann {round}"), format!("bob {round}"));
        knows(&world, &[&ann, &bob]).await;
        put(&world, &ann, "a", &[mutually(&bob)]).await.expect("made");
        let log_id = LogId(Uuid::now_v7());
        let room = format!("pair {round}");
        let open = pb::OpenRosterRequest {
            kind: RoomKind::Direct.into(),
            ..opening(log_id, &room, &[(&ann, Member), (&bob, Member)])
        };
        let mut rosters = world.room_service("acme", Some(&bob)).rosters;
        let (set, opened) = tokio::join!(set_default(&world, &ann, "a"), rosters.open_roster(open));
        set.expect("set");
        opened.expect("opened");
        let mut pair = told(&world, log_id);
        pair.sort();
        assert_eq!(pair, [is(&ann, true), is(&bob, true)]);
        // Who comes back is told of again.
        let leave = pb::LeaveRoomRequest { room_id: room, ..Default::default() };
        world.user(&ann).members.leave_room(leave).await.expect("left");
        let back = pb::EnsureMembersRequest {
            log_id: log_id.0.to_string(),
            user_ids: strings(&[&ann]),
            readmit_removed: true,
        };
        rosters.ensure_members(back).await.expect("back");
        assert_eq!(told(&world, log_id)[2..], [is(&ann, true)]);
    }
}

/// B-159.
async fn users_of_a_silent_tenant_who_are_denied_are_told_nothing(db: Db) {
    let world = World::new(db);
    let pair = world.direct("pair", ["ann", "bob"]).await;
    let silent = |version, silent_blocks| {
        world.rule("acme", pb::SetTenantRulesRequest { version, max_users: None, silent_blocks })
    };
    silent(1, true).await;
    put(&world, "ann", "a", &[mutually("bob")]).await.expect("made");
    set_default(&world, "ann", "a").await.expect("set");
    let hidden = |of: Vec<parlance_proto::message::v1::Hiding>| {
        of.iter().flat_map(|said| changes(&said.peers)).collect::<Vec<_>>()
    };
    assert_eq!(hidden(world.logs.log(pair).hiding), [is("bob", true)]);
    assert_eq!(told(&world, pair), [is("ann", true)], "she writes no more, he does");
    let own = world.logs.own_log("ann").hiding;
    assert_eq!(
        own.iter().flat_map(|said| changes(&said.blocks)).collect::<Vec<_>>(),
        [is("bob", true)]
    );
    silent(2, false).await;
    block(&world, "ann", "bob").await.expect("it is so already");
    decline(&world, "ann").await.expect("declined");
    assert_eq!(told(&world, pair), [is("ann", true), is("ann", false)]);
    unblock(&world, "ann", "bob").await;
    assert_eq!(hidden(world.logs.log(pair).hiding), [is("bob", true), is("bob", false)]);
    assert_eq!(of_own(&world, "ann"), [is("bob", false)]);
}

async fn many(world: &World, name: &str, count: usize) -> Vec<String> {
    let users: Vec<_> = (0..count).map(|n| format!("{name} {n:04}")).collect();
    for some in users.chunks(100) {
        knows(world, &some.iter().map(String::as_str).collect::<Vec<_>>()).await;
    }
    users
}

fn denied(users: &[String]) -> Vec<pb::PrivacyItem> {
    users.iter().map(|user| deny(user)).collect()
}

async fn blocks_and_denials_are_bounded_together(db: Db) {
    let world = World::new(db);
    knows(&world, &["ann", "bob", "cleo"]).await;
    let users = many(&world, "m", 1000).await;
    put(&world, "ann", "many", &denied(&users)).await.expect("made");
    put(&world, "ann", "few", &denied(&users[..1])).await.expect("made");
    block(&world, "ann", "bob").await.expect("blocked");
    refused(set_default(&world, "ann", "many").await, Reason::TooManyBlocks);
    assert_eq!(names(&world, "ann").await, ["few", "many"]);
    assert_eq!(of_own(&world, "ann"), [is("bob", true)], "nothing was changed");
    unblock(&world, "ann", "bob").await;
    block(&world, "ann", &users[0]).await.expect("blocked");
    set_default(&world, "ann", "many").await.expect("each counts once");
    refused(block(&world, "ann", "bob").await, Reason::TooManyBlocks);
    unblock(&world, "ann", &users[0]).await;
    refused(block(&world, "ann", "bob").await, Reason::TooManyBlocks);
    set_default(&world, "ann", "few").await.expect("fewer");
    block(&world, "ann", "bob").await.expect("blocked");
    assert_eq!(listed(&world, "ann").await, ["bob"]);
}

async fn a_default_of_a_thousand_tells_every_direct_room(db: Db) {
    let world = World::new(db);
    knows(&world, &["ann"]).await;
    let users = many(&world, "m", 1000).await;
    let pairs = users[..60].iter().map(async |user| world.direct(user, ["ann", user]).await);
    let pairs: Vec<LogId> = join_all(pairs).await;
    put(&world, "ann", "many", &denied(&users)).await.expect("made");
    set_default(&world, "ann", "many").await.expect("set");
    for (log_id, user) in pairs.iter().zip(&users) {
        assert_eq!(told(&world, *log_id), [is(user, true)]);
    }
    assert_eq!(of_own(&world, "ann").len(), 1000);
    decline(&world, "ann").await.expect("declined");
    for (log_id, user) in pairs.iter().zip(&users) {
        assert_eq!(told(&world, *log_id), [is(user, true), is(user, false)]);
    }
}

async fn a_default_waits_for_the_logs_and_a_repeat_finishes(db: Db) {
    let world = World::new(db);
    let pair = world.direct("pair", ["ann", "bob"]).await;
    put(&world, "ann", "a", &[deny("bob")]).await.expect("made");
    world.logs.set_health(Health::Down);
    refused(set_default(&world, "ann", "a").await, Reason::LogUnavailable);
    assert_eq!(names(&world, "ann").await, ["a*"]);
    world.logs.set_health(Health::Up);
    set_default(&world, "ann", "a").await.expect("a repeat finishes");
    assert_eq!(told(&world, pair), [is("bob", true)]);
    assert_eq!(of_own(&world, "ann"), [is("bob", true)]);
    // What nobody repeats the relay finishes.
    world.logs.set_health(Health::Down);
    refused(decline(&world, "ann").await, Reason::LogUnavailable);
    world.logs.set_health(Health::Up);
    world.service.run();
    let world = &world;
    eventually(
        move || async move { told(world, pair).len() == 2 && of_own(world, "ann").len() == 2 },
    )
    .await;
    world.env.tasks.close().await;
}

async fn lists_are_their_owners_alone(db: Db) {
    let world = World::new(db);
    knows(&world, &["ann", "bob", "cleo"]).await;
    put(&world, "ann", "a", &[deny("bob")]).await.expect("made");
    assert!(names(&world, "bob").await.is_empty());
    refused(get(&world, "bob", "a").await.map(Response::new), Reason::PrivacyListNotFound);
    put(&world, "bob", "a", &[deny("cleo")]).await.expect("his own");
    assert_eq!(get(&world, "ann", "a").await.expect("a list"), [deny("bob")]);
    let mut for_ann = world.service_for("ann").lists;
    let for_ann = for_ann.list_privacy_lists(pb::ListPrivacyListsRequest {}).await;
    assert_eq!(for_ann.expect("lists").into_inner().lists.len(), 1);
    let other = world
        .user_of("other", "ann")
        .lists
        .list_privacy_lists(pb::ListPrivacyListsRequest {})
        .await;
    assert!(other.expect("lists").into_inner().lists.is_empty());
    for mut lists in [world.service().lists, world.operator().lists] {
        let list = Some(pb::PrivacyList { name: "a".to_owned(), items: Vec::new() });
        let put = lists.put_privacy_list(pb::PutPrivacyListRequest { list }).await;
        refused(put, Reason::UserRequired);
        let name = || "a".to_owned();
        let got = lists.get_privacy_list(pb::GetPrivacyListRequest { name: name() }).await;
        refused(got, Reason::UserRequired);
        refused(
            lists.list_privacy_lists(pb::ListPrivacyListsRequest {}).await,
            Reason::UserRequired,
        );
        let set = pb::SetDefaultPrivacyListRequest { name: name() };
        refused(lists.set_default_privacy_list(set).await, Reason::UserRequired);
        refused(
            lists.decline_default_privacy_list(pb::DeclineDefaultPrivacyListRequest {}).await,
            Reason::UserRequired,
        );
    }
}

async fn what_is_wrong_is_named(db: Db) {
    let world = World::new(db);
    knows(&world, &["ann", "bob"]).await;
    let mut lists = world.user("ann").lists;
    violates(lists.put_privacy_list(pb::PutPrivacyListRequest { list: None }).await, "list");
    for bad in ["", "a\0", "a\n", &"x".repeat(65)] {
        violates(put(&world, "ann", bad, &[deny("bob")]).await, "list.name");
        violates(get(&world, "ann", bad).await.map(Response::new), "name");
        violates(set_default(&world, "ann", bad).await, "name");
    }
    for bad in bad_ids() {
        violates(
            put(&world, "ann", "a", &[deny("bob"), deny(&bad)]).await,
            "list.items[1].user_id",
        );
    }
    violates(put(&world, "ann", "a", &[deny("ann")]).await, "list.items[0].user_id");
    violates(put(&world, "ann", "a", &[deny("bob"), allow("bob")]).await, "list.items[1].user_id");
    for action in [0, 3] {
        let item = pb::PrivacyItem { action, ..deny("bob") };
        violates(put(&world, "ann", "a", &[item]).await, "list.items[0].action");
    }
    let item = pb::PrivacyItem { mutual: true, ..allow("bob") };
    violates(put(&world, "ann", "a", &[item]).await, "list.items[0].mutual");
    violates(put(&world, "ann", "a", &vec![deny("bob"); 1001]).await, "list.items");
    let ghost = put(&world, "ann", "a", &[deny("bob"), deny("ghost")]).await;
    refused_naming(ghost, Reason::UserNotFound, "ghost");
    assert!(names(&world, "ann").await.is_empty());
}
