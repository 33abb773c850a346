//! LiveRoomService beside the real membership service.

use parlance_db::{Db, test_on_each_db};
use parlance_proto::membership::v1 as membership;
use parlance_proto::message::v1::event::Body;
use parlance_proto::message::v1::{Event, MemberRole, RoomKind};
use parlance_proto::room::v1 as pb;
use parlance_proto::room::v1::live_room_service_client::LiveRoomServiceClient;
use parlance_rpc::testing::{acme, called_by, caller};
use parlance_rpc::{Principal, Reason, Transport};
use prost_types::{Duration, FieldMask};

use crate::beside_membership::beside;
use crate::harness::{Harness, SECOND, delete, eventually, get, group, refused, violates};

test_on_each_db!(parlance_room::MIGRATIONS =>
    a_room_is_made_by_entering_it_and_over_when_the_last_one_leaves,
    who_enters_later_finds_the_room,
    an_id_that_ended_begins_a_new_life,
    a_room_that_ended_by_itself_is_gone_within_a_second,
    a_device_leaves_all_its_rooms,
    a_device_goes_from_room_to_room,
    a_switch_that_is_refused_changes_nothing,
    many_who_enter_at_once_make_one_room,
    a_service_makes_a_room_that_waits_for_the_first_one,
    a_live_room_is_deleted_like_others,
    metadata_stays_while_a_room_waits_and_goes_with_it,
    what_is_wrong_with_a_request_is_named,
);

pub(crate) type Live = LiveRoomServiceClient<Transport>;

pub(crate) fn live(suite: &Harness, user: &str) -> Live {
    Live::new(called_by(suite.service.public(), acme(user), None))
}

pub(crate) fn enter(room: &str, create_if_missing: bool) -> pb::EnterRoomRequest {
    pb::EnterRoomRequest {
        room_id: room.to_owned(),
        resource: "phone".to_owned(),
        session_id: "1".to_owned(),
        create_if_missing,
        room: None,
    }
}

pub(crate) fn waiting(room: &str, seconds: i64) -> pb::EnterRoomRequest {
    let destroy_delay = Some(Duration { seconds, nanos: 0 });
    let room_to_be = pb::NewLiveRoom { destroy_delay, ..pb::NewLiveRoom::default() };
    pb::EnterRoomRequest { room: Some(room_to_be), ..enter(room, true) }
}

pub(crate) fn switch(from: &str, to: &str, create_if_missing: bool) -> pb::SwitchRoomRequest {
    pb::SwitchRoomRequest {
        from_room_id: from.to_owned(),
        to_room_id: to.to_owned(),
        resource: "phone".to_owned(),
        session_id: "1".to_owned(),
        create_if_missing,
        room: None,
    }
}

pub(crate) async fn entered(
    client: &mut Live,
    request: pb::EnterRoomRequest,
) -> pb::EnterRoomResponse {
    client.enter_room(request).await.expect("entered").into_inner()
}

pub(crate) async fn leave(client: &mut Live, room: &str) {
    let request = pb::LeaveRoomRequest { room_id: room.to_owned(), resource: "phone".to_owned() };
    client.leave_room(request).await.expect("left");
}

/// What an event tells, in a word.
pub(super) fn word(event: &Event) -> &'static str {
    match event.body.as_ref().expect("a body") {
        Body::RoomCreated(_) => "created",
        Body::MembersJoined(_) => "joined",
        Body::MembersLeft(_) => "left",
        Body::RoomClosed(_) => "closed",
        _ => "something else",
    }
}

/// What happened in the lives of rooms, in words and in no order of the lives.
fn stories(suite: &Harness) -> Vec<Vec<&'static str>> {
    let logs = suite.logs.state();
    let lives = logs.events.values().map(|events| events.iter().map(word).collect());
    let mut lives: Vec<Vec<_>> = lives.collect();
    lives.sort();
    lives
}

/// B-015, B-016, B-022.
async fn a_room_is_made_by_entering_it_and_over_when_the_last_one_leaves(db: Db) {
    beside(db, |suite, _membership| async move {
        let mut ann = live(&suite, "ann");
        refused(ann.enter_room(enter("den", false)).await, Reason::RoomNotFound);
        let room = pb::NewLiveRoom { name: "Den".to_owned(), ..pb::NewLiveRoom::default() };
        let request = pb::EnterRoomRequest { room: Some(room), ..enter("den", true) };
        let first = entered(&mut ann, request.clone()).await;
        assert!(first.created);
        let (room, mine) = (first.room.expect("a room"), first.membership.expect("a membership"));
        assert_eq!((room.kind(), room.name.as_str()), (RoomKind::Live, "Den"));
        assert_eq!(room.live.expect("live").destroy_delay, Some(Duration::default()));
        assert_eq!((mine.user_id.as_str(), mine.role()), ("ann", MemberRole::Owner));
        // A repeat finds it.
        let again = entered(&mut ann, request).await;
        assert_eq!((again.room, again.created), (Some(room), false));
        for _ in 0..2 {
            leave(&mut ann, "den").await;
        }
        assert_eq!(stories(&suite), [["created", "joined", "left", "closed"]]);
        refused(suite.user("ann").rooms.get_room(get("den")).await, Reason::RoomNotFound);
        refused(ann.enter_room(enter("den", false)).await, Reason::RoomNotFound);
        // Without an id the server makes one.
        let made = entered(&mut ann, enter("", true)).await.room.expect("a room");
        assert!(!made.room_id.is_empty());
    })
    .await;
}

