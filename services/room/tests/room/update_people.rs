//! `UpdateRoom` that adds and removes people.

use parlance_db::{Db, test_on_each_db};
use parlance_proto::message::v1::MemberRole;
use parlance_proto::message::v1::event::Body;
use parlance_proto::room::v1 as pb;
use parlance_rpc::Reason;
use prost_types::FieldMask;
use tonic_types::StatusExt as _;

use crate::beside_membership::{beside, logs, role};
use crate::harness::{Harness, create, direct, get, group, refused, violates};
use crate::roster::Fault;

test_on_each_db!(parlance_room::MIGRATIONS =>
    fields_and_people_change_in_one_call,
    what_is_refused_changes_nothing,
    the_rules_of_the_room_say_who_changes_people,
    a_repeat_finishes_what_was_left,
    what_is_wrong_with_a_request_is_named,
);

/// A request to give the group a name, if there is one, and other people.
fn request(name: &str, add: &[&str], remove: &[&str]) -> pb::UpdateRoomRequest {
    let strings = |ids: &[&str]| ids.iter().map(ToString::to_string).collect();
    let paths = if name.is_empty() { Vec::new() } else { vec!["name".to_owned()] };
    let (room_id, name) = ("g".to_owned(), name.to_owned());
    pb::UpdateRoomRequest {
        room: Some(pb::Room { room_id, name, ..pb::Room::default() }),
        update_mask: Some(FieldMask { paths }),
        add_user_ids: strings(add),
        remove_user_ids: strings(remove),
        ..pb::UpdateRoomRequest::default()
    }
}

/// B-198.
async fn fields_and_people_change_in_one_call(db: Db) {
    beside(db, |suite, membership| async move {
        let mut ann = suite.user("ann");
        create(&mut ann, group("g", &["bob"])).await;

        let updated = ann.rooms.update_room(request("New", &["cid"], &["bob"])).await;

        assert_eq!(updated.expect("updated").into_inner().room.expect("a room").name, "New");
        assert_eq!(role(&membership, "bob", "g").await, None);
        assert_eq!(role(&membership, "cid", "g").await, Some(MemberRole::Member));
        let logs = logs(&suite);
        let bodies: Vec<_> = logs[0].iter().flat_map(|event| &event.body).skip(2).collect();
        let [Body::MembersLeft(left), Body::MembersJoined(joined), Body::RoomUpdated(updated)] =
            bodies[..]
        else {
            panic!("{bodies:?}");
        };
        assert_eq!((&*left.user_ids, left.removed), (&["bob".to_owned()][..], true));
        assert_eq!(joined.members[0].user_id, "cid");
        assert_eq!(updated.name, "New");
    })
    .await;
}

async fn what_is_refused_changes_nothing(db: Db) {
    beside(db, |suite, membership| async move {
        let mut ann = suite.user("ann");
        let room = create(&mut ann, group("g", &["bob"])).await;
        let ghost = ann.rooms.update_room(request("New", &["cid", "ghost"], &["bob"])).await;
        let ghost = refused(ghost, Reason::UserNotFound);
        let info = ghost.get_details_error_info().expect("an ErrorInfo");
        assert_eq!(info.metadata["user_id"], "ghost");
        let away = ann.rooms.update_room(request("New", &[], &["bob", "cid"])).await;
        refused(away, Reason::MemberNotFound);
        let mut backend = suite.backend();
        let owner = backend.rooms.update_room(request("New", &["cid"], &["ann"])).await;
        refused(owner, Reason::LastOwner);
        let mut late = request("New", &["cid"], &["bob"]);
        late.room.as_mut().expect("a room").etag = "another".into();
        refused(ann.rooms.update_room(late).await, Reason::EtagMismatch);

        let now = ann.rooms.get_room(get("g")).await.expect("there").into_inner().room;
        assert_eq!(now, Some(room));
        assert_eq!(role(&membership, "bob", "g").await, Some(MemberRole::Member));
        assert_eq!(role(&membership, "cid", "g").await, None);
        assert_eq!(logs(&suite)[0].len(), 2);
        let pair = ann.rooms.get_or_create_direct_room(direct("bob")).await.expect("made");
        let mut people = request("", &["cid"], &[]);
        people.room = pair.into_inner().room;
        people.room.as_mut().expect("a room").etag = String::new();
        refused(ann.rooms.update_room(people).await, Reason::DirectRoom);
    })
    .await;
}

