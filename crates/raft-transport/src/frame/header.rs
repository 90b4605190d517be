//! The fixed part of a frame.

use super::{Ends, PROTOCOL_VERSION, Reason};
use crate::Error;

/// Bytes of the fixed part.
pub(crate) const HEADER_BYTES: usize = 68;
/// Where the checksum stands in it, behind all that it covers.
pub(super) const CHECKSUM_AT: usize = 64;
const MAGIC: [u8; 4] = *b"SRFT";
/// The body is zstd.
const COMPRESSED: u16 = 1;
/// Replies are not to be compressed.
const PLAIN: u16 = 2;

/// What a frame is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    /// The first of a stream, in either direction.
    Hello,
    Request,
    Reply,
    /// Goes with an Arrow message of a bulk transfer.
    Bulk,
    /// The last of a bulk transfer: that it is whole.
    BulkEnd,
}

impl Kind {
    fn of(byte: u8) -> Option<Self> {
        [Kind::Hello, Kind::Request, Kind::Reply, Kind::Bulk, Kind::BulkEnd]
            .into_iter()
            .find(|kind| kind.byte() == byte)
    }

    const fn byte(self) -> u8 {
        match self {
            Kind::Hello => 1,
            Kind::Request => 2,
            Kind::Reply => 3,
            Kind::Bulk => 4,
            Kind::BulkEnd => 5,
        }
    }
}

/// The fixed part, without magic and version, which it has had.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Header {
    pub(crate) kind: Kind,
    pub(crate) is_compressed: bool,
    /// Of a hello: the caller wants replies as they are.
    pub(crate) wants_plain: bool,
    pub(crate) ends: Ends,
    pub(crate) session: u64,
    pub(crate) sequence: u64,
    pub(crate) packets: u32,
    pub(crate) table_bytes: u32,
    pub(crate) body_bytes: u32,
    pub(crate) unpacked_bytes: u32,
    pub(crate) checksum: u32,
}

impl Header {
    /// The bytes; those of the checksum are of the field.
    pub(crate) fn to_bytes(self) -> [u8; HEADER_BYTES] {
        let mut bytes = [0; HEADER_BYTES];
        let mut put = |at: usize, value: &[u8]| bytes[at..at + value.len()].copy_from_slice(value);
        put(0, &MAGIC);
        put(4, &[PROTOCOL_VERSION, self.kind.byte()]);
        let compressed = if self.is_compressed { COMPRESSED } else { 0 };
        let plain = if self.wants_plain { PLAIN } else { 0 };
        put(6, &(compressed | plain).to_le_bytes());
        put(8, &self.ends.cluster.to_le_bytes());
        put(16, &self.ends.from.to_le_bytes());
        put(24, &self.ends.to.to_le_bytes());
        put(32, &self.session.to_le_bytes());
        put(40, &self.sequence.to_le_bytes());
        put(48, &self.packets.to_le_bytes());
        put(52, &self.table_bytes.to_le_bytes());
        put(56, &self.body_bytes.to_le_bytes());
        put(60, &self.unpacked_bytes.to_le_bytes());
        put(CHECKSUM_AT, &self.checksum.to_le_bytes());
        bytes
    }

    /// Reads the fixed part off the front of `bytes`; the checksum is not looked at.
    ///
    /// # Errors
    /// [`Reason::Truncated`], [`Reason::Magic`], [`Reason::Version`],
    /// [`Reason::Malformed`].
    pub(crate) fn read(bytes: &[u8]) -> Result<Self, Error> {
        if let Some(magic) = bytes.first_chunk::<4>()
            && *magic != MAGIC
        {
            let text = "it does not begin with SRFT; is the caller a node of this protocol?";
            return Err(Error::frame(Reason::Magic, text));
        }
        if let Some(&version) = bytes.get(4)
            && version != PROTOCOL_VERSION
        {
            return Err(Error::frame(
                Reason::Version,
                format!("it is of version {version}, this node reads version {PROTOCOL_VERSION}"),
            ));
        }
        let Some(fixed) = bytes.first_chunk::<HEADER_BYTES>() else {
            let actual = bytes.len();
            let text = format!("{actual} bytes of metadata, its header alone has {HEADER_BYTES}");
            return Err(Error::frame(Reason::Truncated, text));
        };
        let kind = Kind::of(fixed[5]).ok_or_else(|| malformed(format!("kind {}", fixed[5])))?;
        let flags = u16::from_le_bytes(bytes_at(fixed, 6));
        if flags & !(COMPRESSED | PLAIN) != 0 {
            return Err(malformed(format!("flags {flags:#x}")));
        }
        let long = |at| u64::from_le_bytes(bytes_at(fixed, at));
        let short = |at| u32::from_le_bytes(bytes_at(fixed, at));
        Ok(Header {
            kind,
            is_compressed: flags & COMPRESSED != 0,
            wants_plain: flags & PLAIN != 0,
            ends: Ends { cluster: long(8), from: long(16), to: long(24) },
            session: long(32),
            sequence: long(40),
            packets: short(48),
            table_bytes: short(52),
            body_bytes: short(56),
            unpacked_bytes: short(60),
            checksum: short(CHECKSUM_AT),
        })
    }
}

/// `N` bytes at a place that the fixed part has.
fn bytes_at<const N: usize>(fixed: &[u8; HEADER_BYTES], at: usize) -> [u8; N] {
    std::array::from_fn(|index| fixed[at + index])
}

fn malformed(text: String) -> Error {
    Error::frame(Reason::Malformed, format!("{text} is not known to this version"))
}
