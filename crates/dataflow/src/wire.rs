//! What sender and reader of a stream say to each other.
//!
//! A stream is one DoExchange with the path `["edges", EDGE, FROM, TO]`. The call carries the
//! data token of the run in the header `sheaf-data-token`. All that is no Arrow data stands in
//! `app_metadata`:
//!
//! | who | sends |
//! |---|---|
//! | reader, first | nothing but the descriptor |
//! | reader | [`ReaderHello`] as JSON |
//! | sender, first | [`SenderHello`] as JSON |
//! | sender | the schema, then dictionaries and record batches; the metadata of each record batch is its sequence, 8 bytes, little endian, and after it its `traceparent` |
//! | reader, again and again | [`Feedback`] as JSON |
//! | sender, at the end of the data | [`End`] as JSON; its sequence is acknowledged as that of a batch |
//!
//! A batch has a `traceparent` (W3C) where its sender knows one, and the reader has said `traces`
//! in its hello: to others the sequence is all. What is no `traceparent` is overlooked.
//!
//! Sequences begin with 1 and ascend; those of dropped batches are missing. Credits count the
//! batches of this call that the reader takes in all. A reader that has no more to say ends its
//! half, and the sender then ends the call: all feedback has arrived.
//!
//! A tap is one DoGet of the ticket `taps/EDGE` with the same header. It brings the schema with
//! the first batch that comes, then batches, each with [`Missed`] as JSON in its metadata, and
//! ends when the sender has no more. Nobody waits for who looks.

use bytes::Bytes;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use sheaf_flight::{Error, Message};
use sheaf_proto::TraceContext;
use sheaf_retry::Code;

/// Of what is said here.
pub(crate) const VERSION: u32 = 1;
/// The header that carries the data token.
pub(crate) const TOKEN_HEADER: &str = "sheaf-data-token";
/// The namespace of streams.
pub(crate) const EDGES: &str = "edges";
/// The namespace of taps.
pub(crate) const TAPS: &str = "taps";

/// Longest text of metadata.
const MAX_TEXT: usize = 4 << 10;
/// Bytes of a sequence.
const SEQUENCE: usize = 8;
/// Longest `traceparent`, of versions that are to come too.
const MAX_TRACE: usize = 256;

/// Who reads, and how far it is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct ReaderHello {
    /// Of the protocol.
    pub(crate) version: u32,
    /// The reader's fence in the registry: one with a lower fence is cut off.
    #[serde(default)]
    pub(crate) fence: u64,
    /// The epoch of the sender that the reader knows; 0 where it knows none.
    #[serde(default)]
    pub(crate) epoch: u64,
    /// The last sequence of that epoch that it has.
    #[serde(default)]
    pub(crate) last: u64,
    /// It reads what stands after the sequence of a batch.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub(crate) traces: bool,
    /// As in [`Feedback`].
    #[serde(flatten)]
    pub(crate) feedback: Feedback,
}

/// Who sends.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct SenderHello {
    /// Of the protocol.
    pub(crate) version: u32,
    /// Another one with each process of the sender: sequences begin anew.
    pub(crate) epoch: u64,
}

/// How far a reader is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Feedback {
    /// Batches that this call may bring in all.
    pub(crate) credits: u64,
    /// Everything up to this sequence is done with.
    #[serde(default)]
    pub(crate) acknowledged: u64,
}

/// The data has ended.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct End {
    /// One more than that of the last batch.
    pub(crate) end: u64,
}

/// What who looks at an edge did not get since it began to look.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Missed {
    /// Batches.
    pub(crate) batches: u64,
    /// Rows of them.
    pub(crate) rows: u64,
}

/// A message of metadata only.
pub(crate) fn say(what: &impl Serialize) -> Result<Message, Error> {
    let text = serde_json::to_vec(what)
        .map_err(|error| Error::new(Code::Internal, format!("no JSON of it: {error}")))?;
    Ok(Message { app_metadata: text.into(), ..Message::default() })
}

