//! `GetCounters`.

use parlance_db::{Db, test_on_each_db};
use parlance_proto::message::v1::GetCountersRequest;
use parlance_proto::message::v1::subscribe_response::Frame;
use parlance_rpc::{Principal, Reason};
use parlance_types::UserId;

use crate::harness::{TENANT, World, caller, refused};
use crate::rooms::group;
use crate::stream::harness::from;

test_on_each_db!(parlance_message::MIGRATIONS =>
    operators_see_what_the_node_counted,
    counters_are_for_operators_only,
);

async fn operators_see_what_the_node_counted(db: Db) {
    let world = World::open(db).await;
    let mut operator = world.operator(Some(caller(TENANT, Principal::Operator)));
    let before = operator.get_counters(GetCountersRequest {}).await.expect("counters");
    let before = before.into_inner();
    assert!(before.bus_up);
    assert_eq!(before.node_id.len(), 16);
    assert_eq!(before.healing.expect("counters").resets, 0);

    // A cursor that nobody gave out is reset.
    let room = group(&world, "lobby", &["ann"]).await;
    let mut stream = world.subscribe(world.backend(), from(&room, "nobody's", 1)).await;
    assert!(matches!(stream.next().await, Frame::Reset(_)));
    let after = operator.get_counters(GetCountersRequest {}).await.expect("counters");
    let after = after.into_inner();
    assert_eq!(after.node_id, before.node_id);
    assert_eq!(after.healing.expect("counters").resets, 1);
}

async fn counters_are_for_operators_only(db: Db) {
    let world = World::open(db).await;
    let ann = UserId::new("ann");
    for principal in [
        Principal::User(ann.clone()),
        Principal::ServiceFor(ann),
        Principal::Service,
        Principal::Internal(None),
    ] {
        let mut client = world.operator(Some(caller(TENANT, principal)));
        refused(client.get_counters(GetCountersRequest {}).await, Reason::NotAllowed);
    }
    let answer = world.operator(None).get_counters(GetCountersRequest {}).await;
    refused(answer, Reason::TokenMissing);
}
