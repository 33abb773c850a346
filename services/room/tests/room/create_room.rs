//! `CreateRoom`.

use std::collections::BTreeMap;

use parlance_db::{Db, test_on_each_db};
use parlance_proto::membership::v1::{JoinRule, MemberRule};
use parlance_proto::message::v1::event::Body;
use parlance_proto::message::v1::{HistoryVisibility, MemberRole, PostRule, RoomKind};
use parlance_proto::room::v1 as pb;
use parlance_rpc::{Principal, Reason};
use parlance_types::{Micros, UserId};
use tonic_types::StatusExt as _;

use crate::harness::{Harness, SECOND, create, eventually, get, group, refused, violates};
use crate::roster::Fault;

test_on_each_db!(parlance_room::MIGRATIONS =>
    a_group_begins_with_its_owner_and_its_members,
    the_server_makes_an_id_where_none_is_given,
    what_is_unspecified_takes_the_default_of_the_kind,
    the_creator_may_be_listed_among_the_members,
    a_service_creates_for_nobody_and_may_name_the_owner,
    an_id_that_is_taken_is_refused,
    nothing_exists_while_somebody_named_does_not,
    more_members_than_there_is_room_for_are_refused,
    a_repeated_request_gets_the_first_reply,
    a_repeat_does_not_say_that_a_deleted_room_is_there,
    a_request_id_is_kept_for_seven_days,
    two_backends_with_the_same_request_id_are_not_taken_for_one,
    the_same_request_at_once_creates_one_room,
    two_who_want_one_id_at_once_get_one_room,
    a_request_id_belongs_to_its_caller_and_its_payload,
    what_is_wrong_with_a_request_is_named,
    an_outage_below_is_said,
    tenants_share_no_ids,
);

/// B-001, B-002, B-007, B-008, B-013, B-197.
async fn a_group_begins_with_its_owner_and_its_members(db: Db) {
    let suite = Harness::new(db).await;
    let mut ann = suite.user("ann");
    let request = pb::CreateRoomRequest {
        picture: "p.png".to_owned(),
        description: "About us".to_owned(),
        metadata: BTreeMap::from([("color".to_owned(), "red".to_owned())]),
        ..group("team", &["bob", "cid"])
    };

    let room = create(&mut ann, request).await;

    assert_eq!((room.room_id.as_str(), room.name.as_str()), ("team", "Our room"));
    assert_eq!((room.picture.as_str(), room.description.as_str()), ("p.png", "About us"));
    assert_eq!(room.metadata["color"], "red");
    assert_eq!((room.kind(), room.creator_user_id.as_str()), (RoomKind::Group, "ann"));
    assert_eq!(room.create_time, room.update_time);
    assert_eq!(room.create_time.expect("a time").seconds, 1_800_000_000);
    let got = suite.user("bob").rooms.get_room(get("team")).await.expect("there").into_inner();
    assert_eq!(got.room, Some(room));

    let (_, roster) = suite.roster.of("team");
    let members: Vec<_> = roster.members.iter().map(|(id, role)| (id.as_str(), *role)).collect();
    let (owner, member) = (MemberRole::Owner, MemberRole::Member);
    assert_eq!(members, [("ann", owner), ("bob", member), ("cid", member)]);
    assert_eq!(roster.created.actor_id, "ann");
    let rules = roster.created.effects.expect("effects").rules.expect("rules");
    assert_eq!((rules.post(), rules.history()), (PostRule::Members, HistoryVisibility::All));
    let Some(Body::RoomCreated(created)) = roster.created.body else {
        panic!("not a creation");
    };
    assert_eq!((created.kind(), created.name.as_str()), (RoomKind::Group, "Our room"));
}

