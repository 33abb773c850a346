//! What changes and shows members, several at once, and what is said of users.

use parlance_db::{Db, work};
use parlance_proto::membership::v1 as pb;
use uuid::Uuid;

use super::{Growing, Place, Work, compare, crowd};
use crate::harness::{rules, strings};
use crate::tenant::users::limited;

pub(super) const WORK: &[(&str, Work)] = work! {
    "EditMembers": |_, place| {
        let (some, others) = (&crowd()[2..12], &crowd()[12..22]);
        for (add, remove) in [(some, &[] as &[&str]), (others, some), (&[], others)] {
            let request = pb::EditMembersRequest {
                room_id: "den".to_owned(),
                log_id: place.den(),
                add_user_ids: strings(add),
                remove_user_ids: strings(remove),
            };
            place.room.edits.clone().edit_members(request).await.expect("edited");
        }
    },
    "ListChangedRosters and AcknowledgeChangedRosters": |_, place| watch(place).await,
    "BatchGetJoinTimes": |_, place| {
        let user_ids = strings(&["rita", "zoe", "nobody"]);
        let request = pb::BatchGetJoinTimesRequest { log_id: place.den(), user_ids };
        place.room.rosters.clone().batch_get_join_times(request).await.expect("known")
    },
    "ListLeftRosters": |world, place| {
        let mut rosters = world.room_service(place.tenant, Some("zoe")).rosters;
        rosters.list_left_rosters(pb::ListLeftRostersRequest {}).await.expect("a list")
    },
    "UpdateMemberMetadata": |_, place| {
        let request = pb::UpdateMemberMetadataRequest {
            room_id: "den".to_owned(),
            set: [("key".to_owned(), place.next().to_string())].into(),
            ..Default::default()
        };
        place.ann.member.clone().update_member_metadata(request).await.expect("updated")
    },
    "BatchGetMemberMetadata": |_, place| {
        let (room_id, user_ids) = ("den".to_owned(), strings(&crowd()));
        let request = pb::BatchGetMemberMetadataRequest { room_id, user_ids };
        place.ann.member.clone().batch_get_member_metadata(request).await.expect("metadata")
    },
    "ListUserMemberships in common": |_, place| {
        let request = pb::ListUserMembershipsRequest {
            user_id: "zoe".to_owned(),
            with_user_ids: strings(&["ann", "bob"]),
            ..Default::default()
        };
        place.backend.members.clone().list_user_memberships(request).await.expect("a page")
    },
    "BlockUser and UnblockUser": |_, place| {
        let mut blocks = place.rita.blocks.clone();
        let user_id = || "zoe".to_owned();
        blocks.block_user(pb::BlockUserRequest { user_id: user_id() }).await.expect("blocked");
        let request = pb::UnblockUserRequest { user_id: user_id() };
        blocks.unblock_user(request).await.expect("unblocked")
    },
    "PutPrivacyList, GetPrivacyList and ListPrivacyLists": |_, place| {
        let mut lists = place.ann.lists.clone();
        let name = || "ours".to_owned();
        let list = Some(pb::PrivacyList { name: name(), items: denied(&crowd()[1..22]) });
        lists.put_privacy_list(pb::PutPrivacyListRequest { list }).await.expect("put");
        lists.get_privacy_list(pb::GetPrivacyListRequest { name: name() }).await.expect("a list");
        lists.list_privacy_lists(pb::ListPrivacyListsRequest {}).await.expect("lists")
    },
    "SetDefaultPrivacyList and DeclineDefaultPrivacyList": |_, place| {
        let mut lists = place.ann.lists.clone();
        let list = pb::PrivacyList { name: "ours".to_owned(), items: denied(&crowd()[1..22]) };
        let list = Some(list);
        lists.put_privacy_list(pb::PutPrivacyListRequest { list }).await.expect("put");
        let set = pb::SetDefaultPrivacyListRequest { name: "ours".to_owned() };
        lists.set_default_privacy_list(set).await.expect("set");
        let decline = pb::DeclineDefaultPrivacyListRequest {};
        lists.decline_default_privacy_list(decline).await.expect("declined")
    },
    "ListBlockedUsers": |_, place| {
        let request = pb::ListBlockedUsersRequest { page_size: 20, ..Default::default() };
        place.rita.blocks.clone().list_blocked_users(request).await.expect("a page")
    },
    "EnsureUser of one who is new": |world, place| {
        let new = format!("new {}", place.next());
        let mut rosters = world.room_service(place.tenant, Some(&new)).rosters;
        rosters.ensure_user(pb::EnsureUserRequest {}).await.expect("made")
    },
    "SetTenantRules and GetTenantUse": |_, place| {
        let mut tenants = place.room.tenants.clone();
        let rules = limited(1 + place.next(), Some(1_000_000));
        tenants.set_tenant_rules(rules).await.expect("set");
        tenants.get_tenant_use(pb::GetTenantUseRequest {}).await.expect("told")
    },
    "SuspendUser and ReinstateUser": |_, place| {
        let mut moderation = place.backend.moderation.clone();
        let request = pb::SuspendUserRequest { user_id: "zoe".to_owned(), ..Default::default() };
        moderation.suspend_user(request).await.expect("suspended");
        let request = pb::ReinstateUserRequest { user_id: "zoe".to_owned(), ..Default::default() };
        moderation.reinstate_user(request).await.expect("reinstated")
    },
    "ListSuspendedUsers": |_, place| {
        let request = pb::ListSuspendedUsersRequest { page_size: 20, ..Default::default() };
        place.backend.moderation.clone().list_suspended_users(request).await.expect("a page")
    },
    "BatchGetMembers": |_, place| {
        let nowhere = (0..98).map(|_| Uuid::now_v7().to_string());
        let log_ids = nowhere.chain([place.den(), place.news.0.to_string()]).collect();
        let request = pb::BatchGetMembersRequest { log_ids, max_members: 3 };
        place.room.rosters.clone().batch_get_members(request).await.expect("members")
    },
};

