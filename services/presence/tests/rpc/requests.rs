//! Requests that tests make.

use std::time::Duration;

use parlance_proto::presence::v1 as pb;

pub(crate) fn opening(resource: &str) -> pb::OpenSessionRequest {
    pb::OpenSessionRequest { resource: resource.to_owned(), ..pb::OpenSessionRequest::default() }
}

pub(crate) fn keeping(resource: &str, lease: Duration) -> pb::KeepSessionRequest {
    pb::KeepSessionRequest {
        resource: resource.to_owned(),
        lease: prost_types::Duration::try_from(lease).ok(),
        ..pb::KeepSessionRequest::default()
    }
}

pub(crate) fn watching(users: &[&str]) -> pb::WatchPresenceRequest {
    pb::WatchPresenceRequest { user_ids: users.iter().map(ToString::to_string).collect() }
}

pub(crate) fn getting(users: &[&str]) -> pb::BatchGetPresenceRequest {
    pb::BatchGetPresenceRequest { user_ids: users.iter().map(ToString::to_string).collect() }
}