/// B-003.
async fn the_server_makes_an_id_where_none_is_given(db: Db) {
    let suite = Harness::new(db).await;
    let mut ann = suite.user("ann");
    let one = create(&mut ann, group("", &[])).await;
    let other = create(&mut ann, group("", &[])).await;
    assert!(!one.room_id.is_empty());
    assert_ne!(one.room_id, other.room_id);
    ann.rooms.get_room(get(&one.room_id)).await.expect("there");
}

/// B-004.
async fn what_is_unspecified_takes_the_default_of_the_kind(db: Db) {
    let suite = Harness::new(db).await;
    let mut ann = suite.user("ann");
    let settings = create(&mut ann, group("g", &[])).await.settings.expect("settings");
    assert_eq!((settings.join(), settings.capacity), (JoinRule::AddedOnly, 1000));
    assert_eq!((settings.add(), settings.remove()), (MemberRule::Members, MemberRule::Admins));

    let settings = pb::RoomSettings {
        post: PostRule::Admins.into(),
        capacity: 7,
        allow_preview: true,
        ..pb::RoomSettings::default()
    };
    let request = pb::CreateRoomRequest {
        kind: RoomKind::Channel.into(),
        settings: Some(settings),
        ..group("c", &[])
    };
    let settings = create(&mut ann, request).await.settings.expect("settings");
    assert_eq!((settings.join(), settings.capacity), (JoinRule::Anyone, 7));
    assert_eq!((settings.post(), settings.allow_preview), (PostRule::Admins, true));
    let (_, roster) = suite.roster.of("c");
    assert_eq!((roster.rules.join(), roster.rules.capacity), (JoinRule::Anyone, 7));
    let rules = roster.created.effects.expect("effects").rules.expect("rules");
    assert_eq!((rules.post(), rules.allow_preview), (PostRule::Admins, true));
}

/// B-008.
async fn the_creator_may_be_listed_among_the_members(db: Db) {
    let suite = Harness::new(db).await;
    create(&mut suite.user("ann"), group("g", &["ann", "bob"])).await;
    let (_, roster) = suite.roster.of("g");
    assert_eq!(roster.members["ann"], MemberRole::Owner);
    assert_eq!(roster.members.len(), 2);
}

/// B-009.
async fn a_service_creates_for_nobody_and_may_name_the_owner(db: Db) {
    let suite = Harness::new(db).await;
    let mut backend = suite.backend();
    let empty = create(&mut backend, group("empty", &[])).await;
    assert_eq!(empty.creator_user_id, "");
    assert!(suite.roster.of("empty").1.members.is_empty());
    // A group with members has an owner.
    violates(backend.rooms.create_room(group("x", &["cid"])).await, "owner_user_id");

    let owner_user_id = "bob".to_owned();
    let request = pb::CreateRoomRequest { owner_user_id, ..group("owned", &["cid"]) };
    create(&mut backend, request.clone()).await;
    assert_eq!(suite.roster.of("owned").1.members["bob"], MemberRole::Owner);

    let mut for_ann = suite.service_for("ann");
    violates(for_ann.rooms.create_room(request).await, "owner_user_id");
    let nobody = pb::CreateRoomRequest { owner_user_id: "nobody".to_owned(), ..group("x", &[]) };
    refused(backend.rooms.create_room(nobody).await, Reason::UserNotFound);
}

/// B-014.
async fn an_id_that_is_taken_is_refused(db: Db) {
    let suite = Harness::new(db).await;
    create(&mut suite.user("ann"), group("g", &[])).await;
    let again = suite.user("bob").rooms.create_room(group("g", &[])).await;
    refused(again, Reason::RoomIdTaken);

    let open = |room_id: &str| pb::CreateRoomRequest {
        kind: RoomKind::Channel.into(),
        unique_id: "news".to_owned(),
        ..group(room_id, &[])
    };
    create(&mut suite.user("ann"), open("one")).await;
    let again = suite.user("ann").rooms.create_room(open("two")).await;
    refused(again, Reason::UniqueIdTaken);
}

