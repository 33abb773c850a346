//! A user's rooms. The message service orders and counts them, this one adds what they
//! are called.

mod grpc;

pub(crate) use grpc::RoomListGrpc;
