//! `ListMyRooms` with rooms that the caller is no longer in, beside the real membership service.

use parlance_db::{Db, test_on_each_db};
use parlance_proto::membership::v1 as membership;
use parlance_proto::message::v1 as log;
use parlance_proto::message::v1::{MemberRole, RoomKind};
use parlance_proto::room::v1 as pb;
use parlance_rpc::Reason;
use parlance_types::LogId;
use prost_types::Timestamp;

use crate::beside_membership::beside;
use crate::harness::{
    Client, Harness, Membership, SECOND, create, delete, direct, group, refused, violates,
};
use crate::live::rooms::{entered, leave as leave_live, live, waiting};

test_on_each_db!(parlance_room::MIGRATIONS =>
    rooms_that_were_left_come_when_asked_for,
    who_comes_back_has_left_nothing_and_what_is_gone_is_gone,
    pages_hold_every_room_once,
    by_name_they_stand_among_the_others,
    filters_hold_for_them_too,
    an_outage_of_membership_is_said,
);

fn channel(room_id: &str, name: &str) -> pb::CreateRoomRequest {
    let kind = RoomKind::Channel.into();
    pb::CreateRoomRequest { kind, name: name.to_owned(), ..group(room_id, &["bob"]) }
}

async fn leave(suite: &Harness, membership: &Membership, room_id: &str) {
    suite.clock.advance(SECOND);
    let room_id = room_id.to_owned();
    let request = membership::LeaveRoomRequest { room_id, ..Default::default() };
    membership.user("bob").leave_room(request).await.expect("left");
}

fn with_left() -> pb::ListMyRoomsRequest {
    pb::ListMyRoomsRequest { include_left: true, include_empty: true, ..Default::default() }
}

fn by_name() -> pb::ListMyRoomsRequest {
    pb::ListMyRoomsRequest { order: pb::MyRoomsOrder::Name.into(), ..with_left() }
}

/// The rooms of a whole walk.
async fn walk(client: &Client, mut request: pb::ListMyRoomsRequest) -> Vec<pb::MyRoom> {
    let mut all = Vec::new();
    loop {
        let page = client.lists.clone().list_my_rooms(request.clone()).await.expect("a page");
        let page = page.into_inner();
        let most = if request.page_size == 0 { 10 } else { request.page_size };
        assert!(page.rooms.len() <= usize::try_from(most).expect("a size"));
        all.extend(page.rooms);
        if page.next_page_token.is_empty() {
            return all;
        }
        request.page_token = page.next_page_token;
    }
}

fn id(room: &pb::MyRoom) -> String {
    room.room.as_ref().expect("a room").room_id.clone()
}

async fn ids(client: &Client, request: pb::ListMyRoomsRequest) -> Vec<String> {
    walk(client, request).await.iter().map(id).collect()
}

/// Lets message list rooms, in an order.
fn listed(suite: &Harness, log_ids: &[String]) {
    let seen = |log_id: &String| log::UserLog {
        log_id: log_id.clone(),
        role: MemberRole::Member.into(),
        ..Default::default()
    };
    let logs = log_ids.iter().map(seen).collect();
    suite.logs.state().page = log::ListUserLogsResponse { logs, ..Default::default() };
}

/// The log of a room, by the events that it got.
fn log_of(room: &pb::Room) -> String {
    let log_id = room.etag.rsplit_once('-').expect("an etag").0;
    log_id.parse::<LogId>().expect("a log").0.to_string()
}

