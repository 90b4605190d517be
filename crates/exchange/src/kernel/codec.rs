//! How the bodies of chunks are compressed, and whether that pays.

use std::fmt;
use std::str::FromStr;

use sheaf_flight::Message;
use sheaf_flight::ipc::{Compression, Recoder};

use crate::error::Error;

/// Chunks of a stream that are compressed to see whether it pays.
const SAMPLED: u32 = 4;

/// Chunks after which that is looked at again.
const ROUND: u32 = 64;

/// How the bodies of a stream's chunks are compressed.
///
/// ```
/// use sheaf_exchange::ChunkCompression;
///
/// assert_eq!("auto".parse::<ChunkCompression>()?, ChunkCompression::Auto);
/// let error = "snappy".parse::<ChunkCompression>().unwrap_err().to_string();
/// assert!(error.contains("lz4 and zstd"));
/// # Ok::<(), sheaf_exchange::Error>(())
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum ChunkCompression {
    /// Not at all.
    #[default]
    None,
    /// LZ4 frames.
    Lz4,
    /// Zstandard.
    Zstd,
    /// LZ4 where it pays: of each 64 chunks of a partition the first four are
    /// compressed, and the others if those became smaller by a sixth at least.
    /// One of the four that did not is sent as it was. The same rows in the same
    /// order give the same chunks.
    Auto,
}

impl ChunkCompression {
    /// What the encoder does; what is automatic comes after it.
    pub(super) fn of_encoder(self) -> Compression {
        match self {
            ChunkCompression::None | ChunkCompression::Auto => Compression::None,
            ChunkCompression::Lz4 => Compression::Lz4,
            ChunkCompression::Zstd => Compression::Zstd,
        }
    }

    /// As settings have it.
    pub const fn as_str(self) -> &'static str {
        match self {
            ChunkCompression::None => "none",
            ChunkCompression::Lz4 => "lz4",
            ChunkCompression::Zstd => "zstd",
            ChunkCompression::Auto => "auto",
        }
    }
}

impl From<Compression> for ChunkCompression {
    fn from(compression: Compression) -> Self {
        match compression {
            Compression::None => ChunkCompression::None,
            Compression::Lz4 => ChunkCompression::Lz4,
            Compression::Zstd => ChunkCompression::Zstd,
        }
    }
}

impl fmt::Display for ChunkCompression {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl FromStr for ChunkCompression {
    type Err = Error;

    /// # Errors
    /// [`Error::Compression`] for another word than `none`, `lz4`, `zstd` and `auto`.
    fn from_str(text: &str) -> Result<Self, Error> {
        let known = [
            ChunkCompression::None,
            ChunkCompression::Lz4,
            ChunkCompression::Zstd,
            ChunkCompression::Auto,
        ];
        let found = known.into_iter().find(|one| one.as_str() == text);
        found.ok_or_else(|| Error::Compression { text: text.chars().take(100).collect() })
    }
}

/// Compresses the chunks of one partition where it pays. By no clock: the same
/// chunks come out the same.
#[derive(Debug, Default)]
pub(super) struct Auto {
    /// Of this round.
    chunks: u32,
    plain: u64,
    packed: u64,
    pays: bool,
}

fn bytes_of(messages: &[Message]) -> u64 {
    messages.iter().map(|message| message.len() as u64).sum()
}

/// Smaller by a sixth at least: a ratio of 1.2.
fn pays(plain: u64, packed: u64) -> bool {
    packed.saturating_mul(6) <= plain.saturating_mul(5)
}

impl Auto {
    /// The messages of the next chunk as they are to be sent.
    pub(super) fn pack(
        &mut self,
        recoder: &mut Recoder,
        messages: Vec<Message>,
    ) -> Result<Vec<Message>, Error> {
        if self.chunks == ROUND {
            *self = Auto { pays: self.pays, ..Auto::default() };
        }
        let is_sample = self.chunks < SAMPLED;
        self.chunks += 1;
        if !is_sample && !self.pays {
            return Ok(messages);
        }
        let packed = messages.iter().map(|message| recoder.recode(message, Compression::Lz4));
        let packed = packed.collect::<Result<Vec<_>, _>>().map_err(Error::Encode)?;
        let (before, after) = (bytes_of(&messages), bytes_of(&packed));
        if is_sample {
            self.plain += before;
            self.packed += after;
            self.pays = pays(self.plain, self.packed);
            return Ok(if pays(before, after) { packed } else { messages });
        }
        Ok(packed)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use arrow_array::{ArrayRef, Int64Array, RecordBatch};
    use sheaf_flight::ipc::{compression_of, encode_batches};

    use super::*;

    fn chunk(is_random: bool) -> Vec<Message> {
        let numbers = (0..2_000_i64).map(|n| {
            if is_random { n.wrapping_mul(n ^ -7_046_029_254_386_353_131) } else { n / 100 }
        });
        let column = Arc::new(Int64Array::from_iter_values(numbers)) as ArrayRef;
        let batch = RecordBatch::try_from_iter([("n", column)]).unwrap();
        encode_batches(batch.schema(), &[batch]).unwrap().split_off(1)
    }

    /// Whether each chunk was compressed.
    fn packed(auto: &mut Auto, chunks: impl Iterator<Item = bool>) -> Vec<bool> {
        let mut recoder = Recoder::default();
        let pack = |is_random| {
            let sent = auto.pack(&mut recoder, chunk(is_random)).unwrap();
            compression_of(&sent[0].header).unwrap() == Compression::Lz4
        };
        chunks.map(pack).collect()
    }

    #[test]
    fn what_does_not_shrink_is_sent_as_it_is_and_looked_at_again() {
        let mut auto = Auto::default();
        let repeated = std::iter::repeat_n;
        assert_eq!(packed(&mut auto, repeated(true, 8)), [false; 8]);
        // It would pay now, which is seen in the next round.
        assert_eq!(packed(&mut auto, repeated(false, 56)), [false; 56]);
        assert_eq!(packed(&mut auto, repeated(false, 64)), [true; 64]);
        // One that does not shrink among those that are looked at.
        let mixed = [true, false, false, false, false].into_iter();
        assert_eq!(packed(&mut auto, mixed), [false, true, true, true, true]);
    }

    #[test]
    fn words_read_back_and_others_are_told_which_there_are() {
        for text in ["none", "lz4", "zstd", "auto"] {
            assert_eq!(text.parse::<ChunkCompression>().unwrap().to_string(), text);
        }
        for (text, says) in [("snappy", "lz4 and zstd"), ("LZ4", "auto"), ("", "auto")] {
            let error = text.parse::<ChunkCompression>().unwrap_err().to_string();
            assert!(error.contains(says), "{error}");
        }
    }
}
