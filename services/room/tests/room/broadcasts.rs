//! Broadcasts: rooms that every user of the tenant is in.

use parlance_db::{Db, test_on_each_db};
use parlance_proto::membership::v1::{JoinRule, MemberRule};
use parlance_proto::message::v1::event::Body;
use parlance_proto::message::v1::{HistoryVisibility, PostRule, RoomKind};
use parlance_proto::room::v1 as pb;
use parlance_rpc::{Principal, Reason};
use prost_types::{Duration, FieldMask};

use crate::beside_membership::{beside, logs};
use crate::harness::{Harness, create, delete, get, group, refused, violates};
use crate::roster::Fault;

test_on_each_db!(parlance_room::MIGRATIONS =>
    operators_and_services_make_broadcasts_and_users_do_not,
    a_broadcast_lives_from_creation_to_deletion,
    every_user_reads_what_a_broadcast_is_called,
    only_who_acts_for_the_tenant_changes_and_deletes_one,
    it_begins_with_nobody_and_has_rules_of_its_own,
    a_tenant_has_twenty_at_most,
    two_who_make_the_last_one_at_once_make_one,
    a_broadcast_that_never_came_to_be_is_not_counted,
    a_repeated_request_gets_the_first_reply,
    people_of_a_broadcast_are_refused_by_membership,
);

pub(crate) fn broadcast(room_id: &str) -> pb::CreateRoomRequest {
    pb::CreateRoomRequest { kind: RoomKind::Broadcast.into(), ..group(room_id, &[]) }
}

fn with(room_id: &str, settings: pb::RoomSettings) -> pb::CreateRoomRequest {
    pb::CreateRoomRequest { settings: Some(settings), ..broadcast(room_id) }
}

fn update(room: pb::Room, paths: &[&str]) -> pb::UpdateRoomRequest {
    let paths = paths.iter().map(ToString::to_string).collect();
    let update_mask = Some(FieldMask { paths });
    pb::UpdateRoomRequest { room: Some(room), update_mask, ..Default::default() }
}

fn renamed(room_id: &str, name: &str) -> pb::UpdateRoomRequest {
    let (room_id, name) = (room_id.to_owned(), name.to_owned());
    update(pb::Room { room_id, name, ..Default::default() }, &["name"])
}

/// B-004, B-005.
async fn operators_and_services_make_broadcasts_and_users_do_not(db: Db) {
    let suite = Harness::new(db).await;
    for mut client in [suite.user("ann"), suite.service_for("ann")] {
        refused(client.rooms.create_room(broadcast("news")).await, Reason::NotAllowed);
    }
    assert!(suite.roster.open_rosters("news").is_empty());
    let operator = suite.caller("acme", Principal::Operator);
    for (room_id, mut client) in [("news", operator), ("more", suite.backend())] {
        let room = create(&mut client, broadcast(room_id)).await;
        assert_eq!((room.kind(), room.creator_user_id.as_str()), (RoomKind::Broadcast, ""));
        let (_, roster) = suite.roster.of(room_id);
        assert!(roster.members.is_empty());
        let rules = roster.created.effects.expect("effects").rules.expect("rules");
        assert_eq!((rules.post(), rules.history()), (PostRule::Admins, HistoryVisibility::All));
        let Some(Body::RoomCreated(created)) = roster.created.body else { panic!("a creation") };
        assert_eq!(created.kind(), RoomKind::Broadcast);
    }
    refused(suite.backend().rooms.create_room(broadcast("news")).await, Reason::RoomIdTaken);
}

async fn a_broadcast_lives_from_creation_to_deletion(db: Db) {
    beside(db, |suite, _membership| async move {
        let mut backend = suite.backend();
        create(&mut backend, broadcast("news")).await;
        backend.rooms.update_room(renamed("news", "All news")).await.expect("updated");
        let found = suite.user("ann").rooms.get_room(get("news")).await.expect("there");
        assert_eq!(found.into_inner().room.expect("a room").name, "All news");
        backend.rooms.delete_room(delete("news", "")).await.expect("deleted");
        refused(suite.user("ann").rooms.get_room(get("news")).await, Reason::RoomNotFound);
        let logs = logs(&suite);
        let [events] = &logs[..] else { panic!("one log") };
        let bodies: Vec<_> = events.iter().flat_map(|event| &event.body).collect();
        assert!(
            matches!(bodies[..], [Body::RoomCreated(_), Body::RoomUpdated(_), Body::RoomClosed(_)]),
            "{bodies:?}"
        );
        create(&mut backend, broadcast("news")).await;
    })
    .await;
}

