//! What a stream delivers when nothing goes wrong.

use parlance_db::{Db, test_on_each_db};
use parlance_follow::Options;
use parlance_log::RoomKind;
use parlance_proto::message::v1 as pb;
use parlance_proto::message::v1::subscribe_response::Frame;
use parlance_rpc::testing::{refused, violates};
use parlance_rpc::{Principal, Reason};
use tonic::Code;

use crate::rooms::{event, group};
use crate::stream::harness::{
    all_rooms, from, latest, node, node_with, quick, receipt, seqs, text,
};

test_on_each_db!(parlance_message::MIGRATIONS =>
    a_stream_replays_then_catches_up_then_is_live,
    resuming_from_any_cursor_gives_what_a_full_replay_gives,
    a_stream_follows_all_rooms_of_its_user_as_they_come_and_go,
    cursors_of_known_rooms_are_honoured_among_all_rooms,
    a_kind_that_is_not_known_passes_untouched,
    receipts_come_as_notices_with_their_latest_values,
    a_room_without_a_cursor_starts_at_the_latest_or_at_the_join,
    what_cannot_be_followed_is_named,
    a_room_that_cannot_be_attached_is_tried_again_beside_the_others,
);

/// B-133, B-140.
async fn a_stream_replays_then_catches_up_then_is_live(db: Db) {
    let node = node(&db).await;
    let room = group(&node, "r", &["ann"]).await;
    node.send(&room, "one").await;

    let mut reader = node.subscribe("ann", from(&room, "", 0)).await;
    let attached = reader.attached().await;
    assert_eq!((attached.room_id.as_str(), attached.resume_from, attached.head), ("r", 0, 3));
    let replayed = [reader.event().await, reader.event().await, reader.event().await];
    assert_eq!(seqs(&replayed), [1, 2, 3]);
    assert_eq!(text(&replayed[2]), Some("one"));
    assert_eq!(replayed[2].event_id, format!("{}-3", room.log_id));
    assert_eq!(reader.caught_up().await, 3);

    for n in 4..20 {
        assert_eq!(node.send(&room, "more").await, n);
        assert_eq!(reader.event().await.seq, n);
    }
}

/// B-145, B-205.
async fn resuming_from_any_cursor_gives_what_a_full_replay_gives(db: Db) {
    let node = node(&db).await;
    let room = group(&node, "r", &["ann"]).await;
    for n in 0..200 {
        node.send(&room, &n.to_string()).await;
    }
    let mut reader = node.subscribe("ann", from(&room, "", 0)).await;
    let epoch = reader.attached().await.epoch;
    let all = reader.events_until(202).await;
    assert_eq!(seqs(&all), (1..=202).collect::<Vec<_>>());
    for cursor in [1_i64, 2, 63, 64, 65, 127, 128, 129, 201, 202] {
        let mut resumed = node.subscribe("ann", from(&room, &epoch, cursor)).await;
        assert_eq!(resumed.attached().await.resume_from, cursor);
        let rest = &all[usize::try_from(cursor).expect("a cursor")..];
        for event in rest {
            assert_eq!(resumed.event().await, *event);
        }
        assert_eq!(resumed.caught_up().await, 202);
    }
}

async fn a_stream_follows_all_rooms_of_its_user_as_they_come_and_go(db: Db) {
    let node = node(&db).await;
    let old = group(&node, "old", &["ann"]).await;
    let mut reader = node.subscribe("ann", all_rooms(pb::StreamStart::Latest)).await;
    assert_eq!(reader.attached().await.resume_from, 2);
    assert_eq!(reader.caught_up().await, 2);

    // A room that arrives starts at the event that added the user.
    let fresh = group(&node, "fresh", &["bob"]).await;
    node.send(&fresh, "before").await;
    let joined = fresh.join("ann").await;
    let attached = reader.attached().await;
    assert_eq!((attached.room_id.as_str(), attached.resume_from), ("fresh", joined - 1));
    assert_eq!(reader.event().await.seq, joined);
    assert_eq!(reader.caught_up().await, joined);

    let removed = old.leave("ann").await;
    assert_eq!(reader.event().await.seq, removed);
    assert_eq!(reader.closed().await, (removed, pb::ClosedReason::Removed));
    node.send(&old, "unseen").await;

    let again = old.join("ann").await;
    let attached = reader.attached().await;
    assert_eq!((attached.room_id.as_str(), attached.resume_from), ("old", again - 1));
    assert_eq!(reader.event().await.seq, again);
    assert_eq!(reader.caught_up().await, again);
}

async fn cursors_of_known_rooms_are_honoured_among_all_rooms(db: Db) {
    let node = node(&db).await;
    let known = group(&node, "known", &["ann"]).await;
    group(&node, "other", &["ann"]).await;
    group(&node, "strange", &["bob"]).await;
    let mut request = from(&known, "", 0);
    request.rooms.extend(latest(&["strange"]).rooms);
    request.all_my_rooms = true;
    request.start = pb::StreamStart::FromJoin.into();
    let mut reader = node.subscribe("ann", request).await;
    let mut got = std::collections::BTreeMap::new();
    while got.len() < 3 {
        match reader.next().await {
            Frame::Attached(attached) => {
                got.insert(attached.room_id, format!("from {}", attached.resume_from));
            }
            Frame::Closed(closed) => {
                got.insert(closed.room_id.clone(), format!("{:?}", closed.reason()));
            }
            _ => {}
        }
    }
    let got: Vec<_> = got.iter().map(|(room, what)| (room.as_str(), what.as_str())).collect();
    assert_eq!(got, [("known", "from 0"), ("other", "from 1"), ("strange", "NotAMember")]);
}

