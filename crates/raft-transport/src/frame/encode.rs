//! From packets to frames.

use bytes::{BufMut as _, Bytes, BytesMut};
use sheaf_flight::Message;

use super::header::CHECKSUM_AT;
use super::{Ends, HEADER_BYTES, Header, Kind};
use crate::config::Compression;
use crate::packet::Packet;

/// A frame that costs more to compress than it saves has so many after it sent
/// as they are, twice as many each time.
const MOST_SKIPPED: u32 = 256;

/// A frame, ready to be sent.
#[derive(Debug)]
pub(crate) struct Written {
    pub(crate) message: Message,
    /// Bytes of the body before it was compressed, where it was.
    pub(crate) unpacked: Option<usize>,
}

/// Makes the frames of one session.
#[derive(Debug)]
pub(crate) struct Packer {
    ends: Ends,
    session: u64,
    /// Of the next packet.
    sequence: u64,
    compression: Compression,
    /// Frames that are not tried, and how many after the next failure.
    skip: u32,
    penalty: u32,
}

impl Packer {
    pub(crate) fn new(ends: Ends, session: u64, compression: Compression) -> Self {
        Packer { ends, session, sequence: 0, compression, skip: 0, penalty: 1 }
    }

    /// As if so many packets had been sent before.
    #[cfg(test)]
    pub(super) fn from(self, sequence: u64) -> Self {
        Packer { sequence, ..self }
    }

    /// The frame of these packets, which count in the session.
    pub(crate) fn frame(&mut self, kind: Kind, packets: &[Packet]) -> Written {
        let mut metadata = table(packets);
        let table_bytes = metadata.len() - HEADER_BYTES;
        let body: Vec<Bytes> = pieces(packets);
        let plain = body.iter().map(Bytes::len).sum::<usize>();
        let (body, unpacked) = match self.compress(&body, plain) {
            Some(packed) => (vec![packed], Some(plain)),
            None => (body, None),
        };
        self.seal(
            kind,
            &mut metadata,
            packets.len(),
            table_bytes,
            &Bytes::new(),
            &body,
            (plain, unpacked),
        );
        self.sequence += packets.len() as u64;
        let app_metadata = metadata.freeze();
        Written { message: Message { app_metadata, body, ..Message::default() }, unpacked }
    }

    /// The frame that goes with an Arrow message, which keeps header and body;
    /// the packets have no payloads.
    pub(crate) fn around(&mut self, kind: Kind, message: Message, packets: &[Packet]) -> Message {
        let mut metadata = table(packets);
        let table_bytes = metadata.len() - HEADER_BYTES;
        let plain = message.body_len();
        let (header, body) = (&message.header, &message.body);
        self.seal(kind, &mut metadata, packets.len(), table_bytes, header, body, (plain, None));
        self.sequence += packets.len() as u64;
        Message { app_metadata: metadata.freeze(), ..message }
    }

    /// Writes the fixed part, whose place is at the front of `metadata`.
    #[allow(clippy::too_many_arguments, reason = "the parts of one frame, in this file only")]
    fn seal(
        &self,
        kind: Kind,
        metadata: &mut BytesMut,
        packets: usize,
        table_bytes: usize,
        before: &Bytes,
        body: &[Bytes],
        (plain, unpacked): (usize, Option<usize>),
    ) {
        let body_bytes = body.iter().map(Bytes::len).sum::<usize>();
        let mut header = Header {
            kind,
            is_compressed: unpacked.is_some(),
            wants_plain: kind == Kind::Hello && self.compression == Compression::Off,
            ends: self.ends,
            session: self.session,
            sequence: self.sequence,
            packets: number(packets),
            table_bytes: number(table_bytes),
            body_bytes: number(body_bytes),
            unpacked_bytes: number(plain),
            checksum: 0,
        };
        let table = &metadata[HEADER_BYTES..];
        let pieces = std::iter::once(before).chain(body);
        header.checksum = checksum(&header.to_bytes(), table, pieces.map(|piece| &**piece));
        metadata[..HEADER_BYTES].copy_from_slice(&header.to_bytes());
    }

