//! What live rooms cost beside many, and how many end in a second.

use std::time::Instant;

use parlance_db::testing::Effort;
use parlance_db::{AssertSqlSafe, Db, rows};
use parlance_proto::membership::v1 as pb;
use parlance_proto::message::v1::{LeaveCause, RoomKind};
use parlance_types::LogId;
use prost::Message as _;
use uuid::Uuid;

use super::{Growing, Place, compare};
use crate::harness::{World, created, opening, rules};

/// A live room in which nobody is, and which waits for an hour.
pub(super) async fn live(world: &World, tenant: &str, room: &str) -> LogId {
    let log_id = LogId(Uuid::now_v7());
    let wait = Some(prost_types::Duration { seconds: 3600, nanos: 0 });
    let request = pb::OpenRosterRequest {
        kind: RoomKind::Live.into(),
        rules: Some(pb::RosterRules {
            join: pb::JoinRule::Anyone.into(),
            capacity: 100_000,
            ..rules()
        }),
        live: Some(pb::LiveRoster {
            destroy_delay: wait,
            empty_timeout: wait,
            ..Default::default()
        }),
        created_event: created().encode_to_vec(),
        ..opening(log_id, room, &[])
    };
    world.room_service(tenant, None).rosters.open_roster(request).await.expect("opened");
    log_id
}

pub(super) async fn enter(world: &World, place: &Place, log_id: LogId) {
    let request = pb::EnterSeatRequest {
        log_id: log_id.0.to_string(),
        resource: "phone".to_owned(),
        session_id: "1".to_owned(),
        max_rooms: 5,
    };
    let mut seats = world.room_service(place.tenant, Some("mia")).seats;
    seats.enter_seat(request).await.expect("entered");
}

pub(super) async fn switch_and_leave(world: &World, place: &Place) {
    let mut seats = world.room_service(place.tenant, Some("mia")).seats;
    let request = pb::SwitchSeatRequest {
        from_log_id: place.lounge.0.to_string(),
        to_log_id: place.porch.0.to_string(),
        resource: "phone".to_owned(),
        session_id: "1".to_owned(),
    };
    seats.switch_seat(request).await.expect("moved");
    let request =
        pb::LeaveSeatRequest { log_id: place.porch.0.to_string(), resource: "phone".to_owned() };
    seats.leave_seat(request).await.expect("left");
}

pub(super) async fn leave_all(world: &World, place: &Place) {
    let mut seats = world.room_service(place.tenant, Some("mia")).seats;
    let request = pb::LeaveSeatsRequest { resource: "phone".to_owned() };
    assert_eq!(seats.leave_seats(request).await.expect("left").into_inner().left.len(), 2);
}

pub(super) async fn end(world: &World, place: &Place) {
    let nowhere = (0..99).map(|n| format!("yan {n:02}"));
    let held = |user_id| pb::SeatSession {
        user_id,
        resource: "phone".to_owned(),
        session_id: "1".to_owned(),
    };
    let sessions = nowhere.chain(["mia".to_owned()]).map(held).collect();
    let cause = LeaveCause::LeaseEnded.into();
    let mut seats = world.room_service(place.tenant, None).seats;
    seats.end_seats(pb::EndSeatsRequest { sessions, cause }).await.expect("ended");
}

/// Which rooms have ended, of all tenants; one of them in this tenant.
pub(super) async fn ended(world: &World, place: &Place) -> Vec<String> {
    let log_id = live(world, place.tenant, "shed").await;
    let mut seats = world.room_service(place.tenant, Some("mia")).seats;
    let request = pb::EnterSeatRequest {
        log_id: log_id.0.to_string(),
        resource: "phone".to_owned(),
        session_id: "1".to_owned(),
        max_rooms: 5,
    };
    seats.enter_seat(request).await.expect("entered");
    let close = pb::CloseRosterRequest { log_id: log_id.0.to_string() };
    world.room_service(place.tenant, None).rosters.close_roster(close).await.expect("closed");
    seats.list_ended_rosters(pb::ListEndedRostersRequest {}).await.expect("a list");
    vec![log_id.0.to_string()]
}

