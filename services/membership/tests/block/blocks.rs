//! BlockUser, UnblockUser, ListBlockedUsers.

use futures::future::join_all;
use parlance_db::Db;
use parlance_outbox::testing::Health;
use parlance_proto::membership::v1 as pb;
use parlance_proto::message::v1::{BlockChange, Projection, RoomKind};
use parlance_rpc::Reason;
use parlance_types::LogId;
use tonic::{Response, Status};
use uuid::Uuid;

use crate::harness::{
    Member, Owner, World, bad_ids, close, eventually, opening, refused, refused_naming, strings,
    violates,
};

parlance_db::test_on_each_db!(
    parlance_membership::MIGRATIONS =>
        a_block_is_told_in_the_own_log_and_in_the_direct_room,
        a_direct_room_that_is_opened_later_knows_of_the_block,
        who_comes_back_into_a_direct_room_is_blocked_as_before,
        a_block_and_the_opening_of_the_direct_room_see_each_other,
        blocks_are_bounded,
        a_list_is_its_users_alone,
        blocked_users_are_listed_a_page_at_a_time,
        a_block_waits_for_the_logs,
        bad_fields_are_named,
);

pub(crate) async fn block(world: &World, user: &str, other: &str) -> Result<Response<()>, Status> {
    let request = pb::BlockUserRequest { user_id: other.to_owned() };
    let done = world.user(user).blocks.block_user(request).await?;
    Ok(done.map(drop))
}

pub(crate) async fn unblock(world: &World, user: &str, other: &str) {
    let request = pb::UnblockUserRequest { user_id: other.to_owned() };
    world.user(user).blocks.unblock_user(request).await.expect("unblocked");
}

pub(crate) fn changes(changes: &[BlockChange]) -> Vec<(String, bool)> {
    changes.iter().map(|change| (change.user_id.clone(), change.blocked)).collect()
}

/// What silent facts said of peers.
pub(crate) fn of_peers(silent: &[Projection]) -> Vec<(String, bool)> {
    silent.iter().flat_map(|said| changes(&said.peer_blocks)).collect()
}

pub(crate) fn of_own(world: &World, user: &str) -> Vec<(String, bool)> {
    world.logs.own_log(user).silent.iter().flat_map(|said| changes(&said.blocks)).collect()
}

pub(crate) fn is(user: &str, blocked: bool) -> (String, bool) {
    (user.to_owned(), blocked)
}

pub(crate) async fn listed(world: &World, user: &str) -> Vec<String> {
    let request = pb::ListBlockedUsersRequest { page_size: 100, ..Default::default() };
    let page = world.user(user).blocks.list_blocked_users(request).await.expect("a page");
    page.into_inner().users.into_iter().map(|user| user.user_id).collect()
}

/// B-160.
async fn a_block_is_told_in_the_own_log_and_in_the_direct_room(db: Db) {
    let world = World::new(db);
    let pair = world.direct("pair", ["ann", "bob"]).await;
    world.direct("other", ["ann", "cleo"]).await;
    let den = world.group("den", &[("ann", Owner), ("bob", Member)]).await;
    block(&world, "ann", "bob").await.expect("blocked");
    block(&world, "ann", "bob").await.expect("it is so already");
    assert_eq!(of_own(&world, "ann"), [is("bob", true)]);
    assert_eq!(of_peers(&world.logs.log(pair).silent), [is("bob", true)]);
    assert_eq!(listed(&world, "ann").await, ["bob"]);
    assert!(listed(&world, "bob").await.is_empty());
    assert!(world.logs.log(den).silent.is_empty() && world.later_events(pair).is_empty());

    // They may block each other.
    block(&world, "bob", "ann").await.expect("blocked");
    unblock(&world, "ann", "bob").await;
    unblock(&world, "ann", "bob").await;
    assert_eq!(of_own(&world, "ann"), [is("bob", true), is("bob", false)]);
    let told = [is("bob", true), is("ann", true), is("bob", false)];
    assert_eq!(of_peers(&world.logs.log(pair).silent), told);
    assert!(listed(&world, "ann").await.is_empty());
}

async fn a_direct_room_that_is_opened_later_knows_of_the_block(db: Db) {
    let world = World::new(db);
    world.know("acme", &["ann", "bob", "cleo"]).await;
    block(&world, "ann", "bob").await.expect("blocked");
    for life in ["first", "second"] {
        let pair = world.direct("pair", ["ann", "bob"]).await;
        assert_eq!(of_peers(&world.logs.log(pair).silent), [is("bob", true)], "{life}");
        close(&world, pair).await;
    }
    let other = world.direct("other", ["ann", "cleo"]).await;
    assert!(world.logs.log(other).silent.is_empty());
}

async fn who_comes_back_into_a_direct_room_is_blocked_as_before(db: Db) {
    let world = World::new(db);
    let pair = world.direct("pair", ["ann", "bob"]).await;
    block(&world, "ann", "bob").await.expect("blocked");
    let leave = pb::LeaveRoomRequest { room_id: "pair".to_owned(), ..Default::default() };
    world.user("bob").members.leave_room(leave).await.expect("left");
    let back = pb::EnsureMembersRequest {
        log_id: pair.0.to_string(),
        user_ids: strings(&["bob"]),
        readmit_removed: true,
    };
    world.room_service("acme", Some("ann")).rosters.ensure_members(back).await.expect("back");
    assert_eq!(of_peers(&world.logs.log(pair).silent), [is("bob", true), is("bob", true)]);
}