async fn nothing_exists_while_somebody_named_does_not(db: Db) {
    let suite = Harness::new(db).await;
    let mut ann = suite.user("ann");
    let reply = ann.rooms.create_room(group("g", &["bob", "ghost"])).await;
    refused(reply, Reason::UserNotFound);
    assert_eq!(suite.roster.calls("OpenRoster"), 0);
    refused(ann.rooms.get_room(get("g")).await, Reason::RoomNotFound);
    create(&mut ann, group("g", &["bob"])).await;
}

async fn more_members_than_there_is_room_for_are_refused(db: Db) {
    let suite = Harness::new(db).await;
    let settings = Some(pb::RoomSettings { capacity: 2, ..pb::RoomSettings::default() });
    let request = pb::CreateRoomRequest { settings, ..group("g", &["bob", "cid"]) };
    let reply = suite.user("ann").rooms.create_room(request).await;
    refused(reply, Reason::RoomFull);
}

async fn a_repeated_request_gets_the_first_reply(db: Db) {
    let suite = Harness::new(db).await;
    let mut ann = suite.user("ann");
    let request = pb::CreateRoomRequest { request_id: "r1".to_owned(), ..group("", &["bob"]) };
    let first = create(&mut ann, request.clone()).await;
    suite.clock.advance(1);
    assert_eq!(create(&mut ann, request.clone()).await, first);

    // Whatever became of the caller: repeats are found before rights are judged.
    suite.roster.change(&first.room_id, |roster| roster.members.clear());
    assert_eq!(create(&mut ann, request).await, first);
    assert_eq!(suite.roster.calls("OpenRoster"), 1);
}

async fn a_repeat_does_not_say_that_a_deleted_room_is_there(db: Db) {
    let suite = Harness::new(db).await;
    let mut ann = suite.user("ann");
    let request = pb::CreateRoomRequest { request_id: "r1".to_owned(), ..group("match-42", &[]) };
    create(&mut ann, request.clone()).await;
    suite.roster.break_rpc("CloseRoster", Fault::Refuse(Reason::StoreUnavailable));
    let cut = ann.rooms.delete_room(crate::harness::delete("match-42", "")).await;
    refused(cut, Reason::MembershipUnavailable);
    refused(ann.rooms.create_room(request.clone()).await, Reason::RoomNotFound);
    suite.roster.mend("CloseRoster");
    ann.rooms.delete_room(crate::harness::delete("match-42", "")).await.expect("deleted");
    refused(ann.rooms.create_room(request.clone()).await, Reason::RoomNotFound);
    // Also not when somebody has made another one.
    let other = create(&mut suite.user("bob"), group("match-42", &[])).await;
    refused(ann.rooms.create_room(request).await, Reason::RoomNotFound);
    let got = suite.user("bob").rooms.get_room(crate::harness::get("match-42")).await;
    assert_eq!(got.expect("there").into_inner().room, Some(other));
}

async fn a_request_id_is_kept_for_seven_days(db: Db) {
    const WEEK: Micros = 7 * 24 * 3600 * SECOND;
    let suite = Harness::new(db.clone()).await;
    let mut ann = suite.user("ann");
    let request = |id: &str| pb::CreateRoomRequest { request_id: id.to_owned(), ..group("", &[]) };
    let old = create(&mut ann, request("r1")).await;
    suite.clock.advance(SECOND);
    let new = create(&mut ann, request("r2")).await;
    suite.clock.advance(WEEK - SECOND);
    assert_eq!(create(&mut ann, request("r1")).await, old);
    suite.clock.advance(1);
    suite.run();
    eventually(|| async {
        let count = db.read("SELECT COUNT(*) FROM requests").fetch_one().await;
        count.is_ok_and(|count: (i64,)| count == (1,))
    })
    .await;
    suite.stop().await;
    assert_eq!(create(&mut ann, request("r2")).await, new);
    assert_ne!(create(&mut ann, request("r1")).await.room_id, old.room_id);
}

