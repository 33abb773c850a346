//! `WatchPresence`.

use std::time::Duration;

use futures::future::join_all;
use parlance_presence::{Options, Share};
use parlance_proto::presence::v1 as pb;
use parlance_rpc::{Caller, Principal, Reason};
use parlance_types::UserId;
use pb::Availability::{Away, Offline, Online};
use tokio::time::{Instant, sleep};

use crate::harness::{
    Client, LOOK, START, World, acme, assert_reason, caller, in_time, keeping, next, on, opening,
    options, refused, told, violates, watching,
};

crate::test_in_each_mode!(
    what_users_are_comes_first_then_what_changes,
    nothing_is_lost_between_the_first_frame_and_the_first_change,
    a_watch_of_users_who_do_not_change_shows_that_it_lives,
    a_flapping_user_costs_a_bounded_number_of_frames,
    a_watcher_on_another_node_is_told_when_the_owner_of_a_lease_dies,
    the_time_last_seen_is_told_with_the_change,
    when_a_user_was_last_seen_never_goes_back,
    streams_are_bounded_and_end_with_their_token_and_the_node,
    a_service_token_has_a_bound_whoever_it_acts_for_and_so_has_its_tenant,
    a_node_has_a_bound_for_all_tenants_together,
    a_stream_ends_well_when_its_life_is_over,
    a_stream_that_is_not_read_ends,
    a_draining_node_ends_its_streams_one_after_the_other,
    bad_fields_are_named,
);

fn is(user: &str, availability: pb::Availability) -> (String, pb::Availability) {
    (user.to_owned(), availability)
}

async fn close(world: &World, user: &str, resource: &str) {
    let request = pb::CloseSessionRequest { resource: resource.to_owned() };
    world.user(user).sessions.close_session(request).await.expect("closed");
}

/// B-135.
async fn what_users_are_comes_first_then_what_changes(world: World) -> World {
    world.settle().await;
    world.open("ann", "phone").await;
    let watch = world.user("eve").presence.watch_presence(watching(&["bob", "ann"])).await;
    let mut frames = watch.expect("a stream").into_inner();
    assert_eq!(told(&mut frames).await, [is("bob", Offline), is("ann", Online)]);
    world.open("bob", "phone").await;
    assert_eq!(told(&mut frames).await, [is("bob", Online)]);
    let away = pb::OpenSessionRequest {
        availability: Away.into(),
        status: "back soon".to_owned(),
        ..opening("phone")
    };
    world.user("ann").sessions.open_session(away).await.expect("replaced");
    let frame = next(&mut frames).await.expect("a frame").presences;
    assert_eq!((frame.len(), frame[0].availability()), (1, Away));
    assert_eq!(frame[0].status, "back soon");
    close(&world, "bob", "phone").await;
    assert_eq!(told(&mut frames).await, [is("bob", Offline)]);
    world
}

async fn nothing_is_lost_between_the_first_frame_and_the_first_change(world: World) -> World {
    world.settle().await;
    // Somebody watches already, so that looks go on all the time.
    let other =
        world.user("cid").presence.watch_presence(watching(&["ann"])).await.expect("a stream");
    for round in 0..25 {
        let mut eve = world.service_for("eve");
        let (watch, ()) = tokio::join!(
            eve.presence.watch_presence(watching(&["ann"])),
            world.open("ann", "phone")
        );
        let mut frames = watch.expect("a stream").into_inner();
        let mut known = told(&mut frames).await;
        assert_eq!(known.len(), 1);
        while known != [is("ann", Online)] {
            assert_eq!(known, [is("ann", Offline)], "round {round}");
            known = told(&mut frames).await;
        }
        let close = close(&world, "ann", "phone");
        let (gone, ()) = tokio::join!(told(&mut frames), close);
        assert_eq!(gone, [is("ann", Offline)], "round {round}");
        drop(frames);
    }
    drop(other);
    world
}

async fn a_watch_of_users_who_do_not_change_shows_that_it_lives(mut world: World) -> World {
    let heartbeat = Duration::from_millis(20)..=Duration::from_millis(40);
    let node = world.node_with(Options { heartbeat, ..options() });
    world.settle().await;
    let watch = on(&node, acme("eve")).presence.watch_presence(watching(&["ann"])).await;
    let mut frames = watch.expect("a stream").into_inner();
    assert_eq!(told(&mut frames).await, [is("ann", Offline)]);
    for _ in 0..5 {
        assert_eq!(next(&mut frames).await.expect("a heartbeat").presences, []);
    }
    world.open("ann", "phone").await;
    assert_eq!(told(&mut frames).await, [is("ann", Online)]);
    assert_eq!(next(&mut frames).await.expect("a heartbeat").presences, []);
    world
}

