//! Statements and transactions, on both databases.

use parlance_db::{
    AssertSqlSafe, Db, Joined, Migrations, StoreError, Trouble, row, rows, test_on_each_db,
};
use uuid::Uuid;

use parlance_db::testing::on_sqlite;

use crate::migrations::migrations;

test_on_each_db!(
    super::things() =>
        values_of_every_kind_come_back_as_they_were,
        a_list_finds_what_it_names,
        many_rows_are_written_at_once,
        a_transaction_that_is_dropped_is_rolled_back,
        a_transaction_that_is_cut_short_is_rolled_back,
        a_transaction_that_was_rolled_back_gives_its_connection_back,
        a_violated_constraint_is_a_bug,
        a_missing_table_is_not_told_as_an_outage,
        an_answer_of_another_shape_is_a_bug,
        a_struct_is_read_from_the_columns_in_its_order,
        a_column_at_the_place_of_another_is_noticed,
);

fn things() -> Migrations {
    migrations(
        "CREATE TABLE things (id UUID PRIMARY KEY, kind SMALLINT NOT NULL, size INTEGER,
                              seq BIGINT NOT NULL, name TEXT NOT NULL, body BYTEA NOT NULL,
                              gone BOOLEAN NOT NULL)",
    )
}

type Thing = (Uuid, i16, Option<i32>, i64, String, Vec<u8>, bool);

async fn insert(db: &Db, name: &str) -> Uuid {
    let id = Uuid::now_v7();
    let insert = db.write("INSERT INTO things VALUES ($1, $2, $3, $4, $5, $6, FALSE)");
    let insert = insert.bind(id).bind(2_i16).bind(None::<i32>).bind(7_i64).bind(name);
    assert_eq!(insert.bind([1_u8, 2].as_slice()).execute().await.expect("inserted"), 1);
    id
}

async fn count(db: &Db) -> i64 {
    let (count,) = db.read("SELECT COUNT(*) FROM things").fetch_one().await.expect("a count");
    count
}

async fn values_of_every_kind_come_back_as_they_were(db: Db) {
    let id = insert(&db, "one").await;
    let thing = db.read("SELECT * FROM things WHERE id = $1").bind(id).fetch_optional();
    let thing: Option<Thing> = thing.await.expect("a row");
    assert_eq!(thing, Some((id, 2, None, 7, "one".to_owned(), vec![1, 2], false)));
    let nothing = db.read("SELECT id FROM things WHERE name = $1").bind("two").fetch_optional();
    assert_eq!(nothing.await.expect("no row"), None::<(Uuid,)>);
}

async fn a_list_finds_what_it_names(db: Db) {
    for name in ["a", "b", "c", "d"] {
        insert(&db, name).await;
    }
    for list in [
        "SELECT name FROM things WHERE kind = $1 AND name IN ($2..) ORDER BY name",
        "SELECT name FROM (VALUES ($1, $2..)) w
           JOIN things ON kind = w.column1 AND name = w.column2 ORDER BY name",
    ] {
        let found = async |names: &[&str]| {
            let found = db.read(list).bind(2_i16).bind_list(names.iter().copied());
            let found: Vec<(String,)> = found.fetch_all().await.expect("rows");
            found.into_iter().map(|(name,)| name).collect::<String>()
        };
        assert_eq!(found(&["d", "a", "x"]).await, "ad");
        assert_eq!(found(&["b"]).await, "b");
        assert_eq!(found(&[]).await, "");
    }
}

async fn many_rows_are_written_at_once(db: Db) {
    let rows = rows(2, 3, "($+, $1, NULL, 1, 'x', $+, TRUE)");
    let insert = AssertSqlSafe(format!("INSERT INTO things VALUES {rows}"));
    let mut insert = db.write(insert).bind(1_i16).once();
    for byte in 0..3_u8 {
        insert = insert.bind(Uuid::now_v7()).bind(vec![byte]);
    }
    assert_eq!(insert.execute().await.expect("inserted"), 3);
    assert_eq!(count(&db).await, 3);
}

async fn a_transaction_that_is_dropped_is_rolled_back(db: Db) {
    let id = insert(&db, "one").await;
    // More often than there are connections.
    for _ in 0..8 {
        let mut tx = db.begin().await.expect("begin");
        tx.query("DELETE FROM things WHERE id = $1").bind(id).execute().await.expect("deleted");
    }
    let mut tx = db.begin().await.expect("begin");
    let update = tx.query("UPDATE things SET name = 'two' WHERE id = $1").bind(id);
    assert_eq!(update.execute().await.expect("updated"), 1);
    tx.commit().await.expect("committed");
    let (name,): (String,) =
        db.read("SELECT name FROM things").fetch_one().await.expect("the thing");
    assert_eq!(name, "two");
}

