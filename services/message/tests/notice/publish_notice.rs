//! `NoticeRelayService.PublishNotice`.

use parlance_db::{Db, test_on_each_db};
use parlance_proto::message::v1::publish_notice_request::Notice;
use parlance_proto::message::v1::{PublishNoticeRequest, RoomKind, TypingNotice};
use parlance_rpc::Reason;

use crate::harness::{InternalClient, TENANT, World, bad_ids, refused, violates};
use crate::rights;
use crate::rooms::{group, plan};

test_on_each_db!(parlance_message::MIGRATIONS =>
    only_the_suite_itself_may_call,
    a_notice_is_about_a_member_of_an_open_room,
    bad_input_is_refused_by_name,
);

fn typing(room_id: &str, user_id: &str, seconds: i64) -> PublishNoticeRequest {
    let lasts = Some(prost_types::Duration { seconds, nanos: 0 });
    PublishNoticeRequest {
        room_id: room_id.to_owned(),
        user_id: user_id.to_owned(),
        notice: Some(Notice::Typing(TypingNotice { lasts })),
    }
}

async fn only_the_suite_itself_may_call(db: Db) {
    let world = World::open(db).await;
    group(&world, "lobby", &["ann"]).await;
    let call = async |mut client: InternalClient| {
        client.notices.publish_notice(typing("lobby", "ann", 1)).await
    };
    rights::of_internal_call(&world, call).await;
}

async fn a_notice_is_about_a_member_of_an_open_room(db: Db) {
    let world = World::open(db).await;
    group(&world, "lobby", &["ann", "bob"]).await;
    plan("pair").kind(RoomKind::Direct).members(&["ann", "bob"]).make(&world).await;
    let mut presence = world.internal(TENANT);
    for room in ["lobby", "pair"] {
        presence.notices.publish_notice(typing(room, "ann", 1)).await.expect("told");
        presence.notices.publish_notice(typing(room, "ann", 0)).await.expect("told");
    }
    refused(presence.notices.publish_notice(typing("lobby", "eve", 1)).await, Reason::NotAMember);
    refused(presence.notices.publish_notice(typing("pair", "eve", 1)).await, Reason::RoomNotFound);
    refused(presence.notices.publish_notice(typing("none", "ann", 1)).await, Reason::RoomNotFound);
    let mut other = world.internal("other");
    refused(other.notices.publish_notice(typing("lobby", "ann", 1)).await, Reason::RoomNotFound);
}

async fn bad_input_is_refused_by_name(db: Db) {
    let world = World::open(db).await;
    group(&world, "lobby", &["ann"]).await;
    let mut presence = world.internal(TENANT);
    for bad in bad_ids() {
        violates(presence.notices.publish_notice(typing(&bad, "ann", 1)).await, "room_id");
        violates(presence.notices.publish_notice(typing("lobby", &bad, 1)).await, "user_id");
    }
    let nothing = PublishNoticeRequest { notice: None, ..typing("lobby", "ann", 1) };
    violates(presence.notices.publish_notice(nothing).await, "notice");
    for seconds in [-1, 301] {
        let request = typing("lobby", "ann", seconds);
        violates(presence.notices.publish_notice(request).await, "typing.lasts");
    }
    presence.notices.publish_notice(typing("lobby", "ann", 300)).await.expect("the longest");
}