async fn two_backends_with_the_same_request_id_are_not_taken_for_one(db: Db) {
    let suite = Harness::new(db).await;
    let request = |room_id: &str| pb::CreateRoomRequest {
        request_id: "r1".to_owned(),
        ..group(room_id, &[])
    };
    for (backend, room_id) in [("shop", "orders"), ("crm", "calls"), ("shop", "orders")] {
        let room = create(&mut suite.backend_named(backend), request(room_id)).await;
        assert_eq!(room.room_id, room_id);
    }
}

async fn the_same_request_at_once_creates_one_room(db: Db) {
    let suite = Harness::new(db).await;
    let request = pb::CreateRoomRequest { request_id: "r1".to_owned(), ..group("", &[]) };
    let (mut one, mut other) = (suite.user("ann"), suite.user("ann"));
    let (one, other) = tokio::join!(create(&mut one, request.clone()), create(&mut other, request));
    assert_eq!(one, other);
    assert_eq!(suite.roster.state().rosters.len(), 1);
}

async fn two_who_want_one_id_at_once_get_one_room(db: Db) {
    let suite = Harness::new(db).await;
    let (mut ann, mut bob) = (suite.user("ann"), suite.user("bob"));
    let (one, other) = tokio::join!(
        ann.rooms.create_room(group("g", &[])),
        bob.rooms.create_room(group("g", &[]))
    );
    assert_eq!(usize::from(one.is_ok()) + usize::from(other.is_ok()), 1);
    refused(if one.is_err() { one } else { other }, Reason::RoomIdTaken);
    assert_eq!(suite.roster.state().rosters.len(), 1);
}

async fn a_request_id_belongs_to_its_caller_and_its_payload(db: Db) {
    let suite = Harness::new(db).await;
    let request = pb::CreateRoomRequest { request_id: "r1".to_owned(), ..group("", &[]) };
    let room = create(&mut suite.user("ann"), request.clone()).await;
    let renamed = pb::CreateRoomRequest { name: "Other".to_owned(), ..request.clone() };
    let reply = suite.user("ann").rooms.create_room(renamed).await;
    refused(reply, Reason::RequestIdReused);
    let other_rpc = crate::harness::delete(&room.room_id, "r1");
    refused(suite.user("ann").rooms.delete_room(other_rpc).await, Reason::RequestIdReused);
    for mut other in [suite.user("bob"), suite.backend()] {
        assert_ne!(create(&mut other, request.clone()).await.room_id, room.room_id);
    }
}

