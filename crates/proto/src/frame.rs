//! A frame of a stream that was encoded before its receivers were known.

use std::marker::PhantomData;

use bytes::{Buf, BufMut, Bytes};
use prost::encoding::{DecodeContext, WireType, decode_key, skip_field};
use prost::{DecodeError, Message};
use tonic::Status;
use tonic::codec::{BufferSettings, Codec, DecodeBuf, Decoder};
use tonic_prost::{ProstCodec, ProstDecoder};

/// How much of a stream is encoded ahead of the transport, in bytes: what every idle
/// stream holds, and where what is ready is cut.
const BUFFER: usize = 1024;
const AHEAD: usize = 32 * 1024;

/// How many fields a message may have, entries of its lists one by one: twice as many as
/// the longest list.
const FIELDS: usize = 20_000;

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

/// Protobuf, with little memory for each stream.
#[derive(Debug)]
pub struct FrameCodec<T, U>(PhantomData<(T, U)>);

impl<T, U> Default for FrameCodec<T, U> {
    fn default() -> Self {
        Self(PhantomData)
    }
}

impl<T, U> Codec for FrameCodec<T, U>
where
    T: Message + Send + 'static,
    U: Message + Default + Send + 'static,
{
    type Encode = T;
    type Decode = U;
    type Encoder = <ProstCodec<T, U> as Codec>::Encoder;
    type Decoder = FrameDecoder<U>;

    fn encoder(&mut self) -> Self::Encoder {
        ProstCodec::<T, U>::raw_encoder(BufferSettings::new(BUFFER, AHEAD))
    }

    fn decoder(&mut self) -> Self::Decoder {
        FrameDecoder(ProstDecoder::new(BufferSettings::new(BUFFER, AHEAD)))
    }
}

/// Decodes messages whose fields were counted: an empty entry of a list takes two bytes on
/// the wire, and a hundred times as much once it is decoded.
#[derive(Debug)]
pub struct FrameDecoder<U>(ProstDecoder<U>);

impl<U: Message + Default> Decoder for FrameDecoder<U> {
    type Item = U;
    type Error = Status;

    fn decode(&mut self, buf: &mut DecodeBuf<'_>) -> Result<Option<U>, Status> {
        // The bytes of a message are in one piece.
        if fields(buf.chunk()) > FIELDS {
            return Err(Status::out_of_range("message length too large: too many fields"));
        }
        self.0.decode(buf)
    }

    fn buffer_settings(&self) -> BufferSettings {
        self.0.buffer_settings()
    }
}

/// The number of fields, or one more than there may be. What is wrong with a message is the
/// decoder's to say.
fn fields(mut message: &[u8]) -> usize {
    let mut count = 0;
    while count <= FIELDS
        && let Ok((tag, kind)) = decode_key(&mut message)
        && skip_field(kind, tag, &mut message, DecodeContext::default()).is_ok()
    {
        count += 1;
    }
    count
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_are_counted_and_no_more_than_there_may_be() {
        assert_eq!(fields(b""), 0);
        assert_eq!(fields(b"\x0a\x02ab\x10\x01"), 2);
        assert_eq!(fields(b"\x0a\x02ab\x10"), 1);
        assert_eq!(fields(&b"\x0a\x00".repeat(FIELDS)), FIELDS);
        assert_eq!(fields(&b"\x0a\x00".repeat(1 << 20)), FIELDS + 1);
    }
}
