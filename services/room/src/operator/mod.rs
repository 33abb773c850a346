//! How the service is doing, for operators.

mod grpc;

pub(crate) use grpc::OperatorGrpc;
