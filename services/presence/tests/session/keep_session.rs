//! `KeepSession`.

use std::time::Duration;

use parlance_proto::presence::v1 as pb;
use parlance_rpc::{Principal, Reason};
use parlance_types::UserId;
use pb::Availability::{Offline, Online};

use crate::harness::{START, World, assert_reason, caller, keeping, next, on, refused, violates};

crate::test_in_each_mode!(
    a_session_is_kept_while_the_stream_is_open_and_for_its_lease_after,
    the_stream_of_a_session_that_is_closed_ends,
    a_drain_and_the_end_of_a_token_end_the_stream,
    streams_need_a_user_and_are_bounded,
);

const LEASE: Duration = Duration::from_secs(2);

async fn a_session_is_kept_while_the_stream_is_open_and_for_its_lease_after(world: World) -> World {
    world.settle().await;
    let kept = world.user("ann").sessions.keep_session(keeping("phone", LEASE)).await;
    let mut kept = kept.expect("kept").into_inner();
    // One when it is opened, then every third of the lease.
    for _ in 0..6 {
        let session = next(&mut kept).await.expect("a renewal").session.expect("a session");
        assert_eq!((session.resource.as_str(), session.availability()), ("phone", Online));
        assert_eq!(world.presence("ann").await.availability(), Online);
    }
    drop(kept);
    assert_eq!(world.presence("ann").await.availability(), Online, "who comes back was here");
    world.until("ann", Offline).await;
    world
}

async fn the_stream_of_a_session_that_is_closed_ends(world: World) -> World {
    let kept = world.user("ann").sessions.keep_session(keeping("phone", LEASE)).await;
    let mut kept = kept.expect("kept").into_inner();
    next(&mut kept).await.expect("opened");
    let closing = pb::CloseSessionRequest { resource: "phone".to_owned() };
    world.user("ann").sessions.close_session(closing).await.expect("closed");
    let ended = loop {
        if let Err(ended) = next(&mut kept).await {
            break ended;
        }
    };
    assert_reason(&ended, Reason::SessionNotFound);
    assert_ne!(world.presence("ann").await.availability(), Online);
    world
}

async fn a_drain_and_the_end_of_a_token_end_the_stream(world: World) -> World {
    let mut short = caller("acme", Principal::User(UserId::new("ann")));
    short.expires = START * 1_000_000 + 200_000;
    let mut client = on(world.first(), short);
    let kept = client.sessions.keep_session(keeping("phone", LEASE)).await;
    let mut kept = kept.expect("kept").into_inner();
    next(&mut kept).await.expect("opened");
    assert_reason(&next(&mut kept).await.expect_err("ended"), Reason::TokenExpired);

    let kept = world.user("ann").sessions.keep_session(keeping("phone", LEASE)).await;
    let mut kept = kept.expect("kept").into_inner();
    next(&mut kept).await.expect("opened");
    world.draining.cancel();
    let ended = loop {
        if let Err(ended) = next(&mut kept).await {
            break ended;
        }
    };
    assert_reason(&ended, Reason::Draining);
    let late = world.user("ann").sessions.keep_session(keeping("phone", LEASE)).await;
    assert_reason(&late.expect_err("refused"), Reason::Draining);
    world
}

async fn streams_need_a_user_and_are_bounded(world: World) -> World {
    let mut backend = world.backend();
    refused(backend.sessions.keep_session(keeping("a", LEASE)).await, Reason::UserRequired);
    let mut ann = world.user("ann");
    violates(ann.sessions.keep_session(keeping("", LEASE)).await, "resource");
    let mut open = Vec::new();
    for n in 0..3 {
        let kept = ann.sessions.keep_session(keeping(&n.to_string(), LEASE)).await;
        open.push(kept.expect("kept").into_inner());
    }
    refused(ann.sessions.keep_session(keeping("3", LEASE)).await, Reason::TooManyStreams);
    world
}
