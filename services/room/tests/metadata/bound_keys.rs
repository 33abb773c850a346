//! Keys of the metadata that go when their owner has left, beside the real membership service.

use std::collections::BTreeMap;

use parlance_db::{Db, test_on_each_db};
use parlance_proto::membership::v1 as membership;
use parlance_proto::message::v1::MetadataPatched;
use parlance_proto::message::v1::event::Body;
use parlance_proto::room::v1 as pb;
use parlance_rpc::Reason;
use prost_types::FieldMask;

use crate::beside_membership::beside;
use crate::harness::{
    Client, Harness, Membership, SECOND, create, eventually, get, group, refused, violates,
};
use crate::live::rooms::{entered, leave as leave_live, live, waiting};
use crate::roster::Fault;

test_on_each_db!(parlance_room::MIGRATIONS =>
    a_key_goes_when_its_owner_has_left,
    however_a_membership_ends_its_keys_go,
    a_key_that_somebody_takes_over_stays,
    who_leaves_while_another_takes_over_takes_nothing_along,
    a_key_of_an_earlier_membership_goes_though_its_owner_is_back,
    who_left_before_the_key_was_set_leaves_none,
    an_outage_keeps_keys_until_membership_answers,
    what_is_wrong_with_a_request_is_named,
);

fn key(key: &str, value: &str, bound: bool) -> pb::KeyPatch {
    pb::KeyPatch {
        key: key.to_owned(),
        action: Some(pb::key_patch::Action::Set(value.to_owned())),
        delete_after_owner_left: bound,
        ..Default::default()
    }
}

async fn patch(client: &Client, patches: Vec<pb::KeyPatch>) -> BTreeMap<String, String> {
    let request =
        pb::PatchMetadataRequest { room_id: "g".to_owned(), patches, ..Default::default() };
    let reply = client.metadata.clone().patch_metadata(request).await.expect("patched");
    reply.into_inner().metadata
}

/// The keys of the room, as the backend sees them.
async fn keys(suite: &Harness) -> Vec<String> {
    let got = suite.backend().rooms.get_room(get("g")).await.expect("there");
    got.into_inner().room.expect("a room").metadata.into_keys().collect()
}

/// Waits until the room has these keys.
async fn come_to(suite: &Harness, expected: &[&str]) {
    eventually(|| async move { keys(suite).await == expected }).await;
}

/// Waits until it was asked once more who came and went.
async fn looked(suite: &Harness) {
    let done = || suite.task("changed rosters").map_or(0, |run| run.count - run.failures);
    let before = done();
    eventually(|| async move { done() >= before + 2 }).await;
}

/// A group in which every member may patch what is theirs.
async fn open(suite: &Harness) {
    let settings = Some(pb::RoomSettings {
        metadata: membership::MemberRule::Members.into(),
        ..Default::default()
    });
    let request = pb::CreateRoomRequest { settings, ..group("g", &["bob", "cid"]) };
    create(&mut suite.user("ann"), request).await;
    suite.run();
}

async fn leave(membership: &Membership, user: &str) {
    let request = membership::LeaveRoomRequest { room_id: "g".to_owned(), ..Default::default() };
    membership.user(user).leave_room(request).await.expect("left");
}

async fn add(membership: &Membership, user: &str) {
    let (room_id, user_ids) = ("g".to_owned(), vec![user.to_owned()]);
    let request = membership::AddMembersRequest { room_id, user_ids, ..Default::default() };
    membership.user("ann").add_members(request).await.expect("added");
}

