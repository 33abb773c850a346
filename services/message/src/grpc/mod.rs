//! The gRPC face of streams.

pub mod stream;
