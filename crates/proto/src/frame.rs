//! A frame of a stream that was encoded before its receivers were known.

use bytes::{Buf, BufMut, Bytes};
use prost::encoding::{DecodeContext, WireType};
use prost::{DecodeError, Message};

/// An encoded `parlance.message.v1.SubscribeResponse`, shared by reference count.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Frame(Bytes);

impl Frame {
    /// Encodes a frame made for one receiver.
    pub fn encode(frame: &crate::message::v1::SubscribeResponse) -> Self {
        Self(frame.encode_to_vec().into())
    }

    /// Takes bytes that are a valid encoding of the message.
    pub const fn from_encoded(bytes: Bytes) -> Self {
        Self(bytes)
    }

    /// The encoding.
    pub const fn bytes(&self) -> &Bytes {
        &self.0
    }
}

impl Message for Frame {
    fn encode_raw(&self, buf: &mut impl BufMut) {
        buf.put_slice(&self.0);
    }

    fn merge_field(
        &mut self,
        _: u32,
        _: WireType,
        _: &mut impl Buf,
        _: DecodeContext,
    ) -> Result<(), DecodeError> {
        unreachable!("a server only sends frames")
    }

    fn encoded_len(&self) -> usize {
        self.0.len()
    }

    fn clear(&mut self) {
        *self = Self::default();
    }
}