/// B-031.
async fn a_key_goes_when_its_owner_has_left(db: Db) {
    beside(db, |suite, membership| async move {
        open(&suite).await;
        let bob = suite.user("bob");
        patch(&bob, vec![key("desk", "4", true), key("note", "hi", false)]).await;
        patch(&suite.user("cid"), vec![key("seat", "2", true)]).await;
        looked(&suite).await;
        assert_eq!(keys(&suite).await, ["desk", "note", "seat"]);
        leave(&membership, "bob").await;
        come_to(&suite, &["note", "seat"]).await;
        // One event of nobody tells of it.
        let patched = |body: Option<Body>| match body {
            Some(Body::MetadataPatched(patched)) => Some(patched),
            _ => None,
        };
        let last = || {
            let state = suite.logs.state();
            let events = state.events.values().next().expect("a log");
            let event = events.iter().rev().find(|event| patched(event.body.clone()).is_some());
            let event = event.expect("an event").clone();
            (event.actor_id, patched(event.body).expect("a patch"))
        };
        eventually(|| async { !last().1.deleted_keys.is_empty() }).await;
        let deleted_keys = vec!["desk".to_owned()];
        let gone = MetadataPatched { deleted_keys, ..Default::default() };
        assert_eq!(last(), (String::new(), gone));
        // Nothing is left of it: whoever comes back owns nothing, and nothing else goes.
        add(&membership, "bob").await;
        looked(&suite).await;
        assert_eq!(keys(&suite).await, ["note", "seat"]);
        assert_eq!(patch(&bob, vec![key("desk", "5", false)]).await.len(), 3);
        suite.stop().await;
    })
    .await;
}

async fn however_a_membership_ends_its_keys_go(db: Db) {
    beside(db, |suite, membership| async move {
        open(&suite).await;
        for user in ["bob", "cid"] {
            patch(&suite.user(user), vec![key(user, "here", true)]).await;
        }
        let remove = membership::RemoveMembersRequest {
            room_id: "g".to_owned(),
            user_ids: vec!["bob".to_owned()],
            ..Default::default()
        };
        membership.user("ann").remove_members(remove).await.expect("removed");
        come_to(&suite, &["cid"]).await;
        let ban = membership::BanUsersRequest {
            room_id: "g".to_owned(),
            user_ids: vec!["cid".to_owned()],
            ..Default::default()
        };
        membership.moderation("ann").ban_users(ban).await.expect("banned");
        come_to(&suite, &[]).await;

        // In a live room: with the end of the last device's seat.
        let (mut ann, mut bob) = (live(&suite, "ann"), live(&suite, "bob"));
        for user in [&mut ann, &mut bob] {
            entered(user, waiting("den", 90)).await;
        }
        let request = pb::PatchMetadataRequest {
            room_id: "den".to_owned(),
            patches: vec![key("stage", "ann", true)],
            ..Default::default()
        };
        suite.user("ann").metadata.patch_metadata(request).await.expect("patched");
        leave_live(&mut ann, "den").await;
        let suite = &suite;
        eventually(|| async move {
            let got = suite.backend().rooms.get_room(get("den")).await.expect("there");
            got.into_inner().room.expect("a room").metadata.is_empty()
        })
        .await;
        suite.stop().await;
    })
    .await;
}

async fn a_key_that_somebody_takes_over_stays(db: Db) {
    beside(db, |suite, membership| async move {
        open(&suite).await;
        let bob = suite.user("bob");
        let all = ["a", "b", "c", "d"].map(|name| key(name, "bob", true));
        patch(&bob, all.to_vec()).await;
        // The owner takes one over, an update another one; its own owner lets one stay.
        patch(&suite.user("ann"), vec![key("a", "ann", false)]).await;
        let mut metadata: BTreeMap<_, _> =
            ["b", "c", "d"].map(|name| (name.to_owned(), "bob".to_owned())).into();
        metadata.insert("a".to_owned(), "ann".to_owned());
        metadata.insert("b".to_owned(), "anew".to_owned());
        let update = pb::UpdateRoomRequest {
            room: Some(pb::Room { room_id: "g".to_owned(), metadata, ..Default::default() }),
            update_mask: Some(FieldMask { paths: vec!["metadata".to_owned()] }),
            ..Default::default()
        };
        suite.user("ann").rooms.update_room(update).await.expect("updated");
        patch(&bob, vec![key("c", "bob", false)]).await;
        leave(&membership, "bob").await;
        come_to(&suite, &["a", "b", "c"]).await;
        suite.stop().await;
    })
    .await;
}

