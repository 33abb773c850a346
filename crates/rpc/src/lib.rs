//! What every gRPC server and client of the suite shares.
//!
//! A request passes the steps of [`Layers`], over the network and in process
//! alike, and reaches its handler with a [`Caller`] and perhaps a [`Deadline`] in
//! its extensions.

mod auth;
mod balance;
mod body;
mod caller;
mod deadline;
mod faults;
mod gather;
mod health;
mod internal;
mod layers;
mod observe;
mod rate;
mod reason;
mod reflection;
mod serve;
mod shed;
mod step;
mod tenant;
mod trace;
mod transport;

pub use auth::{
    Auth, AuthConfig, AuthError, InvalidKeySource, InvalidSecret, KeyError, KeySource, Minter,
    Role, Secret,
};
pub use balance::{Addresses, InvalidAddresses, balanced};
pub use caller::{Caller, Principal, caller, internal, operator};
pub use deadline::{DEFAULT_DEADLINE, Deadline, Deadlines, remaining};
pub use health::Health;
pub use internal::{AUDIENCE as INTERNAL_AUDIENCE, Internal, InternalKey};
pub use layers::{App, Layers, MAX_INTERNAL, MAX_REQUEST};
pub use rate::RateLimit;
pub use reason::{Reason, Refusal, violation};
pub use reflection::with_reflection;
pub use serve::{ConnectionLimits, Server, termination};
pub use shed::Shed;
pub use step::{Last, Next, Step, StepLayer, Stepped, Steps};
pub use tenant::{Merge, TenantRate};
pub use trace::carry;
pub use transport::{Transport, in_process, remote};
