//! How the service is doing, for operators.

pub(crate) mod grpc;
