//! State that is lost, or away.

crate::test_in_each_mode!(
    after_a_loss_users_are_unknown_for_one_lease_and_never_offline,
    a_stream_that_keeps_a_lost_session_says_so,
);

#[tokio::test]
async fn while_redis_is_away_nobody_is_offline() {
    crate::harness::distributed(suite::while_redis_is_away_nobody_is_offline).await;
}

mod suite {
    use std::time::Duration;

    use parlance_proto::presence::v1 as pb;
    use parlance_rpc::{Principal, Reason};
    use parlance_types::UserId;
    use pb::Availability::{Offline, Online, Unknown};
    use tokio::time::Instant;

    use crate::harness::{
        DOUBT, World, assert_reason, assert_refused, caller, getting, keeping, next, opening, told,
        watching,
    };

    pub(super) async fn after_a_loss_users_are_unknown_for_one_lease_and_never_offline(
        world: World,
    ) -> World {
        assert_eq!(world.presence("bob").await.availability(), Unknown, "at the start");
        world.settle().await;
        world.open("ann", "phone").await;
        let watch = world.user("eve").watch_presence(watching(&["ann", "bob"])).await;
        let mut frames = watch.expect("a stream").into_inner();
        told(&mut frames).await;
        let lost = Instant::now();
        world.lose().await;
        let mut unknown = told(&mut frames).await;
        if unknown.len() == 1 {
            unknown.extend(told(&mut frames).await);
        }
        assert!(unknown.iter().all(|(_, availability)| *availability == Unknown), "{unknown:?}");
        // Who comes back is online at once, the others offline once they had the time to.
        let mut ann = world.user("ann");
        let heartbeat = pb::HeartbeatRequest { resource: "phone".to_owned() };
        assert_refused(ann.heartbeat(heartbeat).await, Reason::SessionNotFound);
        ann.open_session(opening("phone")).await.expect("opened");
        assert_eq!(told(&mut frames).await, [("ann".to_owned(), Online)]);
        assert_eq!(told(&mut frames).await, [("bob".to_owned(), Offline)]);
        assert!(lost.elapsed() >= DOUBT, "{:?}", lost.elapsed());
        world
    }

    pub(super) async fn a_stream_that_keeps_a_lost_session_says_so(world: World) -> World {
        let lease = Duration::from_secs(2);
        let kept = world.user("ann").keep_session(keeping("phone", lease)).await;
        let mut kept = kept.expect("kept").into_inner();
        next(&mut kept).await.expect("opened");
        world.lose().await;
        let ended = loop {
            if let Err(ended) = next(&mut kept).await {
                break ended;
            }
        };
        assert_reason(&ended, Reason::SessionNotFound);
        let again = world.user("ann").keep_session(keeping("phone", lease)).await;
        let mut again = again.expect("kept").into_inner();
        next(&mut again).await.expect("opened");
        assert_eq!(world.presence("ann").await.availability(), Online);
        world
    }

    pub(super) async fn while_redis_is_away_nobody_is_offline(mut world: World) -> World {
        let link = world.cut_off().await;
        let node = world.node();
        let mut eve = world.on(&node, caller("acme", Principal::User(UserId::new("eve"))));
        world.open("ann", "phone").await;
        world.settle().await;
        let watch = eve.watch_presence(watching(&["ann", "bob"])).await;
        let mut frames = watch.expect("a stream").into_inner();
        let first = told(&mut frames).await;
        assert_eq!(first, [("ann".to_owned(), Online), ("bob".to_owned(), Offline)]);
        link.cut();
        assert_refused(
            eve.batch_get_presence(getting(&["ann"])).await,
            Reason::PresenceUnavailable,
        );
        assert_refused(eve.open_session(opening("phone")).await, Reason::PresenceUnavailable);
        assert_refused(eve.watch_presence(watching(&["ann"])).await, Reason::PresenceUnavailable);
        let away = told(&mut frames).await;
        assert_eq!(away, [("ann".to_owned(), Unknown), ("bob".to_owned(), Unknown)]);
        link.mend();
        let mut back = told(&mut frames).await;
        if back.len() == 1 {
            back.extend(told(&mut frames).await);
        }
        back.sort();
        assert_eq!(back, first);
        world
    }
}
