//! What becomes of bytes that nobody may read any more.

use parlance_db::{Db, test_on_each_db};
use parlance_message::ON_PRUNE;
use parlance_proto::message::v1 as pb;
use parlance_proto::message::v1::history_service_client::HistoryServiceClient;
use parlance_rpc::Reason;
use parlance_rpc::testing::eventually;

use super::harness::{
    Kept, PART, Uploading, arrives, content, create, creating, download, files, get, holding, put,
    send, try_create, try_get, try_upload,
};
use crate::harness::{delete, refused};
use crate::rooms::{group, plan};

test_on_each_db!(parlance_message::MIGRATIONS =>
    the_bytes_of_a_deleted_message_go_within_ten_minutes,
    what_an_expired_message_held_is_read_no_more_and_goes,
    what_no_message_holds_goes_after_a_day,
    what_is_given_up_is_neither_uploaded_nor_held,
    what_an_upload_left_behind_goes_with_it,
    a_removal_that_was_cut_short_is_gone_on_with,
    what_pruned_messages_held_goes,
    what_a_deleted_room_held_goes,
    two_replicas_remove_at_once,
    a_store_that_is_away_holds_up_nothing_else,
);

const SECOND: i64 = 1_000_000;
const MINUTE: i64 = 60 * SECOND;
const DAY: i64 = 24 * 60 * MINUTE;

/// Rows that are left of attachments.
async fn rows(kept: &Kept) -> i64 {
    let mut all = 0;
    for count in [
        "SELECT COUNT(*) FROM attachments",
        "SELECT COUNT(*) FROM attachment_spans",
        "SELECT COUNT(*) FROM attachment_ends",
        "SELECT COUNT(*) FROM attachment_remains",
    ] {
        let db = kept.world.service.store().db();
        let (rows,): (i64,) = db.read(count).fetch_one().await.expect("a count");
        all += rows;
    }
    all
}

async fn the_bytes_of_a_deleted_message_go_within_ten_minutes(db: Db) {
    let kept = Kept::open(db).await;
    group(&kept.world, "lobby", &["ann"]).await;
    let ann = kept.user("ann");
    let (id, other) =
        (put(&ann, "lobby", &content(2 * PART, 1)).await, put(&ann, "lobby", b"x").await);
    let message = send(&ann, "lobby", &[&id]).await;
    send(&ann, "lobby", &[&other]).await;
    assert_eq!(kept.files(&id).len(), 2);
    delete(&mut ann.clone(), &message).await;
    for _ in 0..9 {
        kept.tidy_after(MINUTE).await;
    }
    assert_eq!(kept.files(&id).len(), 0);
    assert_eq!(download(&ann, &other, 0).await, b"x");
    delete(&mut ann.clone(), &get(&ann, &other).await.message_id).await;
    kept.tidy_after(9 * MINUTE).await;
    assert_eq!((rows(&kept).await, files(kept.folder()).len()), (0, 0));
    assert_eq!(std::fs::read_dir(kept.folder()).expect("the folder").count(), 0);
}

async fn what_an_expired_message_held_is_read_no_more_and_goes(db: Db) {
    let kept = Kept::open(db).await;
    group(&kept.world, "lobby", &["ann"]).await;
    let ann = kept.user("ann");
    let id = put(&ann, "lobby", b"abc").await;
    let lasts = Some(prost_types::Duration { seconds: 60, nanos: 0 });
    let request = pb::SendMessageRequest { expire_after: lasts, ..holding("lobby", &[&id]) };
    ann.clone().messages.send_message(request).await.expect("sent");
    kept.world.clock.advance(MINUTE - 1);
    assert_eq!(download(&ann, &id, 0).await, b"abc");
    // Nothing has deleted it yet.
    kept.world.clock.advance(1);
    refused(try_get(&ann, &id).await, Reason::AttachmentNotFound);
    kept.world.service.expiries().sweep().await.expect("swept");
    kept.tidy_after(10 * MINUTE).await;
    assert_eq!((rows(&kept).await, files(kept.folder()).len()), (0, 0));
}

