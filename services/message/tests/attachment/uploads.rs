//! `CreateAttachment`, `UploadAttachment` and `GetAttachment`: bytes on their way in.

use futures::stream;
use parlance_db::{Db, test_on_each_db};
use parlance_proto::message::v1 as pb;
use parlance_rpc::{Principal, Reason};
use parlance_types::UserId;
use rand::rngs::StdRng;
use rand::{Rng as _, SeedableRng as _};
use tonic_types::StatusExt as _;

use super::harness::{
    Kept, PART, Uploading, arrives, chunks, content, create, creating, download, get, holding, put,
    send, send_chunks, try_create, try_download, try_get, try_send, try_upload,
};
use super::s3::try_url;
use crate::harness::{TENANT, World, bad_ids, refused, violates};
use crate::rights;
use crate::rooms::{group, plan};

test_on_each_db!(parlance_message::MIGRATIONS =>
    what_is_uploaded_is_downloaded_from_any_place_on,
    an_attachment_says_how_much_has_arrived_and_its_sum,
    an_upload_that_is_cut_goes_on_on_another_replica,
    a_newer_stream_ends_an_older_one,
    what_does_not_go_on_where_the_upload_stands_is_refused,
    bytes_beyond_the_size_are_refused,
    bytes_of_another_sum_are_forgotten,
    what_is_wrong_with_an_upload_is_named,
    what_is_wrong_with_a_creation_is_named,
    a_repeat_of_a_creation_gets_the_first,
    those_who_may_not_send_create_nothing,
    strangers_create_nothing,
    a_user_has_100_attachments_in_a_room_that_no_message_holds,
    a_service_uploads_for_nobody,
    without_a_place_for_bytes_there_are_no_attachments,
);

/// B-169. Parts are 256 KiB: sizes below, at and above their ends, and some by chance.
async fn what_is_uploaded_is_downloaded_from_any_place_on(db: Db) {
    let kept = Kept::open(db).await;
    group(&kept.world, "lobby", &["ann"]).await;
    let ann = kept.user("ann");
    let mut random = StdRng::seed_from_u64(7);
    let mut sizes = vec![1, 100_000, PART - 1, PART, PART + 1, 2 * PART, 3 * PART + 7];
    sizes.extend((0..3).map(|_| random.random_range(1..4 * PART)));
    for size in sizes {
        let bytes = content(size, size as u64);
        let id = put(&ann, "lobby", &bytes).await;
        for offset in [0, 1, size / 2, size - 1, size] {
            assert_eq!(download(&ann, &id, offset).await, bytes[offset..], "{size} from {offset}");
        }
        violates(try_download(&ann, &id, size + 1).await, "offset");
        // A folder has no URLs.
        refused(try_url(&ann, &id, 60).await, Reason::AttachmentsOff);
    }
}

async fn an_attachment_says_how_much_has_arrived_and_its_sum(db: Db) {
    let kept = Kept::open(db).await;
    let room = group(&kept.world, "lobby", &["ann"]).await;
    let ann = kept.user("ann");
    // The sum of "abc", as the standard shows it.
    let sum = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";
    let id = create(&ann, "lobby", 3).await;
    let created = get(&ann, &id).await;
    assert_eq!((created.attachment_id.as_str(), created.room_id.as_str()), (&*id, "lobby"));
    assert!(id.starts_with(&room.log_id.to_string()));
    assert_eq!((created.uploader_id.as_str(), created.name.as_str()), ("ann", "tea.png"));
    assert_eq!((created.content_type.as_str(), created.size), ("image/png", 3));
    assert_eq!((created.arrived, created.complete, created.sha256.len()), (0, false, 0));
    assert_eq!(created.message_id, "");
    let uploaded = try_upload(&ann, &id, 0, b"abc").await.expect("uploaded").into_inner();
    let byte = |at: usize| u8::from_str_radix(&sum[at..at + 2], 16).expect("a byte");
    let sum: Vec<u8> = (0..sum.len()).step_by(2).map(byte).collect();
    assert_eq!((uploaded.arrived, uploaded.complete, &uploaded.sha256), (3, true, &sum));
    assert_eq!(get(&ann, &id).await, uploaded);
    let message_id = send(&ann, "lobby", &[&id]).await;
    assert_eq!(get(&ann, &id).await, pb::StoredAttachment { message_id, ..uploaded });
}

