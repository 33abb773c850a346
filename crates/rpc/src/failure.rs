//! From an error to what its caller is told: one way, for all services.

use std::error::Error;
use std::time::Duration;

use tonic::{Code, Status};

use crate::{Reason, Refusal};

/// When a call that met an outage is worth repeating.
const AFTER_OUTAGE: Duration = Duration::from_secs(1);

/// When a call is worth repeating that was one too many.
const AFTER_OVERLOAD: Duration = Duration::from_millis(200);

/// What every caller is told of what does not heal: what it was stands in the log only.
const INTERNAL: &str = "internal error";

/// Why a request failed.
pub trait Failure: Error + Sized + 'static {
    /// The reason that the caller is told.
    fn reason(&self) -> Reason;

    /// Adds what the reason alone does not say: a field, a user, a version.
    fn detail(&self, refusal: Refusal) -> Refusal {
        refusal
    }

    /// Whether the caller is told no; otherwise something does not work.
    fn is_refusal(&self) -> bool {
        let code = self.reason().code();
        !matches!(code, Code::Unavailable | Code::DeadlineExceeded | Code::Internal)
    }
}

/// The status that tells a caller of an error. What does not heal is logged with its causes,
/// and hidden; what heals by waiting says when to try again.
pub fn status(error: &impl Failure) -> Status {
    let reason = error.reason();
    let cause: &(dyn Error + 'static) = error;
    match reason.code() {
        Code::Internal => {
            tracing::error!(error = cause, "a call failed, and would again");
            return Refusal::new(reason, INTERNAL).into();
        }
        Code::Unavailable => tracing::warn!(error = cause, reason = reason.as_str(), "an outage"),
        _ => {}
    }
    let refusal = Refusal::new(reason, error.to_string());
    let refusal = match heals_after(reason) {
        Some(delay) => refusal.retry_after(delay),
        None => refusal,
    };
    error.detail(refusal).into()
}

/// How long to wait until a call that was refused for `reason` may succeed.
fn heals_after(reason: Reason) -> Option<Duration> {
    match (reason, reason.code()) {
        (_, Code::Unavailable) => Some(AFTER_OUTAGE),
        (Reason::Overloaded, _) => Some(AFTER_OVERLOAD),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use tonic_types::StatusExt as _;

    use super::*;

    #[derive(Debug, thiserror::Error)]
    #[error("the secret of {0:?}")]
    struct Failed(Reason);

    impl Failure for Failed {
        fn reason(&self) -> Reason {
            self.0
        }

        fn detail(&self, refusal: Refusal) -> Refusal {
            refusal.with("user_id", "ann")
        }
    }

    fn retry(status: &Status) -> Option<Duration> {
        status.get_details_retry_info().and_then(|info| info.retry_delay)
    }

    #[test]
    fn what_does_not_heal_tells_the_caller_nothing() {
        let status = status(&Failed(Reason::Internal));
        assert_eq!((status.code(), status.message()), (Code::Internal, "internal error"));
        assert_eq!(Reason::of(&status), Some(Reason::Internal));
        let info = status.get_details_error_info().expect("an ErrorInfo");
        assert!(info.metadata.is_empty() && retry(&status).is_none());
    }

    #[test]
    fn what_heals_by_waiting_says_when_to_try_again() {
        for reason in Reason::ALL.iter().copied().filter(|it| it.code() == Code::Unavailable) {
            let status = status(&Failed(reason));
            assert_eq!((Reason::of(&status), status.code()), (Some(reason), Code::Unavailable));
            assert_eq!(retry(&status), Some(AFTER_OUTAGE), "{reason:?}");
        }
        let full = status(&Failed(Reason::Overloaded));
        assert_eq!((full.code(), retry(&full)), (Code::ResourceExhausted, Some(AFTER_OVERLOAD)));
        assert!(full.get_details_quota_failure().is_some());
        assert_eq!(retry(&status(&Failed(Reason::NotAMember))), None);
    }

    #[test]
    fn a_refusal_has_the_text_and_the_details_of_its_error() {
        let status = status(&Failed(Reason::UserNotFound));
        assert_eq!(status.message(), "the secret of UserNotFound");
        let info = status.get_details_error_info().expect("an ErrorInfo");
        assert_eq!(info.metadata["user_id"], "ann");
    }
}