async fn a_flapping_user_costs_a_bounded_number_of_frames(world: World) -> World {
    world.settle().await;
    let watch = world.user("eve").presence.watch_presence(watching(&["ann", "bob"])).await;
    let mut frames = watch.expect("a stream").into_inner();
    told(&mut frames).await;
    let began = Instant::now();
    let mut changes = 0;
    while began.elapsed() < LOOK * 20 {
        world.open("ann", "phone").await;
        close(&world, "ann", "phone").await;
        changes += 2;
    }
    world.open("bob", "phone").await;
    world.open("ann", "phone").await;
    let (mut count, mut last) = (0, [Offline, Offline]);
    while last != [Online, Online] {
        let frame = told(&mut frames).await;
        count += 1;
        for (user, availability) in &frame {
            last[usize::from(user == "bob")] = *availability;
        }
        let mut users: Vec<_> = frame.iter().map(|(user, _)| user).collect();
        users.dedup();
        assert_eq!(users.len(), frame.len(), "each user once in a frame");
    }
    let looks = began.elapsed().as_millis() / LOOK.as_millis() + 2;
    assert!(count <= looks, "{count} frames for {changes} changes in {looks} looks");
    assert!(changes > count, "{changes} changes");
    world
}

async fn a_watcher_on_another_node_is_told_when_the_owner_of_a_lease_dies(
    mut world: World,
) -> World {
    world.settle().await;
    let lease = Duration::from_secs(1);
    let kept = world.user("ann").sessions.keep_session(keeping("phone", lease)).await;
    let mut kept = kept.expect("kept").into_inner();
    next(&mut kept).await.expect("opened");
    let node = world.node();
    let mut eve = on(&node, caller("acme", Principal::User(UserId::new("eve"))));
    let watch = eve.presence.watch_presence(watching(&["ann"])).await;
    let mut frames = watch.expect("a stream").into_inner();
    assert_eq!(told(&mut frames).await, [is("ann", Online)]);
    next(&mut kept).await.expect("a renewal");
    // Nobody closes the session: its owner is just gone.
    let died = Instant::now();
    drop(kept);
    assert_eq!(told(&mut frames).await, [is("ann", Offline)]);
    assert!(died.elapsed() >= lease / 2, "not before the lease ended");
    world
}

/// B-134.
async fn the_time_last_seen_is_told_with_the_change(world: World) -> World {
    world.settle().await;
    world.open("ann", "phone").await;
    let watch = world.user("eve").presence.watch_presence(watching(&["ann"])).await;
    let mut frames = watch.expect("a stream").into_inner();
    assert_eq!(told(&mut frames).await, [is("ann", Online)]);
    close(&world, "ann", "phone").await;
    let frame = next(&mut frames).await.expect("a frame").presences;
    assert_eq!(frame[0].availability(), Offline);
    assert_eq!(frame[0].last_seen_time.map(|time| time.seconds), Some(START));
    world
}

/// Ann comes and goes between two looks; who watches her then learns of it first.
async fn when_a_user_was_last_seen_never_goes_back(mut world: World) -> World {
    let node = world.node_with(Options { watch: Duration::from_secs(1), ..options() });
    world.settle().await;
    let visit = async |user: &str| {
        let (visited, tasks) = world.fresh();
        let mut client = on(&visited, acme(user));
        client.sessions.open_session(opening("phone")).await.expect("opened");
        close(&world, user, "phone").await;
        tasks.close().await;
    };
    let watch = async |user: &str| {
        let mut client = on(&node, acme(user));
        let watch = client.presence.watch_presence(watching(&["ann", "bob"])).await;
        watch.expect("a stream").into_inner()
    };
    visit("ann").await;
    let mut first = watch("eve").await;
    assert_eq!(told(&mut first).await, [is("ann", Offline), is("bob", Offline)]);
    world.open("bob", "phone").await;
    assert_eq!(told(&mut first).await, [is("bob", Online)], "the node has looked at both");
    world.clock.advance(120_000_000);
    visit("ann").await;
    let mut second = watch("cid").await;
    let seen = |presence: &pb::Presence| presence.last_seen_time.map(|time| time.seconds);
    let frame = next(&mut second).await.expect("a frame").presences;
    assert_eq!(seen(&frame[0]), Some(START + 120));
    close(&world, "bob", "phone").await;
    // The looks tell the first one too, and the second nothing older.
    for (frames, known) in [(&mut first, START), (&mut second, START + 120)] {
        let (mut ann, mut bob) = (Some(known), Online);
        while ann != Some(START + 120) || bob != Offline {
            for presence in next(frames).await.expect("a frame").presences {
                if presence.user_id == "bob" {
                    bob = presence.availability();
                } else if presence.availability() == Offline {
                    assert!(seen(&presence) >= ann, "{presence:?}");
                    ann = seen(&presence);
                }
            }
        }
    }
    world
}

