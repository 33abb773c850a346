//! The room service beside the real membership service, each on its own database.

use parlance_db::{Db, test_on_each_db, testing};
use parlance_proto::membership::v1 as membership;
use parlance_proto::message::v1::event::Body;
use parlance_proto::message::v1::{Event, MemberRole};
use parlance_proto::room::v1 as pb;
use parlance_rpc::Reason;
use prost_types::FieldMask;
use tonic_types::StatusExt as _;

use crate::harness::{
    Client, Harness, Membership, SECOND, channel, create, delete, direct, get, group, refused,
};

test_on_each_db!(parlance_room::MIGRATIONS =>
    a_room_lives_from_creation_to_deletion,
    refusals_of_membership_reach_the_caller,
    two_users_find_each_other_and_come_back,
    a_channel_lets_in_all_but_the_removed,
    a_channel_lets_in_nobody_who_is_banned,
    an_outage_of_the_log_is_overcome_by_a_retry,
    a_user_comes_into_being_at_the_first_call_to_rooms,
);

/// Runs `test` with a second database, of the same kind, for membership.
pub(crate) async fn beside<T, W>(db: Db, test: T)
where
    T: FnOnce(Harness, Membership) -> W,
    W: Future<Output = ()>,
{
    let migrations = parlance_membership::MIGRATIONS;
    let run = |beside| async {
        let (suite, membership) = Harness::beside_membership(db.clone(), beside).await;
        // Users come into being at their first call.
        for user in ["ann", "bob", "cid"] {
            let call = membership::ListUserMembershipsRequest::default();
            membership.user(user).list_user_memberships(call).await.expect("a first call");
        }
        // The tests are long, and their futures with them.
        Box::pin(test(suite, membership)).await;
    };
    match &db {
        Db::Sqlite(_) => testing::on_sqlite(migrations, run).await,
        Db::Postgres(_) => testing::on_postgres(migrations, run).await,
    }
}

/// What happened in the logs, by the seconds in which their rooms were created.
pub(crate) fn logs(suite: &Harness) -> Vec<Vec<Event>> {
    suite.logs.state().events.values().cloned().collect()
}

async fn pair(client: &mut Client, user: &str) -> pb::Room {
    let reply = client.rooms.get_or_create_direct_room(direct(user)).await.expect("a room");
    reply.into_inner().room.expect("a room")
}

pub(crate) async fn role(membership: &Membership, user: &str, room_id: &str) -> Option<MemberRole> {
    let room_id = room_id.to_owned();
    let request = membership::GetMembershipRequest { room_id, user_id: String::new() };
    let reply = membership.user(user).get_membership(request).await.ok()?;
    Some(reply.into_inner().membership?.role())
}

/// B-007, B-008, B-009, B-013.
async fn a_room_lives_from_creation_to_deletion(db: Db) {
    beside(db, |suite, membership| async move {
        let mut ann = suite.user("ann");
        let mut room = create(&mut ann, group("g", &["bob"])).await;
        assert_eq!(role(&membership, "ann", "g").await, Some(MemberRole::Owner));
        assert_eq!(role(&membership, "bob", "g").await, Some(MemberRole::Member));

        room.name = "New".into();
        room.settings.as_mut().expect("settings").capacity = 2;
        let paths = vec!["name".to_owned(), "settings.capacity".to_owned()];
        let update_mask = Some(FieldMask { paths });
        let request = pb::UpdateRoomRequest { room: Some(room), update_mask, ..Default::default() };
        ann.rooms.update_room(request).await.expect("updated");
        let user_ids = vec!["cid".to_owned()];
        let add = membership::AddMembersRequest {
            room_id: "g".to_owned(),
            user_ids,
            ..Default::default()
        };
        let full = membership.user("ann").add_members(add).await;
        refused(full, Reason::RoomFull);

        ann.rooms.delete_room(delete("g", "")).await.expect("deleted");
        assert_eq!(role(&membership, "ann", "g").await, None);
        suite.clock.advance(SECOND);
        create(&mut suite.user("cid"), group("g", &[])).await;
        let found = suite.user("cid").rooms.get_room(get("g")).await.expect("the new one");
        assert_eq!(found.into_inner().room.expect("a room").creator_user_id, "cid");
        refused(ann.rooms.get_room(get("g")).await, Reason::NotAMember);

        let logs = logs(&suite);
        assert_eq!(logs.len(), 2, "each life has a log");
        let bodies: Vec<_> = logs[0].iter().flat_map(|event| &event.body).collect();
        assert!(matches!(bodies[0], Body::RoomCreated(_)), "{bodies:?}");
        assert!(matches!(bodies[1], Body::MembersJoined(_)), "{bodies:?}");
        assert!(matches!(bodies[2], Body::RoomUpdated(_)), "{bodies:?}");
        assert!(matches!(bodies[3], Body::RoomClosed(_)), "{bodies:?}");
        assert_eq!(bodies.len(), 4);
    })
    .await;
}

