//! A ban against every way in, at once.

use futures::future::{BoxFuture, FutureExt as _, join_all};
use parlance_db::Db;
use parlance_proto::membership::v1 as pb;
use parlance_proto::membership::v1::membership_service_client::MembershipServiceClient;
use parlance_proto::message::v1::event::Body;
use parlance_rpc::{Reason, Transport};
use parlance_types::LogId;
use tonic::Status;
use tonic_types::StatusExt as _;

use super::bans::ban;
use crate::harness::{Owner, World, add, join, strings};

parlance_db::test_on_each_db!(
    parlance_membership::MIGRATIONS =>
        a_ban_wins_against_eight_ways_in,
);

const ROUNDS: usize = 12;

fn ensure(
    world: &World,
    actor: Option<&str>,
    log: LogId,
) -> BoxFuture<'static, Result<(), Status>> {
    let mut rosters = world.room_service("acme", actor).rosters;
    let request = pb::EnsureMembersRequest {
        log_id: log.0.to_string(),
        user_ids: strings(&["bob"]),
        readmit_removed: true,
    };
    async move { rosters.ensure_members(request).await.map(drop) }.boxed()
}

async fn a_ban_wins_against_eight_ways_in(db: Db) {
    let world = World::new(db);
    world.know("acme", &["bob"]).await;
    for round in 0..ROUNDS {
        let room = format!("news {round}");
        let log = world.channel(&room, &[("ann", Owner)]).await;
        let (ann, bob, service) = (world.user("ann"), world.user("bob"), world.service());
        let joining = |mut members: MembershipServiceClient<Transport>| {
            let request = join(&room);
            async move { members.join_room(request).await.map(drop) }.boxed()
        };
        let adding = |mut members: MembershipServiceClient<Transport>| {
            let request = add(&room, &["bob"]);
            async move { members.add_members(request).await.map(drop) }.boxed()
        };
        let mut ways = vec![
            joining(bob.members.clone()),
            joining(bob.members.clone()),
            adding(ann.members.clone()),
            adding(world.service_for("ann").members),
            adding(service.members.clone()),
            ensure(&world, Some("bob"), log),
            ensure(&world, Some("ann"), log),
            ensure(&world, None, log),
        ];
        let mut moderation = ann.moderation.clone();
        let request = ban(&room, &["bob"]);
        let banning = async move { moderation.ban_users(request).await.map(drop) }.boxed();
        ways.insert(round % (ways.len() + 1), banning);
        for came in join_all(ways).await {
            if let Err(status) = came {
                let info = status.get_details_error_info().expect("error info");
                assert_eq!(info.reason, Reason::Banned.as_str(), "{status:?}");
            }
        }
        assert_eq!(world.roles(&room).await, [("ann".to_owned(), Owner)]);
        let events = world.later_events(log);
        let at = events.iter().position(|e| matches!(e.body, Some(Body::MembersBanned(_))));
        let after = &events[at.expect("the ban stands in the log")..];
        assert!(after.iter().all(|e| e.effects.as_ref().is_none_or(|e| e.gained.is_empty())));
        // Who was in before the ban is out by the ban itself.
        let came = events.iter().filter(|e| matches!(e.body, Some(Body::MembersJoined(_)))).count();
        let lost = &after[0].effects.as_ref().expect("effects").lost_user_ids;
        assert_eq!((came, after.len()), (lost.len(), 1));
    }
}
