//! Codecs of bodies: their names, and one buffer at a time.

use std::fmt;
use std::io::{Read as _, Write as _};
use std::str::FromStr;

use arrow_ipc::CompressionType;
use lz4_flex::frame::{FrameDecoder, FrameEncoder};
use sheaf_retry::Code;

use super::inspect::malformed;
use crate::error::Error;

/// Zstandard's quickest level, which pyarrow uses too: higher ones take several
/// times as long for a few percent.
const ZSTD_LEVEL: i32 = 1;

/// How buffers are compressed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Compression {
    /// Not at all.
    #[default]
    None,
    /// LZ4 frames.
    Lz4,
    /// Zstandard.
    Zstd,
}

impl Compression {
    /// As headers and settings have it.
    pub const fn as_str(self) -> &'static str {
        match self {
            Compression::None => "none",
            Compression::Lz4 => "lz4",
            Compression::Zstd => "zstd",
        }
    }

    /// As the Arrow format has it; `None` for bodies that are not compressed.
    pub(super) fn kind(self) -> Option<CompressionType> {
        match self {
            Compression::None => None,
            Compression::Lz4 => Some(CompressionType::LZ4_FRAME),
            Compression::Zstd => Some(CompressionType::ZSTD),
        }
    }

    /// From the header of a message.
    pub(super) fn of(batch: arrow_ipc::RecordBatch<'_>) -> Result<Self, Error> {
        match batch.compression().map(|compression| compression.codec()) {
            None => Ok(Compression::None),
            Some(CompressionType::LZ4_FRAME) => Ok(Compression::Lz4),
            Some(CompressionType::ZSTD) => Ok(Compression::Zstd),
            Some(other) => Err(malformed(format!("compression kind {} is unknown", other.0))),
        }
    }
}

impl fmt::Display for Compression {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl FromStr for Compression {
    type Err = Error;

    /// # Errors
    /// [`Code::InvalidArgument`] for another word than `none`, `lz4` and `zstd`.
    fn from_str(text: &str) -> Result<Self, Error> {
        match text {
            "none" => Ok(Compression::None),
            "lz4" => Ok(Compression::Lz4),
            "zstd" => Ok(Compression::Zstd),
            other => {
                Err(crate::invalid(format!("{other:?} is no compression: write none, lz4 or zstd")))
            }
        }
    }
}

/// What the codecs keep between two buffers, made when it is first needed.
#[derive(Default)]
pub(super) struct Codecs {
    compressor: Option<zstd::bulk::Compressor<'static>>,
    decompressor: Option<zstd::bulk::Decompressor<'static>>,
}

impl Codecs {
    /// Appends `input`, compressed, to `output`.
    pub(super) fn compress(
        &mut self,
        to: Compression,
        input: &[u8],
        output: &mut Vec<u8>,
    ) -> Result<(), Error> {
        let result = match to {
            Compression::None => output.write_all(input),
            Compression::Lz4 => {
                let mut encoder = FrameEncoder::new(output);
                let written = encoder.write_all(input);
                written.and_then(|()| encoder.finish().map(drop).map_err(std::io::Error::from))
            }
            Compression::Zstd => self.compress_zstd(input, output),
        };
        result.map_err(|error| Error::new(Code::Internal, format!("{to} refused bytes: {error}")))
    }

    fn compress_zstd(&mut self, input: &[u8], output: &mut Vec<u8>) -> std::io::Result<()> {
        let compressor = match &mut self.compressor {
            Some(compressor) => compressor,
            none => none.insert(zstd::bulk::Compressor::new(ZSTD_LEVEL)?),
        };
        output.reserve(zstd::zstd_safe::compress_bound(input.len()));
        let at = output.len() as u64;
        let mut cursor = std::io::Cursor::new(output);
        cursor.set_position(at);
        compressor.compress_to_buffer(input, &mut cursor).map(drop)
    }

    /// Fills `output`, no less and no more, from the compressed `input`.
    pub(super) fn decompress(
        &mut self,
        from: Compression,
        input: &[u8],
        output: &mut [u8],
    ) -> Result<(), Error> {
        let wanted = output.len();
        let found = match from {
            Compression::None => (&input[..]).read_exact(output).map(|()| input.len()),
            Compression::Lz4 => decompress_lz4(input, output),
            Compression::Zstd => self.decompress_zstd(input, output),
        };
        match found {
            Ok(found) if found == wanted => Ok(()),
            Ok(_) => {
                Err(malformed(format!("it does not unfold to the {wanted} bytes it tells of")))
            }
            Err(error) => Err(malformed(format!("it is no {from} of {wanted} bytes: {error}"))),
        }
    }

    fn decompress_zstd(&mut self, input: &[u8], output: &mut [u8]) -> std::io::Result<usize> {
        let decompressor = match &mut self.decompressor {
            Some(decompressor) => decompressor,
            none => none.insert(zstd::bulk::Decompressor::new()?),
        };
        decompressor.decompress_to_buffer(input, output)
    }
}

/// Bytes found: one more than `output` has where there are more.
fn decompress_lz4(input: &[u8], output: &mut [u8]) -> std::io::Result<usize> {
    let mut decoder = FrameDecoder::new(input);
    decoder.read_exact(output)?;
    Ok(output.len() + decoder.read(&mut [0])?)
}
