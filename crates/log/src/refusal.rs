//! How the errors of a log travel.

use std::error::Error as StdError;
use std::time::Duration;

use parlance_rpc::{Reason, Refusal, violation};
use tonic::Status;

use crate::Error;

/// How long a caller shall wait when the queue of writes is full.
const AFTER_OVERLOAD: Duration = Duration::from_millis(200);

/// How long a caller shall wait when the store is away or the service is stopping.
const AFTER_OUTAGE: Duration = Duration::from_secs(1);

impl From<Error> for Status {
    fn from(error: Error) -> Self {
        let refusal = Refusal::from(&error);
        let cause: &dyn StdError = &error;
        match refusal.reason() {
            Reason::StoreUnavailable => tracing::error!(error = cause, "the store failed"),
            Reason::Internal => tracing::error!(error = cause, "a bug"),
            _ => {}
        }
        refusal.into()
    }
}

impl From<&Error> for Refusal {
    fn from(error: &Error) -> Self {
        let text = error.to_string();
        match error {
            Error::Invalid { field, rule } => violation(field, rule),
            Error::FactGap { applied } => {
                Self::new(Reason::FactGap, text).with("applied", applied.to_string())
            }
            Error::Refused(reason @ Reason::Overloaded, _) => {
                Self::new(*reason, text).retry_after(AFTER_OVERLOAD)
            }
            Error::Refused(reason @ Reason::Draining, _) => {
                Self::new(*reason, text).retry_after(AFTER_OUTAGE)
            }
            Error::Refused(reason, _) => Self::new(*reason, text),
            Error::Store(_) | Error::StoreTimeout => {
                Self::new(Reason::StoreUnavailable, text).retry_after(AFTER_OUTAGE)
            }
            // What it was stands in the log only.
            Error::Impossible { .. } => Self::new(Reason::Internal, "internal error"),
        }
    }
}

#[cfg(test)]
mod tests {
    use tonic::Code;
    use tonic_types::StatusExt;

    use super::*;

    #[test]
    fn an_outage_is_unavailable_and_says_when_to_try_again() {
        for error in [Error::Store(sqlx::Error::PoolTimedOut), Error::StoreTimeout] {
            let status = Status::from(error);
            assert_eq!(status.code(), Code::Unavailable);
            assert_eq!(Reason::of(&status), Some(Reason::StoreUnavailable));
            let retry = status.get_details_retry_info().expect("a RetryInfo");
            assert_eq!(retry.retry_delay, Some(AFTER_OUTAGE));
        }
    }

    #[test]
    fn a_full_queue_is_exhausted_and_says_when_to_try_again() {
        let status = Status::from(Error::Refused(Reason::Overloaded, "too many"));
        assert_eq!(status.code(), Code::ResourceExhausted);
        assert_eq!(Reason::of(&status), Some(Reason::Overloaded));
        let retry = status.get_details_retry_info().expect("a RetryInfo");
        assert_eq!(retry.retry_delay, Some(AFTER_OVERLOAD));
        assert!(status.get_details_quota_failure().is_some());
    }

    #[test]
    fn a_bug_tells_the_caller_nothing() {
        let status = Status::from(Error::Impossible { table: "events", column: "payload" });
        assert_eq!((status.code(), status.message()), (Code::Internal, "internal error"));
    }
}
