//! The content filter of a tenant, which message keeps.

use parlance_db::{Db, test_on_each_db};
use parlance_proto::message::v1 as log;
use parlance_proto::message::v1::FilterAction;
use parlance_proto::room::v1 as pb;
use parlance_rpc::{Principal, Reason};
use prost_types::FieldMask;

use crate::harness::{Harness, refused, violates};

test_on_each_db!(parlance_room::MIGRATIONS =>
    a_content_filter_is_handed_to_message_and_shown_as_it_is_there,
    an_outage_of_message_is_not_read_as_no_filter,
    what_is_wrong_with_a_content_filter_is_named,
);

fn put(words: &[&str], action: FilterAction) -> pb::SetTenantSettingsRequest {
    let words = words.iter().map(ToString::to_string).collect();
    let filter = log::ContentFilter { words, action: action.into() };
    pb::SetTenantSettingsRequest {
        settings: Some(pb::TenantSettings { content_filter: Some(filter), ..Default::default() }),
        update_mask: Some(FieldMask { paths: vec!["content_filter".to_owned()] }),
    }
}

fn allow_topic() -> pb::SetTenantSettingsRequest {
    let allowed_fields = vec!["topic".to_owned()];
    pb::SetTenantSettingsRequest {
        settings: Some(pb::TenantSettings { allowed_fields, ..Default::default() }),
        update_mask: Some(FieldMask { paths: vec!["allowed_fields".to_owned()] }),
    }
}

async fn set(suite: &Harness, request: pb::SetTenantSettingsRequest) -> pb::TenantSettings {
    let mut operator = suite.caller("acme", Principal::Operator).settings;
    let set = operator.set_tenant_settings(request).await.expect("set");
    set.into_inner().settings.expect("settings")
}

async fn shown(suite: &Harness, tenant_id: &str) -> (Vec<String>, FilterAction) {
    let mut operator = suite.caller(tenant_id, Principal::Operator).settings;
    let got = operator.get_tenant_settings(pb::GetTenantSettingsRequest {}).await;
    let settings = got.expect("settings").into_inner().settings.expect("settings");
    let filter = settings.content_filter.expect("a filter");
    (filter.words.clone(), filter.action())
}

/// B-053.
async fn a_content_filter_is_handed_to_message_and_shown_as_it_is_there(db: Db) {
    let suite = Harness::new(db).await;
    assert_eq!(shown(&suite, "acme").await.0, Vec::<String>::new());
    let after = set(&suite, put(&["darn", "buy now"], FilterAction::Refuse)).await;
    assert_eq!(after.content_filter.expect("a filter").words, ["darn", "buy now"]);
    let there = suite.logs.state().filters["acme"].clone();
    assert_eq!((there.words.len(), there.action()), (2, FilterAction::Refuse));
    assert_eq!(shown(&suite, "acme").await, (there.words, FilterAction::Refuse));
    assert_eq!(shown(&suite, "other").await.0, Vec::<String>::new());
    // It stays when something else is set, and is put whole.
    let after = set(&suite, allow_topic()).await;
    assert_eq!(after.content_filter.expect("a filter").words.len(), 2);
    set(&suite, put(&["heck"], FilterAction::Unspecified)).await;
    assert_eq!(shown(&suite, "acme").await, (vec!["heck".to_owned()], FilterAction::Mask));
    let mut taken = put(&[], FilterAction::Mask);
    taken.settings = Some(pb::TenantSettings::default());
    set(&suite, taken).await;
    assert_eq!(suite.logs.state().filters["acme"].words, Vec::<String>::new());
}

async fn an_outage_of_message_is_not_read_as_no_filter(db: Db) {
    let suite = Harness::new(db).await;
    set(&suite, put(&["darn"], FilterAction::Mask)).await;
    suite.logs.state().down = true;
    let mut operator = suite.caller("acme", Principal::Operator).settings;
    let got = operator.get_tenant_settings(pb::GetTenantSettingsRequest {}).await;
    refused(got, Reason::LogUnavailable);
    for request in [put(&["heck"], FilterAction::Mask), allow_topic()] {
        refused(operator.set_tenant_settings(request).await, Reason::LogUnavailable);
    }
    suite.logs.state().down = false;
    assert_eq!(shown(&suite, "acme").await.0, ["darn"]);
    let got = operator.get_tenant_settings(pb::GetTenantSettingsRequest {}).await;
    let settings = got.expect("settings").into_inner().settings.expect("settings");
    assert_eq!(settings.allowed_fields, ["topic"], "what is kept here is kept");
}

async fn what_is_wrong_with_a_content_filter_is_named(db: Db) {
    let suite = Harness::new(db).await;
    let mut operator = suite.caller("acme", Principal::Operator).settings;
    let many: Vec<_> = (0..2001).map(|n| n.to_string()).collect();
    let many: Vec<_> = many.iter().map(String::as_str).collect();
    let long = "x".repeat(65);
    for (words, field) in [
        (&["a", ""][..], "settings.content_filter.words[1]"),
        (&[" a"], "settings.content_filter.words[0]"),
        (&["a\nb"], "settings.content_filter.words[0]"),
        (&[&long], "settings.content_filter.words[0]"),
        (&["a", "b", "a"], "settings.content_filter.words[2]"),
        (&many, "settings.content_filter.words"),
    ] {
        violates(operator.set_tenant_settings(put(words, FilterAction::Mask)).await, field);
    }
    let mut strange = put(&["a"], FilterAction::Mask);
    let filter = strange.settings.as_mut().and_then(|it| it.content_filter.as_mut());
    filter.expect("a filter").action = 9;
    let answer = operator.set_tenant_settings(strange).await;
    violates(answer, "settings.content_filter.action");
    assert!(suite.logs.state().filters.is_empty());
}
