//! Compression of whole payloads.

use std::fmt;
use std::io::{self, Read as _, Write as _};
use std::str::FromStr;

use arrow_buffer::MutableBuffer;
use bytes::Bytes;
use lz4_flex::frame::{FrameDecoder, FrameEncoder};
use sheaf_proto::exchange::v1 as proto;
use sheaf_retry::Code;

use crate::shuffle::Error;

/// Zstandard's quickest level, as for bodies in Flight.
const ZSTD_LEVEL: i32 = 1;

/// How payloads are compressed: each as a whole, what is in it is not looked at.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Compression {
    /// Not at all.
    #[default]
    None,
    /// One LZ4 frame.
    Lz4,
    /// One raw block of Snappy, without its framing.
    Snappy,
    /// A Zstandard frame.
    Zstd,
}

impl Compression {
    /// Every one of them.
    pub const ALL: [Compression; 4] =
        [Compression::None, Compression::Lz4, Compression::Snappy, Compression::Zstd];

    /// As settings have it.
    pub const fn as_str(self) -> &'static str {
        match self {
            Compression::None => "none",
            Compression::Lz4 => "lz4",
            Compression::Snappy => "snappy",
            Compression::Zstd => "zstd",
        }
    }

    /// As messages have it.
    pub const fn to_proto(self) -> proto::Compression {
        match self {
            Compression::None => proto::Compression::None,
            Compression::Lz4 => proto::Compression::Lz4,
            Compression::Snappy => proto::Compression::Snappy,
            Compression::Zstd => proto::Compression::Zstd,
        }
    }

    /// From a message; what is not said is none.
    ///
    /// # Errors
    /// [`Error::Argument`] for a number that is no compression.
    pub fn from_proto(number: i32) -> Result<Self, Error> {
        match proto::Compression::try_from(number) {
            Ok(proto::Compression::Unspecified | proto::Compression::None) => Ok(Self::None),
            Ok(proto::Compression::Lz4) => Ok(Self::Lz4),
            Ok(proto::Compression::Snappy) => Ok(Self::Snappy),
            Ok(proto::Compression::Zstd) => Ok(Self::Zstd),
            Err(_) => {
                let text = format!("compression {number} is unknown; there are 1 to 4");
                Err(Error::Argument(text))
            }
        }
    }

    /// The bytes, compressed. Takes long for many of them.
    pub(super) fn compress(self, input: &[u8]) -> Result<Vec<u8>, Error> {
        let compressed = match self {
            Compression::None => Ok(input.to_vec()),
            Compression::Lz4 => {
                let mut encoder = FrameEncoder::new(Vec::with_capacity(input.len() / 2));
                let written = encoder.write_all(input);
                written.and_then(|()| encoder.finish().map_err(io::Error::from))
            }
            Compression::Snappy => {
                snap::raw::Encoder::new().compress_vec(input).map_err(io::Error::from)
            }
            Compression::Zstd => zstd::bulk::compress(input, ZSTD_LEVEL),
        };
        compressed.map_err(|error| {
            let text = format!("{self} refused {} bytes: {error}", input.len());
            Error::Flight(sheaf_flight::Error::new(Code::Internal, text))
        })
    }

    /// `size` bytes, no less and no more, from all of `input`. The caller has
    /// looked at `size`: memory is taken for that, whatever `input` unfolds to.
    pub(super) fn decompress(self, input: &[u8], size: usize) -> Result<Bytes, Error> {
        let mut output = MutableBuffer::from_len_zeroed(size);
        let found = match self {
            Compression::None => read_exactly(input, output.as_slice_mut()),
            Compression::Lz4 => decompress_lz4(input, output.as_slice_mut()),
            Compression::Snappy => decompress_snappy(input, output.as_slice_mut()),
            Compression::Zstd => zstd::bulk::decompress_to_buffer(input, output.as_slice_mut()),
        };
        match found {
            Ok(found) if found == size => Ok(owned(output)),
            Ok(_) => {
                Err(Error::Protocol(format!("a payload does not unfold to the {size} bytes said")))
            }
            Err(error) => {
                let text = format!("a payload is no {self} of {size} bytes: {error}");
                Err(Error::Protocol(text))
            }
        }
    }
}

/// Bytes of memory that is aligned as Arrow likes it.
pub(super) fn owned(buffer: MutableBuffer) -> Bytes {
    /// Owner of what bytes show.
    struct Owner(arrow_buffer::Buffer);
    impl AsRef<[u8]> for Owner {
        fn as_ref(&self) -> &[u8] {
            self.0.as_slice()
        }
    }
    Bytes::from_owner(Owner(buffer.into()))
}

fn read_exactly(mut input: &[u8], output: &mut [u8]) -> io::Result<usize> {
    input.read_exact(output)?;
    Ok(output.len() + input.len())
}

/// Bytes found: more than `output` has where there are more.
fn decompress_lz4(input: &[u8], output: &mut [u8]) -> io::Result<usize> {
    let mut watched = Watched { rest: input, was_short: false };
    let mut decoder = FrameDecoder::new(&mut watched);
    decoder.read_exact(output)?;
    let more = decoder.read(&mut [0])?;
    if watched.was_short {
        return Err(io::Error::new(io::ErrorKind::UnexpectedEof, "its frame has no end"));
    }
    Ok(output.len() + more + watched.rest.len())
}

/// Bytes that notice when more of them are wanted than there are: the decoder
/// takes a frame that lacks its end for a whole one.
struct Watched<'a> {
    rest: &'a [u8],
    was_short: bool,
}

impl io::Read for Watched<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let read = self.rest.read(buffer)?;
        self.was_short |= read == 0 && !buffer.is_empty();
        Ok(read)
    }
}

fn decompress_snappy(input: &[u8], output: &mut [u8]) -> io::Result<usize> {
    let said = snap::raw::decompress_len(input)?;
    if said != output.len() {
        return Ok(said);
    }
    snap::raw::Decoder::new().decompress(input, output).map_err(io::Error::from)
}

impl fmt::Display for Compression {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl FromStr for Compression {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self, Error> {
        Self::ALL.into_iter().find(|one| one.as_str() == text).ok_or_else(|| {
            let text = format!("{text:?} is no compression: write none, lz4, snappy or zstd");
            Error::Argument(text)
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bytes() -> Vec<u8> {
        (0..100_000_u32).flat_map(|n| (n / 3).to_le_bytes()).collect()
    }

    #[test]
    fn what_is_compressed_comes_back_and_only_at_its_size() {
        let input = bytes();
        for codec in Compression::ALL {
            let packed = codec.compress(&input).unwrap();
            assert_eq!(packed.len() < input.len(), codec != Compression::None, "{codec}");
            assert_eq!(codec.decompress(&packed, input.len()).unwrap(), input, "{codec}");
            for size in [0, 1, input.len() - 1, input.len() + 1] {
                let error = codec.decompress(&packed, size).unwrap_err();
                assert!(matches!(error, Error::Protocol(_)), "{codec}: {error}");
            }
            let mut longer = packed.clone();
            longer.push(7);
            assert!(codec.decompress(&longer, input.len()).is_err(), "{codec} takes more");
            for cut in 1..packed.len().min(20) {
                let cut = &packed[..packed.len() - cut];
                assert!(codec.decompress(cut, input.len()).is_err(), "{codec}");
            }
            assert_eq!(Compression::from_proto(codec.to_proto().into()).unwrap(), codec);
            assert_eq!(codec.as_str().parse::<Compression>().unwrap(), codec);
        }
        assert!("gzip".parse::<Compression>().is_err());
        assert!(Compression::from_proto(9).is_err());
    }
}