async fn a_service_token_has_a_bound_whoever_it_acts_for_and_so_has_its_tenant(
    mut world: World,
) -> World {
    let node = world.node_with(Options {
        per_caller: Share { streams: 2, watched: 4 },
        per_backend: Share { streams: 3, watched: 6 },
        per_tenant: Share { streams: 5, watched: 9 },
        ..options()
    });
    let backend = |tenant: &str, subject: &str, user: &str| {
        let principal = Principal::ServiceFor(UserId::new(user));
        on(&node, Caller { subject: subject.to_owned(), ..caller(tenant, principal) })
    };
    let watch = async |mut client: Client, users: &[&str]| {
        client.presence.watch_presence(watching(users)).await
    };
    let (two, three) = (["a", "b"], ["a", "b", "c"]);
    let mut held = Vec::new();
    // Of one caller.
    held.push(watch(backend("acme", "gate", "u1"), &three).await.expect("a stream"));
    refused(watch(backend("acme", "gate", "u1"), &two).await, Reason::TooManyStreams);
    // Of one token, users first, then streams.
    held.push(watch(backend("acme", "gate", "u2"), &two).await.expect("a stream"));
    refused(watch(backend("acme", "gate", "u3"), &two).await, Reason::TooManyStreams);
    let lease = Duration::from_secs(30);
    let mut kept = backend("acme", "gate", "u3").sessions;
    let keep = kept.keep_session(keeping("phone", lease)).await.expect("kept").into_inner();
    let mut more = backend("acme", "gate", "u4").sessions;
    refused(more.keep_session(keeping("phone", lease)).await, Reason::TooManyStreams);
    // Another token has its own, within the tenant's.
    held.push(watch(backend("acme", "other", "u5"), &three).await.expect("a stream"));
    held.push(watch(on(&node, acme("ann")), &["a"]).await.expect("a stream"));
    refused(watch(on(&node, acme("bob")), &["a"]).await, Reason::TooManyStreams);
    held.push(watch(backend("globex", "gate", "u1"), &three).await.expect("another tenant"));
    // All of it is given back.
    drop((held, keep));
    in_time(async {
        while watch(backend("acme", "gate", "u1"), &["a", "b", "c", "d"]).await.is_err() {
            sleep(LOOK).await;
        }
    })
    .await;
    world
}

async fn a_node_has_a_bound_for_all_tenants_together(mut world: World) -> World {
    let in_all = Share { streams: 3, watched: 5 };
    let node = world.node_with(Options { in_all, ..options() });
    let watch = async |tenant: &str, users: &[&str]| {
        let caller = caller(tenant, Principal::User(UserId::new("eve")));
        on(&node, caller).presence.watch_presence(watching(users)).await
    };
    let mut held = vec![watch("acme", &["a", "b"]).await.expect("a stream")];
    held.push(watch("globex", &["a", "b"]).await.expect("of another tenant"));
    refused(watch("initech", &["a", "b"]).await, Reason::Overloaded);
    held.push(watch("initech", &["a"]).await.expect("as many as are left"));
    refused(watch("hooli", &["a"]).await, Reason::Overloaded);
    drop(held);
    in_time(async {
        while watch("hooli", &["a", "b", "c"]).await.is_err() {
            sleep(LOOK).await;
        }
    })
    .await;
    world
}

