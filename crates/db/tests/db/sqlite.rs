//! A SQLite file as people treat it.

use std::fs;
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};

use parlance_db::testing::until;
use parlance_db::{Db, Location, OpenError, Ping, StoreError};

use crate::migrations::migrations;

/// A database with a row, in a folder of its own.
async fn with_a_row() -> (tempfile::TempDir, PathBuf, Db) {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("a.db");
    let db = open(&path).await.expect("opened");
    insert(&db).await.expect("written");
    (folder, path, db)
}

async fn open(path: &Path) -> Result<Db, OpenError> {
    let migrations = migrations("CREATE TABLE t (n BIGINT)");
    Db::open(&Location::Sqlite(path.to_owned()), migrations).await
}

async fn insert(db: &Db) -> Result<u64, StoreError> {
    db.write("INSERT INTO t (n) VALUES (1)").execute().await
}

async fn count(db: &Db) -> Result<i64, StoreError> {
    let count = db.read("SELECT COUNT(*) FROM t").fetch_one::<(i64,)>().await;
    count.map(|(count,)| count)
}

fn beside(path: &Path, suffix: &str) -> PathBuf {
    PathBuf::from(format!("{}{suffix}", path.display()))
}

/// A copy of the file alone, opened.
async fn rows_of_a_copy(path: &Path) -> i64 {
    let folder = tempfile::tempdir().expect("a folder");
    let copy = folder.path().join("copy.db");
    fs::copy(path, &copy).expect("copied");
    let db = open(&copy).await.expect("whole");
    let rows = count(&db).await.expect("a count");
    db.close().await;
    rows
}

/// Asks until all that was written is in the file.
async fn settle(path: &Path, ping: &mut Ping) {
    let log = beside(path, "-wal");
    until(async || {
        ping.ask().await.expect("well");
        fs::metadata(&log).expect("a log").len() == 0
    })
    .await;
}

#[tokio::test]
async fn a_file_has_everything_when_nobody_writes() {
    let (_folder, path, db) = with_a_row().await;
    let mut ping = Ping::of(&db);
    settle(&path, &mut ping).await;
    assert_eq!(rows_of_a_copy(&path).await, 1);
    // And what is written afterwards is stored as before.
    insert(&db).await.expect("written");
    assert_eq!(count(&db).await.expect("a count"), 2);
    ping.ask().await.expect("well");
    db.close().await;
}

#[tokio::test]
async fn a_file_has_everything_once_it_is_closed() {
    let (_folder, path, db) = with_a_row().await;
    // One that looks after the file may still be open.
    let mut ping = Ping::of(&db);
    ping.ask().await.expect("well");
    db.close().await;
    assert_eq!(rows_of_a_copy(&path).await, 1);
}

#[tokio::test]
async fn a_file_that_is_not_what_was_opened_takes_nothing_and_is_told_as_broken() {
    type Harm = fn(&Path);
    let harms: [(Harm, &str); 6] = [
        (|path| fs::remove_file(path).expect("removed"), "was removed (a.db is gone)"),
        (|path| fs::remove_file(beside(path, "-wal")).expect("removed"), "(a.db-wal is gone)"),
        (
            |path| {
                fs::copy(path, beside(path, ".new")).expect("copied");
                fs::rename(beside(path, ".new"), path).expect("replaced");
            },
            "was replaced (a.db is another file)",
        ),
        (|path| fs::write(path, [7; 8192]).expect("written over"), "does not begin as it did"),
        (|path| fs::write(path, []).expect("emptied"), "it is too short"),
        (
            |path| {
                let file = fs::OpenOptions::new().write(true).open(path).expect("a file");
                file.set_len(4096).expect("cut");
            },
            "its end is missing",
        ),
    ];
    for (harm, what) in harms {
        let (_folder, path, db) = with_a_row().await;
        let mut ping = Ping::of(&db);
        settle(&path, &mut ping).await;
        ping.ask().await.expect("well");
        assert_eq!(ping.broken(), None);
        harm(&path);
        let error = ping.ask().await.expect_err("noticed");
        let told = ping.broken().expect("told").to_owned();
        assert!(told.contains(what) && told.contains("stop the server, put a backup"), "{told}");
        assert!(matches!(error, StoreError::Broken(_)), "{error:?}");
        for error in [insert(&db).await.expect_err(what), count(&db).await.expect_err(what)] {
            assert!(matches!(&error, StoreError::Broken(_)) && !error.heals(), "{error:?}");
        }
        assert!(matches!(db.begin().await, Err(StoreError::Broken(_))));
        db.close().await;
    }
}

#[tokio::test]
async fn what_was_put_in_place_of_a_file_is_left_as_it_is() {
    let (folder, path, db) = with_a_row().await;
    let names = ["", "-wal", "-shm"].map(|suffix| beside(&path, suffix));
    for name in &names {
        fs::remove_file(name).expect("removed");
        fs::write(name, "of another").expect("put there");
    }
    db.close().await;
    drop(db);
    for name in &names {
        assert_eq!(fs::read(name).expect("still there"), b"of another", "{}", name.display());
    }
    drop(folder);
}

/// A page in the middle is noticed by whoever reads it.
#[tokio::test]
async fn a_damaged_page_is_told_as_broken_and_ends_all_else() {
    let (_folder, path, db) = with_a_row().await;
    db.close().await;
    let file = fs::OpenOptions::new().write(true).open(&path).expect("a file");
    let pages = file.metadata().expect("a file").len() / 4096;
    for page in 1..pages {
        file.write_all_at(&[0xa5; 4096], page * 4096).expect("damaged");
    }
    let error = match open(&path).await {
        // The migrations read it first.
        Err(error) => return assert!(error.to_string().contains("damaged"), "{error:?}"),
        Ok(db) => {
            let mut ping = Ping::of(&db);
            let error = count(&db).await.expect_err("damaged");
            assert!(ping.ask().await.is_err() && ping.broken().is_some());
            assert!(insert(&db).await.is_err());
            error
        }
    };
    assert!(matches!(error, StoreError::Broken(_)), "{error:?}");
}

#[tokio::test]
async fn a_file_that_is_no_database_is_refused_by_name() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("a.db");
    fs::write(&path, [7; 8192]).expect("a file");
    let error = open(&path).await.expect_err("no database");
    assert!(matches!(&error, OpenError::Damaged(..)), "{error:?}");
    assert!(error.to_string().contains("a.db is damaged: put a backup"), "{error}");
}
