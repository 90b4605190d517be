//! Encapsulated messages of the Arrow IPC format: marker, length, metadata, body.

use arrow_buffer::MutableBuffer;
use bytes::Bytes;
use sheaf_flight::Message;
use sheaf_flight::ipc::{Kind, Outline, inspect};

use super::codec::owned;
use crate::shuffle::Error;

const MARKER: [u8; 4] = [0xff; 4];
/// Marker and length.
const PREFIX: usize = 8;

/// Bytes of a message with what frames it.
pub(super) fn framed_len(message: &Message) -> usize {
    PREFIX + message.header.len().next_multiple_of(8) + message.body_len()
}

/// A message with its frame, in one piece.
pub(super) fn frame(message: &Message) -> Result<Vec<u8>, Error> {
    let padded = message.header.len().next_multiple_of(8);
    let length = u32::try_from(padded)
        .map_err(|_| Error::Protocol(format!("metadata of {padded} bytes cannot be framed")))?;
    let mut framed = Vec::with_capacity(framed_len(message));
    framed.extend(MARKER);
    framed.extend(length.to_le_bytes());
    framed.extend_from_slice(&message.header);
    framed.resize(PREFIX + padded, 0);
    message.body.iter().for_each(|piece| framed.extend_from_slice(piece));
    Ok(framed)
}

/// The message in a frame, which shares its memory, and what it is.
///
/// Its body has to be as long as the frame has room for: nothing may follow.
pub(super) fn unframe(framed: &Bytes) -> Result<(Message, Outline), Error> {
    let wrong = |text: String| Error::Protocol(format!("a payload is no Arrow message: {text}"));
    if framed.len() < PREFIX || framed[..4] != MARKER {
        return Err(wrong(
            "it does not begin with 0xFFFFFFFF and the length of its metadata".into(),
        ));
    }
    let length = u32::from_le_bytes([framed[4], framed[5], framed[6], framed[7]]) as usize;
    let rest = framed.slice(PREFIX..);
    if length == 0 || length > rest.len() {
        return Err(wrong(format!("metadata of {length} bytes where {} follow", rest.len())));
    }
    let (header, body) = (rest.slice(..length), rest.slice(length..));
    let outline = inspect(&header)?;
    if outline.kind == Kind::Metadata {
        return Err(wrong("it has no Arrow data".to_owned()));
    }
    if outline.body_len != body.len() as u64 {
        let (said, found) = (outline.body_len, body.len());
        return Err(wrong(format!("a body of {said} bytes is announced, {found} follow")));
    }
    Ok((Message::new(header, body), outline))
}

/// A copy whose body lies as Arrow likes it: what a message of gRPC lies in
/// is larger, and would be kept as a whole.
pub(super) fn copied(message: &Message) -> Message {
    let mut body = MutableBuffer::with_capacity(message.body_len());
    message.body.iter().for_each(|piece| body.extend_from_slice(piece));
    Message::new(Bytes::copy_from_slice(&message.header), owned(body))
}

#[cfg(test)]
mod tests {
    use super::*;
    use arrow_array::{Int64Array, RecordBatch};
    use sheaf_flight::ipc::encode_batches;
    use std::sync::Arc;

    #[test]
    fn frames_read_back_and_broken_ones_say_why() {
        let column = Arc::new(Int64Array::from(vec![1, 2, 3])) as _;
        let batch = RecordBatch::try_from_iter([("n", column)]).unwrap();
        for message in encode_batches(batch.schema(), &[batch]).unwrap() {
            let framed = Bytes::from(frame(&message).unwrap());
            assert_eq!(framed.len(), framed_len(&message));
            let (again, _) = unframe(&framed).unwrap();
            assert!(again.header.starts_with(&message.header));
            assert_eq!(again.contiguous_body(), message.contiguous_body());
            assert_eq!(copied(&again).contiguous_body(), message.contiguous_body());
            for cut in 0..framed.len() {
                assert!(unframe(&framed.slice(..cut)).is_err(), "{cut}");
            }
            let longer = Bytes::from([&framed[..], &[0]].concat());
            let error = unframe(&longer).unwrap_err().to_string();
            assert!(error.contains("follow"), "{error}");
        }
        let end = Bytes::from_static(&[0xff, 0xff, 0xff, 0xff, 0, 0, 0, 0]);
        assert!(unframe(&end).is_err());
    }
}