/// B-005.
async fn every_user_reads_what_a_broadcast_is_called(db: Db) {
    let suite = Harness::new(db).await;
    create(&mut suite.backend(), broadcast("news")).await;
    for mut client in [suite.user("ann"), suite.user("newcomer"), suite.backend()] {
        client.rooms.get_room(get("news")).await.expect("there");
        let batch = pb::BatchGetRoomsRequest {
            room_ids: vec!["news".to_owned()],
            ..pb::BatchGetRoomsRequest::default()
        };
        let rooms = client.rooms.batch_get_rooms(batch).await.expect("rooms").into_inner().rooms;
        assert_eq!(rooms.len(), 1);
    }
    let mut other = suite.caller("other", Principal::Service);
    refused(other.rooms.get_room(get("news")).await, Reason::RoomNotFound);
    refused(other.rooms.delete_room(delete("news", "")).await, Reason::RoomNotFound);
}

async fn only_who_acts_for_the_tenant_changes_and_deletes_one(db: Db) {
    let suite = Harness::new(db).await;
    create(&mut suite.backend(), broadcast("news")).await;
    let set = Some(pb::key_patch::Action::Set("red".to_owned()));
    let patch = pb::KeyPatch { key: "color".to_owned(), action: set, ..Default::default() };
    let patch = pb::PatchMetadataRequest {
        room_id: "news".to_owned(),
        patches: vec![patch],
        ..Default::default()
    };
    for mut client in [suite.user("ann"), suite.service_for("bob")] {
        refused(client.rooms.update_room(renamed("news", "mine")).await, Reason::NotAllowed);
        refused(client.metadata.patch_metadata(patch.clone()).await, Reason::NotAllowed);
        refused(client.rooms.delete_room(delete("news", "")).await, Reason::NotAllowed);
    }
    // Who is suspended is told that, as in every other room.
    let mut ann = suite.user("ann");
    suite.roster.break_rpc("BatchGetRoles", Fault::Refuse(Reason::Suspended));
    refused(ann.rooms.update_room(renamed("news", "mine")).await, Reason::Suspended);
    refused(ann.metadata.patch_metadata(patch.clone()).await, Reason::Suspended);
    refused(ann.rooms.delete_room(delete("news", "")).await, Reason::Suspended);
    suite.roster.mend("BatchGetRoles");
    let mut operator = suite.caller("acme", Principal::Operator);
    operator.rooms.update_room(renamed("news", "ours")).await.expect("updated");
    operator.metadata.patch_metadata(patch).await.expect("patched");
    operator.rooms.delete_room(delete("news", "")).await.expect("deleted");
    refused(suite.user("ann").rooms.get_room(get("news")).await, Reason::RoomNotFound);
}

async fn it_begins_with_nobody_and_has_rules_of_its_own(db: Db) {
    let suite = Harness::new(db).await;
    let mut backend = suite.backend();
    let members =
        pb::CreateRoomRequest { member_user_ids: vec!["bob".to_owned()], ..broadcast("news") };
    violates(backend.rooms.create_room(members).await, "member_user_ids");
    let owner = pb::CreateRoomRequest { owner_user_id: "bob".to_owned(), ..broadcast("news") };
    violates(backend.rooms.create_room(owner).await, "owner_user_id");
    let unique = pb::CreateRoomRequest { unique_id: "news".to_owned(), ..broadcast("news") };
    violates(backend.rooms.create_room(unique).await, "unique_id");
    let live = Some(pb::LiveSettings::default());
    let live = pb::CreateRoomRequest { live, ..broadcast("news") };
    violates(backend.rooms.create_room(live).await, "live");

    let retention = Some(Duration { seconds: 3600, nanos: 0 });
    let kept = pb::RoomSettings { retention, ..Default::default() };
    let room = create(&mut backend, with("news", kept)).await;
    let own = room.settings.expect("settings");
    assert_eq!((own.post(), own.join()), (PostRule::Admins, JoinRule::AddedOnly));
    assert_eq!(own.retention, retention);
    // What is read can be sent back.
    let same = pb::Room { settings: Some(own), ..room.clone() };
    backend.rooms.update_room(update(same, &["settings"])).await.expect("the same");

    let (members, default) = (MemberRule::Members.into(), pb::RoomSettings::default());
    for (rule, settings) in [
        ("post", pb::RoomSettings { post: PostRule::Members.into(), ..default }),
        ("add", pb::RoomSettings { add: members, ..default }),
        ("remove", pb::RoomSettings { remove: members, ..default }),
        ("join", pb::RoomSettings { join: JoinRule::Anyone.into(), ..default }),
        ("allow_preview", pb::RoomSettings { allow_preview: true, ..default }),
        ("history", pb::RoomSettings { history: HistoryVisibility::SinceJoin.into(), ..default }),
        ("capacity", pb::RoomSettings { capacity: 7, ..default }),
        ("metadata", pb::RoomSettings { metadata: members, ..default }),
        ("slow_mode", pb::RoomSettings { slow_mode: retention, ..default }),
        ("edit_window", pb::RoomSettings { edit_window: retention, ..default }),
        ("delete_window", pb::RoomSettings { delete_window: retention, ..default }),
    ] {
        let new = backend.rooms.create_room(with("other", settings)).await;
        violates(new, &format!("settings.{rule}"));
        let changed = pb::Room { settings: Some(settings), ..room.clone() };
        let changed = update(changed, &[&format!("settings.{rule}")]);
        let changed = backend.rooms.update_room(changed);
        violates(changed.await, &format!("room.settings.{rule}"));
    }
    let stays = backend.rooms.get_room(get("news")).await.expect("there").into_inner();
    assert_eq!(stays.room.expect("a room").settings, Some(own));
}

