//! A database that is put back to an older copy of itself, on the same server.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use futures::future::join_all;
use parlance_bus::testing::{RedisServer, redis_url};
use parlance_bus::{HighWater, RedisUrl};
use parlance_db::{Db, testing};
use parlance_log::{CursorCheck, Options};
use parlance_message::{Error, MIGRATIONS};
use rand::Rng as _;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::time::{sleep, timeout};

use crate::log::faults::{kill, name};
use crate::world::{World, options};

/// Marks that no other test raises.
fn marks() -> Arc<HighWater> {
    static TAGS: AtomicU64 = AtomicU64::new(0);
    let tag = format!("test-{}-{}", std::process::id(), TAGS.fetch_add(1, Ordering::Relaxed));
    Arc::new(HighWater::open(&redis_url("TEST_REDIS_URL"), &tag).expect("an address"))
}

fn marked(marks: &Arc<HighWater>) -> Options {
    Options { writers: 1, high_water: Some(Arc::clone(marks)), ..options() }
}

async fn number(db: &Db, select: &'static str) -> i64 {
    db.read(select).fetch_one::<(i64,)>().await.expect("a number").0
}

async fn count(db: &Db) -> i64 {
    number(db, "SELECT beats FROM witness").await
}

async fn epochs(db: &Db) -> i64 {
    number(db, "SELECT COUNT(*) FROM epochs").await
}

/// Puts the count back to what it was when a backup was made.
async fn put_back(db: &Db, count: i64) {
    let update = "UPDATE witness SET beats = $1";
    db.write(update).bind(count).execute().await.expect("put back");
}

#[tokio::test]
async fn a_copy_put_back_under_a_writer_begins_an_epoch_before_its_next_append() {
    testing::on_postgres(MIGRATIONS, async |db| {
        let (db, name) = name(db);
        let world = World::with(db.clone(), marked(&marks())).await;
        let log_id = world.group("r", &["ann"]).await;
        let first = world.say(log_id, "ann", "one").await;
        let backup = count(&db).await;
        world.store.beat().await.expect("counted");
        put_back(&db, backup).await;
        // It does not come without a new connection.
        assert_eq!(kill(&db, &name).await, 1);
        let second = world.say(log_id, "ann", "two").await;
        assert_ne!(second.epoch, first.epoch);
        let seq = second.message_id.seq;
        let check = world.store.check_cursor(log_id, &first.epoch, seq, false).await;
        assert_eq!(check.expect("checked"), CursorCheck::Rewound { keep_through: seq - 1 });
        // Once: nobody is behind any more.
        let before = epochs(&db).await;
        kill(&db, &name).await;
        world.store.beat().await.expect("counted");
        assert_eq!(world.say(log_id, "ann", "three").await.epoch, second.epoch);
        assert_eq!(epochs(&db).await, before);
    })
    .await;
}

/// As operators restore: they stop what writes, put the backup back, and start again.
#[tokio::test]
async fn what_was_written_until_the_stop_counts() {
    testing::on_postgres(MIGRATIONS, async |db| {
        let marks = marks();
        let world = World::with(db.clone(), marked(&marks)).await;
        let log_id = world.group("r", &["ann"]).await;
        let kept = world.say(log_id, "ann", "one").await;
        let backup = count(&db).await;
        // On a connection that is there already.
        world.say(log_id, "ann", "two").await;
        world.store.close().await;
        put_back(&db, backup).await;
        let again = World::with(db.clone(), marked(&marks)).await;
        assert_eq!(epochs(&db).await, 2);
        assert_ne!(again.say(log_id, "ann", "three").await.epoch, kept.epoch);
    })
    .await;
}

#[tokio::test]
async fn replicas_that_notice_an_older_copy_at_once_begin_one_epoch() {
    testing::on_postgres(MIGRATIONS, async |db| {
        let marks = marks();
        for round in 1..=5 {
            join_all((0..4).map(|_| World::with(db.clone(), marked(&marks)))).await;
            assert_eq!(epochs(&db).await, round);
            let backup = count(&db).await - 4;
            put_back(&db, backup).await;
        }
    })
    .await;
}

/// A way to Redis on which each command is held up for a while of its own.
async fn held_up(redis: &RedisServer) -> RedisUrl {
    let server = redis.url().servers()[0].trim_start_matches("redis://").to_owned();
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let url = format!("redis://{}", listener.local_addr().expect("an address"));
    tokio::spawn(async move {
        while let Ok((client, _)) = listener.accept().await {
            let server = TcpStream::connect(&server).await.expect("Redis");
            client.set_nodelay(true).and_then(|()| server.set_nodelay(true)).expect("no delay");
            let (mut commands, mut told) = client.into_split();
            let (mut answers, mut asked) = server.into_split();
            tokio::spawn(async move { tokio::io::copy(&mut answers, &mut told).await });
            tokio::spawn(async move {
                let mut bytes = [0; 4096];
                while let Ok(length @ 1..) = commands.read(&mut bytes).await {
                    let held = Duration::from_micros(rand::rng().random_range(0..8000));
                    sleep(held).await;
                    asked.write_all(&bytes[..length]).await.expect("Redis");
                }
            });
        }
    });
    url.parse().expect("an address")
}

