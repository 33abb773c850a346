//! Notices: what streams are told that no log holds.

pub mod grpc;
