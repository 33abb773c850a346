//! The hook: what an installation says of messages before they are accepted.

mod breaker;
mod clients;

use std::str::FromStr;
use std::sync::Arc;
use std::time::Duration;

use moka::sync::Cache;
use parlance_log::Error;
use parlance_rpc::{Reason, Transport};
use parlance_types::TenantId;
use tokio::sync::Semaphore;
use tokio::time::timeout;

use self::breaker::Breaker;
use crate::message::{Content, Hook as Judge, Judged, Written};

/// For how many messages of one tenant the hook is asked at once.
const AT_ONCE: usize = 32;

/// Of how many tenants it is known how the hook does. One that falls out begins anew.
const TENANTS: u64 = 10_000;

/// What is told of a refusal, at most, in bytes.
const REASON: usize = 64;
const TEXT: usize = 512;

/// What it means that a hook gives no verdict.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum OnFailure {
    /// The message is accepted as it is.
    Open,
    /// It is refused for now.
    #[default]
    Closed,
}

/// A text that names no such choice.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("must be open or closed")]
pub struct InvalidOnFailure;

impl FromStr for OnFailure {
    type Err = InvalidOnFailure;

    fn from_str(text: &str) -> Result<Self, InvalidOnFailure> {
        match text {
            "open" => Ok(Self::Open),
            "closed" => Ok(Self::Closed),
            _ => Err(InvalidOnFailure),
        }
    }
}

/// Where the hook is, and what is expected of it.
#[derive(Clone, Debug)]
pub struct Options {
    pub transport: Transport,
    /// For whose messages it is asked; empty: for those of every tenant.
    pub tenants: Vec<TenantId>,
    /// How long it may take for a message.
    pub deadline: Duration,
    pub on_failure: OnFailure,
}

/// What becomes of a message.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Verdict {
    Allow,
    Refuse { reason: String, text: String },
    Replace(Content),
}

/// Why there is no verdict.
#[derive(Debug, thiserror::Error)]
enum Trouble {
    /// It did not answer, or has too much to do.
    #[error("the hook does not answer")]
    Silent(#[source] clients::Failed),
    /// It answered, with nothing of use.
    #[error("the hook gave no verdict")]
    Useless(#[source] clients::Failed),
    /// It is asked for as many messages of the tenant as it may be, and none was answered.
    #[error("the hook is busy")]
    Busy,
    #[error("the hook is not asked for a while")]
    Resting,
}

/// Asks an installation about messages before they are accepted.
#[derive(Debug)]
pub struct Hook {
    options: Options,
    lines: Cache<TenantId, Arc<Line>>,
}

/// How the hook does with the messages of one tenant: where it hangs for some, it is asked for
/// others as before.
#[derive(Debug)]
struct Line {
    breaker: Breaker,
    places: Semaphore,
}

impl Default for Line {
    fn default() -> Self {
        Self { breaker: Breaker::default(), places: Semaphore::new(AT_ONCE) }
    }
}

impl Judge for Hook {
    fn concerns(&self, tenant_id: &TenantId) -> bool {
        self.options.tenants.is_empty() || self.options.tenants.contains(tenant_id)
    }

    /// Refused with HOOK_REFUSED, HOOK_UNAVAILABLE.
    fn judge<'a>(&'a self, written: Written<'a>) -> Judged<'a> {
        Box::pin(self.verdict_on(written))
    }
}

impl Hook {
    pub fn new(options: Options) -> Self {
        Self { options, lines: Cache::new(TENANTS) }
    }

    async fn verdict_on(&self, written: Written<'_>) -> Result<Option<Content>, Error> {
        match self.ask(written).await {
            Ok(Verdict::Allow) => Ok(None),
            Ok(Verdict::Replace(content)) => Ok(Some(content)),
            Ok(Verdict::Refuse { reason, text }) => Err(Error::RefusedWith(
                Reason::HookRefused,
                "the installation does not accept the message",
                vec![("hook_reason", cut(reason, REASON)), ("hook_text", cut(text, TEXT))],
            )),
            Err(trouble) => {
                let error = &trouble as &dyn std::error::Error;
                if matches!(trouble, Trouble::Silent(_) | Trouble::Useless(_)) {
                    tracing::warn!(error, "the hook failed");
                }
                match self.options.on_failure {
                    OnFailure::Open => Ok(None),
                    OnFailure::Closed => {
                        let text = "whether the installation accepts the message is not known";
                        Err(Error::Refused(Reason::HookUnavailable, text))
                    }
                }
            }
        }
    }

    /// Asks if there is a place and the breaker lets it, all within the deadline. Who gives up
    /// waiting for it counts for nothing.
    async fn ask(&self, written: Written<'_>) -> Result<Verdict, Trouble> {
        let line = self.lines.get_with_by_ref(written.tenant_id, Arc::default);
        let Options { transport, deadline, .. } = &self.options;
        let begun = tokio::time::Instant::now();
        let place = timeout(*deadline, line.places.acquire()).await;
        let Ok(Ok(_place)) = place else { return Err(Trouble::Busy) };
        let admitted = line.breaker.admit().ok_or(Trouble::Resting)?;
        let left = deadline.saturating_sub(begun.elapsed());
        let answer = clients::ask(transport, left, written).await;
        match &answer {
            Err(Trouble::Silent(_)) => line.breaker.failed(&admitted),
            // What it makes of one message says nothing of the next one.
            _ => line.breaker.worked(),
        }
        answer
    }
}

fn cut(mut text: String, most: usize) -> String {
    let most = (0..=most).rev().find(|at| text.is_char_boundary(*at));
    text.truncate(most.unwrap_or(0));
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reason_is_cut_between_characters() {
        assert_eq!(cut("short".to_owned(), 64), "short");
        assert_eq!(cut("x".repeat(65), 64), "x".repeat(64));
        assert_eq!(cut("\u{20ac}".repeat(100), 64), "\u{20ac}".repeat(21));
    }
}
