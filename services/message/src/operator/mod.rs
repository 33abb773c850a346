//! How the node is doing.

pub mod grpc;