fn denied(users: &[&str]) -> Vec<pb::PrivacyItem> {
    let item = |user: &&str| pb::PrivacyItem {
        user_id: (*user).to_owned(),
        action: pb::PrivacyAction::Deny.into(),
        mutual: true,
    };
    users.iter().map(item).collect()
}

/// Users who are suspended, and as many whom Rita has blocked.
pub(super) async fn beside_blocks_and_suspended_users(db: Db) {
    compare(db, async |growing: &Growing<'_>, size| {
        let users = "
            WITH RECURSIVE n (i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < $2)
            INSERT INTO users (tenant_id, user_id, name, picture, metadata, create_time,
                               update_time, suspended_until)
            SELECT $1, 'm' || CAST(n.i AS TEXT), '', '', '{}', 1, 1, $3 FROM n";
        growing.write(users).bind(size).bind(i64::MAX).execute().await.expect("filled");
        let blocks = "
            WITH RECURSIVE n (i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < $2)
            INSERT INTO blocks (tenant_id, user_id, blocked_id, create_time)
            SELECT $1, 'rita', 'm' || CAST(n.i AS TEXT), 1 FROM n";
        growing.write(blocks).bind(size).execute().await.expect("filled");
    })
    .await;
}

/// Lets the room service hear that the group changed.
async fn watch(place: &Place) {
    let set = |watched, rules_version| pb::SetRosterRulesRequest {
        log_id: place.den(),
        rules: Some(pb::RosterRules { watched, capacity: 100_000, ..rules() }),
        rules_version: 1 + rules_version,
    };
    let mut rosters = place.room.rosters.clone();
    rosters.set_roster_rules(set(true, place.next())).await.expect("set");
    let told = rosters.list_changed_rosters(pb::ListChangedRostersRequest {}).await;
    let rosters_told = told.expect("a list").into_inner().rosters;
    assert_eq!(rosters_told.len(), 1);
    let known = pb::AcknowledgeChangedRostersRequest { rosters: rosters_told };
    rosters.acknowledge_changed_rosters(known).await.expect("noted");
    rosters.set_roster_rules(set(false, place.next())).await.expect("set");
}
