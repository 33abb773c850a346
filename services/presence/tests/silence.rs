//! A Postgres whose established connections fall silent is left behind, by reads of when
//! users were last seen and by the writes that no call waits for.

use std::sync::atomic::{AtomicU32, Ordering};

use parlance_proto::presence::v1 as pb;

use crate::harness::{World, linked, opening};

/// Whether a user who comes and goes is known to have been here.
async fn is_noted(world: &World, user: &str) -> bool {
    let mut client = world.user(user).sessions;
    client.open_session(opening("phone")).await.expect("opened");
    let closing = pb::CloseSessionRequest { resource: "phone".to_owned() };
    client.close_session(closing).await.expect("closed");
    world.presence(user).await.last_seen_time.is_some()
}

#[tokio::test]
async fn when_users_were_last_seen_is_written_and_read_over_new_connections() {
    Box::pin(linked(|world, link| async move {
        world.settle().await;
        let came = AtomicU32::new(0);
        let works = || async {
            is_noted(&world, &format!("user {}", came.fetch_add(1, Ordering::Relaxed))).await
        };
        link.is_left_behind(works).await;
        world
    }))
    .await;
}
