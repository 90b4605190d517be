//! The bytes of a gRPC stream of Flight messages, cut in pieces of a size that
//! the first byte says: read the same however they are cut, and as the
//! generated code reads them.

use arrow_flight::{FlightData, FlightDescriptor};
use bytes::Bytes;
use prost::Message as _;
use sheaf_flight::fuzzing;

use super::support::refused;

/// Tags and lengths of the fields of a message.
pub(crate) const WORDS: &[&str] = &["\n", "\x12", "\x1a", "\0\0\0\0", "\x01", "\x7f"];

/// A message without its descriptor: only that of the first one is read.
#[derive(Clone, PartialEq, prost::Message)]
struct Parts {
    #[prost(bytes = "bytes", tag = "2")]
    header: Bytes,
    #[prost(bytes = "bytes", tag = "3")]
    app_metadata: Bytes,
    #[prost(bytes = "bytes", tag = "1000")]
    body: Bytes,
}

/// Largest message: what is longer is refused by its length alone.
const LIMIT: usize = 1 << 20;

fn framed(piece: u8, messages: &[FlightData]) -> Vec<u8> {
    let mut bytes = vec![piece];
    for message in messages {
        bytes.push(0);
        let length = u32::try_from(message.encoded_len()).expect("short");
        bytes.extend(length.to_be_bytes());
        bytes.extend(message.encode_to_vec());
    }
    bytes
}

/// Streams of whole messages, with and without each part.
pub(crate) fn seeds() -> Vec<Vec<u8>> {
    let whole = FlightData {
        flight_descriptor: Some(FlightDescriptor::new_path(vec!["batches".to_owned()])),
        data_header: vec![1; 40].into(),
        app_metadata: b"meta".to_vec().into(),
        data_body: vec![2; 300].into(),
    };
    let body = FlightData { data_body: vec![3; 70].into(), ..FlightData::default() };
    vec![
        framed(1, std::slice::from_ref(&whole)),
        framed(7, &[body.clone(), FlightData::default(), body]),
        framed(255, &[whole.clone(), whole]),
        framed(3, &[]),
    ]
}

/// Reads the stream whole and in pieces.
pub(crate) fn run(data: &[u8]) -> bool {
    let Some((piece, stream)) = data.split_first() else { return false };
    let pieces = stream.chunks(usize::from(*piece).max(1)).map(Bytes::copy_from_slice);
    let cut = fuzzing::frames(pieces.collect(), LIMIT);
    let whole = fuzzing::frames(vec![Bytes::copy_from_slice(stream)], LIMIT);
    let messages = match (cut, whole) {
        (Ok(cut), Ok(whole)) => {
            assert_eq!(cut, whole);
            whole
        }
        (Err(cut), Err(whole)) => {
            assert_eq!(refused(&cut), refused(&whole));
            return false;
        }
        (cut, whole) => panic!("in pieces {cut:?}, whole {whole:?}"),
    };
    let mut rest = stream;
    for message in messages {
        let (prefix, behind) = rest.split_at(5);
        let length = u32::from_be_bytes([prefix[1], prefix[2], prefix[3], prefix[4]]) as usize;
        let theirs = Parts::decode(&behind[..length]).expect("what is read here");
        assert_eq!(message.header, theirs.header);
        assert_eq!(message.app_metadata, theirs.app_metadata);
        assert_eq!(message.contiguous_body(), theirs.body);
        rest = &behind[length..];
    }
    assert!(rest.is_empty(), "a message was passed over");
    true
}
