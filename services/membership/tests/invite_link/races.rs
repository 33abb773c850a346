//! The last use of a link, and its end, for several at once.

use futures::future::join_all;
use parlance_db::Db;
use parlance_rpc::Reason;

use super::links::{by, listed, made, uses};
use crate::harness::{Owner, World, refused};
use crate::moderation::bans::ban;

parlance_db::test_on_each_db!(
    parlance_membership::MIGRATIONS =>
        uses_are_counted_exactly,
        a_ban_wins_against_a_link,
);

const ROUNDS: usize = 6;

async fn uses_are_counted_exactly(db: Db) {
    let world = World::new(db);
    for round in 0..ROUNDS {
        let room = format!("den {round}");
        let log = world.group(&room, &[("ann", Owner)]).await;
        let ann = world.user("ann");
        let (_, token) = made(&ann, uses(&room, 3)).await;
        let coming = (0..8).map(|user| {
            let (mut client, request) = (world.user(&format!("u{user}")).links, by(&token));
            async move { client.join_by_link(request).await }
        });
        let (came, stayed): (Vec<_>, Vec<_>) =
            join_all(coming).await.into_iter().partition(Result::is_ok);
        assert_eq!((came.len(), stayed.len()), (3, 5));
        for refusal in stayed {
            refused(refusal, Reason::InviteLinkNotFound);
        }
        assert_eq!(world.roles(&room).await.len(), 4);
        assert_eq!(world.later_events(log).len(), 3);
        assert!(listed(&ann, &room).await.is_empty());
    }
}

async fn a_ban_wins_against_a_link(db: Db) {
    let world = World::new(db);
    world.know("acme", &["bob"]).await;
    for round in 0..ROUNDS {
        let room = format!("den {round}");
        world.group(&room, &[("ann", Owner)]).await;
        let (mut ann, mut bob) = (world.user("ann"), world.user("bob").links);
        let (_, token) = made(&ann, uses(&room, 5)).await;
        let (came, banned) = tokio::join!(
            bob.join_by_link(by(&token)),
            ann.moderation.ban_users(ban(&room, &["bob"]))
        );
        let removed = banned.expect("banned").into_inner().removed_user_ids;
        assert_eq!(removed.is_empty(), came.is_err());
        if came.is_err() {
            refused(came, Reason::Banned);
        }
        let used = listed(&ann, &room).await[0].uses;
        assert_eq!(used, i32::try_from(removed.len()).expect("few"));
        assert_eq!(world.roles(&room).await.len(), 1);
    }
}
