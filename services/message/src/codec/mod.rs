//! The frames of streams, beside the encoding of events.

pub mod frames;

pub use parlance_log::codec::*;
