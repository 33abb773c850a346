//! How a refusal travels. Its reasons are those of `parlance/errors/v1/reason.proto`.

use std::collections::HashMap;
use std::time::Duration;

use bytes::Bytes;
pub use parlance_proto::errors::v1::Reason;
use tonic::{Code, Status};
use tonic_types::{ErrorDetails, StatusExt};

use crate::Violation;

/// The domain of every reason.
const DOMAIN: &str = "parlance";

/// A refusal on its way to a caller. Becomes a `Status` with `google.rpc` details.
#[derive(Clone, Debug)]
pub struct Refusal(Box<Details>);

#[derive(Clone, Debug)]
struct Details {
    reason: Reason,
    message: String,
    field: Option<(String, String)>,
    retry_after: Option<Duration>,
    subject: Option<String>,
    metadata: HashMap<String, String>,
    /// What another service said, passed on as it is.
    relayed: Option<Status>,
}

/// The refusal of a field: INVALID_ARGUMENT naming it.
pub fn violation(field: impl Into<String>, rule: impl Into<String>) -> Refusal {
    let Violation { field, rule } = Violation::new(field, rule);
    Refusal::new(Reason::InvalidField, format!("{field} {rule}")).in_field(field, rule)
}

impl Refusal {
    /// A refusal for `reason`. The message is for people: concise, lowercase.
    pub fn new(reason: Reason, message: impl Into<String>) -> Self {
        Self(Box::new(Details {
            reason,
            message: message.into(),
            field: None,
            retry_after: None,
            subject: None,
            metadata: HashMap::new(),
            relayed: None,
        }))
    }

    /// What another service refused, for its caller to see as it came: with its details,
    /// without the headers of that call.
    pub fn relayed(reason: Reason, status: &Status) -> Self {
        let mut refusal = Self::new(reason, status.message());
        let details = Bytes::copy_from_slice(status.details());
        refusal.0.relayed = Some(Status::with_details(status.code(), status.message(), details));
        refusal
    }

    /// Names the field, and what it must be (BadRequest).
    #[must_use]
    pub fn in_field(mut self, field: impl Into<String>, rule: impl Into<String>) -> Self {
        self.0.field = Some((field.into(), rule.into()));
        self
    }

    /// Says when to try again (RetryInfo).
    #[must_use]
    pub fn retry_after(mut self, delay: Duration) -> Self {
        self.0.retry_after = Some(delay);
        self
    }

    /// Says whose quota is used up (QuotaFailure).
    #[must_use]
    pub fn about(mut self, subject: impl Into<String>) -> Self {
        self.0.subject = Some(subject.into());
        self
    }

    /// Adds metadata to the ErrorInfo.
    #[must_use]
    pub fn with(mut self, key: &str, value: impl Into<String>) -> Self {
        self.0.metadata.insert(key.to_owned(), value.into());
        self
    }

    pub fn reason(&self) -> Reason {
        self.0.reason
    }
}

impl From<Refusal> for Status {
    fn from(refusal: Refusal) -> Self {
        let Details { reason, message, field, retry_after, subject, metadata, relayed } =
            *refusal.0;
        if let Some(status) = relayed {
            return status;
        }
        let mut details = ErrorDetails::with_error_info(reason.as_str(), DOMAIN, metadata);
        if let Some((field, rule)) = field {
            details.add_bad_request_violation(field, rule);
        }
        if let Some(delay) = retry_after {
            details.set_retry_info(Some(delay));
        }
        if reason.code() == Code::FailedPrecondition {
            details.add_precondition_failure_violation(reason.as_str(), "", &message);
        }
        if reason.code() == Code::ResourceExhausted {
            let subject = subject.as_deref().unwrap_or(reason.as_str());
            details.add_quota_failure_violation(subject, &message);
        }
        Self::with_error_details(reason.code(), message, details)
    }
}