async fn an_upload_that_is_cut_goes_on_on_another_replica(db: Db) {
    let kept = Kept::open(db).await;
    let other = kept.another().await;
    group(&kept.world, "lobby", &["ann"]).await;
    let nodes = [kept.user("ann"), other.user("ann")];
    let bytes = content(4 * PART + 5, 1);
    let id = create(&nodes[0], "lobby", bytes.len()).await;
    for (n, parts) in [1, 3, 4].into_iter().enumerate() {
        let (here, there) = (&nodes[n % 2], &nodes[(n + 1) % 2]);
        let before = usize::try_from(get(here, &id).await.arrived).expect("small");
        let upload = Uploading::begin(here);
        // A little more than whole parts: that much is sent again.
        upload.put(&id, before, &bytes[before..parts * PART + 3]);
        arrives(there, &id, parts * PART).await;
        upload.cut();
    }
    let rest = try_upload(&nodes[1], &id, 4 * PART, &bytes[4 * PART..]).await;
    assert!(rest.expect("uploaded").into_inner().complete);
    for node in &nodes {
        assert_eq!(download(node, &id, 0).await, bytes);
        assert_eq!(download(node, &id, PART - 1).await, bytes[PART - 1..]);
    }
}

async fn a_newer_stream_ends_an_older_one(db: Db) {
    let kept = Kept::open(db).await;
    group(&kept.world, "lobby", &["ann"]).await;
    let (ann, bytes) = (kept.user("ann"), content(3 * PART, 1));
    let id = create(&ann, "lobby", bytes.len()).await;
    let older = Uploading::begin(&ann);
    older.put(&id, 0, &content(PART, 2));
    arrives(&ann, &id, PART).await;
    let newer = Uploading::begin(&ann);
    newer.put(&id, PART, &bytes[PART..2 * PART]);
    arrives(&ann, &id, 2 * PART).await;
    older.put(&id, PART, &content(PART, 3));
    let status = refused(older.end().await, Reason::UploadOffset);
    let info = status.get_details_error_info().expect("an ErrorInfo");
    assert_eq!(info.metadata["arrived"], (2 * PART).to_string());
    newer.put("", 2 * PART, &bytes[2 * PART..]);
    assert!(newer.end().await.expect("uploaded").into_inner().complete);
    let downloaded = download(&ann, &id, 0).await;
    assert!(downloaded[PART..] == bytes[PART..], "nothing of the older stream is left");
    assert!(downloaded[..PART] == content(PART, 2));
}

async fn what_does_not_go_on_where_the_upload_stands_is_refused(db: Db) {
    let kept = Kept::open(db).await;
    group(&kept.world, "lobby", &["ann"]).await;
    let (ann, bytes) = (kept.user("ann"), content(2 * PART, 1));
    let id = create(&ann, "lobby", bytes.len()).await;
    let arrived = |status: &tonic::Status| {
        let info = status.get_details_error_info().expect("an ErrorInfo");
        info.metadata["arrived"].clone()
    };
    let early = refused(try_upload(&ann, &id, 5, &bytes[5..]).await, Reason::UploadOffset);
    assert_eq!(arrived(&early), "0");
    // A hole in the middle.
    let mut holed = chunks(&id, 0, &bytes);
    holed.remove(2);
    let holed = send_chunks(&ann, stream::iter(holed)).await;
    assert_eq!(arrived(&refused(holed, Reason::UploadOffset)), "0");
    // A part of them, and the rest from where they stood before.
    try_upload(&ann, &id, 0, &bytes[..PART + 9]).await.expect("a part");
    let again = refused(try_upload(&ann, &id, 0, &bytes).await, Reason::UploadOffset);
    assert_eq!(arrived(&again), PART.to_string());
    let rest = try_upload(&ann, &id, PART, &bytes[PART..]).await.expect("the rest");
    assert!(rest.into_inner().complete);
    let over = refused(try_upload(&ann, &id, 2 * PART, b"").await, Reason::UploadOffset);
    assert_eq!(arrived(&over), (2 * PART).to_string());
    assert_eq!(download(&ann, &id, 0).await, bytes);
}

async fn bytes_beyond_the_size_are_refused(db: Db) {
    let kept = Kept::open(db).await;
    group(&kept.world, "lobby", &["ann"]).await;
    let ann = kept.user("ann");
    for size in [3, PART, PART + 3] {
        let id = create(&ann, "lobby", size).await;
        violates(try_upload(&ann, &id, 0, &content(size + 1, 1)).await, "data");
        assert!(!get(&ann, &id).await.complete);
        refused(try_download(&ann, &id, 0).await, Reason::AttachmentIncomplete);
    }
}

