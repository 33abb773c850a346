//! Who reads an attachment, and for how long.

use parlance_db::{Db, test_on_each_db};
use parlance_proto::message::v1 as pb;
use parlance_proto::message::v1::RoomKind;
use parlance_proto::message::v1::history_service_client::HistoryServiceClient;
use parlance_rpc::{Principal, Reason};
use parlance_types::UserId;

use super::harness::{
    Kept, PART, content, create, download, get, put, send, try_download, try_get,
};
use crate::harness::{Client, caller, delete, refused};
use crate::rooms::{Own, group, plan};

test_on_each_db!(parlance_message::MIGRATIONS =>
    until_a_message_holds_it_only_its_uploader_reads_it,
    whoever_sees_the_message_reads_what_it_holds,
    members_who_do_not_see_the_message_read_nothing,
    a_direct_room_is_not_betrayed_by_its_attachments,
    a_deletion_cuts_off_a_download_that_runs,
    a_removal_cuts_off_a_download_that_runs,
    a_token_that_expires_ends_a_download,
    what_is_cleared_is_read_no_more,
);

/// A download that has begun, of which little has been read.
struct Reading(tonic::Streaming<pb::DownloadAttachmentResponse>);

impl Reading {
    async fn begin(client: &Client, id: &str) -> Self {
        let mut stream = try_download(client, id, 0).await.expect("a stream").into_inner();
        stream.message().await.expect("no failure").expect("a chunk");
        Self(stream)
    }

    /// Reads on until it fails; gives how many chunks came until then.
    async fn fails(mut self, reason: Reason) -> usize {
        let mut chunks = 0;
        loop {
            match self.0.message().await {
                Ok(Some(_)) => chunks += 1,
                Ok(None) => panic!("it came to its end"),
                Err(status) => {
                    assert_eq!(Reason::of(&status), Some(reason), "{status:?}");
                    return chunks;
                }
            }
        }
    }
}

/// More than is read ahead, in chunks of 128 KiB: what is on its way is a few.
const LARGE: usize = 40 * PART;
const ON_THE_WAY: usize = 40;

async fn until_a_message_holds_it_only_its_uploader_reads_it(db: Db) {
    let kept = Kept::open(db).await;
    group(&kept.world, "lobby", &["ann", "bob"]).await;
    let (ann, bob) = (kept.user("ann"), kept.user("bob"));
    let id = put(&ann, "lobby", b"abc").await;
    assert_eq!(download(&ann, &id, 0).await, b"abc");
    for other in [&bob, &kept.world.backend()] {
        refused(try_get(other, &id).await, Reason::AttachmentNotFound);
        refused(try_download(other, &id, 0).await, Reason::AttachmentNotFound);
    }
    refused(try_get(&kept.user("eve"), &id).await, Reason::NotAMember);
    let begun = create(&ann, "lobby", 9).await;
    assert!(!get(&ann, &begun).await.complete);
    refused(try_download(&ann, &begun, 0).await, Reason::AttachmentIncomplete);
}

/// B-206.
async fn whoever_sees_the_message_reads_what_it_holds(db: Db) {
    let kept = Kept::open(db).await;
    let room = group(&kept.world, "lobby", &["ann", "bob"]).await;
    let (ann, bob, eve) = (kept.user("ann"), kept.user("bob"), kept.user("eve"));
    let id = put(&ann, "lobby", b"abc").await;
    send(&ann, "lobby", &[&id]).await;
    for reader in [&ann, &bob, &kept.world.backend(), &kept.world.service_for("bob")] {
        assert_eq!(download(reader, &id, 1).await, b"bc");
    }
    refused(try_get(&eve, &id).await, Reason::NotAMember);
    refused(try_download(&eve, &id, 0).await, Reason::NotAMember);
    for principal in [Principal::User(UserId::new("ann")), Principal::Service] {
        let foreign = kept.world.client("globex", principal);
        refused(try_get(&foreign, &id).await, Reason::AttachmentNotFound);
        refused(try_download(&foreign, &id, 0).await, Reason::AttachmentNotFound);
    }
    room.join("eve").await;
    assert_eq!(download(&eve, &id, 0).await, b"abc");
    // The uploader is a member like any other.
    room.leave("ann").await;
    refused(try_get(&ann, &id).await, Reason::NotAMember);
    assert_eq!(download(&bob, &id, 0).await, b"abc");
    room.close().await;
    refused(try_get(&bob, &id).await, Reason::AttachmentNotFound);
}

