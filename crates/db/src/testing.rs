//! Empty, migrated databases for tests; nothing of them is left behind.

use std::future::Future;
use std::time::Duration;

use sqlx::{AssertSqlSafe, Connection, PgConnection};
use tokio::time::{sleep, timeout};
use uuid::Uuid;

use crate::{Db, Location, Migrations};

/// Connections of a test's pools.
const CONNECTIONS: u32 = 10;

/// How long a test waits for what must come about, and how often it looks.
const PATIENCE: Duration = Duration::from_secs(30);
const PAUSE: Duration = Duration::from_millis(5);

mod effort;
mod link;
mod lock;
mod standby;

pub use self::effort::{Effort, Work, costs_the_same, stays_as_cheap};
pub use self::link::Link;
pub use self::lock::TableLock;
pub use self::standby::Standby;

/// Runs every named `async fn(Db)` on each database: those beside it, or those of `$suite`.
#[macro_export]
macro_rules! test_on_each_db {
    ($migrations:expr => $($test:ident),+ $(,)?) => {
        $crate::test_on_each_db!($migrations, super => $($test),+);
    };
    ($migrations:expr, $suite:path => $($test:ident),+ $(,)?) => {
        $crate::test_on_each_db!($migrations, $suite, on_postgres => $($test),+);
    };
    ($migrations:expr, $suite:path, $on_postgres:ident => $($test:ident),+ $(,)?) => {
        mod sqlite {
            use $suite as suite;
            $(#[tokio::test]
            async fn $test() {
                $crate::testing::on_sqlite($migrations, suite::$test).await;
            })+
        }
        mod postgres {
            use $suite as suite;
            $(#[tokio::test]
            async fn $test() {
                $crate::testing::$on_postgres($migrations, suite::$test).await;
            })+
        }
    };
}

/// Runs `test` on a new SQLite file, then removes it.
pub async fn on_sqlite<T, F>(migrations: Migrations, test: T)
where
    T: FnOnce(Db) -> F,
    F: Future<Output = ()>,
{
    let folder = tempfile::tempdir().expect("create a temporary folder");
    let location = Location::Sqlite(folder.path().join("test.db"));
    let db = Db::open(&location, migrations).await.expect("open SQLite");
    test(db.clone()).await;
    db.close().await;
}

/// Runs `test` on a new schema of the Postgres that `TEST_POSTGRES_URL` names, then drops it.
pub async fn on_postgres<T, F>(migrations: Migrations, test: T)
where
    T: FnOnce(Db) -> F,
    F: Future<Output = ()>,
{
    let schema = TestSchema::new();
    let db = Db::open(&schema.location(), migrations).await.expect("open Postgres");
    test(db.clone()).await;
    db.close().await;
    schema.drop().await;
}

/// Runs `test` on a new database of that Postgres, then drops it: its [`Effort`] is the
/// test's alone.
pub async fn on_own_postgres<T, F>(migrations: Migrations, test: T)
where
    T: FnOnce(Db) -> F,
    F: Future<Output = ()>,
{
    let database = TestDatabase::create().await;
    // The server counts for these tests alone: to be asked it walks through all that it counted.
    let count = format!("ALTER DATABASE {} SET pg_stat_statements.track = 'top'", database.name());
    database.run(count).await;
    let (url, schema) = (database.url(), "own".to_owned());
    let location = Location::Postgres { url, schema, connections: CONNECTIONS };
    let db = Db::open(&location, migrations).await.expect("open Postgres");
    test(db.clone()).await;
    db.close().await;
    database.go().await;
}

/// Runs `test` on a new schema of that Postgres, which is reached over a link.
pub async fn on_linked_postgres<T, F>(migrations: Migrations, test: T)
where
    T: FnOnce(Db, Link) -> F,
    F: Future<Output = ()>,
{
    let schema = TestSchema::new();
    let link = Link::to(&schema.url).await;
    let linked = TestSchema { url: link.url(), name: schema.name.clone() };
    let db = Db::open(&linked.location(), migrations).await.expect("open Postgres");
    test(db.clone(), link).await;
    db.close().await;
    schema.drop().await;
}

/// A schema of the Postgres that `TEST_POSTGRES_URL` names; a test that cannot
/// run for want of one has failed.
#[derive(Debug)]
pub struct TestSchema {
    pub url: String,
    pub name: String,
}

impl TestSchema {
    #[expect(clippy::new_without_default, reason = "reads the environment")]
    pub fn new() -> Self {
        let url =
            std::env::var("TEST_POSTGRES_URL").expect("set TEST_POSTGRES_URL (see `make test`)");
        Self { url, name: format!("t{}", Uuid::now_v7().simple()) }
    }

    pub fn location(&self) -> Location {
        let (url, schema) = (self.url.clone(), self.name.clone());
        Location::Postgres { url, schema, connections: CONNECTIONS }
    }

    pub async fn drop(self) {
        run(&self.url, format!("DROP SCHEMA {} CASCADE", self.name)).await;
    }
}

/// A database of its own on that Postgres, which comes and goes.
#[derive(Debug)]
pub struct TestDatabase {
    server: String,
    name: String,
}

impl TestDatabase {
    pub async fn create() -> Self {
        let TestSchema { url, name } = TestSchema::new();
        let database = Self { server: url, name };
        database.come().await;
        database
    }

    pub fn name(&self) -> &str {
        &self.name
    }

    pub fn url(&self) -> String {
        let (server, _) = self.server.rsplit_once('/').expect("a database in the URL");
        format!("{server}/{}", self.name)
    }

    /// Makes it, empty.
    pub async fn come(&self) {
        run(&self.server, format!("CREATE DATABASE {}", self.name)).await;
    }

    /// One in an encoding that does not hold every text.
    pub async fn in_latin1() -> Self {
        let TestSchema { url: server, name } = TestSchema::new();
        let create = "ENCODING 'LATIN1' TEMPLATE template0 LC_COLLATE 'C' LC_CTYPE 'C'";
        run(&server, format!("CREATE DATABASE {name} {create}")).await;
        Self { server, name }
    }

    /// Runs a statement in it, as who owns the server.
    pub async fn run(&self, statement: impl Into<String>) {
        run(&self.url(), statement.into()).await;
    }

    /// Reaches it as another role.
    pub fn url_as(&self, role: &str) -> String {
        let (scheme, rest) = self.server.split_once("://").expect("a URL");
        let (_, host) = rest.rsplit_once('@').unwrap_or(("", rest));
        let (host, _) = host.rsplit_once('/').expect("a database in the URL");
        format!("{scheme}://{role}@{host}/{}", self.name)
    }

    /// Ends every connection to it, and drops it.
    pub async fn go(&self) {
        run(&self.server, format!("DROP DATABASE {} WITH (FORCE)", self.name)).await;
    }
}

/// Waits until something holds, and fails if it never comes about.
pub async fn until(mut holds: impl AsyncFnMut() -> bool) {
    let coming = async {
        while !holds().await {
            sleep(PAUSE).await;
        }
    };
    timeout(PATIENCE, coming).await.expect("it never came about");
}

async fn run(url: &str, statement: String) {
    let mut admin = PgConnection::connect(url).await.expect("connect to Postgres");
    sqlx::raw_sql(AssertSqlSafe(statement)).execute(&mut admin).await.expect("done");
    admin.close().await.expect("closed");
}
