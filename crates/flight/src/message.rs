//! What handlers, store, exchange and raft pass between them.

use bytes::Bytes;
use sheaf_retry::Code;

use crate::error::Error;

/// One Arrow IPC message as it travels: never decoded on the way.
///
/// `header` is the flatbuffer `Message` without its length prefix, `body` the
/// buffers in the order of the header. The pieces of `body` are consecutive:
/// their lengths sum to the header's body length, however they are cut. One
/// piece is the plain path; a sender that hands its buffers over uncopied, or
/// a receiver with aligned memory, has several. Cloning copies no data.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Message {
    /// Flatbuffer of the IPC message; empty for a message of metadata only.
    pub header: Bytes,
    /// The application's own bytes.
    pub app_metadata: Bytes,
    /// The message body in consecutive pieces.
    pub body: Vec<Bytes>,
}

impl Message {
    /// A message with a body of one piece.
    pub fn new(header: Bytes, body: Bytes) -> Self {
        let body = if body.is_empty() { Vec::new() } else { vec![body] };
        Message { header, app_metadata: Bytes::new(), body }
    }

    /// Bytes of the body.
    pub fn body_len(&self) -> usize {
        self.body.iter().map(Bytes::len).sum()
    }

    /// Bytes of header, metadata and body.
    pub fn len(&self) -> usize {
        self.header.len() + self.app_metadata.len() + self.body_len()
    }

    /// Whether there is nothing in it.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Refuses a message of more than `limit` bytes.
    pub(crate) fn check_size(&self, limit: usize) -> Result<(), Error> {
        let bytes = self.len();
        if bytes <= limit {
            return Ok(());
        }
        Err(Error::new(
            Code::LimitExceeded,
            format!(
                "a message has {bytes} bytes, max_message_bytes is {limit}; use smaller record batches"
            ),
        ))
    }

    /// The body in one piece: without a copy where it is in one piece already.
    pub fn contiguous_body(&self) -> Bytes {
        match self.body.as_slice() {
            [] => Bytes::new(),
            [one] => one.clone(),
            many => many.concat().into(),
        }
    }
}