async fn a_kind_that_is_not_known_passes_untouched(db: Db) {
    let node = node(&db).await;
    let room = group(&node, "r", &["ann", "bob"]).await;
    let mut ann = node.subscribe("ann", latest(&["r"])).await;
    let mut bob = node.subscribe("bob", latest(&["r"])).await;
    for reader in [&mut ann, &mut bob] {
        reader.live().await;
    }
    // A body of a later version, whose effect takes Bob's access.
    let effects = pb::Effects { lost_user_ids: vec!["bob".to_owned()], ..pb::Effects::default() };
    let mut unknown = event(effects.clone(), None).to_vec();
    unknown.extend([0xfa, 0x3e, 2, 8, 1]);
    let seq = room.happen(unknown.into()).await;

    let got = ann.event().await;
    assert_eq!((got.seq, got.body, got.effects), (seq, None, Some(effects)));
    assert_eq!(bob.event().await.seq, seq);
    assert_eq!(bob.closed().await, (seq, pb::ClosedReason::Removed));
}

async fn receipts_come_as_notices_with_their_latest_values(db: Db) {
    let node = node(&db).await;
    let room = group(&node, "r", &["ann", "bob"]).await;
    let mut reader = node.follow("ann").await;
    node.hub.tell(room.log_id, receipt(&room, "bob", 3, 4));
    node.hub.tell(room.log_id, receipt(&room, "bob", 4, 4));
    loop {
        let Frame::Notice(notice) = reader.next().await else { panic!("a notice") };
        assert_eq!(notice.room_id, "r");
        let Some(pb::notice::Notice::Receipt(receipt)) = notice.notice else { panic!() };
        assert_eq!((receipt.user_id.as_str(), receipt.delivered_seq), ("bob", 4));
        if receipt.read_seq == 4 {
            return;
        }
    }
}

async fn a_room_without_a_cursor_starts_at_the_latest_or_at_the_join(db: Db) {
    let node = node(&db).await;
    let room = group(&node, "r", &["bob"]).await;
    let joined = room.join("ann").await;
    let head = node.send(&room, "more").await;
    for (start, position) in [
        (pb::StreamStart::Unspecified, head),
        (pb::StreamStart::Latest, head),
        (pb::StreamStart::FromJoin, joined - 1),
    ] {
        let request = pb::SubscribeRequest { start: start.into(), ..latest(&["r"]) };
        let mut reader = node.subscribe("ann", request).await;
        assert_eq!(reader.attached().await.resume_from, position);
    }
}

async fn what_cannot_be_followed_is_named(db: Db) {
    let node = node(&db).await;
    let room = group(&node, "r", &["ann"]).await;
    let many: Vec<String> = (0..201).map(|n| n.to_string()).collect();
    let many: Vec<&str> = many.iter().map(String::as_str).collect();
    for (request, field) in [
        (latest(&[]), "rooms"),
        (latest(&many), "rooms"),
        (latest(&["r", "r"]), "rooms[1].room_id"),
        (latest(&["r", ""]), "rooms[1].room_id"),
        (latest(&["a\0b"]), "rooms[0].room_id"),
        (from(&room, "e", -1), "rooms[0].cursor.seq"),
        (from(&room, "", 1), "rooms[0].cursor.epoch"),
        (from(&room, "a\0b", 1), "rooms[0].cursor.epoch"),
    ] {
        violates(node.try_subscribe("ann", request).await, field);
    }
    let mut service = node.client(Principal::Service);
    refused(service.subscribe(all_rooms(pb::StreamStart::Latest)).await, Reason::UserRequired);
}

async fn a_room_that_cannot_be_attached_is_tried_again_beside_the_others(db: Db) {
    let options = Options { attaching: 1, ..quick() };
    let node = node_with(&db, options).await;
    let (bad, _good) = (group(&node, "bad", &["ann"]).await, group(&node, "good", &["ann"]).await);
    let kind = async |kind: i16| {
        let update = db.write("UPDATE heads SET kind = $1 WHERE log_id = $2");
        update.bind(kind).bind(bad.log_id.0).execute().await.expect("an update");
    };
    kind(99).await;
    let failed = node.try_subscribe("ann", latest(&["bad"])).await.expect_err("a failure");
    assert_eq!(failed.code(), Code::Internal);
    let failed = node.try_subscribe("ann", latest(&["bad", "none"])).await;
    assert_eq!(failed.expect_err("a failure").code(), Code::Internal);
    let mut reader = node.subscribe("ann", latest(&["bad", "good"])).await;
    assert_eq!(reader.attached().await.room_id, "good");
    reader.caught_up().await;
    kind(RoomKind::Group as i16).await;
    assert_eq!(reader.attached().await.room_id, "bad");
}