async fn who_leaves_while_another_takes_over_takes_nothing_along(db: Db) {
    beside(db, |suite, membership| async move {
        open(&suite).await;
        for _ in 0..8 {
            patch(&suite.user("bob"), vec![key("desk", "bob", true)]).await;
            let ann = suite.user("ann");
            let taken = patch(&ann, vec![key("desk", "ann", true)]);
            let ((), taken) = tokio::join!(leave(&membership, "bob"), taken);
            assert_eq!(taken.get("desk").map(String::as_str), Some("ann"));
            looked(&suite).await;
            assert_eq!(keys(&suite).await, ["desk"], "it is another's");
            suite.clock.advance(SECOND);
            add(&membership, "bob").await;
            let delete = Some(pb::key_patch::Action::Delete(true));
            let gone = pb::KeyPatch { action: delete, ..key("desk", "", false) };
            patch(&ann, vec![gone]).await;
        }
        suite.stop().await;
    })
    .await;
}

async fn a_key_of_an_earlier_membership_goes_though_its_owner_is_back(db: Db) {
    beside(db, |suite, membership| async move {
        open(&suite).await;
        let bob = suite.user("bob");
        patch(&bob, vec![key("old", "1", true), key("both", "1", true)]).await;
        looked(&suite).await;
        suite.clock.advance(SECOND);
        leave(&membership, "bob").await;
        add(&membership, "bob").await;
        patch(&bob, vec![key("both", "2", true), key("new", "1", true)]).await;
        come_to(&suite, &["both", "new"]).await;
        looked(&suite).await;
        assert_eq!(keys(&suite).await, ["both", "new"]);
        leave(&membership, "bob").await;
        come_to(&suite, &[]).await;
        suite.stop().await;
    })
    .await;
}

async fn who_left_before_the_key_was_set_leaves_none(db: Db) {
    beside(db, |suite, membership| async move {
        open(&suite).await;
        for _ in 0..8 {
            // Whichever comes first, nothing is left in the end.
            let bob = suite.user("bob");
            let request = pb::PatchMetadataRequest {
                room_id: "g".to_owned(),
                patches: vec![key("desk", "bob", true)],
                ..Default::default()
            };
            let mut metadata = bob.metadata.clone();
            let set = metadata.patch_metadata(request);
            let (set, ()) = tokio::join!(set, leave(&membership, "bob"));
            if let Err(status) = set {
                refused::<()>(Err(status), Reason::NotAMember);
            }
            come_to(&suite, &[]).await;
            suite.clock.advance(SECOND);
            add(&membership, "bob").await;
        }
        suite.stop().await;
    })
    .await;
}

async fn an_outage_keeps_keys_until_membership_answers(db: Db) {
    let suite = Harness::new(db).await;
    let settings = Some(pb::RoomSettings {
        metadata: membership::MemberRule::Members.into(),
        ..Default::default()
    });
    let request = pb::CreateRoomRequest { settings, ..group("g", &["bob"]) };
    create(&mut suite.user("ann"), request).await;
    patch(&suite.user("bob"), vec![key("desk", "4", true)]).await;
    suite.roster.break_rpc("BatchGetJoinTimes", Fault::Refuse(Reason::StoreUnavailable));
    suite.roster.change("g", |roster| {
        roster.members.remove("bob");
    });
    suite.run();
    let failed = || suite.task("changed rosters").is_some_and(|run| run.failures > 0);
    eventually(|| async { failed() }).await;
    assert_eq!(keys(&suite).await, ["desk"], "an outage is not an absence");
    suite.roster.mend("BatchGetJoinTimes");
    come_to(&suite, &[]).await;
    suite.stop().await;
}

async fn what_is_wrong_with_a_request_is_named(db: Db) {
    let suite = Harness::new(db).await;
    create(&mut suite.user("ann"), group("g", &[])).await;
    let at = "patches[0].delete_after_owner_left";
    let request = |patch| pb::PatchMetadataRequest {
        room_id: "g".to_owned(),
        patches: vec![patch],
        ..Default::default()
    };
    let bound = request(key("desk", "4", true));
    violates(suite.backend().metadata.patch_metadata(bound.clone()).await, at);
    let delete = Some(pb::key_patch::Action::Delete(true));
    let gone = pb::KeyPatch { action: delete, ..key("desk", "", true) };
    violates(suite.user("ann").metadata.patch_metadata(request(gone)).await, at);
    suite.service_for("ann").metadata.patch_metadata(bound).await.expect("patched");
}
