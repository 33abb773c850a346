//! What a room that has ended leaves behind.

use parlance_db::Db;
use parlance_proto::membership::v1 as pb;
use parlance_proto::message::v1::MemberRole;
use parlance_types::LogId;

use crate::harness::{Member, Owner, World, close, eventually};

parlance_db::test_on_each_db!(
    parlance_membership::MIGRATIONS =>
        memberships_of_a_closed_room_end_in_steps,
);

async fn present(db: &Db, log_id: LogId) -> i64 {
    let count = "SELECT COUNT(*) FROM members WHERE log_id = $1 AND state = 1";
    let (count,): (i64,) = db.read(count).bind(log_id.0).fetch_one().await.expect("a count");
    count
}

async fn memberships_of_a_closed_room_end_in_steps(db: Db) {
    let world = World::new(db.clone());
    let ended = world.group("den", &[("ann", Owner), ("bob", Member)]).await;
    let open = world.group("tea", &[("ann", Owner)]).await;
    let fill = "
        WITH RECURSIVE n (i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < $2)
        INSERT INTO members (log_id, user_id, tenant_id, room_id, role, state, join_time)
        SELECT $1, 'member ' || CAST(n.i AS TEXT), 'acme', 'den', 1, 1, 1 FROM n";
    db.write(fill).bind(ended.0).bind(2500_i64).execute().await.expect("filled");
    let leave = pb::LeaveRoomRequest { room_id: "den".to_owned(), ..Default::default() };
    world.user("bob").members.leave_room(leave).await.expect("left");
    close(&world, ended).await;
    world.service.run();
    eventually(|| async { present(&db, ended).await == 0 }).await;
    assert_eq!(present(&db, open).await, 1);
    eventually(|| async {
        let left = "SELECT COUNT(*) FROM rosters WHERE closed AND peopled";
        let (left,): (i64,) = db.read(left).fetch_one().await.expect("a count");
        left == 0
    })
    .await;
    world.env.tasks.close().await;
    // Who was what at the end is still known.
    for (user, role) in [("ann", Owner), ("member 7", Member), ("bob", MemberRole::Unspecified)] {
        let request = pb::BatchGetRolesRequest {
            log_ids: vec![ended.0.to_string()],
            user_id: user.to_owned(),
        };
        let found = world.room_service("acme", None).rosters.batch_get_roles(request).await;
        assert_eq!(found.expect("roles").into_inner().roles, [i32::from(role)], "{user}");
    }
}