/// Replicas count at once, each step of theirs comes before or after any of the others', some
/// are killed between two, and Redis forgets in between: the database was never put back, so
/// no epoch begins.
#[tokio::test]
async fn nothing_but_an_older_copy_is_taken_for_one() {
    testing::on_postgres(MIGRATIONS, async |db| {
        let redis = RedisServer::start().await;
        let mut worlds = Vec::new();
        for _ in 0..3 {
            let marks = HighWater::open(&held_up(&redis).await, "test").expect("an address");
            worlds.push(World::with(db.clone(), marked(&Arc::new(marks))).await);
        }
        let counts = async |world: &World| {
            for _ in 0..50 {
                // Some are alone, others are not; some are cut short.
                let [pause, cut] = [20_000, 60_000]
                    .map(|most| Duration::from_micros(rand::rng().random_range(0..most)));
                sleep(pause).await;
                if let Ok(counted) = timeout(cut, world.store.beat()).await {
                    counted.expect("counted");
                }
            }
        };
        let forgets = async {
            for _ in 0..5 {
                for _ in 0..5 {
                    worlds[0].store.beat().await.expect("counted");
                }
                redis.run(&["FLUSHALL"]).await.expect("forgotten");
            }
        };
        tokio::join!(join_all(worlds.iter().map(counts)), forgets);
        assert_eq!(epochs(&db).await, 1);
        assert!(count(&db).await > 100, "it was counted");
    })
    .await;
}

#[tokio::test]
async fn without_redis_writes_go_on_and_a_copy_is_noticed_when_it_is_back() {
    testing::on_postgres(MIGRATIONS, async |db| {
        let (db, name) = name(db);
        let redis = RedisServer::start().await;
        let marks = Arc::new(HighWater::open(&redis.url(), "test").expect("an address"));
        let world = World::with(db.clone(), marked(&marks)).await;
        let log_id = world.group("r", &["ann"]).await;
        let backup = count(&db).await;
        world.store.beat().await.expect("counted");
        redis.pause().await;
        put_back(&db, backup).await;
        kill(&db, &name).await;
        let unnoticed = world.say(log_id, "ann", "one").await;
        for _ in 0..3 {
            let beat = world.store.beat().await.expect_err("no answer");
            assert!(matches!(beat, Error::HighWater(_)), "{beat:?}");
        }
        assert_eq!(count(&db).await, backup, "it does not come up to its mark unseen");
        assert_eq!(epochs(&db).await, 1);
        redis.resume().await;
        while world.store.beat().await.is_err() {}
        assert_eq!(epochs(&db).await, 2);
        assert_ne!(world.say(log_id, "ann", "two").await.epoch, unnoticed.epoch);
    })
    .await;
}

/// What a cursor says is compared with what Redis remembers, and only that begins an epoch.
#[tokio::test]
async fn a_cursor_above_the_head_finds_an_older_copy_and_no_made_up_one_does() {
    testing::on_postgres(MIGRATIONS, async |db| {
        let world = World::with(db.clone(), marked(&marks())).await;
        let log_id = world.group("r", &["ann"]).await;
        let last = world.say(log_id, "ann", "lost").await;
        let backup = count(&db).await;
        world.store.beat().await.expect("counted");
        let beats = count(&db).await;
        for seq in [4, 1 << 62] {
            let check = world.store.check_cursor(log_id, &last.epoch, seq, false).await;
            assert_eq!(check.expect("checked"), CursorCheck::Rewound { keep_through: 3 });
        }
        assert_eq!(epochs(&db).await, 1, "nothing was put back");
        assert_eq!(count(&db).await, beats + 1, "it is asked once between two beats");

        world.store.beat().await.expect("counted");
        put_back(&db, backup).await;
        for rewind in ["DELETE FROM events WHERE seq > 2", "UPDATE heads SET head = 2, ord = 0"] {
            db.write(rewind).execute().await.expect("rewound");
        }
        let check = world.store.check_cursor(log_id, &last.epoch, 3, false).await;
        assert_eq!(check.expect("checked"), CursorCheck::Rewound { keep_through: 2 });
        assert_eq!(epochs(&db).await, 2, "before anything is written over what was lost");
        assert_ne!(world.say(log_id, "ann", "new").await.epoch, last.epoch);
        let check = world.store.check_cursor(log_id, &last.epoch, 3, false).await;
        assert_eq!(check.expect("checked"), CursorCheck::Rewound { keep_through: 2 });
    })
    .await;
}

/// Each has marks of its own, whatever the tag; one that is put back by another has not been.
#[tokio::test]
async fn databases_on_one_redis_do_not_meet() {
    let marks = marks();
    testing::on_postgres(MIGRATIONS, async |one| {
        let world = World::with(one, marked(&marks)).await;
        for _ in 0..10 {
            world.store.beat().await.expect("counted");
        }
        testing::on_postgres(MIGRATIONS, async |other| {
            World::with(other.clone(), marked(&marks)).await;
            assert_eq!(epochs(&other).await, 1);
        })
        .await;
    })
    .await;
}