/// B-019.
async fn who_enters_later_finds_the_room(db: Db) {
    beside(db, |suite, membership| async move {
        entered(&mut live(&suite, "ann"), enter("den", true)).await;
        let room = pb::NewLiveRoom { name: "Mine".to_owned(), ..pb::NewLiveRoom::default() };
        let request = pb::EnterRoomRequest { room: Some(room), ..enter("den", true) };
        let found = entered(&mut live(&suite, "bob"), request).await;
        assert!(!found.created);
        assert_eq!(found.room.expect("a room").name, "");
        assert_eq!(found.membership.expect("a membership").role(), MemberRole::Member);
        let list =
            membership::ListRoomMembersRequest { room_id: "den".to_owned(), ..Default::default() };
        let members = membership.user("bob").list_room_members(list.clone()).await;
        assert_eq!(members.expect("members").into_inner().members.len(), 2);
        refused(membership.user("cid").list_room_members(list).await, Reason::NotAMember);
    })
    .await;
}

async fn an_id_that_ended_begins_a_new_life(db: Db) {
    beside(db, |suite, _membership| async move {
        let (mut ann, mut bob) = (live(&suite, "ann"), live(&suite, "bob"));
        entered(&mut ann, enter("den", true)).await;
        leave(&mut ann, "den").await;
        assert!(entered(&mut bob, enter("den", true)).await.created);
        assert!(!entered(&mut ann, enter("den", true)).await.created);
        let first = vec!["created", "joined", "left", "closed"];
        assert_eq!(stories(&suite), [vec!["created", "joined", "joined"], first]);
    })
    .await;
}

/// B-023.
async fn a_room_that_ended_by_itself_is_gone_within_a_second(db: Db) {
    beside(db, |suite, membership| async move {
        let mut ann = live(&suite, "ann");
        entered(&mut ann, waiting("den", 90)).await;
        entered(&mut ann, waiting("tea", 90)).await;
        leave(&mut ann, "den").await;
        leave(&mut ann, "tea").await;
        suite.user("bob").rooms.get_room(get("den")).await.expect("it waits");
        suite.clock.advance(89_000_000);
        // Whoever comes before the end keeps the room.
        assert!(!entered(&mut ann, enter("tea", true)).await.created);
        suite.clock.advance(1_000_000);
        membership.end_due().await;
        // A call that meets it knows at once; otherwise the service asks.
        assert!(entered(&mut live(&suite, "bob"), enter("den", true)).await.created);
        leave(&mut live(&suite, "bob"), "den").await;
        leave(&mut ann, "tea").await;
        suite.clock.advance(90_000_000);
        membership.end_due().await;
        suite.run();
        eventually(|| async { suite.user("bob").rooms.get_room(get("tea")).await.is_err() }).await;
        suite.stop().await;
    })
    .await;
}

/// B-026, B-027.
async fn a_device_leaves_all_its_rooms(db: Db) {
    beside(db, |suite, _membership| async move {
        let mut ann = live(&suite, "ann");
        for room in ["den", "tea"] {
            entered(&mut ann, enter(room, true)).await;
        }
        let laptop = pb::EnterRoomRequest { resource: "laptop".to_owned(), ..enter("tea", true) };
        entered(&mut ann, laptop).await;
        let request = pb::LeaveAllRoomsRequest { resource: "phone".to_owned() };
        let mut left = ann.leave_all_rooms(request.clone()).await.expect("left").into_inner();
        left.room_ids.sort();
        assert_eq!(left.room_ids, ["den", "tea"]);
        refused(suite.user("ann").rooms.get_room(get("den")).await, Reason::RoomNotFound);
        suite.user("ann").rooms.get_room(get("tea")).await.expect("the laptop is in");
        let left = ann.leave_all_rooms(request).await.expect("left").into_inner();
        assert!(left.room_ids.is_empty());
    })
    .await;
}

