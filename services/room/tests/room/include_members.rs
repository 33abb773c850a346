//! `GetRoom` and `BatchGetRooms` with the members.

use parlance_db::{Db, test_on_each_db};
use parlance_proto::membership::v1 as membership;
use parlance_proto::message::v1::MemberRole;
use parlance_proto::room::v1 as pb;
use parlance_rpc::{Principal, Reason};

use crate::beside_membership::beside;
use crate::harness::{Client, Harness, channel, create, direct, get, group, refused};
use crate::roster::Fault;

test_on_each_db!(parlance_room::MIGRATIONS =>
    groups_and_direct_rooms_come_with_their_members,
    the_first_hundred_come_and_how_many_there_are,
    a_batch_with_members_holds_what_clients_take,
    an_outage_is_said,
    members_of_a_channel_are_found_by_its_unique_id,
);

fn with_members(room_id: &str) -> pb::GetRoomRequest {
    pb::GetRoomRequest { include_members: true, ..get(room_id) }
}

async fn members(client: &Client, room_id: &str) -> Option<pb::RoomMembers> {
    let got = client.rooms.clone().get_room(with_members(room_id)).await.expect("there");
    got.into_inner().members
}

fn people(room_id: &str, users: &[&str]) -> pb::RoomMembers {
    let user_ids: Vec<_> = users.iter().map(ToString::to_string).collect();
    let total_size = i64::try_from(user_ids.len()).expect("few");
    pb::RoomMembers { room_id: room_id.to_owned(), user_ids, total_size }
}

/// B-044.
async fn groups_and_direct_rooms_come_with_their_members(db: Db) {
    let suite = Harness::new(db).await;
    let mut ann = suite.user("ann");
    create(&mut ann, group("g", &["bob", "cid"])).await;
    let pair = ann.rooms.get_or_create_direct_room(direct("bob")).await.expect("made");
    let pair = pair.into_inner().room.expect("a room").room_id;
    let news = ann.rooms.get_or_create_channel(channel("news")).await.expect("made");
    let news = news.into_inner().room.expect("a room").room_id;
    let all = people("g", &["ann", "bob", "cid"]);
    for client in [ann.clone(), suite.user("bob"), suite.backend()] {
        assert_eq!(members(&client, "g").await, Some(all.clone()));
        assert_eq!(members(&client, &pair).await, Some(people(&pair, &["ann", "bob"])));
        assert_eq!(members(&client, &news).await, None, "a channel's are not told here");
    }
    let plain = ann.rooms.get_room(get("g")).await.expect("there").into_inner();
    assert_eq!(plain.members, None);
    refused(suite.user("eve").rooms.get_room(with_members("g")).await, Reason::NotAMember);

    let batch = |include_members| pb::BatchGetRoomsRequest {
        room_ids: vec![news.clone(), "g".to_owned(), "nothing".to_owned(), pair.clone()],
        unique_ids: vec!["news".to_owned()],
        include_members,
    };
    let got = ann.rooms.batch_get_rooms(batch(true)).await.expect("rooms").into_inner();
    assert_eq!(got.rooms.len(), 4);
    assert_eq!(got.members, [all, people(&pair, &["ann", "bob"])]);
    let got = ann.rooms.batch_get_rooms(batch(false)).await.expect("rooms").into_inner();
    assert!(got.members.is_empty());
    // Who may see none of them asks for nobody's members.
    let asked = suite.roster.calls("BatchGetMembers");
    let mut other = suite.caller("other", Principal::Service);
    let got = other.rooms.batch_get_rooms(batch(true)).await.expect("rooms").into_inner();
    assert!(got.rooms.is_empty() && got.members.is_empty());
    assert_eq!(suite.roster.calls("BatchGetMembers"), asked);
}

async fn the_first_hundred_come_and_how_many_there_are(db: Db) {
    let suite = Harness::new(db).await;
    let mut ann = suite.user("ann");
    create(&mut ann, group("g", &[])).await;
    suite.roster.change("g", |roster| {
        let users = (0..200).map(|n| (format!("user {n:03}"), MemberRole::Member));
        roster.members.extend(users);
    });
    let got = members(&ann, "g").await.expect("members");
    assert_eq!((got.user_ids.len(), got.total_size), (100, 201));
    assert_eq!((got.user_ids[0].as_str(), got.user_ids[99].as_str()), ("ann", "user 098"));
}

async fn a_batch_with_members_holds_what_clients_take(db: Db) {
    let suite = Harness::new(db).await;
    let mut ann = suite.user("ann");
    let ids: Vec<_> = (0..100).map(|n| format!("room {n}")).collect();
    for room_id in &ids {
        let description = "x".repeat(4000);
        create(&mut ann, pb::CreateRoomRequest { description, ..group(room_id, &[]) }).await;
        suite.roster.change(room_id, |roster| {
            let users = (0..100).map(|n| (format!("ann {n:0>124}"), MemberRole::Member));
            roster.members.extend(users);
        });
    }
    let mut rooms = Vec::new();
    let mut left = ids.clone();
    for _ in 0..4 {
        let request = pb::BatchGetRoomsRequest {
            room_ids: std::mem::take(&mut left),
            include_members: true,
            ..Default::default()
        };
        if request.room_ids.is_empty() {
            break;
        }
        let got = ann.rooms.batch_get_rooms(request).await.expect("rooms").into_inner();
        assert_eq!(got.rooms.len(), got.members.len());
        rooms.extend(got.rooms.into_iter().map(|room| room.room_id));
        left = got.left_out_room_ids;
    }
    assert_eq!(rooms, ids);
}

async fn an_outage_is_said(db: Db) {
    let suite = Harness::new(db).await;
    let mut ann = suite.user("ann");
    create(&mut ann, group("g", &[])).await;
    let fault = Fault::Refuse(Reason::StoreUnavailable);
    suite.roster.break_rpc("BatchGetMembers", fault);
    refused(ann.rooms.get_room(with_members("g")).await, Reason::MembershipUnavailable);
    ann.rooms.get_room(get("g")).await.expect("there");
}

/// B-078.
async fn members_of_a_channel_are_found_by_its_unique_id(db: Db) {
    beside(db, |suite, real| async move {
        for user in ["ann", "bob"] {
            let made = suite.user(user).rooms.get_or_create_channel(channel("news")).await;
            made.expect("made");
        }
        let unique_ids = vec!["news".to_owned()];
        let request = pb::BatchGetRoomsRequest { unique_ids, ..Default::default() };
        let found = suite.user("ann").rooms.batch_get_rooms(request).await.expect("rooms");
        let room_id = found.into_inner().rooms.remove(0).room_id;
        let request = membership::ListRoomMembersRequest { room_id, ..Default::default() };
        let page = real.user("ann").list_room_members(request).await.expect("a page");
        let members = page.into_inner().members.into_iter().map(|member| member.user_id);
        assert_eq!(members.collect::<Vec<_>>(), ["ann", "bob"]);
    })
    .await;
}