    /// The body in one piece where that saves a tenth.
    fn compress(&mut self, body: &[Bytes], plain: usize) -> Option<Bytes> {
        let Compression::Zstd { level, from_bytes } = self.compression else { return None };
        if plain < from_bytes.max(1) {
            return None;
        }
        if self.skip > 0 {
            self.skip -= 1;
            return None;
        }
        let limit = plain - plain.div_ceil(10);
        let packed = pack(body, level, limit);
        match packed {
            Some(_) => self.penalty = 1,
            None => {
                self.skip = self.penalty;
                self.penalty = self.penalty.saturating_mul(2).min(MOST_SKIPPED);
            }
        }
        packed
    }
}

/// Compressed, unless that takes more than `limit` bytes.
fn pack(body: &[Bytes], level: i32, limit: usize) -> Option<Bytes> {
    let joined;
    let plain: &[u8] = match body {
        [one] => one,
        many => {
            joined = many.concat();
            &joined
        }
    };
    let mut packed = vec![0; limit];
    // No room is how it says that it does not get smaller.
    let length = zstd::bulk::compress_to_buffer(plain, &mut packed[..], level).ok()?;
    packed.truncate(length);
    Some(packed.into())
}

/// Room for the fixed part, the table, and the `meta`s.
fn table(packets: &[Packet]) -> BytesMut {
    let numbers: usize = packets.iter().map(|packet| 2 + packet.payloads.len()).sum();
    let metas: usize = packets.iter().map(|packet| packet.meta.len()).sum();
    let mut metadata = BytesMut::with_capacity(HEADER_BYTES + 4 * numbers + metas);
    metadata.put_bytes(0, HEADER_BYTES);
    for Packet { meta, payloads } in packets {
        metadata.put_u32_le(number(meta.len()));
        metadata.put_u32_le(number(payloads.len()));
        payloads.iter().for_each(|one| metadata.put_u32_le(number(one.len())));
    }
    packets.iter().for_each(|packet| metadata.put_slice(&packet.meta));
    metadata
}

fn pieces(packets: &[Packet]) -> Vec<Bytes> {
    let payloads = packets.iter().flat_map(|packet| &packet.payloads);
    payloads.filter(|one| !one.is_empty()).cloned().collect()
}

/// What is longer was refused before: a frame has less than 2 GiB.
fn number(length: usize) -> u32 {
    u32::try_from(length).unwrap_or(u32::MAX)
}

/// Of the fixed part before the checksum, and of what comes behind it.
pub(super) fn checksum<'a>(
    fixed: &[u8; HEADER_BYTES],
    table: &[u8],
    body: impl Iterator<Item = &'a [u8]>,
) -> u32 {
    let before = crc32c::crc32c(&fixed[..CHECKSUM_AT]);
    body.fold(crc32c::crc32c_append(before, table), crc32c::crc32c_append)
}

/// Gives a frame the checksum that its bytes have, where it is long enough for one.
#[cfg(any(test, feature = "fuzzing"))]
pub(crate) fn seal(metadata: &mut [u8], header: &Bytes, body: &[Bytes]) -> bool {
    let Some(fixed) = metadata.first_chunk::<HEADER_BYTES>().copied() else { return false };
    let pieces = std::iter::once(header).chain(body).map(|piece| &**piece);
    let found = checksum(&fixed, &metadata[HEADER_BYTES..], pieces);
    metadata[CHECKSUM_AT..HEADER_BYTES].copy_from_slice(&found.to_le_bytes());
    true
}

/// A frame as the body of an action: in one piece.
pub(crate) fn join(message: &Message) -> Bytes {
    let mut joined = BytesMut::with_capacity(message.len());
    joined.put_slice(&message.app_metadata);
    message.body.iter().for_each(|piece| joined.put_slice(piece));
    joined.freeze()
}
