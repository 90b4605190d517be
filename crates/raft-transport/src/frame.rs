//! Frames: what one Flight message, or the body of one action, carries.
//!
//! `app_metadata` is a fixed header, a table of lengths and the packets' `meta`;
//! the message body is the payloads, one after the other, as they lie in memory
//! or compressed as a whole. All numbers are little-endian.
//!
//! | bytes | what |
//! |---|---|
//! | 0..4 | `SRFT` |
//! | 4 | version, 1 |
//! | 5 | kind: 1 hello, 2 request, 3 reply, 4 bulk, 5 end of bulk |
//! | 6..8 | flags: 1 the body is zstd; 2, in a hello, replies are not to be compressed |
//! | 8..16 | FNV-1a of the cluster id |
//! | 16..24, 24..32 | from, to: node ids |
//! | 32..40 | session: one stream of the sender |
//! | 40..48 | sequence: of the first packet in its session, from 0 |
//! | 48..52 | packets |
//! | 52..56 | bytes of table and `meta`s behind this header |
//! | 56..60 | bytes of the body as it travels |
//! | 60..64 | bytes of the body unpacked |
//! | 64..68 | CRC-32C of all before, of table and `meta`s, and of the body as it travels |
//!
//! The table has for each packet the bytes of its `meta`, the number of its
//! payloads, and the bytes of each, 4 bytes a number.

mod decode;
mod encode;
mod header;
mod hello;
mod order;
mod reason;
#[cfg(test)]
mod tests;

pub(crate) use decode::{Frame, decode, split};
#[cfg(any(test, feature = "fuzzing"))]
pub(crate) use encode::seal;
pub(crate) use encode::{Packer, join};
pub(crate) use header::{HEADER_BYTES, Header, Kind};
pub(crate) use hello::Hello;
pub(crate) use order::Order;
pub use reason::Reason;

/// The one version of frames that there is.
pub const PROTOCOL_VERSION: u8 = 1;

/// Packets of one frame.
pub(crate) const MAX_PACKETS: usize = 4_096;

/// Who talks to whom, and in which cluster.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Ends {
    /// Hash of the cluster id.
    pub(crate) cluster: u64,
    pub(crate) from: crate::NodeId,
    pub(crate) to: crate::NodeId,
}

impl Ends {
    /// The other way round.
    pub(crate) fn turned(self) -> Self {
        Ends { from: self.to, to: self.from, ..self }
    }
}
