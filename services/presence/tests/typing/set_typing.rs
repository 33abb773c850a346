//! `SetTyping`, as the other members see it on their streams.

use std::time::Duration;

use parlance_proto::message::v1::notice::Notice;
use parlance_proto::message::v1::subscribe_response::Frame;
use parlance_proto::message::v1::{RoomKind, SubscribeResponse};
use parlance_proto::presence::v1 as pb;
use parlance_rpc::{Principal, Reason};
use parlance_types::UserId;
use tokio::time::Instant;
use tonic::Streaming;

use crate::harness::{TYPING, World, next, refused, violates};

crate::test_in_each_mode!(
    the_others_see_who_is_typing_and_who_stopped,
    typing_stops_by_itself,
    a_repeat_lets_typing_last_and_tells_nothing,
    channels_and_broadcasts_show_no_typing,
    only_members_type,
    equal_ids_in_two_tenants_are_two_rooms,
);

fn typing(room_id: &str, typing: bool) -> pb::SetTypingRequest {
    pb::SetTypingRequest { room_id: room_id.to_owned(), typing }
}

async fn set(world: &World, user: &str, on: bool) {
    world.user(user).typing.set_typing(typing("tea", on)).await.expect("set");
}

/// The next notice of a stream: who, and whether typing.
async fn notice(frames: &mut Streaming<SubscribeResponse>) -> (String, bool) {
    loop {
        let frame = next(frames).await.expect("a frame").frame;
        if let Some(Frame::Notice(notice)) = frame {
            assert_eq!(notice.room_id, "tea");
            match notice.notice {
                Some(Notice::Typing(typing)) => return (typing.user_id, typing.typing),
                Some(Notice::Receipts(_)) => {}
                other => panic!("{other:?}"),
            }
        }
    }
}

fn is(user: &str, typing: bool) -> (String, bool) {
    (user.to_owned(), typing)
}

/// B-128, B-130.
async fn the_others_see_who_is_typing_and_who_stopped(world: World) -> World {
    world.room("tea", RoomKind::Group, &["bob", "cid"]).await;
    let (mut ann, mut bob) = (world.follow("ann", "tea").await, world.follow("bob", "tea").await);
    set(&world, "ann", true).await;
    assert_eq!(notice(&mut bob).await, is("ann", true));
    set(&world, "ann", false).await;
    assert_eq!(notice(&mut bob).await, is("ann", false));
    set(&world, "cid", true).await;
    assert_eq!(notice(&mut bob).await, is("cid", true));
    assert_eq!(notice(&mut ann).await, is("cid", true), "nothing of her own came before");
    world
}

/// B-129.
async fn typing_stops_by_itself(world: World) -> World {
    assert_eq!(parlance_presence::Options::default().typing, Duration::from_secs(30));
    world.room("tea", RoomKind::Group, &["bob"]).await;
    let mut bob = world.follow("bob", "tea").await;
    for _ in 0..2 {
        let began = Instant::now();
        set(&world, "ann", true).await;
        assert_eq!(notice(&mut bob).await, is("ann", true));
        assert_eq!(notice(&mut bob).await, is("ann", false));
        assert!(began.elapsed() >= TYPING);
    }
    world
}

async fn a_repeat_lets_typing_last_and_tells_nothing(world: World) -> World {
    world.room("tea", RoomKind::Group, &["bob"]).await;
    let mut bob = world.follow("bob", "tea").await;
    set(&world, "ann", true).await;
    assert_eq!(notice(&mut bob).await, is("ann", true));
    let mut last = Instant::now();
    for _ in 0..6 {
        tokio::time::sleep(TYPING / 6).await;
        last = Instant::now();
        set(&world, "ann", true).await;
    }
    assert_eq!(notice(&mut bob).await, is("ann", false));
    assert!(last.elapsed() >= TYPING, "it lasted from the last repeat on");
    world
}

async fn channels_and_broadcasts_show_no_typing(world: World) -> World {
    world.room("tea", RoomKind::Channel, &["bob"]).await;
    world.room("news", RoomKind::Broadcast, &[]).await;
    for room in ["tea", "news"] {
        let mut bob = world.follow("bob", room).await;
        world.user("ann").typing.set_typing(typing(room, true)).await.expect("checked");
        let quiet = tokio::time::timeout(Duration::from_millis(300), notice(&mut bob)).await;
        assert!(quiet.is_err(), "{quiet:?}");
    }
    world
}

async fn only_members_type(world: World) -> World {
    world.room("tea", RoomKind::Group, &["bob"]).await;
    let mut eve = world.user("eve");
    refused(eve.typing.set_typing(typing("tea", true)).await, Reason::NotAMember);
    refused(eve.typing.set_typing(typing("no", true)).await, Reason::RoomNotFound);
    let mut for_eve = world.service_for("eve");
    refused(for_eve.typing.set_typing(typing("tea", false)).await, Reason::NotAMember);
    let mut backend = world.backend();
    refused(backend.typing.set_typing(typing("tea", true)).await, Reason::UserRequired);
    violates(world.user("ann").typing.set_typing(typing("", true)).await, "room_id");
    let mut for_bob = world.service_for("bob");
    for_bob.typing.set_typing(typing("tea", true)).await.expect("has that user's rights");
    world
}

/// B-176.
async fn equal_ids_in_two_tenants_are_two_rooms(world: World) -> World {
    world.room("tea", RoomKind::Group, &["bob"]).await;
    let mut bob = world.follow("bob", "tea").await;
    let mut other = world.client("other", Principal::User(UserId::new("ann")));
    refused(other.typing.set_typing(typing("tea", true)).await, Reason::RoomNotFound);
    set(&world, "ann", true).await;
    assert_eq!(notice(&mut bob).await, is("ann", true));
    world
}
