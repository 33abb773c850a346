//! Backups that are put back and nobody says so, in every way there is.
//!
//! Clients hold what was told to them before; some of it did not happen, then. Whoever comes
//! first afterwards, senders or readers: no client goes on with what is not stored.

use std::collections::BTreeMap;
use std::time::Duration;

use parlance_cluster::client::is_final;
use parlance_cluster::postgres::Postgres;
use parlance_cluster::{Client, Cluster, Kind, Way};
use parlance_proto::message::v1::subscribe_response::Frame;
use parlance_proto::message::v1::{
    Cursor, Event, Reset, ResetReason, RoomCursor, SubscribeRequest, event::Body,
};
use parlance_rpc::Reason;
use tokio::time::timeout;
use tonic::Status;

const ROOM: &str = "room";

/// How long a client may take to catch up.
const PATIENCE: Duration = Duration::from_secs(30);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum First {
    Readers,
    Senders,
}

/// Which cursors are asked: old clients hold none of the times of events.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Asked {
    All,
    WithTimes,
}

#[tokio::test]
async fn a_dump_put_into_the_same_server_resets_what_is_beyond_it() {
    let (postgres, mut world) = World::start().await;
    for first in [First::Readers, First::Senders] {
        let lost = world.loses(&postgres, Way::Dump).await;
        world.cluster.stop_all().await;
        postgres.put_back(&world.cluster.database, Way::Dump).await;
        world.cluster.start_all().await;
        world.judge(first, Asked::All, &lost).await;
    }
    // Redis has forgotten, too: the times are left, and what the operator says.
    for asked in [Asked::WithTimes, Asked::All] {
        let lost = world.loses(&postgres, Way::Dump).await;
        world.cluster.stop_all().await;
        postgres.put_back(&world.cluster.database, Way::Dump).await;
        world.cluster.redis.flush().await;
        if asked == Asked::All {
            world.cluster.tell_restored().await;
        }
        world.cluster.start_all().await;
        world.judge(First::Senders, asked, &lost).await;
    }
    world.cluster.finish().await;
}

/// Replicas run on meanwhile: they lose their connections, and find the older data behind
/// the next ones.
#[tokio::test]
async fn a_base_backup_put_back_under_running_services_resets_what_is_beyond_it() {
    let (postgres, mut world) = World::start().await;
    for first in [First::Readers, First::Senders] {
        let lost = world.loses(&postgres, Way::BaseBackup).await;
        // Its start counts as what happens every few seconds does.
        world.cluster.kill(Kind::Message.replica(0)).await;
        world.cluster.restart(Kind::Message.replica(0)).await;
        postgres.put_back(&world.cluster.database, Way::BaseBackup).await;
        world.judge(first, Asked::All, &lost).await;
    }
    world.cluster.finish().await;
}

#[tokio::test]
async fn a_cold_copy_put_back_resets_what_is_beyond_it() {
    restores_while_stopped(Way::ColdCopy).await;
}

#[tokio::test]
async fn recovery_to_a_point_in_time_resets_what_is_beyond_it() {
    restores_while_stopped(Way::PointInTime).await;
}

/// What took over lacks the last commits. Replicas run on meanwhile, and find a server in recovery
/// behind the address, and then one that is written.
#[tokio::test]
async fn a_standby_that_is_promoted_without_the_last_commits_resets_what_is_beyond_it() {
    let (postgres, mut world) = World::start().await;
    let lost = world.loses(&postgres, Way::Standby).await;
    postgres.put_back(&world.cluster.database, Way::Standby).await;
    world.judge(First::Senders, Asked::All, &lost).await;
    world.cluster.finish().await;
}

/// Nothing notices it, so the operator says it.
#[tokio::test]
async fn rows_put_back_by_hand_reset_what_is_beyond_them_once_it_is_told() {
    let (postgres, mut world) = World::start().await;
    let lost = world.loses(&postgres, Way::Rows).await;
    world.cluster.stop_all().await;
    postgres.put_back(&world.cluster.database, Way::Rows).await;
    world.cluster.tell_restored().await;
    world.cluster.start_all().await;
    world.judge(First::Readers, Asked::All, &lost).await;
    world.cluster.finish().await;
}

