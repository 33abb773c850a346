//! Roles as the page for operators makes them.

use std::process::Stdio;

use parlance_db::testing::TestDatabase;
use tempfile::TempDir;

use crate::{Server, failure, output, parlance};

const PAGE: &str = include_str!("../../../../docs/operations.md");

/// The statements that the page gives, for roles of this database alone.
fn statements(owner: &str, serves: &str) -> String {
    let (_, rest) = PAGE.split_once("## Roles and rights").expect("the section");
    let (_, rest) = rest.split_once("```sql").expect("statements");
    let (statements, _) = rest.split_once("```").expect("their end");
    statements.replace("parlance_owner", owner).replace("parlance_serves", serves)
}

#[tokio::test]
async fn services_serve_with_the_rights_of_the_page_and_can_make_nothing() {
    let (folder, database) = (TempDir::new().expect("a folder"), TestDatabase::create().await);
    let name = database.name().to_owned();
    let (owner, serves) = (format!("o{name}"), format!("s{name}"));
    database.run(statements(&owner, &serves)).await;
    database.run(format!("REVOKE ALL ON DATABASE {name} FROM PUBLIC")).await;
    database.run(format!("GRANT CONNECT ON DATABASE {name} TO {owner}, {serves}")).await;
    database.run("REVOKE ALL ON SCHEMA public FROM PUBLIC").await;
    let (as_owner, as_server) = (database.url_as(&owner), database.url_as(&serves));
    let key = folder.path().join("callers.key");
    std::fs::write(&key, "x".repeat(64)).expect("a key");
    let key = format!("hs256:{}", key.display());
    let run = ["run", "--store", &as_server, "--auth-key", &key, "--listen", "127.0.0.1:0"];

    // Before the schema is there.
    let (code, text) = failure(&output(folder.path(), &[&run[..], &["--no-migrate"]].concat()));
    assert_eq!(code, Some(1));
    assert!(text.contains("run `parlance migrate` of this version"), "{text}");
    // It may not make it, either.
    let (code, text) = failure(&output(folder.path(), &run));
    assert_eq!(code, Some(1));
    assert!(text.contains("may not bring the schema up to date"), "{text}");

    let checked = |more: &[&str]| {
        let flags = ["check", "--store", &as_server, "--auth-key", &key, "--no-migrate"];
        let checked = output(folder.path(), &[&flags[..], more].concat());
        (checked.status.code(), String::from_utf8(checked.stdout).expect("text"))
    };
    let (code, said) = checked(&["--bus", "redis://127.0.0.1:1"]);
    assert_eq!(code, Some(1));
    assert!(said.contains("wrong    message: the schema is older than this program"), "{said}");
    assert!(said.contains("wrong    redis cannot be reached"), "{said}");

    let migrated = output(folder.path(), &["migrate", "--store", &as_owner]);
    assert!(migrated.status.success(), "{migrated:?}");
    let (code, said) = checked(&[]);
    assert_eq!(code, Some(0), "{said}");
    for sentence in ["ok       the schema of room can be used", "the clock of Postgres is 0 s"] {
        assert!(said.contains(sentence), "{said}");
    }
    let arguments = ["run", "--store", &as_server, "--auth-key", &key, "--no-migrate"];
    let running = Server::of(parlance(folder.path()).args(arguments).stderr(Stdio::null()));
    assert!(running.is_ready(folder.path()));
    assert_eq!(running.stop(), Some(0));
    database.run(format!("DROP OWNED BY {serves}, {owner}; DROP ROLE {serves}, {owner}")).await;
    database.go().await;
}