/// Beside many who are in the lounge, each with two devices.
pub(super) async fn beside_seats(db: Db) {
    compare(db, async |growing: &Growing<'_>, size| {
        let (den, lounge) = (growing.place.den, growing.place.lounge);
        assert_ne!(den, lounge);
        for device in ["phone", "laptop"] {
            let insert = "
                WITH RECURSIVE n (i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < $3)
                INSERT INTO seats (log_id, user_id, resource, tenant_id, session_id, enter_time)
                SELECT $2, 'm' || CAST(n.i AS TEXT), $4, $1, '1', 1 FROM n";
            let insert = growing.write(insert).bind(lounge.0).bind(size).bind(device);
            insert.execute().await.expect("filled");
        }
        let insert = "
            WITH RECURSIVE n (i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < $3)
            INSERT INTO members (log_id, user_id, tenant_id, room_id, role, state, join_time)
            SELECT $2, 'm' || CAST(n.i AS TEXT), $1, 'lounge', 1, 1, 1 FROM n";
        growing.write(insert).bind(lounge.0).bind(size).execute().await.expect("filled");
        let count = "UPDATE rosters SET member_count = $3, destroy_time = NULL
                     WHERE tenant_id = $1 AND log_id = $2";
        growing.write(count).bind(lounge.0).bind(size).execute().await.expect("counted");
    })
    .await;
}

/// Puts empty live rooms beside, with `destroy_time`; their logs begin with their next fact.
async fn fill(db: &Db, tenant: &str, count: i64, destroy_time: i64) -> Vec<LogId> {
    let logs: Vec<Uuid> = (0..count).map(|_| Uuid::now_v7()).collect();
    for logs in logs.chunks(500) {
        let rosters =
            rows(3, logs.len(), "($+, $1, $+, 5, 1, 1, 2, 100, 1, 0, FALSE, TRUE, 0, $2)");
        let rosters = format!(
            "INSERT INTO rosters (log_id, tenant_id, room_id, kind, join_rule, add_rule,
                                  remove_rule, capacity, rules_version, member_count, closed,
                                  peopled, destroy_delay, destroy_time)
             VALUES {rosters}"
        );
        let mut rosters = db.write(AssertSqlSafe(rosters)).once().bind(tenant).bind(destroy_time);
        let outbox = rows(2, logs.len(), "($+, $1, $+, 5, 0, 0)");
        let outbox = format!(
            "INSERT INTO outbox_logs (log_id, tenant_id, room_id, kind, version, applied)
             VALUES {outbox}"
        );
        let mut outbox = db.write(AssertSqlSafe(outbox)).once().bind(tenant);
        for log_id in logs {
            rosters = rosters.bind(*log_id).bind(format!("room {log_id}"));
            outbox = outbox.bind(*log_id).bind(format!("room {log_id}"));
        }
        rosters.execute().await.expect("rosters");
        outbox.execute().await.expect("logs");
    }
    logs.into_iter().map(LogId).collect()
}

/// Beside many live rooms that wait, and many devices of the user who went elsewhere.
pub(super) async fn beside_live_rooms(db: Db) {
    compare(db, async |growing: &Growing<'_>, size| {
        fill(growing.db, growing.place.tenant, size, i64::MAX / 2).await;
    })
    .await;
}

pub(super) async fn due_rooms_cost_each_the_same(db: Db) {
    let world = World::new(db.clone());
    let effort = Effort::of(&db).await;
    let mut costs = Vec::new();
    for (tenant, count) in [("small", 40), ("large", 4000)] {
        let due = fill(&db, tenant, count, 1).await;
        if matches!(db, Db::Postgres(_)) {
            db.write("VACUUM ANALYZE").execute().await.expect("vacuumed");
        }
        let begun = Instant::now();
        let (ended, taken) = effort.taken_by(world.service.end_due()).await;
        ended.expect("ended");
        let spent = begun.elapsed().as_secs_f64();
        assert!(due.iter().all(|log_id| world.logs.log(*log_id).closed));
        let each = taken / u64::try_from(count).expect("positive");
        println!(
            "{count} due rooms: {each} each, {:.0} a second",
            f64::from(i32::try_from(count).expect("few")) / spent
        );
        costs.push(each);
    }
    assert!(costs[1] <= costs[0] + costs[0] / 4 + 20, "{costs:?}");
}