/// One schema alone is older than the others: what it decides next comes behind what the logs have,
/// and a log gets again what it lacks.
#[tokio::test]
async fn a_schema_that_is_older_than_the_others_goes_on_with_them() {
    let (postgres, mut world) = World::start().await;
    let users = ["ann", "bea", "cas", "dan", "eve"].map(str::to_owned);
    world.cluster.service().know(&users).await;
    let of_membership = Way::Schema("parlance_membership");
    world.adds("bea").await;
    postgres.back_up(&world.cluster.database, of_membership).await;
    world.adds("cas").await;
    world.adds("dan").await;
    world.puts_back(&postgres, of_membership).await;
    // The log has facts that membership does not know.
    world.adds("eve").await;
    assert_eq!(world.gained().await, users);
    let told = "restored to before facts that the log has";
    assert_eq!(world.cluster.logged(Kind::Membership, told), 1);

    let of_message = Way::Schema("parlance_message");
    postgres.back_up(&world.cluster.database, of_message).await;
    world.ann.remove(0, ROOM, "bea").await.expect("removed");
    world.puts_back(&postgres, of_message).await;
    assert_eq!(world.lost().await, [] as [&str; 0], "message forgot it");
    world.ann.remove(0, ROOM, "eve").await.expect("removed");
    assert_eq!(world.lost().await, ["bea", "eve"], "and got it again, before what came next");
    for user in ["bea", "eve"] {
        let refused = world.cluster.user(user).send(0, ROOM, "gone", "gone").await;
        let refused = refused.expect_err("a removed user");
        assert_eq!(Reason::of(&refused), Some(Reason::NotAMember), "{user}: {refused}");
    }
    let outbox = world.cluster.outbox().await;
    assert_eq!((outbox.backlog_logs, outbox.backlog_facts), (0, 0));
    world.cluster.finish().await;
}

async fn restores_while_stopped(way: Way) {
    let (postgres, mut world) = World::start().await;
    for first in [First::Readers, First::Senders] {
        let lost = world.loses(&postgres, way).await;
        world.cluster.stop_all().await;
        postgres.put_back(&world.cluster.database, way).await;
        world.cluster.start_all().await;
        world.judge(first, Asked::All, &lost).await;
    }
    world.cluster.finish().await;
}

/// One event as a client holds it.
#[derive(Clone, Debug)]
struct Held {
    cursor: Cursor,
    text: Option<String>,
}

/// What a client held of the room, from the first event on, when it was put back.
struct Lost {
    /// The last event that the backup has.
    kept: i64,
    held: Vec<Held>,
}

struct World {
    cluster: Cluster,
    ann: Client,
    sent: usize,
}

impl World {
    async fn start() -> (Postgres, Self) {
        let postgres = Postgres::start().await;
        let cluster = Cluster::beside(2, &postgres).await;
        cluster.service().know(&["ann".to_owned()]).await;
        let ann = cluster.user("ann");
        ann.create_group(ROOM, &[]).await.expect("a room");
        (postgres, Self { cluster, ann, sent: 0 })
    }

    async fn adds(&self, user: &str) {
        self.ann.add(0, ROOM, user).await.expect("added");
    }

    async fn puts_back(&mut self, postgres: &Postgres, way: Way) {
        self.cluster.stop_all().await;
        postgres.put_back(&self.cluster.database, way).await;
        self.cluster.start_all().await;
    }

    /// Who came into the room, as its log has it.
    async fn gained(&self) -> Vec<String> {
        let log = self.cluster.database.log(ROOM).await.entries.into_iter();
        log.flat_map(|entry| entry.gained).collect()
    }

    async fn lost(&self) -> Vec<String> {
        let log = self.cluster.database.log(ROOM).await.entries.into_iter();
        log.flat_map(|entry| entry.lost).collect()
    }

    async fn says(&mut self, count: usize, what: &str) -> i64 {
        let mut seq = 0;
        for _ in 0..count {
            self.sent += 1;
            let text = format!("{what} {}", self.sent);
            seq = self.ann.send(self.sent, ROOM, &text, &text).await.expect("sent").seq;
        }
        seq
    }

