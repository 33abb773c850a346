//! Generated gRPC types, laid out as the proto packages are.

#![expect(
    clippy::pedantic,
    clippy::large_enum_variant,
    clippy::doc_overindented_list_items,
    reason = "generated code"
)]

pub mod frame;
mod reason;

/// Every descriptor of the suite, for server reflection.
pub const DESCRIPTORS: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/descriptors.bin"));

pub mod errors {
    pub mod v1 {
        tonic::include_proto!("parlance.errors.v1");
        include!(concat!(env!("OUT_DIR"), "/reasons.rs"));
    }
}
pub mod hook {
    pub mod v1 {
        tonic::include_proto!("parlance.hook.v1");
    }
}
pub mod membership {
    pub mod v1 {
        tonic::include_proto!("parlance.membership.v1");
    }
}
pub mod message {
    pub mod v1 {
        tonic::include_proto!("parlance.message.v1");

        impl Cursor {
            /// Moves it to another position, where the event, if there is one, has this time.
            pub fn move_to(&mut self, seq: i64, time: Option<prost_types::Timestamp>) {
                if self.seq != seq {
                    (self.seq, self.time) = (seq, time);
                }
            }
        }
    }
}
pub mod presence {
    pub mod v1 {
        tonic::include_proto!("parlance.presence.v1");
    }
}
pub mod room {
    pub mod v1 {
        tonic::include_proto!("parlance.room.v1");
    }
}

/// Servers of `parlance.message.v1` that pass on what is stored: frames of streams are encoded
/// already, and the content of a message is the bytes of one. The types that hold neither are
/// those of [`message::v1`].
pub mod stored {
    include!(concat!(env!("OUT_DIR"), "/stored/parlance.message.v1.rs"));
}
