//! How schemas are brought up to date.

use std::time::Duration;

use include_dir::{Dir, DirEntry, File};
use parlance_db::testing::TestSchema;
use parlance_db::{Db, Location, Migrations, OpenError, STATEMENT_TIMEOUT};

/// A migration that lives as long as the process.
pub(crate) fn migrations(sql: &'static str) -> Migrations {
    steps(&[("0001_one.sql", sql)])
}

/// The same for several, by their files.
fn steps(files: &[(&'static str, &'static str)]) -> Migrations {
    let file = |(name, sql): &(&'static str, &'static str)| {
        DirEntry::File(File::new(name, sql.as_bytes()))
    };
    let files: Vec<_> = files.iter().map(file).collect();
    let folder = &*Box::leak(Box::new(Dir::new("", files.leak())));
    Migrations { sqlite: folder, postgres: folder, with: &[] }
}

const ONE: (&str, &str) = ("0001_one.sql", "CREATE TABLE things (name TEXT, rank BIGINT)");
const TWO: (&str, &str) = ("0002_two.sql", "ALTER TABLE things ADD COLUMN place BIGINT DEFAULT 0");
const THREE: (&str, &str) =
    ("0003_drop_rank_needs_0002.sql", "ALTER TABLE things DROP COLUMN rank");

/// A program, its successor, and the one after that on one database.
async fn three_versions(location: Location) {
    let write = async |db: &Db| {
        let written = db.write("INSERT INTO things (name) VALUES ('it')").execute().await;
        assert_eq!(written.expect("it serves"), 1);
    };
    let older = Db::open_as_it_is(&location, steps(&[ONE])).await.expect_err("empty");
    assert!(matches!(&older, OpenError::Older(lacks) if lacks == &[1]), "{older:?}");
    let first = Db::open(&location, steps(&[ONE])).await.expect("the first version");
    let lacking = Db::open_as_it_is(&location, steps(&[ONE, TWO])).await.expect_err("too old");
    assert!(matches!(&lacking, OpenError::Older(lacks) if lacks == &[2]), "{lacking:?}");
    assert!(lacking.to_string().contains("run `parlance migrate`"), "{lacking}");
    let second = Db::open(&location, steps(&[ONE, TWO])).await.expect("the second version");
    assert_eq!((first.newer(), second.newer()), (&[][..], &[][..]));
    write(&first).await;
    write(&second).await;
    first.close().await;
    // It goes back to the first version.
    for migrates in [true, false] {
        let opened = if migrates {
            Db::open(&location, steps(&[ONE])).await
        } else {
            Db::open_as_it_is(&location, steps(&[ONE])).await
        };
        let back = opened.expect("the second only added something");
        assert_eq!(back.newer(), [2]);
        write(&back).await;
        back.close().await;
    }
    let third = Db::open(&location, steps(&[ONE, TWO, THREE])).await.expect("the third version");
    write(&third).await;
    third.close().await;
    second.close().await;
    let second = Db::open(&location, steps(&[ONE, TWO])).await.expect("it does without");
    assert_eq!(second.newer(), [3]);
    write(&second).await;
    second.close().await;
    let first = Db::open(&location, steps(&[ONE])).await.expect_err("what it uses is gone");
    assert!(matches!(&first, OpenError::Contracted { needed: 2, .. }), "{first:?}");
}

#[tokio::test]
async fn a_program_serves_on_a_newer_postgres_as_long_as_that_has_what_it_uses() {
    let schema = TestSchema::new();
    three_versions(schema.location()).await;
    schema.drop().await;
}

#[tokio::test]
async fn a_program_serves_on_a_newer_file_as_long_as_that_has_what_it_uses() {
    let folder = tempfile::tempdir().expect("a folder");
    three_versions(Location::Sqlite(folder.path().join("it.db"))).await;
}

#[tokio::test]
async fn a_migration_may_take_longer_than_any_statement_of_a_request() {
    let schema = TestSchema::new();
    // It writes down what bounds it.
    let migrations = migrations(
        "CREATE TABLE bounds AS SELECT current_setting('statement_timeout') AS statement,
                                       current_setting('lock_timeout') AS lock",
    );
    // Two that start at once wait for each other.
    let location = schema.location();
    let (one, two) = tokio::join!(Db::open(&location, migrations), Db::open(&location, migrations));
    for db in [one, two] {
        let db = db.expect("open Postgres");
        let bounds = db.read("SELECT * FROM bounds").fetch_one::<(String, String)>().await;
        assert_eq!(bounds.expect("bounds"), ("0".to_owned(), "0".to_owned()));
        // The requests keep theirs.
        let show = "SELECT setting::BIGINT FROM pg_settings WHERE name = 'statement_timeout'";
        let (millis,): (i64,) = db.read(show).fetch_one().await.expect("a setting");
        let millis = u64::try_from(millis).expect("a time");
        assert_eq!(Duration::from_millis(millis), STATEMENT_TIMEOUT);
        db.close().await;
    }
    schema.drop().await;
}
