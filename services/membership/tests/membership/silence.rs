//! A Postgres whose established connections fall silent.

use parlance_db::testing::on_linked_postgres;
use parlance_membership::MIGRATIONS;
use parlance_proto::membership::v1 as pb;

use crate::harness::{Owner, World, join};

#[tokio::test]
async fn calls_leave_a_silent_postgres_behind() {
    on_linked_postgres(MIGRATIONS, |db, link| async move {
        let world = World::new(db);
        world.channel("news", &[("ann", Owner)]).await;
        let bob = world.user("bob");
        link.is_left_behind(|| async {
            let (mut joins, mut lists) = (bob.members.clone(), bob.members.clone());
            let room_id = "news".to_owned();
            let list = pb::ListRoomMembersRequest { room_id, ..Default::default() };
            joins.join_room(join("news")).await.is_ok()
                && lists.list_room_members(list).await.is_ok()
        })
        .await;
    })
    .await;
}
