//! `ListChannels`, and who is in the list.

use std::collections::BTreeMap;

use parlance_db::{Db, test_on_each_db};
use parlance_proto::membership::v1 as membership;
use parlance_proto::message::v1::RoomKind;
use parlance_proto::room::v1 as pb;
use parlance_rpc::{Principal, Reason};
use prost_types::FieldMask;

use crate::beside_membership::beside;
use crate::harness::{
    Client, Harness, SECOND, channel, create, delete, eventually, group, largest, refused, violates,
};

test_on_each_db!(parlance_room::MIGRATIONS =>
    listed_channels_come_by_name_page_by_page,
    by_size_the_largest_come_first,
    the_size_follows_who_comes_and_goes,
    a_channel_is_listed_and_taken_off_again,
    only_owners_admins_and_services_list_a_channel,
    names_and_fields_narrow_the_list,
    a_page_holds_as_much_as_fits,
    each_tenant_has_its_own_list,
    what_is_wrong_with_a_request_is_named,
);

const LISTED: pb::RoomVisibility = pb::RoomVisibility::Listed;

fn listed(room_id: &str, name: &str) -> pb::CreateRoomRequest {
    pb::CreateRoomRequest {
        kind: RoomKind::Channel.into(),
        name: name.to_owned(),
        visibility: LISTED.into(),
        ..group(room_id, &[])
    }
}

fn page(order: pb::ChannelsOrder, page_size: i32) -> pb::ListChannelsRequest {
    pb::ListChannelsRequest { page_size, order: order.into(), ..Default::default() }
}

async fn list(client: &Client, request: pb::ListChannelsRequest) -> pb::ListChannelsResponse {
    client.lists.clone().list_channels(request).await.expect("a page").into_inner()
}

/// The rooms of a whole walk, with their sizes, and how many pages it took.
async fn walk(client: &Client, mut request: pb::ListChannelsRequest) -> (Vec<(String, i64)>, u32) {
    let (mut all, mut pages) = (Vec::new(), 0);
    loop {
        let page = list(client, request.clone()).await;
        pages += 1;
        all.extend(
            page.channels
                .into_iter()
                .map(|channel| (channel.room.expect("a room").room_id, channel.member_count)),
        );
        if page.next_page_token.is_empty() {
            return (all, pages);
        }
        request.page_token = page.next_page_token;
    }
}

async fn ids(client: &Client, request: pb::ListChannelsRequest) -> Vec<String> {
    walk(client, request).await.0.into_iter().map(|(room_id, _)| room_id).collect()
}

fn set(room_id: &str, visibility: pb::RoomVisibility) -> pb::UpdateRoomRequest {
    let room_id = room_id.to_owned();
    let visibility = visibility.into();
    pb::UpdateRoomRequest {
        room: Some(pb::Room { room_id, visibility, ..Default::default() }),
        update_mask: Some(FieldMask { paths: vec!["visibility".to_owned()] }),
        ..Default::default()
    }
}

/// B-052.
async fn listed_channels_come_by_name_page_by_page(db: Db) {
    let suite = Harness::new(db).await;
    let mut ann = suite.user("ann");
    for (room_id, name) in
        [("a", "beta"), ("b", "Alpha"), ("c", ""), ("d", "Österreich"), ("e", "ALPHA"), ("f", "z")]
    {
        create(&mut ann, listed(room_id, name)).await;
        // Of one name the one that was made first comes first.
        suite.clock.advance(SECOND);
    }
    create(&mut ann, pb::CreateRoomRequest { visibility: 1, ..listed("g", "Hidden") }).await;
    create(&mut ann, group("h", &[])).await;
    // Others find them, those who act for nobody, too.
    let all = ["c", "b", "e", "a", "f", "d"];
    for client in [suite.user("bob"), suite.backend(), suite.service_for("cid")] {
        for (size, pages) in [(1, 6), (2, 3), (4, 2), (0, 1), (1000, 1)] {
            let (found, took) = walk(&client, page(pb::ChannelsOrder::Name, size)).await;
            let found: Vec<_> = found.into_iter().map(|(room_id, _)| room_id).collect();
            assert_eq!((found, took), (all.map(ToOwned::to_owned).to_vec(), pages), "{size}");
        }
        let unsaid = page(pb::ChannelsOrder::Unspecified, 0);
        assert_eq!(ids(&client, unsaid).await, all);
    }
    // The token survives the channel that it stands on, and what comes meanwhile is in its place.
    let first = list(&ann, page(pb::ChannelsOrder::Name, 3)).await;
    ann.rooms.delete_room(delete("e", "")).await.expect("deleted");
    create(&mut ann, listed("i", "Gamma")).await;
    let page_token = first.next_page_token;
    let rest = pb::ListChannelsRequest { page_token, ..page(pb::ChannelsOrder::Name, 3) };
    assert_eq!(ids(&ann, rest).await, ["a", "i", "f", "d"]);
}

