//! Accepting against revoking, and against a ban, at once.

use futures::future::join_all;
use parlance_db::Db;
use parlance_proto::message::v1::event::Body;
use parlance_rpc::Reason;

use super::invitations::{accept, invite, revoke};
use crate::harness::{Owner, World, refused};
use crate::moderation::bans::ban;

parlance_db::test_on_each_db!(
    parlance_membership::MIGRATIONS =>
        of_accepting_and_revoking_one_wins,
        a_ban_wins_against_accepting,
        many_who_accept_at_once_join_once,
);

const ROUNDS: usize = 12;

async fn of_accepting_and_revoking_one_wins(db: Db) {
    let world = World::new(db);
    world.know("acme", &["bob"]).await;
    for round in 0..ROUNDS {
        let room = format!("den {round}");
        let log = world.group(&room, &[("ann", Owner)]).await;
        let (mut ann, mut bob) = (world.user("ann").invitations, world.user("bob").invitations);
        ann.invite_users(invite(&room, &["bob"])).await.expect("invited");
        let (accepting, revoking) =
            (bob.accept_invitation(accept(&room)), ann.revoke_invitations(revoke(&room, &["bob"])));
        let (accepted, revoked) = if round % 2 == 0 {
            tokio::join!(accepting, revoking)
        } else {
            let (revoked, accepted) = tokio::join!(revoking, accepting);
            (accepted, revoked)
        };
        let revoked = revoked.expect("an answer").into_inner().revoked_user_ids;
        let is_in = world.roles(&room).await.len() == 2;
        assert_eq!((revoked.is_empty(), accepted.is_ok()), (is_in, is_in));
        if !is_in {
            refused(accepted, Reason::InvitationNotFound);
        }
        let ends = world.later_events(log).into_iter().skip(1).filter_map(|event| event.body);
        let ends: Vec<_> = ends.collect();
        assert_eq!(ends.len(), 1, "{ends:?}");
        assert_eq!(matches!(ends[0], Body::MembersJoined(_)), is_in);
    }
}

async fn a_ban_wins_against_accepting(db: Db) {
    let world = World::new(db);
    world.know("acme", &["bob"]).await;
    for round in 0..ROUNDS {
        let room = format!("den {round}");
        world.group(&room, &[("ann", Owner)]).await;
        let (mut ann, mut bob) = (world.user("ann"), world.user("bob").invitations);
        ann.invitations.invite_users(invite(&room, &["bob"])).await.expect("invited");
        let banning = ann.moderation.ban_users(ban(&room, &["bob"]));
        let accepting = bob.accept_invitation(accept(&room));
        let (accepted, banned) = if round % 2 == 0 {
            tokio::join!(accepting, banning)
        } else {
            let (banned, accepted) = tokio::join!(banning, accepting);
            (accepted, banned)
        };
        let removed = banned.expect("banned").into_inner().removed_user_ids;
        assert_eq!(removed.is_empty(), accepted.is_err(), "who was in is out by the ban");
        if accepted.is_err() {
            refused(accepted, Reason::InvitationNotFound);
        }
        assert_eq!(world.roles(&room).await, [("ann".to_owned(), Owner)]);
        refused(bob.accept_invitation(accept(&room)).await, Reason::InvitationNotFound);
    }
}

async fn many_who_accept_at_once_join_once(db: Db) {
    let world = World::new(db);
    world.know("acme", &["bob"]).await;
    let log = world.group("den", &[("ann", Owner)]).await;
    world.user("ann").invitations.invite_users(invite("den", &["bob"])).await.expect("invited");
    let accepting = (0..8).map(|_| {
        let mut bob = world.user("bob").invitations;
        async move { bob.accept_invitation(accept("den")).await.expect("in").into_inner() }
    });
    let came = join_all(accepting).await;
    assert_eq!(came.iter().filter(|reply| !reply.already_member).count(), 1);
    assert_eq!(world.later_events(log).len(), 2);
}