/// B-017, B-019, B-214.
async fn a_device_goes_from_room_to_room(db: Db) {
    beside(db, |suite, _membership| async move {
        let mut ann = live(&suite, "ann");
        entered(&mut ann, enter("den", true)).await;
        let moved = ann.switch_room(switch("den", "tea", true)).await.expect("moved").into_inner();
        assert!(moved.created);
        assert_eq!(moved.membership.expect("a membership").role(), MemberRole::Owner);
        refused(suite.user("ann").rooms.get_room(get("den")).await, Reason::RoomNotFound);
        // A repeat has no effect.
        let again = ann.switch_room(switch("den", "tea", true)).await.expect("there").into_inner();
        assert_eq!((again.room, again.created), (moved.room, false));
        entered(&mut live(&suite, "bob"), enter("hall", true)).await;
        let moved = ann.switch_room(switch("tea", "hall", false)).await.expect("moved");
        assert!(!moved.into_inner().created);
        let gone = vec!["created", "joined", "left", "closed"];
        let hall = vec!["created", "joined", "joined"];
        assert_eq!(stories(&suite), [hall, gone.clone(), gone]);
    })
    .await;
}

/// B-018, B-055, B-215.
async fn a_switch_that_is_refused_changes_nothing(db: Db) {
    beside(db, |suite, _membership| async move {
        let mut ann = live(&suite, "ann");
        entered(&mut ann, enter("den", true)).await;
        let missing = ann.switch_room(switch("den", "nowhere", false)).await;
        refused(missing, Reason::RoomNotFound);
        let strange = ann.switch_room(switch("nowhere", "another", true)).await;
        refused(strange, Reason::SeatNotFound);
        entered(&mut live(&suite, "bob"), enter("hall", true)).await;
        refused(ann.switch_room(switch("nowhere", "hall", true)).await, Reason::SeatNotFound);
        for room in ["1", "2", "3", "4"] {
            entered(&mut ann, enter(room, true)).await;
        }
        refused(ann.enter_room(enter("5", true)).await, Reason::RoomLimit);
        refused(ann.enter_room(enter("hall", true)).await, Reason::RoomLimit);
        // The limit comes first, and only for a room that is not there.
        for create in [false, true] {
            let full = ann.switch_room(switch("den", "nowhere", create)).await;
            refused(full, Reason::RoomLimit);
        }
        suite.user("ann").rooms.get_room(get("den")).await.expect("she is still there");
        ann.switch_room(switch("den", "hall", false)).await.expect("moved");
    })
    .await;
}

async fn many_who_enter_at_once_make_one_room(db: Db) {
    beside(db, |suite, _membership| async move {
        let mut calls = tokio::task::JoinSet::new();
        for n in 0..6 {
            let mut client = live(&suite, &format!("u{n}"));
            calls.spawn(async move { entered(&mut client, enter("den", true)).await });
        }
        let found = calls.join_all().await;
        assert_eq!(found.iter().filter(|entered| entered.created).count(), 1);
        assert_eq!(stories(&suite).len(), 1);
    })
    .await;
}

async fn a_service_makes_a_room_that_waits_for_the_first_one(db: Db) {
    beside(db, |suite, membership| async move {
        let request = |room_id: &str| pb::CreateRoomRequest {
            room_id: room_id.to_owned(),
            kind: RoomKind::Live.into(),
            live: Some(pb::LiveSettings { single_device: true, ..Default::default() }),
            ..pb::CreateRoomRequest::default()
        };
        for room in ["den", "tea"] {
            let made = suite.backend().rooms.create_room(request(room)).await.expect("made");
            let live = made.into_inner().room.expect("a room").live.expect("live");
            assert!(live.single_device);
            assert_eq!(live.empty_timeout.expect("a timeout").seconds, 300);
        }
        let first = entered(&mut live(&suite, "ann"), enter("den", false)).await;
        assert_eq!(first.membership.expect("a membership").role(), MemberRole::Owner);
        suite.clock.advance(300_000_000);
        membership.end_due().await;
        refused(live(&suite, "bob").enter_room(enter("tea", false)).await, Reason::RoomNotFound);
        entered(&mut live(&suite, "bob"), enter("den", false)).await;
        violates(suite.user("ann").rooms.create_room(request("hall")).await, "kind");
        let members = vec!["ann".to_owned()];
        let peopled = pb::CreateRoomRequest { member_user_ids: members, ..request("hall") };
        violates(suite.backend().rooms.create_room(peopled).await, "member_user_ids");
        let owner_user_id = "ann".to_owned();
        let owned = pb::CreateRoomRequest { owner_user_id, ..request("hall") };
        violates(suite.backend().rooms.create_room(owned).await, "owner_user_id");
        let kind = RoomKind::Group.into();
        let mixed = pb::CreateRoomRequest { kind, ..request("hall") };
        violates(suite.backend().rooms.create_room(mixed).await, "live");
    })
    .await;
}