async fn bytes_of_another_sum_are_forgotten(db: Db) {
    let kept = Kept::open(db).await;
    group(&kept.world, "lobby", &["ann"]).await;
    let (ann, bytes) = (kept.user("ann"), content(2 * PART + 9, 1));
    let good = put(&ann, "lobby", &bytes).await;
    let sum = get(&ann, &good).await.sha256;
    // Said at the creation.
    let request =
        pb::CreateAttachmentRequest { sha256: sum.clone(), ..creating("lobby", bytes.len()) };
    let id = try_create(&ann, request).await.expect("created").into_inner().attachment_id;
    violates(try_upload(&ann, &id, 0, &content(2 * PART + 9, 2)).await, "sha256");
    assert_eq!(get(&ann, &id).await.arrived, 0);
    // In two streams, so that the sum goes over both.
    try_upload(&ann, &id, 0, &bytes[..PART]).await.expect("a part");
    let rest = try_upload(&ann, &id, PART, &bytes[PART..]).await.expect("the rest");
    assert_eq!(rest.into_inner().sha256, sum);
    assert_eq!(download(&ann, &id, 0).await, bytes);
    // Said at the end, which counts.
    let id = create(&ann, "lobby", bytes.len()).await;
    let with = |sha256: Vec<u8>| {
        let mut chunks = chunks(&id, 0, &bytes);
        chunks.last_mut().expect("chunks").sha256 = sha256;
        stream::iter(chunks)
    };
    violates(send_chunks(&ann, with(vec![7; 32])).await, "sha256");
    assert!(send_chunks(&ann, with(sum)).await.expect("uploaded").into_inner().complete);
}

async fn what_is_wrong_with_an_upload_is_named(db: Db) {
    let kept = Kept::open(db).await;
    let room = group(&kept.world, "lobby", &["ann", "bob"]).await;
    let ann = kept.user("ann");
    let (id, other) = (create(&ann, "lobby", 9).await, create(&ann, "lobby", 9).await);
    violates(send_chunks(&ann, stream::iter([])).await, "attachment_id");
    for bad in ["", "tea", &id[1..]] {
        violates(try_upload(&ann, bad, 0, b"abc").await, "attachment_id");
        violates(try_get(&ann, bad).await, "attachment_id");
        violates(try_download(&ann, bad, 0).await, "attachment_id");
    }
    let large = pb::UploadAttachmentRequest {
        attachment_id: id.clone(),
        data: vec![0; 131_073],
        ..Default::default()
    };
    violates(send_chunks(&ann, stream::iter([large])).await, "data");
    let short = pb::UploadAttachmentRequest {
        attachment_id: id.clone(),
        sha256: vec![1; 31],
        ..Default::default()
    };
    violates(send_chunks(&ann, stream::iter([short])).await, "sha256");
    let mut mixed = chunks(&id, 0, b"abc");
    mixed[1].attachment_id = other;
    violates(send_chunks(&ann, stream::iter(mixed)).await, "attachment_id");
    // What is not there, somebody else's, of another tenant, and of somebody who has left.
    let nothing = format!("{}-{}", room.log_id, "0".repeat(32));
    refused(try_upload(&ann, &nothing, 0, b"abc").await, Reason::AttachmentNotFound);
    refused(try_upload(&kept.user("bob"), &id, 0, b"abc").await, Reason::AttachmentNotFound);
    let foreign = kept.world.client("globex", Principal::User(UserId::new("ann")));
    refused(try_upload(&foreign, &id, 0, b"abc").await, Reason::AttachmentNotFound);
    room.leave("ann").await;
    refused(try_upload(&ann, &id, 0, b"abc").await, Reason::NotAMember);
}

async fn what_is_wrong_with_a_creation_is_named(db: Db) {
    let kept = Kept::open(db).await;
    group(&kept.world, "lobby", &["ann"]).await;
    let ann = kept.user("ann");
    let good = || creating("lobby", 9);
    for bad in bad_ids() {
        let request = pb::CreateAttachmentRequest { room_id: bad, ..good() };
        violates(try_create(&ann, request).await, "room_id");
    }
    for (bad, field) in [
        (pb::CreateAttachmentRequest { name: String::new(), ..good() }, "name"),
        (pb::CreateAttachmentRequest { name: "a\n".to_owned(), ..good() }, "name"),
        (pb::CreateAttachmentRequest { name: "x".repeat(256), ..good() }, "name"),
        (pb::CreateAttachmentRequest { content_type: "é".to_owned(), ..good() }, "content_type"),
        (pb::CreateAttachmentRequest { size: 0, ..good() }, "size"),
        (pb::CreateAttachmentRequest { size: -1, ..good() }, "size"),
        (pb::CreateAttachmentRequest { size: 104_857_601, ..good() }, "size"),
        (pb::CreateAttachmentRequest { sha256: vec![1; 33], ..good() }, "sha256"),
        (pb::CreateAttachmentRequest { request_id: "\n".to_owned(), ..good() }, "request_id"),
    ] {
        violates(try_create(&ann, bad).await, field);
    }
    try_create(&ann, creating("lobby", 104_857_600)).await.expect("the largest");
}

