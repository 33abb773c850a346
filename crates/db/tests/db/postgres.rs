//! What is asked of a Postgres database before it is used.

use parlance_db::testing::{Standby, TestDatabase, TestSchema, on_linked_postgres, until};
use parlance_db::{Db, Location, OpenError, Ping, StoreError};
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

/// Behind one address, as a Service or a virtual IP is: nothing is read from a server that only
/// follows, since what it has may be old.
#[tokio::test]
async fn a_standby_counts_as_away_until_it_is_promoted() {
    on_linked_postgres(migrations("CREATE TABLE t (n BIGINT)"), |db, link| async move {
        let read = async || db.read("SELECT n FROM t").fetch_optional::<(i64,)>().await;
        let here = link.url();
        let mut ping = Ping::of(&db);
        assert!(read().await.is_ok() && ping.ask().await.is_ok());
        let standby = Standby::start();
        link.leads_to(&standby.url(&here));
        // Those that are open end.
        until(async || read().await.is_err()).await;
        for _ in 0..20 {
            let error = read().await.expect_err("a standby");
            assert!(matches!(&error, StoreError::Away(_)), "{error:?}");
            assert!(format!("{error:?}").contains("the server is a standby"), "{error:?}");
        }
        assert!(db.begin().await.is_err_and(|error| error.heals()));
        let Db::Postgres(postgres) = &db else { panic!("a Postgres") };
        assert!(postgres.connect([]).await.is_err_and(|error| error.heals()));
        assert!(ping.ask().await.is_err() && ping.ask().await.is_err());
        standby.promote();
        until(async || read().await.is_ok()).await;
        ping.ask().await.expect("it is there");
        db.write("INSERT INTO t (n) VALUES (1)").execute().await.expect("written");
        // Where its schema is removed.
        link.leads_to(&TestSchema::new().url);
        until(async || read().await.is_ok()).await;
    })
    .await;
}
