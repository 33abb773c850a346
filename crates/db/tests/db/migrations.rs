//! How schemas are brought up to date.

use std::time::Duration;

use include_dir::{Dir, DirEntry, File};
use parlance_db::testing::TestSchema;
use parlance_db::{Db, Migrations, STATEMENT_TIMEOUT};

/// A migration that lives as long as the process.
pub(crate) fn migrations(sql: &'static str) -> Migrations {
    let file = DirEntry::File(File::new("0001_one.sql", sql.as_bytes()));
    let folder = &*Box::leak(Box::new(Dir::new("", Box::leak(Box::new([file])))));
    Migrations { sqlite: folder, postgres: folder, with: &[] }
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
