//! Writes that wait for a lock.

use std::sync::atomic::{AtomicUsize, Ordering};

use futures::future::join_all;
use parlance_db::Db;
use parlance_db::testing::{TableLock, on_postgres, until};

use crate::migrations::migrations;

#[tokio::test]
async fn writes_that_wait_for_a_table_hold_up_no_read() {
    on_postgres(migrations("CREATE TABLE t (n BIGINT)"), async |db| {
        let mut lock = TableLock::take(&db, "t").await;
        let ended = AtomicUsize::new(0);
        let write = async |db: &Db| {
            let _late = db.write("INSERT INTO t (n) VALUES (1)").execute().await;
            ended.fetch_add(1, Ordering::Relaxed);
        };
        // More than there are connections of any kind.
        let writes = join_all((0..40).map(|_| write(&db)));
        let reads = async {
            until(async || lock.holds_up_every_writer().await).await;
            for _ in 0..40 {
                let (count,): (i64,) =
                    db.read("SELECT COUNT(*) FROM t").fetch_one().await.expect("a count");
                assert_eq!(count, 0);
            }
            db.reader().await.expect("a connection");
            assert_eq!(ended.load(Ordering::Relaxed), 0, "no write has ended yet");
            drop(lock);
        };
        tokio::join!(writes, reads);
    })
    .await;
}
