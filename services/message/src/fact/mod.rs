//! Facts: what the services above decided, on its way into logs. The log obeys them.

pub mod grpc;
