//! Flight's data calls on the wire, without gRPC's own codec.
//!
//! DoGet, DoPut and DoExchange are the same bytes as from any other gRPC
//! implementation; what differs is how they are made and read. gRPC's codec
//! knows one protobuf message in one piece of memory, so that it copies every
//! body on its way out, and twice on its way in. Here
//! - an outgoing message is its head, written, and its body, of which large
//!   pieces are handed on as they lie in memory ([`encode`]);
//! - an incoming message has its body put straight into aligned memory that is
//!   used again ([`decode`], [`memory`]).
//!
//! All other calls are small and stay with the generated service.

use bytes::{BufMut as _, Bytes, BytesMut};

mod call;
mod coming;
mod decode;
mod encode;
mod incoming;
mod memory;
mod outgoing;
mod receivers;
mod sending;
mod serve;
mod varint;

pub(crate) use call::{EXCHANGE, GET, Opened, PUT, one, open, read_answer};
pub(crate) use coming::{Coming, no_room, too_slow};
pub(crate) use incoming::Failure;
pub(crate) use memory::{COUNTED, IDLE_TIME, Memory, Receiving};
pub(crate) use outgoing::{requests, source};
pub(crate) use sending::Sending;
pub(crate) use serve::{Data, context, serve};

/// Bytes of gRPC's own prefix of a message: a flag and a length.
pub(crate) const PREFIX: usize = 5;

/// Fields of `FlightData`.
mod field {
    /// A `FlightDescriptor`, in the first message of a client.
    pub(super) const DESCRIPTOR: u32 = 1;
    /// Flatbuffer of the IPC message.
    pub(super) const HEADER: u32 = 2;
    /// The application's own bytes.
    pub(super) const APP_METADATA: u32 = 3;
    /// Buffers of the IPC message.
    pub(super) const BODY: u32 = 1000;
}

/// The messages of a whole stream, for fuzzing.
#[cfg(feature = "fuzzing")]
pub(crate) fn decode(
    pieces: Vec<Bytes>,
    limit: usize,
) -> Result<Vec<crate::Message>, crate::Error> {
    let memory = Memory::of_client(sheaf_retry::SystemClock::shared());
    let mut decoder = decode::Decoder::new(limit, &memory, crate::metrics::Copies::default());
    let mut messages = Vec::new();
    for mut piece in pieces {
        while let Some(received) = decoder.next(&mut piece)? {
            messages.push(received.message);
        }
    }
    if decoder.is_between_messages() {
        return Ok(messages);
    }
    Err(crate::Error::new(sheaf_retry::Code::MalformedData, "the stream ends within a message"))
}

/// A short message with gRPC's prefix.
fn framed(message: &impl prost::Message) -> Bytes {
    let length = message.encoded_len();
    let mut framed = BytesMut::with_capacity(PREFIX + length);
    framed.put_u8(0);
    // What is framed here is made here, and short.
    framed.put_u32(u32::try_from(length).unwrap_or(u32::MAX));
    framed.put_slice(&message.encode_to_vec());
    framed.freeze()
}