async fn the_rules_of_the_room_say_who_changes_people(db: Db) {
    beside(db, |suite, membership| async move {
        create(&mut suite.user("ann"), group("g", &["bob"])).await;
        let (mut bob, mut cid) = (suite.user("bob"), suite.user("cid"));
        refused(cid.rooms.update_room(request("", &["cid"], &[])).await, Reason::NotAMember);
        refused(bob.rooms.update_room(request("", &["cid"], &["ann"])).await, Reason::NotAllowed);
        refused(bob.rooms.update_room(request("New", &["cid"], &[])).await, Reason::NotAllowed);
        assert_eq!(role(&membership, "cid", "g").await, None);
        bob.rooms.update_room(request("", &["cid"], &[])).await.expect("members add");
        assert_eq!(role(&membership, "cid", "g").await, Some(MemberRole::Member));
    })
    .await;
}

async fn a_repeat_finishes_what_was_left(db: Db) {
    let suite = Harness::new(db).await;
    let mut ann = suite.user("ann");
    create(&mut ann, group("g", &["bob"])).await;
    let wish = request("New", &["cid"], &["bob"]);
    let wish = pb::UpdateRoomRequest { request_id: "r1".to_owned(), ..wish };
    // People are changed, and the caller is not told.
    suite.roster.break_rpc("EditMembers", Fault::LoseReply);
    refused(ann.rooms.update_room(wish.clone()).await, Reason::MembershipUnavailable);
    let name = |room: pb::GetRoomResponse| room.room.expect("a room").name;
    let before = ann.rooms.get_room(get("g")).await.expect("there").into_inner();
    assert_eq!(name(before), "Our room");
    suite.roster.mend("EditMembers");
    ann.rooms.update_room(wish.clone()).await.expect("updated");
    let after = ann.rooms.get_room(get("g")).await.expect("there").into_inner();
    assert_eq!(name(after), "New");
    // From then on a repeat changes nobody.
    let calls = suite.roster.calls("EditMembers");
    suite.roster.change("g", |roster| {
        roster.members.insert("bob".to_owned(), MemberRole::Member);
    });
    ann.rooms.update_room(wish).await.expect("a repeat");
    assert_eq!(suite.roster.calls("EditMembers"), calls);
    assert!(suite.roster.of("g").1.members.contains_key("bob"));
}

async fn what_is_wrong_with_a_request_is_named(db: Db) {
    let suite = Harness::new(db).await;
    let mut ann = suite.user("ann");
    create(&mut ann, group("g", &["bob"])).await;
    violates(ann.rooms.update_room(request("", &[], &[])).await, "update_mask");
    let refused = ann.rooms.update_room(request("New", &["cid"], &["bob", "ann"])).await;
    violates(refused, "remove_user_ids[1]");
    violates(ann.rooms.update_room(request("", &["bob"], &["bob"])).await, "remove_user_ids[0]");
    violates(ann.rooms.update_room(request("", &["cid", "cid"], &[])).await, "add_user_ids[1]");
    for bad in ["", "x\0", &"x".repeat(129)] {
        violates(ann.rooms.update_room(request("", &[bad], &[])).await, "add_user_ids[0]");
        violates(ann.rooms.update_room(request("", &[], &[bad])).await, "remove_user_ids[0]");
    }
    let many: Vec<_> = (0..101).map(|n| n.to_string()).collect();
    let many: Vec<_> = many.iter().map(String::as_str).collect();
    violates(ann.rooms.update_room(request("", &many, &[])).await, "add_user_ids");
    violates(ann.rooms.update_room(request("", &[], &many)).await, "remove_user_ids");
    assert_eq!(suite.roster.calls("EditMembers"), 0);
}
