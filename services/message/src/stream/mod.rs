//! Streams: who may follow what is decided by the logs, how they are followed is
//! `parlance_follow`.

pub mod grpc;