async fn by_size_the_largest_come_first(db: Db) {
    let suite = Harness::new(db).await;
    let mut ann = suite.user("ann");
    for (room_id, members) in [("a", &[][..]), ("b", &["bob", "cid"]), ("c", &["bob"])] {
        let member_user_ids = members.iter().map(ToString::to_string).collect();
        let request = pb::CreateRoomRequest { member_user_ids, ..listed(room_id, "Room") };
        create(&mut ann, request).await;
    }
    suite.run();
    let by_size = page(pb::ChannelsOrder::Size, 1);
    let (ann, by_size) = (&ann, &by_size);
    let sized = |sizes: [(&str, i64); 3]| {
        let sizes = sizes.map(|(room_id, size)| (room_id.to_owned(), size)).to_vec();
        move || {
            let sizes = sizes.clone();
            async move { walk(ann, by_size.clone()).await.0 == sizes }
        }
    };
    eventually(sized([("b", 3), ("c", 2), ("a", 1)])).await;
    suite.roster.change("a", |roster| {
        for user in 0..5 {
            let role = parlance_proto::message::v1::MemberRole::Member;
            roster.members.insert(format!("user {user}"), role);
        }
    });
    eventually(sized([("a", 6), ("b", 3), ("c", 2)])).await;
    assert_eq!(walk(ann, by_size.clone()).await.1, 3);
    suite.stop().await;
}

async fn the_size_follows_who_comes_and_goes(db: Db) {
    beside(db, |suite, membership| async move {
        let mut ann = suite.user("ann");
        create(&mut ann, listed("a", "Room")).await;
        let news = pb::GetOrCreateChannelRequest { visibility: LISTED.into(), ..channel("news") };
        let news = ann.rooms.get_or_create_channel(news).await.expect("made").into_inner();
        let news = news.room.expect("a room");
        assert_eq!(news.visibility(), LISTED);
        suite.run();
        let suite = &suite;
        let size = |room_id: &str, size: i64| {
            let room_id = room_id.to_owned();
            move || {
                let room = (room_id.clone(), size);
                async move {
                    let by_size = page(pb::ChannelsOrder::Size, 0);
                    walk(&suite.user("bob"), by_size).await.0.contains(&room)
                }
            }
        };
        eventually(size("a", 1)).await;
        let join = |room_id: &str| membership::JoinRoomRequest { room_id: room_id.to_owned() };
        for user in ["bob", "cid"] {
            membership.user(user).join_room(join("a")).await.expect("joined");
        }
        eventually(size("a", 3)).await;
        let leave = membership::LeaveRoomRequest { room_id: "a".to_owned(), ..Default::default() };
        membership.user("bob").leave_room(leave).await.expect("left");
        eventually(size("a", 2)).await;
        // Who comes while it is not listed is counted once it is again.
        ann.rooms.update_room(set("a", pb::RoomVisibility::Unlisted)).await.expect("updated");
        membership.user("bob").join_room(join("a")).await.expect("joined");
        ann.rooms.update_room(set("a", LISTED)).await.expect("updated");
        eventually(size("a", 3)).await;
        eventually(size(&news.room_id, 1)).await;
        suite.stop().await;
    })
    .await;
}