async fn a_stream_ends_well_when_its_life_is_over(mut world: World) -> World {
    let life = Duration::from_millis(100)..=Duration::from_millis(200);
    let node = world.node_with(Options { life, ..options() });
    let mut eve = on(&node, acme("eve"));
    let watch = eve.presence.watch_presence(watching(&["ann"])).await;
    let mut watched = watch.expect("a stream").into_inner();
    let kept = eve.sessions.keep_session(keeping("phone", Duration::from_secs(30))).await;
    let mut kept = kept.expect("kept").into_inner();
    in_time(async {
        while watched.message().await.expect("no error").is_some() {}
        while kept.message().await.expect("no error").is_some() {}
    })
    .await;
    assert_eq!(world.presence("eve").await.availability(), Online, "the session lives on");
    world
}

async fn a_stream_that_is_not_read_ends(mut world: World) -> World {
    let stall = Duration::from_millis(200);
    let node = world.node_with(Options { stall, ..options() });
    let mut eve = on(&node, acme("eve"));
    let mut open = Vec::new();
    for _ in 0..3 {
        open.push(eve.presence.watch_presence(watching(&["ann"])).await.expect("a stream"));
    }
    in_time(async {
        while let Err(refused) = eve.presence.watch_presence(watching(&["ann"])).await {
            assert_reason(&refused, Reason::TooManyStreams);
            sleep(LOOK).await;
        }
    })
    .await;
    for stream in open {
        let mut frames = stream.into_inner();
        assert_eq!(told(&mut frames).await.len(), 1, "what was sent before");
        assert_eq!(frames.message().await.expect("no error"), None);
    }
    world
}

async fn a_draining_node_ends_its_streams_one_after_the_other(mut world: World) -> World {
    let spread = Duration::from_secs(1);
    let node = world.node_with(Options { spread, ..options() });
    let mut open = Vec::new();
    for number in 0..10 {
        let mut client = on(&node, acme(&format!("user {number}")));
        let watch = client.presence.watch_presence(watching(&["nobody"])).await;
        open.push(watch.expect("a stream").into_inner());
    }
    let began = Instant::now();
    world.draining.cancel();
    let ends = open.into_iter().map(|mut frames| async move {
        loop {
            if let Err(ended) = next(&mut frames).await {
                assert_reason(&ended, Reason::Draining);
                return began.elapsed();
            }
        }
    });
    let ends = join_all(ends).await;
    let (first, last) = (ends.iter().min().expect("ten"), ends.iter().max().expect("ten"));
    assert!(*last > *first + spread / 10, "{ends:?}");
    world
}

async fn streams_are_bounded_and_end_with_their_token_and_the_node(world: World) -> World {
    let mut short = caller("acme", Principal::User(UserId::new("eve")));
    short.expires = START * 1_000_000 + 200_000;
    let watch = on(world.first(), short).presence.watch_presence(watching(&["ann"])).await;
    let mut expiring = watch.expect("a stream").into_inner();
    let mut eve = world.user("eve");
    let mut open = Vec::new();
    for _ in 0..2 {
        let watch = eve.presence.watch_presence(watching(&["nobody"])).await;
        open.push(watch.expect("a stream").into_inner());
    }
    refused(eve.presence.watch_presence(watching(&["ann"])).await, Reason::TooManyStreams);
    let ended = loop {
        if let Err(ended) = next(&mut expiring).await {
            break ended;
        }
    };
    assert_reason(&ended, Reason::TokenExpired);
    world.draining.cancel();
    for mut frames in open {
        let ended = loop {
            if let Err(ended) = next(&mut frames).await {
                break ended;
            }
        };
        assert_reason(&ended, Reason::Draining);
    }
    refused(eve.presence.watch_presence(watching(&["ann"])).await, Reason::Draining);
    world
}

async fn bad_fields_are_named(world: World) -> World {
    let mut eve = world.user("eve");
    violates(eve.presence.watch_presence(watching(&[])).await, "user_ids");
    let many: Vec<String> = (0..101).map(|n| n.to_string()).collect();
    let many: Vec<&str> = many.iter().map(String::as_str).collect();
    violates(eve.presence.watch_presence(watching(&many)).await, "user_ids");
    violates(eve.presence.watch_presence(watching(&[""])).await, "user_ids[0]");
    violates(eve.presence.watch_presence(watching(&["a", "a"])).await, "user_ids[1]");
    let mut internal = world.client("acme", Principal::Internal(None));
    refused(internal.presence.watch_presence(watching(&["a"])).await, Reason::NotAllowed);
    world
}
