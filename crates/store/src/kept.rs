//! One message of a payload, as the store keeps it.

use bytes::Bytes;
use sheaf_flight::Message;

/// A message as it is kept: as it was put, or compressed by the store.
#[derive(Clone, Debug)]
pub(crate) struct Kept {
    pub(crate) message: Message,
    /// The header with which it was put, where the store compressed it:
    /// without it the message could not be given back byte for byte. Empty
    /// where it is kept as it was put.
    pub(crate) put_header: Bytes,
}

impl Kept {
    /// As it was put.
    pub(crate) fn as_put(message: Message) -> Self {
        Kept { message, put_header: Bytes::new() }
    }

    /// Whether the store compressed it.
    pub(crate) fn is_shrunk(&self) -> bool {
        !self.put_header.is_empty()
    }

    /// Bytes of header and body, of which a reader is sent as many.
    pub(crate) fn sent_len(&self) -> u64 {
        (self.message.header.len() + self.message.body_len()) as u64
    }
}