/// What a message of metadata only says.
pub(crate) fn read<T: DeserializeOwned>(what: &str, metadata: &[u8]) -> Result<T, Error> {
    let malformed = |why: String| Error::new(Code::MalformedData, format!("{what}: {why}"));
    if metadata.len() > MAX_TEXT {
        return Err(malformed(format!("{} bytes, at most {MAX_TEXT} are read", metadata.len())));
    }
    serde_json::from_slice(metadata).map_err(|error| malformed(error.to_string()))
}

/// The sequence of a batch and its trace, as its metadata.
pub(crate) fn of_batch(sequence: u64, trace: Option<TraceContext>) -> Bytes {
    let sequence = sequence.to_le_bytes();
    let Some(trace) = trace else { return Bytes::copy_from_slice(&sequence) };
    let mut both = [0; SEQUENCE + TraceContext::LENGTH];
    both[..SEQUENCE].copy_from_slice(&sequence);
    both[SEQUENCE..].copy_from_slice(&trace.to_bytes());
    Bytes::copy_from_slice(&both)
}

/// The sequence that stands in the metadata of a batch, and its trace.
pub(crate) fn read_batch(metadata: &[u8]) -> Result<(u64, Option<TraceContext>), Error> {
    match metadata.split_first_chunk::<SEQUENCE>() {
        Some((sequence, trace)) if trace.len() <= MAX_TRACE => {
            Ok((u64::from_le_bytes(*sequence), TraceContext::from_bytes(trace)))
        }
        _ => {
            let text = format!("a batch with metadata of {} bytes: no sequence", metadata.len());
            Err(Error::new(Code::MalformedData, text))
        }
    }
}

/// Refuses a peer that speaks another version.
pub(crate) fn check_version(version: u32) -> Result<(), Error> {
    if version == VERSION {
        return Ok(());
    }
    let text =
        format!("the other end speaks version {version} of streams, this one speaks {VERSION}");
    Err(Error::new(Code::FormatNewer, text))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_said_reads_back() {
        let feedback = Feedback { credits: u64::MAX, acknowledged: 7 };
        let (epoch, traces) = (u64::MAX, true);
        let hello = ReaderHello { version: 1, fence: 2, epoch, last: 9, traces, feedback };
        let message = say(&hello).unwrap();
        assert_eq!(read::<ReaderHello>("hello", &message.app_metadata).unwrap(), hello);
        assert!(message.header.is_empty());
    }

    #[test]
    fn a_batch_has_its_sequence_and_where_there_is_one_its_trace() {
        let alone = of_batch(u64::MAX - 1, None);
        assert_eq!((alone.len(), read_batch(&alone).unwrap()), (8, (u64::MAX - 1, None)));
        let trace = TraceContext::new([7; 16], [8; 8], true);
        assert_eq!(read_batch(&of_batch(3, trace)).unwrap(), (3, trace));
        let odd = [&3_u64.to_le_bytes()[..], b"no trace"].concat();
        assert_eq!(read_batch(&odd).unwrap(), (3, None), "what is no trace is overlooked");
    }

    #[test]
    fn a_short_hello_is_enough() {
        let hello: ReaderHello = read("hello", br#"{"version":1,"credits":4}"#).unwrap();
        assert_eq!((hello.feedback.credits, hello.last, hello.fence), (4, 0, 0));
        assert!(!hello.traces, "a reader that does not know of traces gets none");
    }

    #[test]
    fn what_is_no_word_of_it_is_refused() {
        assert!(read::<End>("end", b"{}").unwrap_err().message().contains("end"));
        assert!(read::<End>("end", &[b' '; 5_000]).unwrap_err().message().contains("5000"));
        assert!(read_batch(b"1234567").is_err() && read_batch(b"").is_err());
        assert!(read_batch(&[b'x'; 265]).is_err());
        assert!(check_version(2).is_err() && check_version(1).is_ok());
    }
}