async fn members_who_do_not_see_the_message_read_nothing(db: Db) {
    let kept = Kept::open(db).await;
    let room = plan("lobby").since_join().members(&["ann", "bob"]).make(&kept.world).await;
    let (ann, bob, cas) = (kept.user("ann"), kept.user("bob"), kept.user("cas"));
    let id = put(&ann, "lobby", b"abc").await;
    send(&ann, "lobby", &[&id]).await;
    room.join("cas").await;
    refused(try_get(&cas, &id).await, Reason::AttachmentNotFound);
    let of_bob = Own::of(&kept.world, "bob");
    of_bob.block("ann", true).await;
    refused(try_get(&bob, &id).await, Reason::AttachmentNotFound);
    refused(try_download(&bob, &id, 0).await, Reason::AttachmentNotFound);
    of_bob.block("ann", false).await;
    assert_eq!(download(&bob, &id, 0).await, b"abc");
    of_bob.suspend(i64::MAX).await;
    refused(try_get(&bob, &id).await, Reason::Suspended);
}

async fn a_direct_room_is_not_betrayed_by_its_attachments(db: Db) {
    let kept = Kept::open(db).await;
    let direct = plan("us").kind(RoomKind::Direct).members(&["ann", "bob"]);
    let room = direct.make(&kept.world).await;
    let ann = kept.user("ann");
    let id = put(&ann, "us", b"abc").await;
    send(&ann, "us", &[&id]).await;
    assert_eq!(download(&kept.user("bob"), &id, 0).await, b"abc");
    let nowhere = format!("{}-{}", "0".repeat(32), "0".repeat(32));
    let unknown = format!("{}-{}", room.log_id, "0".repeat(32));
    let eve = kept.user("eve");
    let mut told = Vec::new();
    for id in [&id, &nowhere, &unknown] {
        let status = refused(try_get(&eve, id).await, Reason::AttachmentNotFound);
        told.push((status.message().to_owned(), status.details().to_vec()));
    }
    told.dedup();
    assert_eq!(told.len(), 1);
}

async fn a_deletion_cuts_off_a_download_that_runs(db: Db) {
    let kept = Kept::open(db).await;
    group(&kept.world, "lobby", &["ann", "bob"]).await;
    let (ann, bob) = (kept.user("ann"), kept.user("bob"));
    let id = put(&ann, "lobby", &content(LARGE, 1)).await;
    let message = send(&ann, "lobby", &[&id]).await;
    let readings = [Reading::begin(&ann, &id).await, Reading::begin(&bob, &id).await];
    delete(&mut ann.clone(), &message).await;
    for reading in readings {
        let more = reading.fails(Reason::AttachmentNotFound).await;
        assert!(more <= ON_THE_WAY, "{more} chunks more");
    }
    refused(try_download(&ann, &id, 0).await, Reason::AttachmentNotFound);
}

async fn a_removal_cuts_off_a_download_that_runs(db: Db) {
    let kept = Kept::open(db).await;
    let room = group(&kept.world, "lobby", &["ann", "bob"]).await;
    let (ann, bob) = (kept.user("ann"), kept.user("bob"));
    let id = put(&ann, "lobby", &content(LARGE, 1)).await;
    send(&ann, "lobby", &[&id]).await;
    let reading = Reading::begin(&bob, &id).await;
    room.leave("bob").await;
    assert!(reading.fails(Reason::NotAMember).await <= ON_THE_WAY);
}

async fn a_token_that_expires_ends_a_download(db: Db) {
    let kept = Kept::open(db).await;
    group(&kept.world, "lobby", &["ann"]).await;
    let id = put(&kept.user("ann"), "lobby", &content(LARGE, 1)).await;
    let mut token = caller("acme", Principal::User(UserId::new("ann")));
    token.expires = 2_000_000;
    let reading = Reading::begin(&kept.world.with(Some(token), None), &id).await;
    kept.world.clock.advance(1_000_000);
    assert!(reading.fails(Reason::TokenExpired).await <= ON_THE_WAY);
}

async fn what_is_cleared_is_read_no_more(db: Db) {
    let kept = Kept::open(db).await;
    plan("lobby").owned(&["ann", "bob"]).make(&kept.world).await;
    let (ann, bob) = (kept.user("ann"), kept.user("bob"));
    let id = put(&ann, "lobby", b"abc").await;
    send(&ann, "lobby", &[&id]).await;
    let clear = pb::ClearHistoryRequest { room_id: "lobby".to_owned(), ..Default::default() };
    let mut history = HistoryServiceClient::new(bob.transport.clone());
    history.clear_history(clear).await.expect("cleared");
    refused(try_get(&bob, &id).await, Reason::AttachmentNotFound);
    assert_eq!(download(&ann, &id, 0).await, b"abc");
    let clear = pb::ClearHistoryForAllRequest { room_id: "lobby".to_owned(), ..Default::default() };
    let mut history = HistoryServiceClient::new(ann.transport.clone());
    history.clear_history_for_all(clear).await.expect("cleared");
    refused(try_get(&ann, &id).await, Reason::AttachmentNotFound);
    refused(try_download(&kept.world.backend(), &id, 0).await, Reason::AttachmentNotFound);
}