async fn a_live_room_is_deleted_like_others(db: Db) {
    beside(db, |suite, membership| async move {
        entered(&mut live(&suite, "ann"), enter("den", true)).await;
        entered(&mut live(&suite, "bob"), enter("den", true)).await;
        refused(suite.user("bob").rooms.delete_room(delete("den", "")).await, Reason::NotAllowed);
        let remove = membership::RemoveMembersRequest {
            room_id: "den".to_owned(),
            user_ids: vec!["bob".to_owned()],
            ..Default::default()
        };
        membership.user("ann").remove_members(remove).await.expect("removed");
        refused(live(&suite, "bob").enter_room(enter("den", true)).await, Reason::RemovedFromRoom);
        suite.user("ann").rooms.delete_room(delete("den", "")).await.expect("deleted");
        assert!(entered(&mut live(&suite, "bob"), enter("den", true)).await.created);
        // An id of another kind is taken.
        suite.user("ann").rooms.create_room(group("g", &[])).await.expect("created");
        refused(live(&suite, "ann").enter_room(enter("g", true)).await, Reason::RoomIdTaken);
        refused(live(&suite, "ann").enter_room(enter("g", false)).await, Reason::RoomNotFound);
        leave(&mut live(&suite, "ann"), "g").await;
    })
    .await;
}

/// B-024.
async fn metadata_stays_while_a_room_waits_and_goes_with_it(db: Db) {
    beside(db, |suite, membership| async move {
        let mut ann = live(&suite, "ann");
        let metadata = [("topic".to_owned(), "tea".to_owned())].into();
        let mut request = waiting("den", 90);
        request.room.as_mut().expect("a room").metadata = metadata;
        entered(&mut ann, request).await;
        leave(&mut ann, "den").await;
        let kept = suite.backend().rooms.get_room(get("den")).await.expect("it waits");
        let kept = kept.into_inner().room.expect("a room").metadata;
        assert_eq!(kept.get("topic").map(String::as_str), Some("tea"));
        // Who comes back in time finds it; a new life begins without it.
        let back = entered(&mut ann, enter("den", false)).await;
        assert_eq!(back.room.expect("a room").metadata, kept);
        leave(&mut ann, "den").await;
        suite.clock.advance(91 * SECOND);
        membership.end_due().await;
        let new = entered(&mut ann, enter("den", true)).await;
        assert!(new.created && new.room.expect("a room").metadata.is_empty());
    })
    .await;
}

async fn what_is_wrong_with_a_request_is_named(db: Db) {
    beside(db, |suite, _membership| async move {
        let mut ann = live(&suite, "ann");
        let good = enter("den", true);
        let with =
            |room: pb::NewLiveRoom| pb::EnterRoomRequest { room: Some(room), ..good.clone() };
        let late = Some(Duration { seconds: 10_801, nanos: 0 });
        let join = membership::JoinRule::Request.into();
        let settings = Some(pb::RoomSettings { join, ..pb::RoomSettings::default() });
        for (field, request) in [
            ("room_id", enter("", false)),
            ("room_id", enter("a\0", true)),
            ("resource", pb::EnterRoomRequest { resource: String::new(), ..good.clone() }),
            ("session_id", pb::EnterRoomRequest { session_id: "x".repeat(129), ..good.clone() }),
            (
                "room.name",
                with(pb::NewLiveRoom { name: "x".repeat(257), ..pb::NewLiveRoom::default() }),
            ),
            (
                "room.settings.join",
                with(pb::NewLiveRoom { settings, ..pb::NewLiveRoom::default() }),
            ),
            (
                "room.destroy_delay",
                with(pb::NewLiveRoom { destroy_delay: late, ..pb::NewLiveRoom::default() }),
            ),
        ] {
            violates(ann.enter_room(request).await, field);
        }
        violates(ann.switch_room(switch("", "den", true)).await, "from_room_id");
        violates(ann.switch_room(switch("den", "", true)).await, "to_room_id");
        violates(ann.switch_room(switch("den", "den", true)).await, "to_room_id");
        let request = pb::LeaveAllRoomsRequest { resource: String::new() };
        violates(ann.leave_all_rooms(request).await, "resource");
        let nobody = caller("acme", Principal::Service);
        let mut nobody = Live::new(called_by(suite.service.public(), nobody, None));
        refused(nobody.enter_room(good).await, Reason::UserRequired);
        assert!(stories(&suite).is_empty());
        ann.enter_room(enter("den", true)).await.expect("entered");
        let request = pb::UpdateRoomRequest {
            room: Some(pb::Room { room_id: "den".to_owned(), settings, ..pb::Room::default() }),
            update_mask: Some(FieldMask { paths: vec!["settings.join".to_owned()] }),
            ..pb::UpdateRoomRequest::default()
        };
        violates(suite.user("ann").rooms.update_room(request).await, "room.settings.join");
    })
    .await;
}
