//! What is asked of a Postgres database before it is used.

use parlance_db::testing::{Standby, TestDatabase, TestSchema, on_linked_postgres, until};
use parlance_db::{Db, Location, OpenError, Ping, StoreError};

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

/// Who makes the schema, who owns it, and who serves are three roles.
#[tokio::test]
async fn each_role_needs_the_rights_for_what_it_does_and_no_other() {
    let database = TestDatabase::create().await;
    let migrations = migrations("CREATE TABLE t (n BIGINT)");
    let name = database.name().to_owned();
    let (owner, serves) = (format!("o{name}"), format!("s{name}"));
    let open = |role: &str| location(database.url_as(role));
    let refused = |error: OpenError| {
        assert!(matches!(error, OpenError::Rights { .. }), "{error:?}");
        error.to_string()
    };
    database
        .run(format!(
            "CREATE ROLE {owner} LOGIN; CREATE ROLE {serves} LOGIN;
             REVOKE CREATE ON DATABASE {name} FROM PUBLIC"
        ))
        .await;
    let text = refused(Db::open(&open(&owner), migrations).await.expect_err("it may not"));
    assert!(text.contains(&format!("role \"{owner}\" may not make the schema a")), "{text}");

    // Who owns the schema needs no right to the database.
    database.run(format!("CREATE SCHEMA a AUTHORIZATION {owner}")).await;
    Db::open(&open(&owner), migrations).await.expect("its own").close().await;
    Db::open(&open(&owner), migrations).await.expect("and again").close().await;

    let text = refused(Db::open_as_it_is(&open(&serves), migrations).await.expect_err("no right"));
    assert!(text.contains("may not use the schema a"), "{text}");
    database
        .run(format!(
            "GRANT USAGE ON SCHEMA a TO {serves};
             GRANT SELECT, INSERT ON ALL TABLES IN SCHEMA a TO {serves}"
        ))
        .await;
    let text = refused(Db::open_as_it_is(&open(&serves), migrations).await.expect_err("too few"));
    assert!(text.contains("may not read and write the table t of the schema a"), "{text}");
    database.run(format!("GRANT UPDATE, DELETE ON ALL TABLES IN SCHEMA a TO {serves}")).await;
    let db = Db::open_as_it_is(&open(&serves), migrations).await.expect("it serves");
    assert_eq!(db.write("INSERT INTO t (n) VALUES (1)").execute().await.expect("written"), 1);
    let made = db.write("CREATE TABLE u (n BIGINT)").execute().await.expect_err("not granted");
    assert!(!made.heals(), "{made:?}");
    db.close().await;
    database.run(format!("DROP OWNED BY {serves}, {owner}; DROP ROLE {serves}, {owner}")).await;
    database.go().await;
}

/// What a role was given by ALTER ROLE does not reach further than a sentence.
#[tokio::test]
async fn the_settings_of_a_role_are_overruled_or_refused_in_words() {
    let database = TestDatabase::create().await;
    let migrations = migrations("CREATE TABLE t (n BIGINT)");
    let role = format!("r{}", database.name());
    let location = location(database.url_as(&role));
    database
        .run(format!(
            "CREATE ROLE {role} LOGIN; CREATE SCHEMA a AUTHORIZATION {role};
             ALTER ROLE {role} SET search_path = public;
             ALTER ROLE {role} SET statement_timeout = '1ms';
             ALTER ROLE {role} SET default_transaction_read_only = on"
        ))
        .await;
    let error = Db::open(&location, migrations).await.expect_err("it cannot write");
    assert!(matches!(&error, OpenError::ReadOnly(found) if *found == role), "{error:?}");
    database.run(format!("ALTER ROLE {role} RESET default_transaction_read_only")).await;
    let db = Db::open(&location, migrations).await.expect("it serves");
    let write = async || db.write("INSERT INTO a.t (n) VALUES (1)").execute().await;
    write().await.expect("written");

    // A spell passes without a new start: what could not be written is written later.
    let spell =
        format!("ALTER DATABASE {} SET default_transaction_read_only = on", database.name());
    database.run(spell).await;
    let Db::Postgres(postgres) = &db else { panic!("a Postgres") };
    let on_new = async || {
        let mut conn = postgres.connect([]).await?;
        conn.query("INSERT INTO t (n) VALUES (2)").execute().await
    };
    assert!(on_new().await.expect_err("read only").heals());
    let over = format!(
        "SET transaction_read_only = off;
         ALTER DATABASE {} RESET default_transaction_read_only",
        database.name()
    );
    database.run(over).await;
    on_new().await.expect("written");
    write().await.expect("written");

    // No connection is left; then one is.
    db.close().await;
    database.run(format!("ALTER ROLE {role} CONNECTION LIMIT 0")).await;
    let error = Db::open(&location, migrations).await.expect_err("none is left");
    assert!(matches!(&error, OpenError::Full(_)), "{error:?}");
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
