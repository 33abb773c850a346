//! What it costs membership that devices in live rooms stay.

use std::time::Duration;

use futures::future::join_all;
use parlance_db::testing::Effort;
use parlance_proto::presence::v1 as pb;

use super::ends::{enter, open};
use crate::harness::{World, opening};

crate::test_in_each_mode!(renewals_cost_membership_nothing);

const LEASE: Duration = Duration::from_mins(1);

/// So many devices, each with a seat in so many rooms.
const DEVICES: usize = 200;
const ROOMS: usize = 5;

/// Whoever is in a thousand seats renews, and membership does not even read.
async fn renewals_cost_membership_nothing(mut world: World) -> World {
    // Otherwise nodes look whether seats are held.
    world.still().await;
    let users: Vec<String> = (0..DEVICES).map(|number| format!("user {number}")).collect();
    let first = open(&mut world.user(&users[0]), "phone", LEASE).await;
    for room in 0..ROOMS {
        enter(&world, &users[0], &format!("room {room}"), "phone", &first).await;
    }
    for user in &users[1..] {
        let held = open(&mut world.user(user), "phone", LEASE).await;
        // Where the first one is, as quickly as can be.
        let seats = "INSERT INTO seats
                         (log_id, user_id, resource, tenant_id, session_id, enter_time)
                     SELECT log_id, $1, resource, tenant_id, $2, enter_time
                       FROM seats WHERE user_id = $3";
        let seats = world.members.write(seats).bind(user).bind(&held).bind(&users[0]);
        let seats = seats.execute().await.expect("seats");
        assert_eq!(usize::try_from(seats), Ok(ROOMS));
    }

    let effort = Effort::of(&world.members).await;
    let renew = async {
        for _ in 0..3 {
            let beats = users.iter().map(|user| async {
                let request = pb::HeartbeatRequest { resource: "phone".to_owned() };
                world.user(user).sessions.heartbeat(request).await.expect("renewed");
            });
            join_all(beats).await;
        }
        // Opening again what is open renews it, too.
        let again = opening("phone");
        world.user(&users[0]).sessions.open_session(again).await.expect("renewed");
    };
    let ((), steps) = effort.taken_by(renew).await;
    assert_eq!(steps, 0);
    // As counted as what a seat costs that another session takes over.
    let ((), steps) = effort.taken_by(enter(&world, &users[0], "room 0", "phone", "2")).await;
    assert!(steps > 0);
    world
}
