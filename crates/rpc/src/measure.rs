//! What is measured of calls, as the semantic conventions say.

use std::sync::LazyLock;
use std::time::Duration;

use parlance_telemetry::keys;
use parlance_telemetry::metrics::{self, Histogram, KeyValue, Metric, SECONDS, UpDownCounter};
use parlance_telemetry::traces::{self, Span, Status};
use tonic::Code;

use crate::Reason;

const DURATION: Metric = Metric {
    name: "rpc.server.call.duration",
    unit: "s",
    what: "Calls that are finished, by how long they took: until the last byte of the answer was \
           taken, or the caller went away",
};
const ACTIVE: Metric = Metric {
    name: "parlance.rpc.active",
    unit: "{call}",
    what: "Calls that are not finished, open streams among them",
};

/// Made with the first call, if anybody asked for metrics before.
static CALLS: LazyLock<Option<Calls>> = LazyLock::new(|| {
    let (duration, active) =
        (metrics::histogram(&DURATION, SECONDS)?, metrics::up_and_down(&ACTIVE)?);
    Some(Calls { duration, active })
});

struct Calls {
    duration: Histogram<f64>,
    active: UpDownCounter<i64>,
}

/// What a method that is none of ours is called: not what anybody may write into its name.
pub(crate) const OTHER: &str = "_OTHER";

/// A call that began.
pub(crate) fn began(method: &'static str) {
    if let Some(calls) = &*CALLS {
        calls.active.add(1, &[named(method)]);
    }
}

/// A call that ended.
pub(crate) fn ended(method: &'static str, code: Code, reason: Option<Reason>, took: Duration) {
    let Some(calls) = &*CALLS else { return };
    calls.active.add(-1, &[named(method)]);
    let of_all = [
        KeyValue::new(keys::RPC_SYSTEM, "grpc"),
        named(method),
        KeyValue::new(keys::RPC_STATUS, name(code)),
        KeyValue::new(keys::ERROR_TYPE, error_type(code, reason)),
    ];
    let known = if code == Code::Ok { &of_all[..3] } else { &of_all[..] };
    calls.duration.record(took.as_secs_f64(), known);
}

/// How the span of a call ends for the one who answers: what a caller did wrong is no error of
/// theirs.
pub(crate) fn answered(code: Code) -> Status {
    match code {
        Code::Unknown
        | Code::DeadlineExceeded
        | Code::Unimplemented
        | Code::Internal
        | Code::Unavailable
        | Code::DataLoss => Status::error(""),
        _ => Status::Unset,
    }
}

/// Says of the span of a call how that ended.
pub(crate) fn trace_end(span: &mut Span, status: Status, code: Code, reason: Option<Reason>) {
    let told = KeyValue::new(keys::RPC_STATUS, name(code));
    let failed = KeyValue::new(keys::ERROR_TYPE, error_type(code, reason));
    traces::ended(span, status, [told].into_iter().chain((code != Code::Ok).then_some(failed)));
}

/// What an error is told apart by: its reason if it has one.
pub(crate) fn error_type(code: Code, reason: Option<Reason>) -> &'static str {
    reason.map_or_else(|| name(code), Reason::as_str)
}

fn named(method: &'static str) -> KeyValue {
    KeyValue::new(keys::RPC_METHOD, method.trim_start_matches('/'))
}

/// A code as the specification of gRPC writes it.
pub(crate) const fn name(code: Code) -> &'static str {
    match code {
        Code::Ok => "OK",
        Code::Cancelled => "CANCELLED",
        Code::Unknown => "UNKNOWN",
        Code::InvalidArgument => "INVALID_ARGUMENT",
        Code::DeadlineExceeded => "DEADLINE_EXCEEDED",
        Code::NotFound => "NOT_FOUND",
        Code::AlreadyExists => "ALREADY_EXISTS",
        Code::PermissionDenied => "PERMISSION_DENIED",
        Code::ResourceExhausted => "RESOURCE_EXHAUSTED",
        Code::FailedPrecondition => "FAILED_PRECONDITION",
        Code::Aborted => "ABORTED",
        Code::OutOfRange => "OUT_OF_RANGE",
        Code::Unimplemented => "UNIMPLEMENTED",
        Code::Internal => "INTERNAL",
        Code::Unavailable => "UNAVAILABLE",
        Code::DataLoss => "DATA_LOSS",
        Code::Unauthenticated => "UNAUTHENTICATED",
    }
}
