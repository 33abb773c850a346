//! A Postgres whose established connections fall silent.

use std::time::Duration;

use parlance_db::testing::on_linked_postgres;
use parlance_db::{Db, StoreError, Trouble};
use tokio::time::timeout;

use crate::migrations::migrations;

#[tokio::test]
async fn statements_leave_a_silent_postgres_behind() {
    on_linked_postgres(migrations("CREATE TABLE t (n BIGINT)"), |db, link| async move {
        link.is_left_behind(|| async {
            db.read("SELECT n FROM t").fetch_optional::<(i64,)>().await.is_ok()
        })
        .await;
    })
    .await;
}

#[tokio::test]
async fn transactions_leave_a_silent_postgres_behind() {
    on_linked_postgres(migrations("CREATE TABLE t (n BIGINT)"), |db, link| async move {
        let insert = async || {
            let mut tx = db.begin().await?;
            tx.query("INSERT INTO t (n) VALUES ($1)").bind(1_i64).execute().await?;
            tx.commit().await
        };
        link.is_left_behind(|| async { insert().await.is_ok() }).await;
    })
    .await;
}

#[tokio::test]
async fn calls_that_were_given_up_take_no_connection_along() {
    on_linked_postgres(migrations("CREATE TABLE t (n BIGINT)"), |db, link| async move {
        let given_up = async |db: &Db| {
            let read = db.read("SELECT n FROM t").fetch_optional::<(i64,)>();
            timeout(Duration::from_millis(300), read).await.is_ok_and(|read| read.is_ok())
        };
        link.is_left_behind(|| given_up(&db)).await;
    })
    .await;
}

#[tokio::test]
async fn whether_a_silent_commit_was_done_is_not_known() {
    on_linked_postgres(migrations("CREATE TABLE t (n BIGINT)"), |db, link| async move {
        let mut tx = db.begin().await.expect("begin");
        tx.set_limit(Duration::from_millis(200));
        tx.query("INSERT INTO t (n) VALUES (1)").execute().await.expect("inserted");
        link.silence();
        let error = tx.commit().await.expect_err("no answer");
        assert!(matches!(error, StoreError::Late(_)), "{error:?}");
        assert_eq!(error.trouble(), Trouble::Lost);
    })
    .await;
}