async fn a_channel_is_listed_and_taken_off_again(db: Db) {
    let suite = Harness::new(db).await;
    let mut ann = suite.user("ann");
    let made = ann.rooms.get_or_create_channel(channel("c")).await.expect("made").into_inner();
    let made = made.room.expect("a room");
    assert_eq!(made.visibility(), pb::RoomVisibility::Unlisted);
    let room_id = made.room_id.as_str();
    let all = || page(pb::ChannelsOrder::Name, 0);
    assert!(ids(&ann, all()).await.is_empty());
    for _ in 0..2 {
        let updated = ann.rooms.update_room(set(room_id, LISTED)).await.expect("updated");
        assert_eq!(updated.into_inner().room.expect("a room").visibility(), LISTED);
        assert_eq!(ids(&ann, all()).await, [room_id]);
    }
    // One event tells of it, and the roster hears that it is watched.
    let (log_id, roster) = suite.roster.of(room_id);
    let updates = suite.logs.updates(&log_id);
    assert_eq!(updates.len(), 1);
    assert_eq!(updates[0].1.changed_fields, ["visibility"]);
    assert!(roster.rules.watched);
    // A later get-or-create leaves it as it is.
    ann.rooms.get_or_create_channel(channel("c")).await.expect("found");
    assert_eq!(ids(&ann, all()).await, [room_id]);
    ann.rooms.update_room(set(room_id, pb::RoomVisibility::Unspecified)).await.expect("updated");
    assert!(ids(&ann, all()).await.is_empty());
    assert!(!suite.roster.of(room_id).1.rules.watched);
    // A new name is its place.
    for room_id in ["x", "y"] {
        create(&mut ann, listed(room_id, room_id)).await;
    }
    let rename = pb::UpdateRoomRequest {
        room: Some(pb::Room {
            room_id: "x".to_owned(),
            name: "Z".to_owned(),
            ..Default::default()
        }),
        update_mask: Some(FieldMask { paths: vec!["name".to_owned()] }),
        ..Default::default()
    };
    ann.rooms.update_room(rename).await.expect("updated");
    assert_eq!(ids(&ann, all()).await, ["y", "x"]);
}

async fn only_owners_admins_and_services_list_a_channel(db: Db) {
    let suite = Harness::new(db).await;
    let mut ann = suite.user("ann");
    let members = vec!["bob".to_owned()];
    let request = pb::CreateRoomRequest { member_user_ids: members, ..listed("a", "Room") };
    create(&mut ann, request).await;
    let unlist = || set("a", pb::RoomVisibility::Unlisted);
    refused(suite.user("bob").rooms.update_room(unlist()).await, Reason::NotAllowed);
    refused(suite.user("cid").rooms.update_room(unlist()).await, Reason::NotAMember);
    suite.backend().rooms.update_room(unlist()).await.expect("updated");
    ann.rooms.update_room(set("a", LISTED)).await.expect("updated");
    create(&mut ann, group("g", &[])).await;
    violates(ann.rooms.update_room(set("g", LISTED)).await, "room.visibility");
    ann.rooms.update_room(set("g", pb::RoomVisibility::Unlisted)).await.expect("as it is");
}

async fn names_and_fields_narrow_the_list(db: Db) {
    let suite = Harness::new(db).await;
    let mut ann = suite.user("ann");
    let allowed = pb::SetTenantSettingsRequest {
        settings: Some(pb::TenantSettings {
            allowed_fields: vec!["city".to_owned()],
            ..Default::default()
        }),
        update_mask: Some(FieldMask { paths: vec!["allowed_fields".to_owned()] }),
    };
    let mut operator = suite.caller("acme", Principal::Operator).settings;
    operator.set_tenant_settings(allowed).await.expect("set");
    let city = |city: &str| BTreeMap::from([("city".to_owned(), city.to_owned())]);
    for n in 0..12 {
        let fields = city(if n % 2 == 0 { "Ulm" } else { "Bonn" });
        let name = format!("Tea {n:02}");
        create(&mut ann, pb::CreateRoomRequest { fields, ..listed(&name, &name) }).await;
    }
    create(&mut ann, listed("ale", "Ale")).await;
    let narrow = |part: &str, city| pb::ListChannelsRequest {
        name_contains: part.to_owned(),
        fields: city,
        ..page(pb::ChannelsOrder::Name, 2)
    };
    assert_eq!(ids(&ann, narrow("TEA", BTreeMap::new())).await.len(), 12);
    let (found, pages) = walk(&ann, narrow("tea 0", city("Ulm"))).await;
    let found: Vec<_> = found.into_iter().map(|(room_id, _)| room_id).collect();
    assert_eq!(found, ["Tea 00", "Tea 02", "Tea 04", "Tea 06", "Tea 08"]);
    assert_eq!(pages, 3);
    assert!(ids(&ann, narrow("", city("Oslo"))).await.is_empty());
    let by_size = pb::ListChannelsRequest {
        order: pb::ChannelsOrder::Size.into(),
        ..narrow("ale", BTreeMap::new())
    };
    assert_eq!(ids(&ann, by_size).await, ["ale"]);
}

