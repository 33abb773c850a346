//! How errors travel.

use std::time::Duration;

use parlance_rpc::{Reason, Refusal, violation};
use tonic::{Code, Status};

use crate::Error;

/// When a call that met an outage is worth repeating.
const RETRY_AFTER: Duration = Duration::from_secs(1);

impl From<Error> for Status {
    /// Gives each error its reason, listed in `docs/errors.md`.
    fn from(error: Error) -> Self {
        let reason = error.reason();
        if matches!(reason.code(), Code::Unavailable | Code::Internal) && reason != Reason::Draining
        {
            let error = &error as &dyn std::error::Error;
            tracing::error!(error, reason = reason.as_str(), "request failed");
        }
        match error {
            Error::Invalid { field, rule } => violation(field, rule).into(),
            // As it came: with its details, without the headers of that call.
            Error::Refused(status) => {
                let details = prost::bytes::Bytes::copy_from_slice(status.details());
                Self::with_details(status.code(), status.message(), details)
            }
            error if reason == Reason::Internal => {
                drop(error);
                Refusal::new(reason, "something is wrong with the service").into()
            }
            error => {
                let refusal = Refusal::new(reason, error.to_string());
                let outage = reason.code() == Code::Unavailable;
                if outage { refusal.retry_after(RETRY_AFTER).into() } else { refusal.into() }
            }
        }
    }
}
