//! What is asked of a Postgres database before it is used.

use parlance_db::testing::TestDatabase;
use parlance_db::{Db, Location, OpenError};
use uuid::Uuid;

use crate::migrations::migrations;

fn location(url: String) -> Location {
    Location::Postgres { url, schema: "a".to_owned(), connections: 2 }
}

#[tokio::test]
async fn a_database_that_does_not_hold_every_text_is_refused() {
    let database = TestDatabase::in_latin1().await;
    let location = location(database.url());
    let error = Db::open(&location, migrations("CREATE TABLE t (n BIGINT)")).await;
    let error = error.expect_err("refused");
    assert!(matches!(&error, OpenError::Encoding(found) if found == "LATIN1"), "{error:?}");
    let text = error.to_string();
    assert!(text.contains("must be in UTF8") && text.contains("TEMPLATE template0"), "{text}");
    database.go().await;
}

/// Whoever brought the schema up to date may be somebody else.
#[tokio::test]
async fn a_role_that_serves_needs_no_right_to_make_anything() {
    let database = TestDatabase::create().await;
    let migrations = migrations("CREATE TABLE t (n BIGINT)");
    Db::open(&location(database.url()), migrations).await.expect("it owns all").close().await;
    let role = format!("r{}", Uuid::now_v7().simple());
    database
        .run(format!(
            "CREATE ROLE {role} LOGIN;
             REVOKE CREATE ON DATABASE {name} FROM PUBLIC;
             GRANT USAGE ON SCHEMA a TO {role};
             GRANT SELECT, INSERT ON ALL TABLES IN SCHEMA a TO {role}",
            name = database.name(),
        ))
        .await;
    let db = Db::open(&location(database.url_as(&role)), migrations).await.expect("it serves");
    assert_eq!(db.write("INSERT INTO t (n) VALUES (1)").execute().await.expect("written"), 1);
    let denied = db.write("DELETE FROM t").execute().await.expect_err("not granted");
    assert!(!denied.heals(), "{denied:?}");
    db.close().await;
    database.run(format!("DROP OWNED BY {role}; DROP ROLE {role}")).await;
    database.go().await;
}
