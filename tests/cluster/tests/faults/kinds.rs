use std::time::Duration;

use parlance_cluster::{Client, Cluster, Kind, Viewer};
use parlance_proto::message::v1::fact_service_client::FactServiceClient;
use parlance_proto::message::v1::subscribe_response::Frame;
use parlance_proto::message::v1::{
    ApplyFactsRequest, Cursor, Effects, Event, Fact, FactSource, RoomCursor, SubscribeRequest,
};
use prost::Message as _;

/// A body of an event that nobody here knows: field 499, a message with a text in it.
const STRANGE_BODY: &[u8] = b"\x9a\x1f\x0f\x0a\x0dfrom tomorrow";

/// A newer membership service writes an event of a kind that no replica knows, which
/// takes two users out. Both replicas pass it on untouched and obey it.
#[tokio::test]
async fn a_kind_that_replicas_do_not_know_is_passed_on_and_obeyed() {
    let cluster = Cluster::start(2).await;
    let users = ["leaver", "goer", "stayer"].map(str::to_owned);
    cluster.service().know(&users).await;
    let owner = cluster.user("owner");
    owner.create_group("room", &users).await.expect("a room");
    let rooms = ["room".to_owned()];
    let watch = |(replica, user): (usize, &String)| {
        Viewer::start(cluster.user(user), user, &rooms, replica, false)
    };
    let views: Vec<Viewer> = users.iter().enumerate().map(watch).collect();
    let before = cluster.database.log("room").await.head;
    for view in &views {
        assert!(view.reaches("room", before, Duration::from_secs(5)).await);
    }
    tell(&cluster, &users[..2]).await;
    // Their last event is the one that took them out, on either replica.
    for view in &views[..2] {
        assert!(view.is_closed("room", Duration::from_secs(5)).await, "{}", view.user);
    }
    for (replica, user) in users[..2].iter().enumerate() {
        let refused = cluster.user(user).send(replica, "room", "late", "late").await;
        assert!(refused.is_err(), "{refused:?}");
    }
    for replica in [0, 1] {
        let bytes = replay(&cluster.user("stayer"), replica, before).await;
        let found = bytes.windows(STRANGE_BODY.len()).any(|window| window == STRANGE_BODY);
        assert!(found, "what is not understood is passed on as it came");
    }
    let sent = owner.send(0, "room", "after", "after").await.expect("sent");
    assert_eq!(sent.seq, before + 2);
    assert!(views[2].reaches("room", sent.seq, Duration::from_secs(5)).await);
    for view in views {
        let closed = users[..2].contains(&view.user);
        let seen = view.stop().await.0.remove(0);
        assert_eq!(seen.last_seq(), if closed { before + 1 } else { sent.seq });
    }
    cluster.finish().await;
}

/// Writes the event as the membership service would.
async fn tell(cluster: &Cluster, lost: &[String]) {
    let (log_id, version) = cluster.database.outbox("room").await;
    let event = Event {
        effects: Some(Effects { lost_user_ids: lost.to_vec(), ..Effects::default() }),
        ..Event::default()
    };
    let events = vec![[event.encode_to_vec(), STRANGE_BODY.to_vec()].concat()];
    let request = ApplyFactsRequest {
        log_id,
        source: FactSource::Membership.into(),
        facts: vec![Fact { version: version + 1, events, ..Fact::default() }],
        ..ApplyFactsRequest::default()
    };
    let (channel, request) = cluster.as_suite(Kind::Message.replica(0), request);
    FactServiceClient::new(channel).apply_facts(request).await.expect("applied");
}

/// The bytes of the event above `before`, as they come on a stream.
async fn replay(client: &Client, replica: usize, before: i64) -> Vec<u8> {
    let cursor = Some(Cursor { seq: 0, ..Cursor::default() });
    let rooms = vec![RoomCursor { room_id: "room".to_owned(), cursor }];
    let request = SubscribeRequest { rooms, ..SubscribeRequest::default() };
    let mut stream = client.subscribe_raw(replica, request).await.expect("a stream");
    loop {
        let bytes = stream.message().await.expect("no failure").expect("not ended");
        let frame = parlance_proto::message::v1::SubscribeResponse::decode(&*bytes);
        if let Some(Frame::Event(event)) = frame.expect("a frame").frame
            && event.event.is_some_and(|event| event.seq == before + 1)
        {
            return bytes.to_vec();
        }
    }
}
