//! What taking old records away costs.

use parlance_db::testing::stays_as_cheap;
use parlance_db::{AssertSqlSafe, rows, test_on_each_db};

use super::*;

test_on_each_db!(crate::MIGRATIONS, crate::tests, on_own_postgres =>
    old_records_go_in_steps_and_no_other_does,
    taking_old_records_away_costs_no_more_beside_many_others,
);

const NOW: Micros = 1_800_000_000_000_000;

/// Puts records of this age there.
async fn put(db: &Db, count: i64, age: Duration) {
    let created = NOW - Micros::try_from(age.as_micros()).expect("short");
    let logs: Vec<Uuid> = (0..count).map(|_| Uuid::now_v7()).collect();
    for logs in logs.chunks(500) {
        let values = rows(3, logs.len(), "('acme', 'ann', '', $+, $2, $+, $2, $1)");
        let insert = format!(
            "INSERT INTO requests
                 (tenant_id, caller, room_id, request_id, hash, log_id, reply, create_time)
             VALUES {values}"
        );
        let mut insert =
            db.write(AssertSqlSafe(insert)).once().bind(created).bind([0_u8].as_slice());
        for log_id in logs {
            insert = insert.bind(log_id.to_string()).bind(*log_id);
        }
        insert.execute().await.expect("put there");
    }
}

async fn left(db: &Db) -> i64 {
    let count = db.read("SELECT COUNT(*) FROM requests").fetch_one::<(i64,)>().await;
    count.expect("a count").0
}

async fn old_records_go_in_steps_and_no_other_does(db: Db) {
    let step = i64::from(STEP);
    put(&db, 2 * step + 1, KEPT + Duration::from_secs(1)).await;
    put(&db, 3, KEPT / 2).await;
    prune_all(&db, NOW).await.expect("pruned");
    assert_eq!(left(&db).await, 3);
}

async fn taking_old_records_away_costs_no_more_beside_many_others(db: Db) {
    let prune = async || {
        // Few: to put them there costs with the depth of three indexes, too.
        put(&db, 2, KEPT + Duration::from_secs(1)).await;
        prune_all(&db, NOW).await.expect("pruned");
    };
    let grow = async |size| put(&db, size, KEPT / 2).await;
    stays_as_cheap(&db, prune, grow, [100, 10_000]).await;
    assert_eq!(left(&db).await, 10_100);
}