async fn a_transaction_that_is_cut_short_is_rolled_back(db: Db) {
    let id = insert(&db, "one").await;
    for polls in 0..16 {
        let change = async {
            let mut tx = db.begin().await.expect("begin");
            tx.query("DELETE FROM things WHERE id = $1").bind(id).execute().await.expect("done");
            std::future::pending::<()>().await;
        };
        let mut change = std::pin::pin!(change);
        for _ in 0..polls {
            tokio::select! {
                biased;
                () = &mut change => {}
                () = tokio::task::yield_now() => {}
            }
        }
    }
    assert_eq!(count(&db).await, 1);
    insert(&db, "two").await;
    assert_eq!(count(&db).await, 2);
}

async fn a_violated_constraint_is_a_bug(db: Db) {
    let id = insert(&db, "one").await;
    let again = db.write("INSERT INTO things VALUES ($1, 1, 1, 1, '', $2, TRUE)").bind(id);
    let error = again.bind(vec![0_u8]).execute().await.expect_err("a violation");
    assert!(matches!(error, StoreError::Bug(_)), "{error:?}");
    assert_eq!(error.trouble(), Trouble::Refused);
}

async fn a_missing_table_is_not_told_as_an_outage(db: Db) {
    for error in [
        db.read("SELECT name FROM nothing").fetch_all::<(String,)>().await.expect_err("no table"),
        db.write("DELETE FROM nothing").execute().await.expect_err("no table"),
    ] {
        assert!(matches!(error, StoreError::Broken(_)) && !error.heals(), "{error:?}");
        assert_eq!(error.trouble(), Trouble::Broken);
    }
}

async fn an_answer_of_another_shape_is_a_bug(db: Db) {
    insert(&db, "one").await;
    let error = db.read("SELECT name FROM things").fetch_all::<(i64,)>().await;
    assert!(!error.expect_err("not a number").heals());
}

row! {
    #[derive(Debug, PartialEq, Eq)]
    struct Named {
        name: String,
        seq: i64,
    }
}

row! {
    #[derive(Debug, PartialEq, Eq)]
    struct Sized {
        kind: i16,
        size: Option<i32>,
    }
}

type Both = Joined<Sized, Joined<Option<Sized>, Option<Named>>>;

async fn a_struct_is_read_from_the_columns_in_its_order(db: Db) {
    insert(&db, "ann").await;
    let named = Named { name: "ann".to_owned(), seq: 7 };
    let read = db.read("SELECT name, seq FROM things").fetch_one::<Named>().await;
    assert_eq!(read.expect("a row"), named);
    let read = db.read("SELECT kind, size, NULL AS kind, size, name, seq FROM things");
    let Joined(sized, Joined(none, read)) = read.fetch_one::<Both>().await.expect("a row");
    assert_eq!(sized, Sized { kind: 2, size: None });
    assert_eq!((none, read), (None, Some(named)));
}

/// Both are texts and numbers: without the names they would be taken for each other.
async fn a_column_at_the_place_of_another_is_noticed(db: Db) {
    insert(&db, "ann").await;
    let read =
        async move { db.read("SELECT name, 1 AS size FROM things").fetch_one::<Named>().await };
    assert!(tokio::spawn(read).await.expect_err("a panic").is_panic());
}

/// Or else it plans what has a `LIMIT $n` anew each time.
#[tokio::test]
async fn sqlite_plans_a_statement_once() {
    let once = async |db: Db| {
        let option = db.read("SELECT sqlite_compileoption_used('ENABLE_QPSG')");
        let (used,): (bool,) = option.fetch_one().await.expect("an answer");
        assert!(used, "build with the flags of .cargo/config.toml");
    };
    on_sqlite(things(), once).await;
}

/// On SQLite there is one connection for all who write.
async fn a_transaction_that_was_rolled_back_gives_its_connection_back(db: Db) {
    let mut tx = db.begin().await.expect("begun");
    tx.query("DELETE FROM things").execute().await.expect("deleted");
    tx.rollback().await.expect("rolled back");
    insert(&db, "tea").await;
}