async fn a_page_holds_as_much_as_fits(db: Db) {
    let suite = Harness::new(db).await;
    let mut ann = suite.user("ann");
    for n in 0..60 {
        let kind = RoomKind::Channel.into();
        let visibility = LISTED.into();
        let room = pb::CreateRoomRequest { kind, visibility, ..largest(&format!("room {n:02}")) };
        create(&mut ann, room).await;
    }
    for order in [pb::ChannelsOrder::Name, pb::ChannelsOrder::Size] {
        let first = list(&ann, page(order, 100)).await;
        assert!((25..60).contains(&first.channels.len()), "{}", first.channels.len());
        let mut all = ids(&ann, page(order, 100)).await;
        all.sort();
        all.dedup();
        assert_eq!(all.len(), 60);
    }
}

async fn each_tenant_has_its_own_list(db: Db) {
    let suite = Harness::new(db).await;
    create(&mut suite.user("ann"), listed("a", "Room")).await;
    let mut other = suite.caller("other", Principal::Service);
    assert!(ids(&other, page(pb::ChannelsOrder::Name, 0)).await.is_empty());
    create(&mut other, listed("b", "Room")).await;
    assert_eq!(ids(&other, page(pb::ChannelsOrder::Size, 0)).await, ["b"]);
    assert_eq!(ids(&suite.user("bob"), page(pb::ChannelsOrder::Size, 0)).await, ["a"]);
}

async fn what_is_wrong_with_a_request_is_named(db: Db) {
    let suite = Harness::new(db).await;
    let mut ann = suite.user("ann");
    for n in 0..3 {
        create(&mut ann, listed(&format!("room {n}"), "Room")).await;
    }
    let mut bad = async |request: pb::ListChannelsRequest, field: &str| {
        violates(ann.lists.list_channels(request).await, field);
    };
    let good = page(pb::ChannelsOrder::Name, 1);
    bad(pb::ListChannelsRequest { page_size: -1, ..good.clone() }, "page_size").await;
    bad(pb::ListChannelsRequest { order: 9, ..good.clone() }, "order").await;
    let part =
        |part: &str| pb::ListChannelsRequest { name_contains: part.to_owned(), ..good.clone() };
    bad(part("a\0"), "name_contains").await;
    bad(part(&"a".repeat(257)), "name_contains").await;
    let many = (0..11).map(|n| (n.to_string(), String::new())).collect();
    bad(pb::ListChannelsRequest { fields: many, ..good.clone() }, "fields").await;
    let page_token = list(&suite.user("bob"), good.clone()).await.next_page_token;
    assert!(!page_token.is_empty());
    let order = pb::ChannelsOrder::Size.into();
    let other = pb::ListChannelsRequest { page_token, order, ..good.clone() };
    bad(other, "page_token").await;
    let page_token = "strange".to_owned();
    bad(pb::ListChannelsRequest { page_token, ..good }, "page_token").await;
    let strange = pb::CreateRoomRequest { visibility: 9, ..listed("x", "X") };
    violates(ann.rooms.create_room(strange).await, "visibility");
    let visibility = LISTED.into();
    let of_group = pb::CreateRoomRequest { visibility, ..group("x", &[]) };
    violates(ann.rooms.create_room(of_group).await, "visibility");
    let strange = pb::GetOrCreateChannelRequest { visibility: -1, ..channel("x") };
    violates(ann.rooms.get_or_create_channel(strange).await, "visibility");
}
