//! What attachments cost beside a hundred times as many.

use std::sync::atomic::{AtomicUsize, Ordering};

use parlance_db::testing::{costs_the_same, stays_as_cheap};
use parlance_db::{AssertSqlSafe, Db, rows, test_on_each_db, work};
use parlance_message::ON_PRUNE;
use parlance_proto::message::v1 as pb;
use parlance_proto::message::v1::history_service_client::HistoryServiceClient;
use uuid::Uuid;

use super::harness::{Kept, content, create, download, get, put, send, stored};
use crate::harness::{Client, World, delete, editing, text};
use crate::rooms::{Room, plan};

test_on_each_db!(parlance_message::MIGRATIONS, crate::attachment::growth, on_own_postgres =>
    beside_attachments,
    looking_for_what_is_due_costs_no_more_beside_what_is_not,
);

/// How many attachments there are in a room, and a hundred times as many.
const SIZES: [i64; 2] = [100, 10_000];

/// Uploads, and messages that hold one, which are used up one by one.
const SPARE: usize = 30;

/// A room with many attachments.
struct Place {
    name: String,
    ann: Client,
    read: String,
    uploads: Vec<String>,
    messages: Vec<String>,
    /// What is used next of each.
    upload: AtomicUsize,
    message: AtomicUsize,
    cleared: AtomicUsize,
}

/// The next of some, each once.
fn next<'p>(of: &'p [String], at: &AtomicUsize) -> &'p str {
    &of[at.fetch_add(1, Ordering::Relaxed)]
}

impl Place {
    async fn new(kept: &Kept, name: &str, size: i64) -> Self {
        let ann = format!("{name}-ann");
        let room = plan(name).owned(&[&ann]).make(&kept.world).await;
        let ann = kept.user(&ann);
        let (mut uploads, mut messages) = (Vec::new(), Vec::new());
        for n in 0..SPARE {
            let held = put(&ann, name, b"abc").await;
            messages.push(send(&ann, name, &[&held]).await);
            uploads.push(put(&ann, name, &content(9, n as u64)).await);
        }
        let read = put(&ann, name, &content(300_000, 1)).await;
        send(&ann, name, &[&read]).await;
        fill(&kept.world, &room, name, size).await;
        let [upload, message, cleared] = [0, SPARE / 2, 0].map(AtomicUsize::new);
        let name = name.to_owned();
        Self { name, ann, read, uploads, messages, upload, message, cleared }
    }

    fn upload(&self) -> &str {
        next(&self.uploads, &self.upload)
    }

    fn message(&self) -> &str {
        next(&self.messages, &self.message)
    }
}

/// Makes attachments, faster than by requests: of Ann, held by messages that come later; of
/// others, held by none; and some that wait for their removal.
async fn fill(world: &World, room: &Room, name: &str, size: i64) {
    let db = world.service.store().db();
    for (user, held, gone) in [
        (format!("{name}-ann"), true, false),
        ("zed".to_owned(), false, false),
        (format!("{name}-ann"), false, true),
    ] {
        let ids: Vec<(Uuid, i64)> = (0..size).map(|n| (Uuid::now_v7(), n)).collect();
        for ids in ids.chunks(500) {
            let row = "($1, $+, $2, 1, 'x', '', 3, 262144, 3, $3, $+, $4)";
            let insert = format!(
                "INSERT INTO attachments (log_id, attachment_id, user_id, time, name, content_type,
                                          size, part_size, arrived, sha256, message_seq, ended)
                 VALUES {}",
                rows(5, ids.len(), row)
            );
            let insert = db.write(AssertSqlSafe(insert)).once().bind(room.log_id.0).bind(&user);
            let mut insert = insert.bind(vec![7_u8; 32]).bind(gone);
            for (id, n) in ids {
                insert = insert.bind(*id).bind(held.then_some(1_000_000 + n));
            }
            insert.execute().await.expect("filled");
            ends(db, room, ids).await;
        }
    }
}

/// When to look at attachments: late.
async fn ends(db: &Db, room: &Room, ids: &[(Uuid, i64)]) {
    let insert = format!(
        "INSERT INTO attachment_ends (log_id, attachment_id, due) VALUES {}",
        rows(2, ids.len(), "($1, $+, $+)")
    );
    let mut insert = db.write(AssertSqlSafe(insert)).once().bind(room.log_id.0);
    for (id, n) in ids {
        insert = insert.bind(*id).bind(i64::MAX - n);
    }
    insert.execute().await.expect("filled");
}

type Work = parlance_db::testing::Work<Kept, Place>;

const WORK: &[(&str, Work)] = work! {
    "CreateAttachment": |_, place| create(&place.ann, &place.name, 9).await,
    "CreateAttachment and UploadAttachment": |_, place| {
        put(&place.ann, &place.name, &content(300_000, 2)).await
    },
    "GetAttachment": |_, place| get(&place.ann, &place.read).await,
    "GetAttachment of one that no message holds": |_, place| {
        get(&place.ann, &place.uploads[SPARE - 1]).await
    },
    "DownloadAttachment": |_, place| {
        assert_eq!(download(&place.ann, &place.read, 0).await.len(), 300_000);
    },
    "SendMessage that holds one": |_, place| {
        send(&place.ann, &place.name, &[place.upload()]).await
    },
    "EditMessage that drops one and takes another": |_, place| {
        let content = Some(pb::MessageContent {
            attachments: vec![stored(place.upload())],
            ..text("edited")
        });
        let request = pb::EditMessageRequest { content, ..editing(place.message(), "") };
        place.ann.clone().messages.edit_message(request).await.expect("edited")
    },
    "DeleteMessage": |_, place| delete(&mut place.ann.clone(), place.message()).await,
    "ClearHistoryForAll and what goes with it": |kept, place| {
        let mut history = HistoryServiceClient::new(place.ann.transport.clone());
        let request = pb::ClearHistoryForAllRequest {
            room_id: place.name.clone(),
            through_message_id: next(&place.messages, &place.cleared).to_owned(),
            ..Default::default()
        };
        history.clear_history_for_all(request).await.expect("cleared");
        kept.world.service.store().prune(ON_PRUNE).await.expect("pruned");
        kept.tidy().await;
    },
};

async fn beside_attachments(db: Db) {
    let kept = Kept::open(db).await;
    let mut places = Vec::new();
    for (name, size) in [("small", SIZES[0]), ("large", SIZES[1])] {
        places.push(Place::new(&kept, name, size).await);
    }
    costs_the_same(kept.world.service.store().db(), &kept, &places, WORK).await;
}

async fn looking_for_what_is_due_costs_no_more_beside_what_is_not(db: Db) {
    let kept = Kept::open(db.clone()).await;
    let room = plan("lobby").owned(&["ann"]).make(&kept.world).await;
    let tidy = async || {
        // One of them is due.
        let id = put(&kept.user("ann"), "lobby", b"abc").await;
        let message = send(&kept.user("ann"), "lobby", &[&id]).await;
        delete(&mut kept.user("ann"), &message).await;
        kept.tidy_after(120_000_000).await;
    };
    let grow = async |size| {
        let ids: Vec<(Uuid, i64)> = (0..size).map(|n| (Uuid::now_v7(), n)).collect();
        for ids in ids.chunks(500) {
            ends(&db, &room, ids).await;
        }
    };
    stays_as_cheap(&db, tidy, grow, SIZES).await;
}