async fn what_no_message_holds_goes_after_a_day(db: Db) {
    let kept = Kept::open(db).await;
    group(&kept.world, "lobby", &["ann"]).await;
    let ann = kept.user("ann");
    let id = put(&ann, "lobby", b"abc").await;
    let begun = create(&ann, "lobby", 9).await;
    let held = put(&ann, "lobby", b"xyz").await;
    send(&ann, "lobby", &[&held]).await;
    kept.tidy_after(DAY - SECOND).await;
    assert_eq!(download(&ann, &id, 0).await, b"abc");
    kept.tidy_after(2 * SECOND).await;
    for gone in [&id, &begun] {
        refused(try_get(&ann, gone).await, Reason::AttachmentNotFound);
    }
    kept.tidy_after(2 * MINUTE).await;
    assert_eq!(kept.files(&id).len(), 0);
    // What a message holds is looked at no more.
    kept.tidy_after(DAY).await;
    assert_eq!(download(&ann, &held, 0).await, b"xyz");
    assert_eq!(rows(&kept).await, 2, "the attachment and its span");
}

async fn what_is_given_up_is_neither_uploaded_nor_held(db: Db) {
    let kept = Kept::open(db).await;
    group(&kept.world, "lobby", &["ann"]).await;
    let (ann, bytes) = (kept.user("ann"), content(3 * PART, 1));
    let request = || pb::CreateAttachmentRequest {
        request_id: "1".to_owned(),
        ..creating("lobby", bytes.len())
    };
    let id = try_create(&ann, request()).await.expect("created").into_inner().attachment_id;
    let upload = Uploading::begin(&ann);
    upload.put(&id, 0, &bytes[..PART]);
    arrives(&ann, &id, PART).await;
    kept.tidy_after(DAY).await;
    upload.put("", PART, &bytes[PART..2 * PART]);
    refused(upload.end().await, Reason::AttachmentNotFound);
    refused(try_upload(&ann, &id, PART, &bytes[PART..]).await, Reason::AttachmentNotFound);
    refused(try_create(&ann, request()).await, Reason::AttachmentNotFound);
    kept.tidy_after(2 * MINUTE).await;
    assert_eq!((rows(&kept).await, files(kept.folder()).len()), (0, 0));
    // Then it is a new one.
    let again = try_create(&ann, request()).await.expect("created").into_inner();
    assert_ne!(again.attachment_id, id);
}

async fn what_an_upload_left_behind_goes_with_it(db: Db) {
    let kept = Kept::open(db).await;
    group(&kept.world, "lobby", &["ann"]).await;
    let (ann, bytes) = (kept.user("ann"), content(2 * PART, 1));
    let id = create(&ann, "lobby", bytes.len()).await;
    let upload = Uploading::begin(&ann);
    upload.put(&id, 0, &bytes[..PART]);
    arrives(&ann, &id, PART).await;
    upload.cut();
    // As a process leaves it that dies between storing a part and counting it, or amidst it.
    let stream = kept.files(&id)[0].parent().expect("a folder").to_owned();
    std::fs::write(stream.join("1"), b"not counted").expect("written");
    std::fs::write(stream.join("2#1"), b"half").expect("written");
    let rest = try_upload(&ann, &id, PART, &bytes[PART..]).await.expect("uploaded");
    assert!(rest.into_inner().complete);
    assert_eq!(download(&ann, &id, 0).await, bytes);
    let message = send(&ann, "lobby", &[&id]).await;
    delete(&mut ann.clone(), &message).await;
    kept.tidy_after(2 * MINUTE).await;
    assert_eq!((rows(&kept).await, files(kept.folder()).len()), (0, 0));
}

async fn a_removal_that_was_cut_short_is_gone_on_with(db: Db) {
    let kept = Kept::open(db).await;
    group(&kept.world, "lobby", &["ann"]).await;
    let ann = kept.user("ann");
    let steps = ["DELETE FROM attachment_spans", "DELETE FROM attachments"];
    for done in 0..=steps.len() {
        let id = put(&ann, "lobby", b"abc").await;
        let message = send(&ann, "lobby", &[&id]).await;
        delete(&mut ann.clone(), &message).await;
        // The bytes were removed, and some of the rows.
        std::fs::remove_file(&kept.files(&id)[0]).expect("removed");
        let db = kept.world.service.store().db();
        for step in &steps[..done] {
            db.write(*step).execute().await.expect("removed");
        }
        kept.tidy_after(2 * MINUTE).await;
        assert_eq!((rows(&kept).await, files(kept.folder()).len()), (0, 0), "{done}");
    }
}