/// B-012, B-030.
async fn what_is_wrong_with_a_request_is_named(db: Db) {
    type Spoil = fn(&mut pb::CreateRoomRequest);
    fn rules(r: &mut pb::CreateRoomRequest) -> &mut pb::RoomSettings {
        r.settings.get_or_insert_default()
    }
    let suite = Harness::new(db).await;
    let spoils: [(&str, Spoil); 30] = [
        ("room_id", |r| r.room_id = "a\0".into()),
        ("room_id", |r| r.room_id = "x".repeat(129)),
        ("kind", |r| r.kind = 0),
        ("kind", |r| r.kind = RoomKind::Direct.into()),
        ("kind", |r| r.kind = 99),
        ("unique_id", |r| r.unique_id = "for a group".into()),
        ("unique_id", |r| {
            r.kind = RoomKind::Channel.into();
            r.unique_id = "a#b".into();
        }),
        ("name", |r| r.name = "x".repeat(257)),
        ("name", |r| r.name = "a\0".into()),
        ("picture", |r| r.picture = "x".repeat(2049)),
        ("description", |r| r.description = "x".repeat(4001)),
        ("metadata", |r| {
            r.metadata = (0..33).map(|n| (n.to_string(), String::new())).collect();
        }),
        ("metadata", |r| {
            r.metadata.insert("k".to_owned(), "a\0".to_owned());
        }),
        ("settings.post", |r| rules(r).post = 9),
        ("settings.add", |r| rules(r).add = -1),
        ("settings.remove", |r| rules(r).remove = 9),
        ("settings.join", |r| rules(r).join = 9),
        ("settings.history", |r| rules(r).history = 9),
        ("settings.capacity", |r| rules(r).capacity = -1),
        ("settings.capacity", |r| rules(r).capacity = 100_001),
        ("settings.retention", |r| rules(r).retention = Some(time(59, 0))),
        ("settings.retention", |r| rules(r).retention = Some(time(60, 1))),
        ("settings.retention", |r| rules(r).retention = Some(time(315_360_001, 0))),
        ("settings.retention", |r| rules(r).retention = Some(time(-60, 0))),
        ("member_user_ids[1]", |r| {
            r.member_user_ids = vec!["bob".to_owned(), "bob".to_owned()];
        }),
        ("member_user_ids[0]", |r| r.member_user_ids = vec![String::new()]),
        ("member_user_ids", |r| {
            r.member_user_ids = (0..101).map(|n| n.to_string()).collect();
        }),
        ("owner_user_id", |r| r.owner_user_id = "bob".into()),
        ("request_id", |r| r.request_id = "x".repeat(129)),
        ("request_id", |r| r.request_id = "\n".into()),
    ];
    for (field, spoil) in spoils {
        let mut request = group("g", &[]);
        spoil(&mut request);
        violates(suite.user("ann").rooms.create_room(request).await, field);
    }
    let calls = &suite.roster.state().calls;
    assert!(calls.iter().all(|call| *call == "EnsureUser"), "{calls:?}");
}

async fn an_outage_below_is_said(db: Db) {
    let suite = Harness::new(db).await;
    let mut ann = suite.user("ann");
    suite.roster.break_rpc("CheckRoster", Fault::Refuse(Reason::StoreUnavailable));
    let status = ann.rooms.create_room(group("g", &[])).await.expect_err("an outage");
    assert_eq!(Reason::of(&status), Some(Reason::MembershipUnavailable));
    assert!(status.get_details_retry_info().is_some());
    assert_eq!(suite.roster.calls("CheckRoster"), 3, "it was tried three times");
    suite.roster.break_rpc("CheckRoster", Fault::Refuse(Reason::Overloaded));
    refused(ann.rooms.create_room(group("g", &[])).await, Reason::Overloaded);
    suite.roster.mend("CheckRoster");
    suite.roster.break_rpc("OpenRoster", Fault::Refuse(Reason::LogUnavailable));
    refused(ann.rooms.create_room(group("g", &[])).await, Reason::LogUnavailable);
    // Nor is what does not heal told as an outage.
    suite.roster.break_rpc("OpenRoster", Fault::Refuse(Reason::Internal));
    refused(ann.rooms.create_room(group("h", &[])).await, Reason::Internal);
}

async fn tenants_share_no_ids(db: Db) {
    let suite = Harness::new(db).await;
    let mut other = suite.caller("other", Principal::User(UserId::new("ann")));
    let request = pb::CreateRoomRequest { request_id: "r1".to_owned(), ..group("g", &[]) };
    create(&mut suite.user("ann"), request.clone()).await;
    refused(other.rooms.get_room(get("g")).await, Reason::RoomNotFound);
    let theirs = pb::CreateRoomRequest { name: "Theirs".to_owned(), ..request };
    assert_eq!(create(&mut other, theirs).await.name, "Theirs");
    let ours = suite.user("ann").rooms.get_room(get("g")).await.expect("ours").into_inner();
    assert_eq!(ours.room.expect("a room").name, "Our room");
}

/// How long messages are kept.
fn time(seconds: i64, nanos: i32) -> prost_types::Duration {
    prost_types::Duration { seconds, nanos }
}
