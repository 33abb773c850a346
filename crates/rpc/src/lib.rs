//! What every gRPC server and client of the suite shares.
//!
//! A request passes the steps of [`Layers`], over the network and in process
//! alike, and reaches its handler with a [`Caller`] and perhaps a [`Deadline`] in
//! its extensions.

mod account;
mod admin;
mod arriving;
mod auth;
mod balance;
mod body;
mod caller;
mod calling;
mod deadline;
mod detached;
mod each;
mod end;
mod env;
mod failure;
mod faults;
pub mod fields;
mod flowing;
mod gather;
mod health;
mod input;
mod internal;
mod layers;
mod line;
mod measure;
mod observe;
mod peer;
mod rate;
mod reason;
mod reflection;
mod serve;
mod served;
mod shed;
mod step;
mod tasks;
mod tenant;
#[cfg(feature = "testing")]
pub mod testing;
mod tls;
mod token;
mod trace;
mod transport;

pub use account::{Held, hold};
pub use admin::Admin;
pub use auth::{Auth, AuthConfig, AuthError, InvalidKeySource, KeyError, KeySource};
pub use balance::{Addresses, InvalidAddresses, balanced, balanced_outside};
pub use caller::{Caller, Principal, caller, internal, operator};
pub use deadline::{DEFAULT_DEADLINE, Deadline, Deadlines, Late, remaining};
pub use detached::{Cut, detached};
pub use each::{Admitted, Each};
pub use env::Env;
pub use failure::{Failure, status};
pub use fields::Violation;
pub use health::Health;
pub use input::unreadable;
pub use internal::Internal;
pub use layers::{App, Layers, MAX_INTERNAL, MAX_REQUEST};
pub use peer::{Below, CallError, Peer, of_no_tenant};
pub use rate::RateLimit;
pub use reason::{Reason, Refusal, violation};
pub use reflection::{InvalidReflection, Reflection};
pub use serve::{ConnectionLimits, InvalidOrigin, Origin, Server, Web, termination};
pub use served::{OfSuite, Served};
pub use shed::Shed;
pub use step::{Last, Next, Step, StepLayer, Stepped, Steps};
pub use tasks::{Run, Tasks};
pub use tenant::{Merge, TenantRate};
pub use tls::{InvalidPeerName, PeerName, Shown, Tls, TlsError, TlsFiles, probe, shake_hands};
pub use token::{INTERNAL_AUDIENCE, InternalKey, InvalidSecret, Minter, Role, Secret};
pub use trace::{carry, resumed, sampled, trace_parent, within};
pub use transport::{Transport, in_process, remote};