async fn a_repeat_of_a_creation_gets_the_first(db: Db) {
    let kept = Kept::open(db).await;
    group(&kept.world, "lobby", &["ann", "bob"]).await;
    let (ann, bob) = (kept.user("ann"), kept.user("bob"));
    let named =
        || pb::CreateAttachmentRequest { request_id: "1".to_owned(), ..creating("lobby", 9) };
    let first = try_create(&ann, named()).await.expect("created").into_inner();
    assert_eq!(try_create(&ann, named()).await.expect("again").into_inner(), first);
    let larger = pb::CreateAttachmentRequest { size: 10, ..named() };
    refused(try_create(&ann, larger).await, Reason::RequestIdReused);
    let summed = pb::CreateAttachmentRequest { sha256: vec![1; 32], ..named() };
    refused(try_create(&ann, summed).await, Reason::RequestIdReused);
    // Bob's is another, and so are those without a name.
    let of_bob = try_create(&bob, named()).await.expect("created").into_inner();
    assert_ne!(of_bob.attachment_id, first.attachment_id);
    assert_ne!(create(&ann, "lobby", 9).await, create(&ann, "lobby", 9).await);
}

async fn those_who_may_not_send_create_nothing(db: Db) {
    let kept = Kept::open(db).await;
    plan("news").admins_post().owned(&["ann", "bob"]).make(&kept.world).await;
    refused(try_create(&kept.user("bob"), creating("news", 9)).await, Reason::PostingRestricted);
    create(&kept.user("ann"), "news", 9).await;
}

async fn strangers_create_nothing(db: Db) {
    let kept = Kept::open(db).await;
    rights::of_room_call(&kept.world, async |client, room_id| {
        try_create(&client, creating(room_id, 9)).await.map(drop)
    })
    .await;
}

async fn a_user_has_100_attachments_in_a_room_that_no_message_holds(db: Db) {
    let kept = Kept::open(db).await;
    group(&kept.world, "lobby", &["ann", "bob"]).await;
    group(&kept.world, "cellar", &["ann"]).await;
    let ann = kept.user("ann");
    let sent = put(&ann, "lobby", b"abc").await;
    for _ in 1..100 {
        create(&ann, "lobby", 9).await;
    }
    let full = refused(try_create(&ann, creating("lobby", 9)).await, Reason::QuotaExceeded);
    let info = full.get_details_error_info().expect("an ErrorInfo");
    assert_eq!((&*info.metadata["limit"], &*info.metadata["most"]), ("uploads", "100"));
    create(&ann, "cellar", 9).await;
    create(&kept.user("bob"), "lobby", 9).await;
    send(&ann, "lobby", &[&sent]).await;
    create(&ann, "lobby", 9).await;
    refused(try_create(&ann, creating("lobby", 9)).await, Reason::QuotaExceeded);
}

async fn a_service_uploads_for_nobody(db: Db) {
    let kept = Kept::open(db).await;
    group(&kept.world, "lobby", &["ann"]).await;
    let (ann, backend) = (kept.user("ann"), kept.world.backend());
    let id = put(&backend, "lobby", b"abc").await;
    assert_eq!(get(&backend, &id).await.uploader_id, "");
    refused(try_get(&ann, &id).await, Reason::AttachmentNotFound);
    let operator = kept.world.client(TENANT, Principal::Operator);
    assert_eq!(download(&operator, &id, 0).await, b"abc");
    send(&backend, "lobby", &[&id]).await;
    assert_eq!(download(&ann, &id, 0).await, b"abc");
    // For a user it has that user's rights.
    let of_ann = put(&kept.world.service_for("ann"), "lobby", b"xyz").await;
    assert_eq!(download(&ann, &of_ann, 0).await, b"xyz");
    refused(try_get(&backend, &of_ann).await, Reason::AttachmentNotFound);
}

async fn without_a_place_for_bytes_there_are_no_attachments(db: Db) {
    let world = World::open(db).await;
    let room = group(&world, "lobby", &["ann"]).await;
    let (ann, id) = (world.user("ann"), format!("{}-{}", room.log_id, "0".repeat(32)));
    refused(try_create(&ann, creating("lobby", 9)).await, Reason::AttachmentsOff);
    refused(try_upload(&ann, &id, 0, b"abc").await, Reason::AttachmentsOff);
    refused(try_get(&ann, &id).await, Reason::AttachmentsOff);
    refused(try_download(&ann, &id, 0).await, Reason::AttachmentsOff);
    refused(try_send(&ann, holding("lobby", &[&id])).await, Reason::AttachmentNotFound);
}
