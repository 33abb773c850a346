//! Approving against withdrawing, and against a ban, at once.

use parlance_db::Db;
use parlance_rpc::Reason;

use super::join_requests::{approve, ask, asked, withdraw};
use crate::harness::{Owner, World, refused};
use crate::moderation::bans::ban;

parlance_db::test_on_each_db!(
    parlance_membership::MIGRATIONS =>
        of_approving_and_withdrawing_one_wins,
        a_ban_wins_against_approving,
);

const ROUNDS: usize = 12;

async fn of_approving_and_withdrawing_one_wins(db: Db) {
    let world = World::new(db);
    for round in 0..ROUNDS {
        let room = format!("den {round}");
        let log = asked(&world, &room, &[("ann", Owner)]).await;
        let (mut ann, mut bob) = (world.user("ann").requests, world.user("bob").requests);
        bob.request_to_join(ask(&room)).await.expect("asked");
        let (approved, withdrawn) = tokio::join!(
            ann.approve_join_requests(approve(&room, &["bob"])),
            bob.withdraw_join_request(withdraw(&room)),
        );
        withdrawn.expect("an answer");
        let is_in = world.roles(&room).await.len() == 2;
        assert_eq!(approved.is_ok(), is_in);
        if !is_in {
            refused(approved, Reason::JoinRequestNotFound);
        }
        assert_eq!(world.later_events(log).len(), usize::from(is_in));
    }
}

async fn a_ban_wins_against_approving(db: Db) {
    let world = World::new(db);
    for round in 0..ROUNDS {
        let room = format!("den {round}");
        asked(&world, &room, &[("ann", Owner), ("cleo", Owner)]).await;
        world.user("bob").requests.request_to_join(ask(&room)).await.expect("asked");
        let (mut ann, mut cleo) = (world.user("ann").requests, world.user("cleo").moderation);
        let (approved, banned) = tokio::join!(
            ann.approve_join_requests(approve(&room, &["bob"])),
            cleo.ban_users(ban(&room, &["bob"])),
        );
        let removed = banned.expect("banned").into_inner().removed_user_ids;
        assert_eq!(removed.is_empty(), approved.is_err());
        assert_eq!(world.roles(&room).await.len(), 2);
    }
}
