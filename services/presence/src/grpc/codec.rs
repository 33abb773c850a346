//! Values on the wire.

use parlance_proto::presence::v1 as pb;
use parlance_types::{Micros, UserId};

use crate::domain::{Active, Availability, Presence, Resource, Session};

pub(super) fn session(resource: &Resource, session: &Session) -> pb::Session {
    let availability = match session.active {
        Active::Online => pb::Availability::Online,
        Active::Away => pb::Availability::Away,
    };
    pb::Session {
        resource: resource.as_str().to_owned(),
        availability: availability.into(),
        status: session.status.as_str().to_owned(),
        lease: prost_types::Duration::try_from(session.lease.get()).ok(),
    }
}

pub(super) fn presence(user_id: &UserId, presence: &Presence) -> pb::Presence {
    let availability = match presence.availability {
        Availability::Unknown => pb::Availability::Unknown,
        Availability::Offline => pb::Availability::Offline,
        Availability::Online => pb::Availability::Online,
        Availability::Away => pb::Availability::Away,
    };
    pb::Presence {
        user_id: user_id.to_string(),
        availability: availability.into(),
        status: presence.status.as_str().to_owned(),
        last_seen_time: presence.last_seen.map(timestamp),
    }
}

fn timestamp(time: Micros) -> prost_types::Timestamp {
    let nanos = i32::try_from(time.rem_euclid(1_000_000) * 1000).expect("below 10^9");
    prost_types::Timestamp { seconds: time.div_euclid(1_000_000), nanos }
}