/// B-045.
async fn rooms_that_were_left_come_when_asked_for(db: Db) {
    beside(db, |suite, membership| async move {
        let mut ann = suite.user("ann");
        let stays = create(&mut ann, channel("stays", "Stays")).await;
        create(&mut ann, channel("news", "News")).await;
        create(&mut ann, group("den", &["bob"])).await;
        create(&mut ann, group("out", &["bob"])).await;
        let pair = ann.rooms.get_or_create_direct_room(direct("bob")).await.expect("made");
        let pair = pair.into_inner().room.expect("a room").room_id;
        let mut seats = live(&suite, "bob");
        entered(&mut seats, waiting("live", 90)).await;
        leave_live(&mut seats, "live").await;
        for room_id in ["news", "den", &pair] {
            leave(&suite, &membership, room_id).await;
        }
        suite.clock.advance(SECOND);
        let remove = membership::RemoveMembersRequest {
            room_id: "out".to_owned(),
            user_ids: vec!["bob".to_owned()],
            ..Default::default()
        };
        membership.user("ann").remove_members(remove).await.expect("removed");
        listed(&suite, &[log_of(&stays)]);

        let bob = suite.user("bob");
        let plain = pb::ListMyRoomsRequest { include_left: false, ..with_left() };
        assert_eq!(ids(&bob, plain).await, ["stays"]);
        let rooms = walk(&bob, with_left()).await;
        let order: Vec<_> = rooms.iter().map(id).collect();
        assert_eq!(order, ["stays", "out", &pair, "den", "news"]);
        assert!(!rooms[0].left && rooms[0].role() == MemberRole::Member);
        for room in &rooms[1..] {
            assert!(room.left && room.role == 0 && room.leave_time.is_some());
        }
        // Of a group nothing is told that strangers do not see.
        let kind = RoomKind::Group.into();
        let bare = pb::Room { room_id: "den".to_owned(), kind, ..Default::default() };
        assert_eq!(rooms[3].room, Some(bare));
        let news = rooms[4].room.as_ref().expect("a room");
        assert_eq!((news.name.as_str(), news.kind()), ("News", RoomKind::Channel));
        let left = Timestamp { seconds: 1_800_000_001, nanos: 0 };
        assert_eq!(rooms[4].leave_time, Some(left));
        // Others have left nothing.
        listed(&suite, &[]);
        assert_eq!(ids(&suite.user("cid"), by_name()).await, Vec::<String>::new());
        refused(suite.backend().lists.list_my_rooms(with_left()).await, Reason::UserRequired);
    })
    .await;
}

async fn who_comes_back_has_left_nothing_and_what_is_gone_is_gone(db: Db) {
    beside(db, |suite, membership| async move {
        let mut ann = suite.user("ann");
        for room_id in ["back", "gone", "left"] {
            create(&mut ann, channel(room_id, "")).await;
            leave(&suite, &membership, room_id).await;
        }
        let bob = suite.user("bob");
        assert_eq!(ids(&bob, with_left()).await, ["left", "gone", "back"]);
        let join = membership::JoinRoomRequest { room_id: "back".to_owned() };
        membership.user("bob").join_room(join).await.expect("joined");
        ann.rooms.delete_room(delete("gone", "")).await.expect("deleted");
        assert_eq!(ids(&bob, with_left()).await, ["left"]);
        leave(&suite, &membership, "back").await;
        assert_eq!(ids(&bob, with_left()).await, ["back", "left"]);
    })
    .await;
}

async fn pages_hold_every_room_once(db: Db) {
    beside(db, |suite, membership| async move {
        let mut ann = suite.user("ann");
        let mut there = Vec::new();
        for n in 0..3 {
            there.push(create(&mut ann, channel(&format!("in {n}"), "")).await);
        }
        for n in 0..5 {
            create(&mut ann, channel(&format!("left {n}"), "")).await;
            leave(&suite, &membership, &format!("left {n}")).await;
        }
        listed(&suite, &there.iter().map(log_of).collect::<Vec<_>>());
        let bob = suite.user("bob");
        let expected = ["in 0", "in 1", "in 2", "left 4", "left 3", "left 2", "left 1", "left 0"];
        for page_size in [1, 2, 3, 5, 100] {
            for order in [pb::MyRoomsOrder::Activity, pb::MyRoomsOrder::Creation] {
                let order = order.into();
                let request = pb::ListMyRoomsRequest { page_size, order, ..with_left() };
                assert_eq!(ids(&bob, request).await, expected, "{page_size}");
            }
            let names = pb::ListMyRoomsRequest { page_size, ..by_name() };
            let mut all = ids(&bob, names).await;
            all.sort();
            assert_eq!(all.len(), 8);
            all.dedup();
            assert_eq!(all.len(), 8);
        }
        let mut lists = bob.lists.clone();
        let first = pb::ListMyRoomsRequest { page_size: 1, ..with_left() };
        let page = lists.list_my_rooms(first.clone()).await.expect("a page").into_inner();
        let page_token = page.next_page_token;
        let other = pb::ListMyRoomsRequest { page_token, include_left: false, ..first };
        violates(lists.list_my_rooms(other).await, "page_token");
    })
    .await;
}