async fn refusals_of_membership_reach_the_caller(db: Db) {
    beside(db, |suite, _membership| async move {
        let mut ann = suite.user("ann");
        let reply = ann.rooms.create_room(group("g", &["bob", "ghost"])).await;
        let status = reply.expect_err("refused");
        let info = status.get_details_error_info().expect("an ErrorInfo");
        assert_eq!((&*info.reason, &*info.metadata["user_id"]), ("USER_NOT_FOUND", "ghost"));
        let settings = Some(pb::RoomSettings { capacity: 1, ..pb::RoomSettings::default() });
        let request = pb::CreateRoomRequest { settings, ..group("g", &["bob"]) };
        refused(ann.rooms.create_room(request).await, Reason::RoomFull);
        let reply = ann.rooms.get_or_create_direct_room(direct("ghost")).await;
        refused(reply, Reason::UserNotFound);
        assert!(logs(&suite).is_empty());
    })
    .await;
}

/// B-006, B-199.
async fn two_users_find_each_other_and_come_back(db: Db) {
    beside(db, |suite, membership| async move {
        let (mut ann, mut bob) = (suite.user("ann"), suite.user("bob"));
        let (one, other) = tokio::join!(pair(&mut ann, "bob"), pair(&mut bob, "ann"));
        assert_eq!(one.room_id, other.room_id);
        let room_id = one.room_id.clone();
        let leave = membership::LeaveRoomRequest {
            room_id: room_id.clone(),
            ..membership::LeaveRoomRequest::default()
        };
        membership.user("bob").leave_room(leave).await.expect("left");
        assert_eq!(role(&membership, "bob", &room_id).await, None);
        assert_eq!(pair(&mut ann, "bob").await.room_id, room_id);
        assert_eq!(role(&membership, "bob", &room_id).await, Some(MemberRole::Member));
        assert_eq!(logs(&suite).len(), 1);
        ann.rooms.delete_room(delete(&room_id, "")).await.expect("deleted");
        assert_ne!(pair(&mut bob, "ann").await.room_id, room_id);
    })
    .await;
}

/// B-010.
async fn a_channel_lets_in_all_but_the_removed(db: Db) {
    beside(db, |suite, membership| async move {
        let (mut ann, mut bob) = (suite.user("ann"), suite.user("bob"));
        let news = ann.rooms.get_or_create_channel(channel("news")).await.expect("created");
        let room_id = news.into_inner().room.expect("a room").room_id;
        // Dora calls for the first time.
        for user in ["bob", "dora"] {
            let found = suite.user(user).rooms.get_or_create_channel(channel("news")).await;
            assert!(!found.expect("found").into_inner().created);
            assert_eq!(role(&membership, user, &room_id).await, Some(MemberRole::Member));
        }
        let remove = membership::RemoveMembersRequest {
            room_id: room_id.clone(),
            user_ids: vec!["bob".to_owned()],
            ..membership::RemoveMembersRequest::default()
        };
        membership.user("ann").remove_members(remove).await.expect("removed");
        let reply = bob.rooms.get_or_create_channel(channel("news")).await;
        refused(reply, Reason::RemovedFromRoom);
    })
    .await;
}

async fn a_channel_lets_in_nobody_who_is_banned(db: Db) {
    beside(db, |suite, membership| async move {
        let (mut ann, mut bob) = (suite.user("ann"), suite.user("bob"));
        let news = ann.rooms.get_or_create_channel(channel("news")).await.expect("created");
        let ban = membership::BanUsersRequest {
            room_id: news.into_inner().room.expect("a room").room_id,
            user_ids: vec!["bob".to_owned()],
            ..membership::BanUsersRequest::default()
        };
        membership.moderation("ann").ban_users(ban).await.expect("banned");
        let reply = bob.rooms.get_or_create_channel(channel("news")).await;
        let status = refused(reply, Reason::Banned);
        let info = status.get_details_error_info().expect("an ErrorInfo");
        assert_eq!(info.metadata["user_id"], "bob");
    })
    .await;
}

async fn an_outage_of_the_log_is_overcome_by_a_retry(db: Db) {
    beside(db, |suite, membership| async move {
        let mut ann = suite.user("ann");
        let request = pb::CreateRoomRequest { request_id: "r1".to_owned(), ..group("g", &["bob"]) };
        suite.logs.state().down = true;
        let cut = ann.rooms.create_room(request.clone()).await;
        refused(cut, Reason::LogUnavailable);
        suite.logs.state().down = false;
        create(&mut ann, request).await;
        ann.rooms.get_room(get("g")).await.expect("there");
        suite.logs.state().down = true;
        let cut = ann.rooms.delete_room(delete("g", "r2")).await;
        refused(cut, Reason::LogUnavailable);
        suite.logs.state().down = false;
        ann.rooms.delete_room(delete("g", "r2")).await.expect("deleted");
        assert_eq!(role(&membership, "ann", "g").await, None);
        let events = logs(&suite).remove(0);
        assert_eq!(events.len(), 3);
        assert!(events[2].effects.as_ref().is_some_and(|effects| effects.closed));
    })
    .await;
}

async fn a_user_comes_into_being_at_the_first_call_to_rooms(db: Db) {
    beside(db, |suite, membership| async move {
        let ask = || membership::GetUserRequest { user_id: "newcomer".to_owned() };
        let mut users = membership.users("ann");
        refused(users.get_user(ask()).await, Reason::UserNotFound);
        let list = pb::ListMyRoomsRequest::default();
        suite.user("newcomer").lists.list_my_rooms(list).await.expect("an empty list");
        users.get_user(ask()).await.expect("the newcomer");
    })
    .await;
}
