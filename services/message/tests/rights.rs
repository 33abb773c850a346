//! What strangers are told, whatever they call.

use std::fmt::Debug;

use parlance_proto::message::v1::RoomKind;
use parlance_rpc::{Principal, Reason};
use parlance_types::UserId;
use tonic::{Response, Status};

use crate::harness::{Client, InternalClient, TENANT, World, caller, refused, send};
use crate::rooms::{group, plan};

/// A call that names a room, checked for who may not make it.
pub(crate) async fn of_room_call<F>(world: &World, call: F)
where
    F: AsyncFn(Client, &str) -> Result<(), Status>,
{
    let as_stranger = async |room: &str| call(world.user("eve"), room).await.map(Response::new);
    let missing = refused(as_stranger("nowhere").await, Reason::RoomNotFound);

    for (room, kind) in [("r-group", RoomKind::Group), ("r-channel", RoomKind::Channel)] {
        plan(room).kind(kind).members(&["ann", "bob"]).make(world).await;
        refused(as_stranger(room).await, Reason::NotAMember);
    }
    plan("r-direct").kind(RoomKind::Direct).members(&["ann", "bob"]).make(world).await;
    same(&missing, &refused(as_stranger("r-direct").await, Reason::RoomNotFound));

    // Ann and the room of another tenant are others, by whatever ids.
    let foreign = world.client("globex", Principal::User(UserId::new("ann")));
    let result = call(foreign, "r-group").await.map(Response::new);
    same(&missing, &refused(result, Reason::RoomNotFound));
    let foreign = world.client("globex", Principal::Service);
    let result = call(foreign, "r-group").await.map(Response::new);
    // A call that needs a user says so first.
    if result.as_ref().err().and_then(Reason::of) != Some(Reason::UserRequired) {
        same(&missing, &refused(result, Reason::RoomNotFound));
    }

    // A service has the rights of the user it names, no more.
    let for_eve = world.service_for("eve");
    refused(call(for_eve, "r-group").await.map(Response::new), Reason::NotAMember);

    let left = group(world, "r-left", &["ann", "eve"]).await;
    left.leave("eve").await;
    refused(as_stranger("r-left").await, Reason::NotAMember);
    left.join("eve").await;
    call(world.user("eve"), "r-left").await.expect("a member again");

    let closed = group(world, "r-closed", &["ann", "eve"]).await;
    closed.close().await;
    same(&missing, &refused(as_stranger("r-closed").await, Reason::RoomNotFound));

    // The id begins a new life, of which Eve is no part, but Ann is.
    group(world, "r-closed", &["ann"]).await;
    refused(as_stranger("r-closed").await, Reason::NotAMember);
    call(world.user("ann"), "r-closed").await.expect("a member of the new life");
}

/// A call that names a message, checked for who may not make it.
pub(crate) async fn of_message_call<F>(world: &World, call: F)
where
    F: AsyncFn(Client, &str) -> Result<(), Status>,
{
    let mut ann = world.user("ann");
    let as_stranger = async |id: &str| call(world.user("eve"), id).await.map(Response::new);

    let room = group(world, "m-group", &["ann"]).await;
    let in_group = send(&mut ann, "m-group", "hello").await.message_id;
    let unknown = format!("{}-999", room.log_id);
    let member = call(world.user("ann"), &unknown).await.map(Response::new);
    let missing = refused(member, Reason::MessageNotFound);
    let nowhere = "00000000000000000000000000000009-3";
    same(&missing, &refused(as_stranger(nowhere).await, Reason::MessageNotFound));
    refused(as_stranger(&in_group).await, Reason::NotAMember);

    plan("m-direct").kind(RoomKind::Direct).members(&["ann", "bob"]).make(world).await;
    let in_direct = send(&mut ann, "m-direct", "hello").await.message_id;
    same(&missing, &refused(as_stranger(&in_direct).await, Reason::MessageNotFound));

    // Ann of another tenant is somebody else, and so is its backend.
    for principal in [Principal::User(UserId::new("ann")), Principal::Service, Principal::Operator]
    {
        for id in [&in_group, &in_direct] {
            let foreign = world.client("globex", principal.clone());
            let result = call(foreign, id).await.map(Response::new);
            // A call that needs a user says so first.
            if result.as_ref().err().and_then(Reason::of) != Some(Reason::UserRequired) {
                same(&missing, &refused(result, Reason::MessageNotFound));
            }
        }
    }

    // The events that are no messages have ids too.
    let created = format!("{}-1", room.log_id);
    let result = call(world.user("ann"), &created).await.map(Response::new);
    same(&missing, &refused(result, Reason::MessageNotFound));

    let closed = group(world, "m-closed", &["ann"]).await;
    let in_closed = send(&mut ann, "m-closed", "hello").await.message_id;
    closed.close().await;
    let result = call(world.user("ann"), &in_closed).await.map(Response::new);
    same(&missing, &refused(result, Reason::MessageNotFound));

    // What was before the present join is not there for who sees from the join on.
    let narrow = plan("m-narrow").since_join().members(&["ann", "bob"]).make(world).await;
    let before = send(&mut ann, "m-narrow", "before").await.message_id;
    narrow.leave("ann").await;
    narrow.join("ann").await;
    let result = call(world.user("ann"), &before).await.map(Response::new);
    same(&missing, &refused(result, Reason::MessageNotFound));
}

/// A call that only services of the suite may make.
pub(crate) async fn of_internal_call<T, F>(world: &World, call: F)
where
    T: Debug,
    F: AsyncFn(InternalClient) -> Result<Response<T>, Status>,
{
    let ann = UserId::new("ann");
    for principal in [
        Principal::User(ann.clone()),
        Principal::ServiceFor(ann),
        Principal::Service,
        Principal::Operator,
    ] {
        let client = world.logs(Some(caller(TENANT, principal)));
        refused(call(client).await, Reason::NotAllowed);
    }
    refused(call(world.logs(None)).await, Reason::TokenMissing);
}

/// Two refusals that tell nothing different.
fn same(one: &Status, other: &Status) {
    assert_eq!((one.code(), one.message()), (other.code(), other.message()));
    assert_eq!(one.details(), other.details());
}