async fn by_name_they_stand_among_the_others(db: Db) {
    beside(db, |suite, membership| async move {
        let mut ann = suite.user("ann");
        let there = create(&mut ann, channel("in", "Mint")).await;
        for (room_id, name) in [("a", "Ale"), ("z", "Zest")] {
            create(&mut ann, channel(room_id, name)).await;
            leave(&suite, &membership, room_id).await;
        }
        create(&mut ann, group("den", &["bob"])).await;
        leave(&suite, &membership, "den").await;
        listed(&suite, &[log_of(&there)]);
        let bob = suite.user("bob");
        let rooms = walk(&bob, by_name()).await;
        let seen: Vec<_> = rooms.iter().map(|room| (id(room), room.left)).collect();
        let seen: Vec<_> = seen.iter().map(|(room_id, left)| (room_id.as_str(), *left)).collect();
        assert_eq!(seen, [("den", true), ("a", true), ("in", false), ("z", true)]);
        let page = bob.lists.clone().list_my_rooms(by_name()).await.expect("a page").into_inner();
        assert_eq!(page.total_size, Some(4));
    })
    .await;
}

async fn filters_hold_for_them_too(db: Db) {
    beside(db, |suite, membership| async move {
        let mut ann = suite.user("ann");
        for (room_id, name) in [("a", "Ale"), ("z", "Zest")] {
            create(&mut ann, channel(room_id, name)).await;
            leave(&suite, &membership, room_id).await;
        }
        create(&mut ann, group("den", &["bob"])).await;
        leave(&suite, &membership, "den").await;
        let bob = suite.user("bob");
        for base in [with_left(), by_name()] {
            let kinds = |kind: RoomKind| vec![kind.into()];
            let groups = pb::ListMyRoomsRequest { kinds: kinds(RoomKind::Group), ..base.clone() };
            assert_eq!(ids(&bob, groups).await, ["den"]);
            let pairs = pb::ListMyRoomsRequest { kinds: kinds(RoomKind::Direct), ..base.clone() };
            assert!(ids(&bob, pairs).await.is_empty());
            // A part of the name of a group is not asked for by who is not in.
            for (part, found) in [("ES", &["z"][..]), ("our", &[])] {
                let name_contains = part.to_owned();
                let narrow = pb::ListMyRoomsRequest { name_contains, ..base.clone() };
                assert_eq!(ids(&bob, narrow).await, found);
            }
            let since = Timestamp { seconds: 1_800_000_003, nanos: 0 };
            let late = pb::ListMyRoomsRequest { active_since: Some(since), ..base.clone() };
            assert_eq!(ids(&bob, late).await, ["den"]);
            let roles = vec![MemberRole::Member.into()];
            let members = pb::ListMyRoomsRequest { roles, ..base.clone() };
            assert!(ids(&bob, members).await.is_empty());
            let unread = pb::ListMyRoomsRequest { unread_only: true, ..base.clone() };
            assert!(ids(&bob, unread).await.is_empty());
        }
    })
    .await;
}

async fn an_outage_of_membership_is_said(db: Db) {
    let suite = Harness::new(db).await;
    let fault = crate::roster::Fault::Refuse(Reason::StoreUnavailable);
    suite.roster.break_rpc("ListLeftRosters", fault);
    let listed = suite.user("ann").lists.list_my_rooms(by_name()).await;
    refused(listed, Reason::MembershipUnavailable);
    suite.user("ann").lists.list_my_rooms(pb::ListMyRoomsRequest::default()).await.expect("a page");
}