async fn what_pruned_messages_held_goes(db: Db) {
    let kept = Kept::open(db).await;
    plan("lobby").owned(&["ann"]).make(&kept.world).await;
    let ann = kept.user("ann");
    let mut ids = Vec::new();
    for n in 0..3 {
        ids.push(put(&ann, "lobby", &content(9, n)).await);
        send(&ann, "lobby", &[&ids[ids.len() - 1]]).await;
    }
    let through_message_id = get(&ann, &ids[1]).await.message_id;
    let room_id = "lobby".to_owned();
    let request =
        pb::ClearHistoryForAllRequest { room_id, through_message_id, ..Default::default() };
    let mut history = HistoryServiceClient::new(ann.transport.clone());
    history.clear_history_for_all(request).await.expect("cleared");
    for id in &ids[..2] {
        refused(try_get(&ann, id).await, Reason::AttachmentNotFound);
    }
    kept.world.service.store().prune(ON_PRUNE).await.expect("pruned");
    kept.tidy().await;
    kept.tidy_after(2 * MINUTE).await;
    assert_eq!(files(kept.folder()).len(), 1);
    assert_eq!(download(&ann, &ids[2], 0).await, content(9, 2));
}

async fn what_a_deleted_room_held_goes(db: Db) {
    let kept = Kept::open(db).await;
    let room = plan("lobby").owned(&["ann"]).make(&kept.world).await;
    let ann = kept.user("ann");
    let held = put(&ann, "lobby", b"abc").await;
    send(&ann, "lobby", &[&held]).await;
    put(&ann, "lobby", b"never sent").await;
    room.close().await;
    refused(try_get(&ann, &held).await, Reason::AttachmentNotFound);
    kept.tidy_after(2 * DAY).await;
    kept.tidy_after(2 * MINUTE).await;
    assert_eq!(kept.files(&held).len(), 1, "as long as the log is kept");
    kept.world.clock.advance(30 * DAY);
    eventually(|| async {
        let store = kept.world.service.store();
        store.empty_closed().await.expect("emptied");
        store.prune(ON_PRUNE).await.expect("pruned");
        kept.tidy_after(2 * MINUTE).await;
        (rows(&kept).await, files(kept.folder()).len()) == (0, 0)
    })
    .await;
}

async fn two_replicas_remove_at_once(db: Db) {
    let kept = Kept::open(db).await;
    let other = kept.another().await;
    group(&kept.world, "lobby", &["ann"]).await;
    let ann = kept.user("ann");
    for _ in 0..20 {
        let id = put(&ann, "lobby", b"abc").await;
        let message = send(&ann, "lobby", &[&id]).await;
        delete(&mut ann.clone(), &message).await;
    }
    kept.world.clock.advance(2 * MINUTE);
    other.clock.advance(2 * MINUTE);
    let (one, two) = futures::join!(
        kept.world.service.attachments().expect("attachments").tidy(),
        other.service.attachments().expect("attachments").tidy(),
    );
    one.expect("removed");
    two.expect("removed");
    assert_eq!((rows(&kept).await, files(kept.folder()).len()), (0, 0));
}

async fn a_store_that_is_away_holds_up_nothing_else(db: Db) {
    let kept = Kept::open(db).await;
    group(&kept.world, "lobby", &["ann"]).await;
    let ann = kept.user("ann");
    let (stuck, id) = (put(&ann, "lobby", b"abc").await, put(&ann, "lobby", b"xyz").await);
    let messages = [send(&ann, "lobby", &[&stuck]).await, send(&ann, "lobby", &[&id]).await];
    for message in messages {
        delete(&mut ann.clone(), &message).await;
    }
    // A file where a folder should be.
    let folder = kept.files(&stuck)[0].ancestors().nth(2).expect("a folder").to_owned();
    std::fs::remove_dir_all(&folder).expect("removed");
    std::fs::write(&folder, b"in the way").expect("written");
    kept.world.clock.advance(2 * MINUTE);
    let attachments = kept.world.service.attachments().expect("attachments");
    attachments.tidy().await.expect_err("one is stuck");
    assert_eq!(kept.files(&id).len(), 0);
    std::fs::remove_file(&folder).expect("removed");
    kept.tidy_after(2 * MINUTE).await;
    assert_eq!(rows(&kept).await, 0);
    // What cannot be written is told as what is away, and the upload stands.
    let id = create(&ann, "lobby", 3).await;
    let (room, _) = id.split_once('-').expect("two ids");
    std::fs::write(kept.folder().join(room), b"in the way").expect("written");
    refused(try_upload(&ann, &id, 0, b"abc").await, Reason::StoreUnavailable);
    std::fs::remove_file(kept.folder().join(room)).expect("removed");
    assert!(try_upload(&ann, &id, 0, b"abc").await.expect("uploaded").into_inner().complete);
}
