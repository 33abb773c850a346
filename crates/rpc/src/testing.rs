//! Callers, and what they are told, for the tests of services.

use std::fmt::Debug;
use std::sync::Arc;
use std::time::Duration;

use parlance_types::{Clock, Micros, TenantId, UserId};
use tonic::{Response, Status};
use tonic_types::StatusExt as _;
use tower::ServiceExt as _;

use crate::{
    Auth, AuthConfig, Caller, Deadline, Env, Internal, InternalKey, Layers, Principal, Reason,
    Served, Transport, in_process,
};

/// How long a test waits for a state before it has failed.
pub const PATIENCE: Duration = Duration::from_secs(20);

/// A verified caller whose token never expires.
pub fn caller(tenant_id: &str, principal: Principal) -> Caller {
    Caller {
        tenant_id: TenantId::new(tenant_id),
        subject: "test".to_owned(),
        principal,
        expires: Micros::MAX,
        leaves: None,
    }
}

/// A user of the tenant acme.
pub fn acme(user_id: &str) -> Caller {
    caller("acme", Principal::User(UserId::new(user_id)))
}

/// What a service of a test stands on that is called by no other.
pub fn env(clock: Arc<dyn Clock>) -> Env {
    Env::new(Arc::clone(&clock), Internal::new(InternalKey::random(), clock))
}

/// What the services of a test stand on, and the steps that verify their calls to each
/// other.
pub async fn suite(clock: Arc<dyn Clock>) -> (Env, Layers) {
    let key = InternalKey::random();
    let auth = Auth::load(AuthConfig::new(Vec::new(), key.clone()), Arc::clone(&clock));
    let layers = Layers::new(auth.await.expect("no keys to read"));
    (Env::new(Arc::clone(&clock), Internal::new(key, clock)), layers)
}

/// Reaches services as the auth and deadline steps let requests of a caller pass.
pub fn called_by(
    services: Served,
    caller: impl Into<Option<Caller>>,
    deadline: Option<Deadline>,
) -> Transport {
    let caller = caller.into();
    in_process(services.into_routes().map_request(move |mut request: http::Request<_>| {
        if let Some(caller) = &caller {
            request.extensions_mut().insert(caller.clone());
        }
        if let Some(deadline) = deadline {
            request.extensions_mut().insert(deadline);
        }
        request
    }))
}

/// Asserts that a call was refused for a reason, with the code that it comes with.
#[track_caller]
pub fn refused<T: Debug>(result: Result<Response<T>, Status>, reason: Reason) -> Status {
    let status = result.expect_err(reason.as_str());
    let info = status.get_details_error_info().expect("an ErrorInfo");
    assert_eq!((info.reason.as_str(), info.domain.as_str()), (reason.as_str(), "parlance"));
    assert_eq!(status.code(), reason.code());
    status
}

/// Asserts that a call was refused because of one field.
#[track_caller]
pub fn violates<T: Debug>(result: Result<Response<T>, Status>, field: &str) -> Status {
    let status = refused(result, Reason::InvalidField);
    let details = status.get_details_bad_request().expect("a BadRequest");
    let fields: Vec<_> = details.field_violations.iter().map(|found| &*found.field).collect();
    assert_eq!(fields, [field]);
    status
}

/// Strings that are no id, whatever it names.
pub fn bad_ids() -> [String; 5] {
    [String::new(), "a\0b".to_owned(), "a\nb".to_owned(), "\u{85}".to_owned(), "x".repeat(129)]
}

/// What comes of `wait`, which must be soon.
pub async fn in_time<T>(wait: impl Future<Output = T>) -> T {
    tokio::time::timeout(PATIENCE, wait).await.expect("in time")
}

/// Waits until `check` holds.
pub async fn eventually<W: Future<Output = bool>>(mut check: impl FnMut() -> W) {
    in_time(async {
        while !check().await {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    })
    .await;
}