async fn a_tenant_has_twenty_at_most(db: Db) {
    let suite = Harness::new(db).await;
    let mut backend = suite.backend();
    for n in 0..20 {
        create(&mut backend, broadcast(&format!("news {n}"))).await;
    }
    let one_more = pb::CreateRoomRequest { request_id: "r".to_owned(), ..broadcast("more") };
    for _ in 0..2 {
        let refused =
            refused(backend.rooms.create_room(one_more.clone()).await, Reason::TooManyBroadcasts);
        assert_eq!(refused.code(), tonic::Code::ResourceExhausted);
    }
    // Other rooms, and those of others, are not counted.
    create(&mut backend, group("den", &[])).await;
    create(&mut suite.caller("other", Principal::Service), broadcast("news 0")).await;
    // One that is being deleted still is.
    suite.roster.break_rpc("CloseRoster", Fault::Refuse(Reason::StoreUnavailable));
    backend.rooms.delete_room(delete("news 7", "")).await.expect_err("an outage");
    refused(backend.rooms.create_room(one_more.clone()).await, Reason::TooManyBroadcasts);
    suite.roster.mend("CloseRoster");
    backend.rooms.delete_room(delete("news 7", "")).await.expect("deleted");
    create(&mut backend, one_more).await;
    refused(backend.rooms.create_room(broadcast("again")).await, Reason::TooManyBroadcasts);
}

async fn two_who_make_the_last_one_at_once_make_one(db: Db) {
    let suite = Harness::new(db).await;
    for n in 0..19 {
        create(&mut suite.backend(), broadcast(&format!("news {n}"))).await;
    }
    let make = |n: usize| {
        let mut backend = suite.backend();
        async move { backend.rooms.create_room(broadcast(&format!("last {n}"))).await }
    };
    let answers = futures::future::join_all((0..4).map(make)).await;
    let (rooms, others): (Vec<_>, Vec<_>) = answers.into_iter().partition(Result::is_ok);
    assert_eq!(rooms.len(), 1);
    for other in others {
        refused(other, Reason::TooManyBroadcasts);
    }
}

async fn a_broadcast_that_never_came_to_be_is_not_counted(db: Db) {
    let suite = Harness::new(db).await;
    let mut backend = suite.backend();
    suite.roster.break_rpc("OpenRoster", Fault::Refuse(Reason::RoomIdTaken));
    for n in 0..25 {
        let made = backend.rooms.create_room(broadcast(&format!("never {n}"))).await;
        refused(made, Reason::RoomIdTaken);
    }
    suite.roster.mend("OpenRoster");
    create(&mut backend, broadcast("news")).await;
}

async fn a_repeated_request_gets_the_first_reply(db: Db) {
    let suite = Harness::new(db).await;
    let request = pb::CreateRoomRequest { request_id: "r1".to_owned(), ..broadcast("") };
    let first = create(&mut suite.backend(), request.clone()).await;
    assert_eq!(create(&mut suite.backend(), request.clone()).await, first);
    let other = pb::CreateRoomRequest { name: "Other".to_owned(), ..request };
    refused(suite.backend().rooms.create_room(other).await, Reason::RequestIdReused);
}

async fn people_of_a_broadcast_are_refused_by_membership(db: Db) {
    let test = beside(db, |suite, _membership| async move {
        let mut backend = suite.backend();
        create(&mut backend, broadcast("news")).await;
        let room = Some(pb::Room { room_id: "news".to_owned(), ..Default::default() });
        let bob = vec!["bob".to_owned()];
        for request in [
            pb::UpdateRoomRequest { add_user_ids: bob.clone(), ..Default::default() },
            pb::UpdateRoomRequest { remove_user_ids: bob.clone(), ..Default::default() },
        ] {
            for mut client in [suite.backend(), suite.user("ann")] {
                let request = pb::UpdateRoomRequest { room: room.clone(), ..request.clone() };
                refused(client.rooms.update_room(request).await, Reason::BroadcastRoom);
            }
        }
    });
    Box::pin(test).await;
}
