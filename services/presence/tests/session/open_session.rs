//! `OpenSession`, `Heartbeat`, `CloseSession`.

use std::time::Duration;

use parlance_proto::membership::v1::GetUserRequest;
use parlance_proto::membership::v1::user_service_client::UserServiceClient;
use parlance_proto::presence::v1 as pb;
use parlance_rpc::testing::called_by;
use parlance_rpc::{Principal, Reason, public};
use parlance_types::UserId;
use pb::Availability::{Away, Offline, Online};

use crate::harness::{World, caller, opening, presence_of, refused, violates};

crate::test_in_each_mode!(
    devices_add_up_to_the_presence_of_their_user,
    every_call_may_be_repeated,
    a_session_without_a_heartbeat_ends_with_its_lease,
    a_user_comes_into_being_by_a_session,
    sessions_need_a_user_and_are_bounded,
    bad_fields_are_named,
    equal_ids_in_two_tenants_are_two_users,
);

fn heartbeat(resource: &str) -> pb::HeartbeatRequest {
    pb::HeartbeatRequest { resource: resource.to_owned() }
}

fn closing(resource: &str) -> pb::CloseSessionRequest {
    pb::CloseSessionRequest { resource: resource.to_owned() }
}

fn lease(millis: u64) -> Option<prost_types::Duration> {
    prost_types::Duration::try_from(Duration::from_millis(millis)).ok()
}

/// B-204.
async fn devices_add_up_to_the_presence_of_their_user(world: World) -> World {
    world.settle().await;
    let mut ann = world.user("ann");
    let away = pb::OpenSessionRequest {
        availability: Away.into(),
        status: "at lunch".to_owned(),
        ..opening("laptop")
    };
    let reply = ann.sessions.open_session(away).await.expect("opened").into_inner();
    let session = reply.session.expect("a session");
    assert_eq!((session.resource.as_str(), session.availability()), ("laptop", Away));
    assert_eq!(session.lease, lease(30_000), "the default");
    let presence = world.presence("ann").await;
    assert_eq!((presence.availability(), presence.status.as_str()), (Away, "at lunch"));

    world.open("ann", "phone").await;
    let presence = world.presence("ann").await;
    assert_eq!((presence.availability(), presence.status.as_str()), (Online, "at lunch"));
    ann.sessions.close_session(closing("phone")).await.expect("closed");
    assert_eq!(world.presence("ann").await.availability(), Away);
    ann.sessions.close_session(closing("laptop")).await.expect("closed");
    let presence = world.presence("ann").await;
    assert_eq!((presence.availability(), presence.status.as_str()), (Offline, ""));
    world
}

async fn every_call_may_be_repeated(world: World) -> World {
    world.settle().await;
    let mut ann = world.user("ann");
    for _ in 0..3 {
        world.open("ann", "phone").await;
    }
    for _ in 0..3 {
        let reply = ann.sessions.heartbeat(heartbeat("phone")).await.expect("renewed").into_inner();
        assert_eq!(reply.session.expect("a session").resource, "phone");
    }
    for _ in 0..3 {
        ann.sessions.close_session(closing("phone")).await.expect("closed");
        assert_eq!(world.presence("ann").await.availability(), Offline);
        refused(ann.sessions.heartbeat(heartbeat("phone")).await, Reason::SessionNotFound);
    }
    world
}

async fn a_session_without_a_heartbeat_ends_with_its_lease(world: World) -> World {
    world.settle().await;
    let short = pb::OpenSessionRequest { lease: lease(300), ..opening("phone") };
    world.user("ann").sessions.open_session(short).await.expect("opened");
    world.until("ann", Offline).await;
    let late = world.user("ann").sessions.heartbeat(heartbeat("phone")).await;
    refused(late, Reason::SessionNotFound);
    world
}

async fn a_user_comes_into_being_by_a_session(world: World) -> World {
    let backend = caller("acme", Principal::Service);
    let users = called_by(public![world.membership.users()], backend, None);
    let mut users = UserServiceClient::new(users);
    let request = GetUserRequest { user_id: "ann".to_owned() };
    refused(users.get_user(request.clone()).await, Reason::UserNotFound);
    world.open("ann", "phone").await;
    users.get_user(request).await.expect("there");
    world
}

async fn sessions_need_a_user_and_are_bounded(world: World) -> World {
    let mut backend = world.backend();
    refused(backend.sessions.open_session(opening("a")).await, Reason::UserRequired);
    refused(backend.sessions.heartbeat(heartbeat("a")).await, Reason::UserRequired);
    refused(backend.sessions.close_session(closing("a")).await, Reason::UserRequired);
    let mut for_ann = world.service_for("ann");
    for n in 0..20 {
        for_ann.sessions.open_session(opening(&n.to_string())).await.expect("opened");
    }
    refused(for_ann.sessions.open_session(opening("20")).await, Reason::TooManySessions);
    for_ann.sessions.open_session(opening("0")).await.expect("replaced");
    let mut internal = world.client("acme", Principal::Internal(Some(UserId::new("ann"))));
    refused(internal.sessions.open_session(opening("a")).await, Reason::NotAllowed);
    world
}

async fn bad_fields_are_named(world: World) -> World {
    let mut ann = world.user("ann");
    for bad in [String::new(), "x".repeat(129), "a\0".to_owned()] {
        violates(ann.sessions.open_session(opening(&bad)).await, "resource");
        violates(ann.sessions.heartbeat(heartbeat(&bad)).await, "resource");
        violates(ann.sessions.close_session(closing(&bad)).await, "resource");
    }
    for status in ["x".repeat(65), "a\0".to_owned()] {
        let request = pb::OpenSessionRequest { status, ..opening("phone") };
        violates(ann.sessions.open_session(request).await, "status");
    }
    for bad in [lease(99), lease(60_001), Some(prost_types::Duration { seconds: -1, nanos: 0 })] {
        let request = pb::OpenSessionRequest { lease: bad, ..opening("phone") };
        violates(ann.sessions.open_session(request).await, "lease");
    }
    for availability in [1, 2, 99] {
        let request = pb::OpenSessionRequest { availability, ..opening("phone") };
        violates(ann.sessions.open_session(request).await, "availability");
    }
    world
}

/// B-176.
async fn equal_ids_in_two_tenants_are_two_users(world: World) -> World {
    world.settle().await;
    world.open("ann", "phone").await;
    let mut other = world.client("other", Principal::User(UserId::new("ann")));
    assert_eq!(presence_of(&mut other, "ann").await.availability(), Offline);
    refused(other.sessions.heartbeat(heartbeat("phone")).await, Reason::SessionNotFound);
    other.sessions.close_session(closing("phone")).await.expect("closed");
    assert_eq!(world.presence("ann").await.availability(), Online);
    world
}
