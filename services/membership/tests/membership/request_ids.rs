//! How long a request id counts, and where.

use parlance_db::Db;
use parlance_proto::membership::v1 as pb;
use parlance_types::{LogId, Micros};
use uuid::Uuid;

use crate::harness::{Admin, Owner, World, add, close, eventually, strings};

parlance_db::test_on_each_db!(
    parlance_membership::MIGRATIONS =>
        what_a_request_id_did_in_an_earlier_life_has_no_effect_in_a_new_one,
        a_request_id_is_kept_for_seven_days,
        many_old_request_ids_go_in_steps,
);

const WEEK: Micros = 7 * 24 * 3600 * 1_000_000;

/// Adds, promotes and removes Bob, and leaves, each under a request id.
async fn all_changes(world: &World) {
    let (room_id, id) = ("den".to_owned(), |id: &str| id.to_owned());
    let mut ann = world.user("ann").members;
    let request = pb::AddMembersRequest { request_id: id("r1"), ..add("den", &["bob"]) };
    let added = ann.add_members(request).await.expect("added").into_inner();
    assert_eq!(added.added.len(), 1);
    let request = pb::ChangeRoleRequest {
        room_id: room_id.clone(),
        user_id: "bob".to_owned(),
        role: Admin.into(),
        request_id: id("r2"),
        ..Default::default()
    };
    ann.change_role(request).await.expect("changed");
    let request = pb::RemoveMembersRequest {
        room_id: room_id.clone(),
        user_ids: strings(&["bob"]),
        request_id: id("r3"),
        ..Default::default()
    };
    ann.remove_members(request).await.expect("removed");
    let request = pb::LeaveRoomRequest { room_id, request_id: id("r4"), ..Default::default() };
    ann.leave_room(request).await.expect("left");
}

async fn what_a_request_id_did_in_an_earlier_life_has_no_effect_in_a_new_one(db: Db) {
    let world = World::new(db);
    world.know("acme", &["bob"]).await;
    for _ in 0..3 {
        let log = world.group("den", &[("ann", Owner)]).await;
        all_changes(&world).await;
        assert_eq!(world.later_events(log).len(), 4);
        // What is repeated within one life, or after the last one, is told again.
        all_changes(&world).await;
        close(&world, log).await;
        all_changes(&world).await;
        assert_eq!(world.later_events(log).len(), 5);
    }
}

async fn records(db: &Db) -> i64 {
    let count = db.read("SELECT COUNT(*) FROM requests").fetch_one().await;
    let (count,): (i64,) = count.expect("a count");
    count
}

async fn a_request_id_is_kept_for_seven_days(db: Db) {
    let world = World::new(db.clone());
    world.know("acme", &["bob", "cleo"]).await;
    world.group("den", &[("ann", Owner)]).await;
    let request =
        |id: &str, user| pb::AddMembersRequest { request_id: id.to_owned(), ..add("den", &[user]) };
    let mut ann = world.user("ann").members;
    ann.add_members(request("r1", "bob")).await.expect("added");
    world.clock.advance(WEEK);
    let first = ann.add_members(request("r2", "cleo")).await.expect("added").into_inner();
    world.service.run();
    let ran = || {
        let report = world.env.tasks.report();
        report.get("membership requests").is_some_and(|run| run.count > 0)
    };
    eventually(|| async { ran() }).await;
    assert_eq!(records(&db).await, 2, "a week has not passed yet");

    let later = World::new(db.clone());
    later.clock.advance(WEEK + 1);
    later.service.run();
    eventually(|| async { records(&db).await == 1 }).await;
    let again = ann.add_members(request("r2", "cleo")).await.expect("told again").into_inner();
    assert_eq!(again, first);
    // What was forgotten is judged anew.
    let anew = ann.add_members(request("r1", "bob")).await.expect("judged").into_inner();
    assert_eq!(anew.already_member_user_ids, ["bob"]);
    world.env.tasks.close().await;
    later.env.tasks.close().await;
}

async fn many_old_request_ids_go_in_steps(db: Db) {
    let world = World::new(db.clone());
    let insert = "
        WITH RECURSIVE n (i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < $1)
        INSERT INTO requests (tenant_id, caller, room_id, request_id, hash, log_id, reply,
                              create_time)
        SELECT 'acme', 'ann', '', CAST(n.i AS TEXT), $2, $3, $2, n.i FROM n";
    let log_id = LogId(Uuid::now_v7());
    let insert = db.write(insert).bind(1800_i64).bind([1_u8].as_slice()).bind(log_id.0);
    insert.execute().await.expect("filled");
    world.clock.advance(WEEK - 1_000_000_000 + 1701);
    world.service.run();
    eventually(|| async { records(&db).await == 100 }).await;
    world.env.tasks.close().await;
}
