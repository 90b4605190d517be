//! Where the messages of an Arrow IPC stream end.

use arrow_ipc::{MessageHeader, root_as_message};

/// The mark and the size before each message.
const PREFIX: usize = 8;

/// Follows the messages of a stream.
///
/// Arrow's decoder gives a batch without bytes, such as one of no rows, only when the next
/// message begins; who waits for it has to know that it is whole.
#[derive(Default)]
pub(super) struct Frames {
    /// The beginning of a message: prefix and metadata.
    held: Vec<u8>,
    /// Bytes of its body that are still to come.
    body: u64,
}

impl Frames {
    /// Takes the next bytes; says whether they end with a batch without bytes.
    pub(super) fn push(&mut self, mut bytes: &[u8]) -> bool {
        let mut ends_empty = false;
        while !bytes.is_empty() {
            ends_empty = false;
            if self.body > 0 {
                let skipped = usize::try_from(self.body).unwrap_or(usize::MAX).min(bytes.len());
                self.body -= skipped as u64;
                bytes = &bytes[skipped..];
                continue;
            }
            let taken = self.wanted().saturating_sub(self.held.len()).min(bytes.len());
            self.held.extend_from_slice(&bytes[..taken]);
            bytes = &bytes[taken..];
            if self.held.len() < PREFIX || self.held.len() < self.wanted() {
                continue;
            }
            // What is no message the decoder refuses.
            if let Ok(message) = root_as_message(&self.held[PREFIX..]) {
                self.body = u64::try_from(message.bodyLength()).unwrap_or(0);
                ends_empty = self.body == 0 && message.header_type() == MessageHeader::RecordBatch;
            }
            self.held.clear();
        }
        ends_empty
    }

    /// Bytes of prefix and metadata, as far as that is known.
    fn wanted(&self) -> usize {
        match self.held.get(4..PREFIX) {
            Some(&[a, b, c, d]) => PREFIX + u32::from_le_bytes([a, b, c, d]) as usize,
            _ => PREFIX,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use arrow_array::{Int64Array, RecordBatch};
    use arrow_ipc::writer::StreamWriter;

    use super::*;

    #[test]
    fn the_end_of_a_batch_without_bytes_is_seen_however_the_stream_is_cut() {
        let column = Arc::new(Int64Array::from(vec![1, 2])) as _;
        let full = RecordBatch::try_from_iter([("n", column)]).unwrap();
        let mut writer = StreamWriter::try_new(Vec::new(), &full.schema()).unwrap();
        writer.write(&full).unwrap();
        writer.write(&full.slice(0, 0)).unwrap();
        let empty_ends = writer.get_ref().len();
        writer.write(&full).unwrap();
        writer.finish().unwrap();
        let bytes = writer.into_inner().unwrap();
        for size in [1, 3, 7, 8, 64] {
            let mut frames = Frames::default();
            let mut at = 0;
            for chunk in bytes.chunks(size) {
                at += chunk.len();
                assert_eq!(frames.push(chunk), at == empty_ends, "{at} in pieces of {size}");
            }
        }
    }
}