/// Blocks a user while the direct room of the two is opened: its log, and who is blocked.
pub(super) async fn block_beside_opening(world: &World, round: u32) -> (LogId, String) {
    let (ann, bob) = (format!("ann {round}"), format!("bob {round}"));
    world.know("acme", &[&ann, &bob]).await;
    let log_id = LogId(Uuid::now_v7());
    let open = pb::OpenRosterRequest {
        kind: RoomKind::Direct.into(),
        ..opening(log_id, &format!("pair {round}"), &[(&ann, Member), (&bob, Member)])
    };
    let mut rosters = world.room_service("acme", Some(&bob)).rosters;
    let (blocked, opened) = tokio::join!(block(world, &ann, &bob), rosters.open_roster(open));
    blocked.expect("blocked");
    opened.expect("opened");
    (log_id, bob)
}

/// Whichever is first: the log of the room learns of the block, once.
async fn a_block_and_the_opening_of_the_direct_room_see_each_other(db: Db) {
    let world = World::new(db);
    for round in 0..20 {
        let (log_id, bob) = block_beside_opening(&world, round).await;
        assert_eq!(of_peers(&world.logs.log(log_id).silent), [is(&bob, true)]);
    }
}

/// B-160.
async fn blocks_are_bounded(db: Db) {
    let world = World::new(db.clone());
    world.know("acme", &["ann", "bob", "cleo"]).await;
    block(&world, "ann", "bob").await.expect("blocked");
    let update = "UPDATE users SET blocks = 999 WHERE user_id = 'ann'";
    db.write(update).execute().await.expect("many");
    block(&world, "ann", "cleo").await.expect("the last one");
    world.know("acme", &["dee"]).await;
    refused(block(&world, "ann", "dee").await, Reason::TooManyBlocks);
    block(&world, "ann", "bob").await.expect("it is so already");
    unblock(&world, "ann", "bob").await;
    block(&world, "ann", "dee").await.expect("one more");
    assert_eq!(listed(&world, "ann").await, ["cleo", "dee"]);
}

async fn a_list_is_its_users_alone(db: Db) {
    let world = World::new(db);
    world.know("acme", &["ann", "bob"]).await;
    for nobody in [world.service(), world.operator()] {
        let mut blocks = nobody.blocks;
        let request = pb::BlockUserRequest { user_id: "bob".to_owned() };
        refused(blocks.block_user(request).await, Reason::UserRequired);
        let request = pb::UnblockUserRequest { user_id: "bob".to_owned() };
        refused(blocks.unblock_user(request).await, Reason::UserRequired);
        refused(
            blocks.list_blocked_users(pb::ListBlockedUsersRequest::default()).await,
            Reason::UserRequired,
        );
    }
    let request = pb::BlockUserRequest { user_id: "bob".to_owned() };
    world.service_for("ann").blocks.block_user(request.clone()).await.expect("for ann");
    assert_eq!(listed(&world, "ann").await, ["bob"]);
    let other = world.user_of("other", "ann");
    refused_naming(other.blocks.clone().block_user(request).await, Reason::UserNotFound, "bob");
    let page = other
        .blocks
        .clone()
        .list_blocked_users(pb::ListBlockedUsersRequest::default())
        .await
        .expect("a page");
    assert!(page.into_inner().users.is_empty());
}

async fn blocked_users_are_listed_a_page_at_a_time(db: Db) {
    let world = World::new(db);
    let users: Vec<_> = (0..5).map(|user| format!("u{user}")).collect();
    world.know("acme", &users.iter().map(String::as_str).collect::<Vec<_>>()).await;
    for user in &users {
        block(&world, "ann", user).await.expect("blocked");
    }
    let mut ann = world.user("ann").blocks;
    let mut request = pb::ListBlockedUsersRequest { page_size: 2, ..Default::default() };
    let (mut found, mut pages) = (Vec::new(), 0);
    loop {
        let page = ann.list_blocked_users(request.clone()).await.expect("a page").into_inner();
        assert!(page.users.iter().all(|user| user.create_time.is_some()));
        found.extend(page.users.into_iter().map(|user| user.user_id));
        pages += 1;
        request.page_token = page.next_page_token;
        if request.page_token.is_empty() {
            break;
        }
        violates(world.user("bob").blocks.list_blocked_users(request.clone()).await, "page_token");
    }
    assert_eq!((found, pages), (users, 3));
}

async fn a_block_waits_for_the_logs(db: Db) {
    let world = World::new(db);
    let pair = world.direct("pair", ["ann", "bob"]).await;
    world.service.run();
    world.logs.set_health(Health::Down);
    refused(block(&world, "ann", "bob").await, Reason::LogUnavailable);
    world.logs.set_health(Health::Up);
    eventually(|| async {
        !world.logs.log(pair).silent.is_empty() && !of_own(&world, "ann").is_empty()
    })
    .await;
    join_all((0..4).map(|_| block(&world, "ann", "bob"))).await;
    assert_eq!(of_own(&world, "ann"), [is("bob", true)]);
}

async fn bad_fields_are_named(db: Db) {
    let world = World::new(db);
    for bad in bad_ids() {
        violates(block(&world, "ann", &bad).await, "user_id");
        let request = pb::UnblockUserRequest { user_id: bad };
        violates(world.user("ann").blocks.unblock_user(request).await, "user_id");
    }
    violates(block(&world, "ann", "ann").await, "user_id");
    refused_naming(block(&world, "ann", "nobody").await, Reason::UserNotFound, "nobody");
    let mut ann = world.user("ann").blocks;
    let request = pb::ListBlockedUsersRequest { page_size: -1, ..Default::default() };
    violates(ann.list_blocked_users(request).await, "page_size");
    let request = pb::ListBlockedUsersRequest { page_token: "x".to_owned(), ..Default::default() };
    violates(ann.list_blocked_users(request).await, "page_token");
    assert!(listed(&world, "ann").await.is_empty());
}
