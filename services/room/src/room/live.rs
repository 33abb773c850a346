//! How a live room begins.

use parlance_types::{LogId, Micros, Resource, SessionId, UserId};
use serde::{Deserialize, Serialize};

use super::Founding;

/// How a live room lives, and who begins it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct LiveFounding {
    /// How long it waits after the last one left.
    pub destroy_delay: Micros,
    /// How long it waits for the first one.
    pub empty_timeout: Micros,
    /// Whether a user has one device at most in it.
    pub single_device: bool,
    /// The owner's, if there is one.
    pub seat: Option<FoundingSeat>,
}

/// The first device in a live room.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct FoundingSeat {
    pub resource: String,
    pub session_id: String,
    /// The log of the room that it leaves for this one.
    pub from: Option<String>,
}

impl LiveFounding {
    /// The same with the owner's device.
    #[must_use]
    pub(crate) fn seated(self, resource: &Resource, session_id: &SessionId) -> Self {
        let (resource, session_id) = (resource.to_string(), session_id.to_string());
        Self { seat: Some(FoundingSeat { resource, session_id, from: None }), ..self }
    }
}

impl Founding {
    /// That of a live room, by a user with a device or by nobody.
    pub(crate) fn of_live(owner: Option<UserId>, live: LiveFounding) -> Self {
        Self { live: Some(live), ..Self::new(owner.clone(), Vec::new(), owner) }
    }

    pub(crate) const fn live(&self) -> Option<&LiveFounding> {
        self.live.as_ref()
    }

    /// Notes which room the first device leaves.
    pub(crate) fn come_from(&mut self, from: LogId) {
        if let Some(seat) = self.live.as_mut().and_then(|live| live.seat.as_mut()) {
            seat.from = Some(from.0.to_string());
        }
    }
}
