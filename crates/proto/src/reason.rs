//! How reasons travel: as the reason of an `ErrorInfo`.

use tonic::Status;
use tonic_types::StatusExt as _;

use crate::errors::v1::Reason;

/// What the names of the enum begin with, and reasons on the wire do not.
const PREFIX: &str = "REASON_";

impl Reason {
    /// The reason on the wire.
    pub fn as_str(self) -> &'static str {
        let name = self.as_str_name();
        name.strip_prefix(PREFIX).unwrap_or(name)
    }

    /// The reason of this name.
    pub fn parse(text: &str) -> Option<Self> {
        Self::from_str_name(&format!("{PREFIX}{text}")).filter(|found| *found != Self::Unspecified)
    }

    /// The reason of a failure of a database: an outage, or what no retry helps against.
    pub const fn of_store(heals: bool) -> Self {
        if heals { Self::StoreUnavailable } else { Self::Internal }
    }

    /// The reason that a status of the suite carries.
    pub fn of(status: &Status) -> Option<Self> {
        status.get_details_error_info().and_then(|info| Self::parse(&info.reason))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_reason_has_a_code_and_a_name_that_leads_back_to_it() {
        assert!(Reason::ALL.len() > 30);
        for reason in Reason::ALL {
            assert_ne!(reason.code(), tonic::Code::Unknown, "{reason:?}");
            assert_eq!(Reason::parse(reason.as_str()), Some(*reason));
        }
        assert_eq!(Reason::RoomNotFound.as_str(), "ROOM_NOT_FOUND");
        assert_eq!(Reason::RoomNotFound.code(), tonic::Code::NotFound);
        assert_eq!(Reason::parse("UNSPECIFIED"), None);
    }
}
