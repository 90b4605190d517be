//! Messages to chunks and back.

use bytes::Bytes;
use sheaf_flight::Message;
use sheaf_flight::ipc::{Bounds, Kind, inspect};
use sheaf_proto::exchange::v1 as proto;
use sheaf_retry::Code;

use super::codec::Compression;
use super::frame::{copied, frame, framed_len, unframe};
use crate::checksum;
use crate::shuffle::{Error, MAX_MESSAGE_BYTES};

/// Largest payload in bytes, compressed and not: what a message of 32 MiB has
/// room for besides all else that it says.
pub const MAX_PAYLOAD_BYTES: usize = MAX_MESSAGE_BYTES - 1_024;

/// What buffers of one message that Arrow has compressed besides may unfold to, and
/// what all dictionaries of a partition may have.
const MAX_UNFOLDED_BYTES: u64 = 256 << 20;

/// Payloads up to this size are compressed where they are; larger ones on a
/// thread for that.
const QUICK_BYTES: usize = 64 << 10;

/// What a message in a payload may ask for where it is decoded.
pub(super) fn bounds() -> Bounds {
    Bounds { max_decoded_bytes: MAX_UNFOLDED_BYTES, ..Bounds::default() }
}

/// A message as a chunk.
pub(super) fn pack(
    sequence: u64,
    message: &Message,
    compression: Compression,
) -> Result<proto::DataChunk, Error> {
    let size = framed_len(message);
    if size > MAX_PAYLOAD_BYTES {
        let limit = MAX_PAYLOAD_BYTES;
        let text = format!("chunk {sequence} has {size} bytes, a payload takes {limit}");
        return Err(Error::Flight(sheaf_flight::Error::new(Code::LimitExceeded, text)));
    }
    let outline = inspect(&message.header)?;
    let rows = if outline.kind == Kind::RecordBatch { outline.rows } else { 0 };
    let framed = frame(message)?;
    let packed = match compression {
        Compression::None => None,
        codec => Some(codec.compress(&framed)?).filter(|packed| packed.len() < size),
    };
    // What does not become smaller goes as it is.
    let (payload, compression) = match packed {
        Some(packed) => (packed, compression),
        None => (framed, Compression::None),
    };
    Ok(proto::DataChunk {
        sequence,
        crc32c: Some(checksum::append(0, &payload)),
        payload: Bytes::from(payload),
        compression: compression.to_proto().into(),
        uncompressed_bytes: size as u64,
        rows,
        sender: 0,
    })
}

/// The message in a chunk: checked against its checksum first, then unfolded
/// into memory of its own, of which it says how much, within the limit.
pub(super) fn unpack(chunk: &proto::DataChunk) -> Result<Message, Error> {
    let size = checked_size(chunk)?;
    let compression = Compression::from_proto(chunk.compression)?;
    let (message, outline) = match compression {
        Compression::None => {
            let (message, outline) = unframe(&chunk.payload)?;
            (copied(&message), outline)
        }
        codec => unframe(&codec.decompress(&chunk.payload, size)?)?,
    };
    let rows = if outline.kind == Kind::RecordBatch { outline.rows } else { 0 };
    if chunk.rows != rows {
        let (sequence, said) = (chunk.sequence, chunk.rows);
        let text = format!("chunk {sequence} says that it has {said} rows, it has {rows}");
        return Err(Error::Protocol(text));
    }
    if outline.kind == Kind::Schema {
        let text = format!("chunk {} is a schema; only the begin has one", chunk.sequence);
        return Err(Error::Protocol(text));
    }
    Ok(message)
}

/// Bytes that a chunk unfolds to, after its checksum and limits were looked at.
pub(super) fn checked_size(chunk: &proto::DataChunk) -> Result<usize, Error> {
    let sequence = chunk.sequence;
    let said = chunk
        .crc32c
        .ok_or_else(|| Error::Protocol(format!("chunk {sequence} comes without its crc32c")))?;
    let found = checksum::append(0, &chunk.payload);
    if found != said {
        return Err(Error::Corrupt { sequence, found, said });
    }
    let (bytes, told) = (chunk.payload.len(), chunk.uncompressed_bytes);
    let size = match Compression::from_proto(chunk.compression)? {
        Compression::None if told != 0 && told != bytes as u64 => {
            let text =
                format!("chunk {sequence} says {told} bytes, it is not compressed and has {bytes}");
            return Err(Error::Protocol(text));
        }
        Compression::None => bytes as u64,
        _ => told,
    };
    match usize::try_from(size) {
        Ok(size) if size <= MAX_PAYLOAD_BYTES => Ok(size),
        _ => {
            let limit = MAX_PAYLOAD_BYTES;
            let text = format!("chunk {sequence} unfolds to {size} bytes, the limit is {limit}");
            Err(Error::Flight(sheaf_flight::Error::new(Code::LimitExceeded, text)))
        }
    }
}

/// [`pack`], where that may take long on another thread.
pub(super) async fn pack_aside(
    sequence: u64,
    message: Message,
    compression: Compression,
) -> Result<proto::DataChunk, Error> {
    if compression == Compression::None || message.len() <= QUICK_BYTES {
        return pack(sequence, &message, compression);
    }
    aside(move || pack(sequence, &message, compression)).await
}

/// [`unpack`], where that may take long on another thread.
pub(super) async fn unpack_aside(chunk: proto::DataChunk) -> Result<Message, Error> {
    if chunk.payload.len() <= QUICK_BYTES && chunk.uncompressed_bytes <= QUICK_BYTES as u64 {
        return unpack(&chunk);
    }
    aside(move || unpack(&chunk)).await
}

async fn aside<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, Error> + Send + 'static,
) -> Result<T, Error> {
    let gone = |error| {
        let text = format!("a thread that packs chunks ended without an answer: {error}");
        Error::Flight(sheaf_flight::Error::new(Code::Internal, text))
    };
    tokio::task::spawn_blocking(work).await.map_err(gone)?
}
