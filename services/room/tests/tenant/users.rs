//! How many users a tenant may have, which membership counts.

use parlance_db::{Db, test_on_each_db};
use parlance_proto::room::v1 as pb;
use parlance_rpc::{Principal, Reason};
use prost_types::FieldMask;
use tonic_types::StatusExt as _;

use crate::beside_membership::beside;
use crate::harness::{Harness, create, direct, group, refused, violates};
use crate::roster::Fault;

test_on_each_db!(parlance_room::MIGRATIONS =>
    users_too_many_are_refused_wherever_they_come_from,
    what_membership_was_not_told_is_told_by_a_repeat,
    of_operators_at_once_membership_keeps_what_the_last_one_left,
    settings_that_were_put_back_are_told_anew,
    a_limit_of_users_is_bounded,
    membership_is_told_what_becomes_of_what_blocked_users_write,
);

fn users(users: Option<i64>) -> pb::SetTenantSettingsRequest {
    let limits = pb::TenantLimits { users, ..Default::default() };
    pb::SetTenantSettingsRequest {
        settings: Some(pb::TenantSettings { limits: Some(limits), ..Default::default() }),
        update_mask: Some(FieldMask { paths: vec!["limits".to_owned()] }),
    }
}

fn fields(names: &[&str]) -> pb::SetTenantSettingsRequest {
    let allowed_fields = names.iter().map(ToString::to_string).collect();
    pb::SetTenantSettingsRequest {
        settings: Some(pb::TenantSettings { allowed_fields, ..Default::default() }),
        update_mask: Some(FieldMask { paths: vec!["allowed_fields".to_owned()] }),
    }
}

async fn set(suite: &Harness, request: pb::SetTenantSettingsRequest) {
    let mut operator = suite.caller("acme", Principal::Operator).settings;
    operator.set_tenant_settings(request).await.expect("set");
}

async fn used(suite: &Harness) -> Option<pb::TenantUse> {
    let mut operator = suite.caller("acme", Principal::Operator).settings;
    let got = operator.get_tenant_settings(pb::GetTenantSettingsRequest {}).await;
    got.expect("settings").into_inner().r#use
}

/// What membership keeps of the tenant.
fn kept(suite: &Harness) -> (i64, Option<i64>) {
    let rules = suite.roster.state().rules.get("acme").copied().unwrap_or_default();
    (rules.version, rules.max_users)
}

async fn users_too_many_are_refused_wherever_they_come_from(db: Db) {
    beside(db, |suite, _membership| async move {
        // Ann, Bob and Cid are there.
        assert_eq!(used(&suite).await, None);
        set(&suite, users(Some(4))).await;
        let three = pb::TenantUse { users: Some(3), ..Default::default() };
        assert_eq!(used(&suite).await, Some(three));
        create(&mut suite.user("dora"), group("g", &["bob"])).await;
        let mut eve = suite.user("eve");
        let list = eve.lists.list_my_rooms(pb::ListMyRoomsRequest::default()).await;
        let status = refused(list, Reason::QuotaExceeded);
        let info = status.get_details_error_info().expect("error info");
        assert_eq!((&*info.metadata["limit"], &*info.metadata["most"]), ("users", "4"));
        refused(eve.rooms.create_room(group("h", &[])).await, Reason::QuotaExceeded);
        refused(eve.rooms.get_or_create_direct_room(direct("bob")).await, Reason::QuotaExceeded);
        // Those who are there go on.
        suite.user("bob").rooms.get_or_create_direct_room(direct("cid")).await.expect("made");
        set(&suite, users(Some(5))).await;
        create(&mut eve, group("h", &[])).await;
        assert_eq!(used(&suite).await.and_then(|used| used.users), Some(5));
    })
    .await;
}

async fn what_membership_was_not_told_is_told_by_a_repeat(db: Db) {
    let suite = Harness::new(db).await;
    let mut operator = suite.caller("acme", Principal::Operator).settings;
    suite.roster.break_rpc("SetTenantRules", Fault::Refuse(Reason::StoreUnavailable));
    let cut = operator.set_tenant_settings(users(Some(7))).await;
    refused(cut, Reason::MembershipUnavailable);
    assert_eq!(kept(&suite), (0, None));
    // What membership has no part in waits for it in vain.
    set(&suite, fields(&["topic"])).await;
    suite.roster.break_rpc("GetTenantUse", Fault::Refuse(Reason::StoreUnavailable));
    let got = operator.get_tenant_settings(pb::GetTenantSettingsRequest {}).await;
    refused(got, Reason::MembershipUnavailable);
    suite.roster.mend("GetTenantUse");
    suite.roster.mend("SetTenantRules");
    set(&suite, users(Some(7))).await;
    assert_eq!(kept(&suite), (3, Some(7)));
    let got = operator.get_tenant_settings(pb::GetTenantSettingsRequest {}).await;
    let settings = got.expect("settings").into_inner().settings.expect("settings");
    assert_eq!(settings.limits.expect("limits").users, Some(7));
    set(&suite, users(None)).await;
    assert_eq!((kept(&suite), used(&suite).await), ((4, None), None));
}