    /// Makes a backup, and writes what it does not have.
    async fn loses(&mut self, postgres: &Postgres, way: Way) -> Lost {
        let kept = self.says(4, "kept").await;
        postgres.back_up(&self.cluster.database, way).await;
        self.says(4, "lost").await;
        let (reset, held) = self.come_back(&[]).await;
        assert_eq!(reset, None);
        assert_eq!(held.len(), usize::try_from(kept).expect("small") + 4);
        Lost { kept, held }
    }

    /// Lets clients come back with every cursor that was given, before others have sent or
    /// after they have sent more than was lost.
    async fn judge(&mut self, first: First, asked: Asked, lost: &Lost) {
        if first == First::Readers {
            self.readers(asked, lost).await;
        }
        let head = self.says(6, "new").await;
        assert_eq!(head, lost.kept + 6, "the numbers were given again");
        self.readers(asked, lost).await;
    }

    async fn readers(&self, asked: Asked, lost: &Lost) {
        let stored = self.cluster.database.log(ROOM).await.entries.into_iter();
        let stored: BTreeMap<_, _> = stored.map(|entry| (entry.seq, entry.said.text)).collect();
        for upto in 1..=lost.held.len() {
            let held = &lost.held[..upto];
            let mut old = held.to_vec();
            for held in &mut old {
                held.cursor.time = None;
            }
            let clients = if asked == Asked::All { vec![held, &old] } else { vec![held] };
            for held in clients {
                let cursor = &held[upto - 1].cursor;
                let (reset, now) = self.come_back(held).await;
                if cursor.seq > lost.kept {
                    let reset = reset.unwrap_or_else(|| panic!("{cursor:?} holds"));
                    assert_eq!(reset.reason(), ResetReason::Rewound, "{cursor:?}");
                    assert!(reset.keep_through <= lost.kept, "{cursor:?}: {reset:?}");
                } else {
                    assert_eq!(reset, None, "{cursor:?}");
                }
                let now: BTreeMap<_, _> =
                    now.into_iter().map(|held| (held.cursor.seq, held.text)).collect();
                assert_eq!(now, stored, "{cursor:?}");
            }
        }
    }

    /// Comes back as a client that holds events, and catches up: the reset that it was told,
    /// and what it holds then. A replica that does not reach the database yet is asked again.
    async fn come_back(&self, held: &[Held]) -> (Option<Reset>, Vec<Held>) {
        let caught_up = async {
            loop {
                match self.catch_up(held.to_vec()).await {
                    Ok(caught_up) => return caught_up,
                    Err(status) => assert!(!is_final(&status), "{status}"),
                }
            }
        };
        timeout(PATIENCE, caught_up).await.expect("in time")
    }

    async fn catch_up(&self, mut held: Vec<Held>) -> Result<(Option<Reset>, Vec<Held>), Status> {
        let mut cursor = held.last().map(|held| held.cursor.clone()).unwrap_or_default();
        let (room_id, given) = (ROOM.to_owned(), Some(cursor.clone()));
        let rooms = vec![RoomCursor { room_id, cursor: given }];
        let request = SubscribeRequest { rooms, ..SubscribeRequest::default() };
        let mut stream = self.ann.follow(request).await;
        let mut told = None;
        loop {
            let response = stream.message().await?;
            match response.and_then(|response| response.frame) {
                Some(Frame::Attached(attached)) => cursor.epoch = attached.epoch,
                Some(Frame::Reset(reset)) => {
                    held.retain(|held| held.cursor.seq <= reset.keep_through);
                    cursor.epoch.clone_from(&reset.epoch);
                    assert_eq!(told.replace(reset), None);
                }
                Some(Frame::Event(event)) => {
                    let event = event.event.expect("an event");
                    cursor.move_to(event.seq, event.time);
                    let text = text(&event);
                    held.push(Held { cursor: cursor.clone(), text });
                }
                Some(Frame::CaughtUp(_)) => return Ok((told, held)),
                Some(_) => {}
                None => return Err(Status::unavailable("the stream ended")),
            }
        }
    }
}

fn text(event: &Event) -> Option<String> {
    let Some(Body::MessageSent(sent)) = &event.body else { return None };
    Some(sent.content.clone().unwrap_or_default().text)
}