async fn of_operators_at_once_membership_keeps_what_the_last_one_left(db: Db) {
    let suite = Harness::new(db).await;
    for round in 0..5 {
        let of = |most| set(&suite, users(Some(most)));
        tokio::join!(of(round), of(round + 10), of(round + 20), set(&suite, fields(&["a"])));
        let mut operator = suite.caller("acme", Principal::Operator).settings;
        let got = operator.get_tenant_settings(pb::GetTenantSettingsRequest {}).await;
        let limits = got.expect("settings").into_inner().settings.expect("settings").limits;
        assert_eq!(kept(&suite).1, limits.expect("limits").users);
    }
}

async fn settings_that_were_put_back_are_told_anew(db: Db) {
    let suite = Harness::new(db.clone()).await;
    for most in 1..5 {
        set(&suite, users(Some(most))).await;
    }
    let back = "UPDATE tenant_settings SET version = 1, max_users = 1 WHERE tenant_id = 'acme'";
    db.write(back).execute().await.expect("put back");
    set(&suite, users(Some(9))).await;
    assert_eq!(kept(&suite), (5, Some(9)));
    set(&suite, users(Some(8))).await;
    assert_eq!(kept(&suite), (6, Some(8)));
}

async fn a_limit_of_users_is_bounded(db: Db) {
    let suite = Harness::new(db).await;
    let mut operator = suite.caller("acme", Principal::Operator).settings;
    for bad in [-1, 1_000_000_001, i64::MIN, i64::MAX] {
        let set = operator.set_tenant_settings(users(Some(bad))).await;
        violates(set, "settings.limits.users");
    }
    set(&suite, users(Some(0))).await;
    set(&suite, users(Some(1_000_000_000))).await;
    assert_eq!(kept(&suite), (2, Some(1_000_000_000)));
}

/// B-159.
async fn membership_is_told_what_becomes_of_what_blocked_users_write(db: Db) {
    let suite = Harness::new(db).await;
    let policy = |policy: i32| pb::SetTenantSettingsRequest {
        settings: Some(pb::TenantSettings { block_policy: policy, ..Default::default() }),
        update_mask: Some(FieldMask { paths: vec!["block_policy".to_owned()] }),
    };
    let silent = || {
        let rules = suite.roster.state().rules.get("acme").copied().unwrap_or_default();
        (rules.silent_blocks, rules.max_users)
    };
    let mut operator = suite.caller("acme", Principal::Operator).settings;
    let got = operator.get_tenant_settings(pb::GetTenantSettingsRequest {}).await;
    let got = got.expect("settings").into_inner().settings.expect("settings");
    assert_eq!(got.block_policy(), pb::BlockPolicy::Refuse);
    set(&suite, users(Some(9))).await;
    set(&suite, policy(pb::BlockPolicy::Silent.into())).await;
    assert_eq!(silent(), (true, Some(9)));
    set(&suite, users(Some(8))).await;
    assert_eq!(silent(), (true, Some(8)));
    set(&suite, policy(0)).await;
    assert_eq!(silent(), (false, Some(8)));
    suite.roster.break_rpc("SetTenantRules", Fault::Refuse(Reason::StoreUnavailable));
    let cut = operator.set_tenant_settings(policy(2)).await;
    refused(cut, Reason::MembershipUnavailable);
    suite.roster.mend("SetTenantRules");
    let set = operator.set_tenant_settings(policy(2)).await.expect("set").into_inner();
    assert_eq!(set.settings.expect("settings").block_policy(), pb::BlockPolicy::Silent);
    assert_eq!(silent(), (true, Some(8)));
    for bad in [-1, 3] {
        let set = operator.set_tenant_settings(policy(bad)).await;
        violates(set, "settings.block_policy");
    }
}
