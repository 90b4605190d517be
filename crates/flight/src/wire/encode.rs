//! From messages to pieces of a gRPC stream.

use std::collections::VecDeque;

use bytes::{BufMut as _, Bytes, BytesMut};

use super::{PREFIX, Sending, field, varint};
use crate::message::Message;
use crate::metrics::Copies;

/// A piece of a body from this size on is handed on as it lies in memory. Each
/// is a frame and a system call of its own: for a smaller one that costs more
/// than to copy it behind what goes out with it (a third of the CPU, measured
/// with batches of 36 KB).
const WRAP: usize = 64 << 10;

/// What is sent between two pieces of bodies is at least this long: receivers
/// take many short frames for an attack (256 bytes is what one of them calls short).
const SHORT: usize = 1 << 10;

/// Small messages are sent together up to this size.
const GATHERED: usize = 128 << 10;

/// Turns messages into pieces of one stream.
pub(super) struct Encoder {
    /// Written, and not yet cut into a piece.
    gathered: BytesMut,
    ready: VecDeque<Bytes>,
    copies: Copies,
    /// Where what was gathered counts until it is out.
    pub(super) sending: Sending,
}

impl Encoder {
    pub(super) fn new(copies: Copies, sending: Sending) -> Self {
        let (gathered, ready) = (BytesMut::new(), VecDeque::new());
        Encoder { gathered, ready, copies, sending }
    }

    /// Adds a message; `descriptor` is the protobuf of one, where it has any.
    pub(super) fn push(&mut self, message: Message, descriptor: Option<&[u8]>) {
        let body = message.body_len();
        let small = [
            (field::DESCRIPTOR, descriptor.unwrap_or_default()),
            (field::HEADER, &message.header),
            (field::APP_METADATA, &message.app_metadata),
        ];
        let heads: usize = small.iter().map(|(field, value)| size_of(*field, value.len())).sum();
        let length = heads + size_of(field::BODY, body);
        let around = length + PREFIX - body;
        self.gathered.reserve(around + SHORT);
        self.gathered.put_u8(0);
        // The router sends no message that is longer than 2 GiB.
        self.gathered.put_u32(u32::try_from(length).unwrap_or(u32::MAX));
        for (field, value) in small.into_iter().filter(|(_, value)| !value.is_empty()) {
            self.head(field, value.len());
            self.gathered.put_slice(value);
        }
        self.copies.copied(around);
        if body > 0 {
            self.head(field::BODY, body);
        }
        for piece in message.body {
            self.piece(piece);
        }
    }

    fn head(&mut self, field: u32, size: usize) {
        varint::put(tag(field), &mut self.gathered);
        varint::put(size as u64, &mut self.gathered);
    }

    fn piece(&mut self, mut piece: Bytes) {
        let is_whole = piece.len() < WRAP;
        let head = if is_whole { piece.len() } else { SHORT.saturating_sub(self.gathered.len()) };
        self.gathered.put_slice(&piece.split_to(head));
        self.copies.copied(head);
        if is_whole {
            return;
        }
        let before = self.cut();
        self.ready.extend(before);
        self.copies.wrapped(piece.len());
        self.ready.push_back(piece);
    }

    /// Whether there is enough to be sent.
    pub(super) fn is_full(&self) -> bool {
        !self.ready.is_empty() || self.gathered.len() >= GATHERED
    }

    /// Bytes that were gathered, and not yet cut.
    pub(super) fn gathered(&self) -> usize {
        self.gathered.len()
    }

    /// What was gathered, behind all pieces that are ready.
    pub(super) fn cut(&mut self) -> Option<Bytes> {
        let gathered = (!self.gathered.is_empty()).then(|| self.gathered.split().freeze());
        gathered.map(|piece| self.sending.held(piece))
    }

    /// The next piece that is ready.
    pub(super) fn pop(&mut self) -> Option<Bytes> {
        self.ready.pop_front()
    }
}

fn tag(field: u32) -> u64 {
    u64::from(field << 3 | 2)
}

/// Bytes of a field with a value of so many; a field without value is left out.
fn size_of(field: u32, value: usize) -> usize {
    if value == 0 {
        return 0;
    }
    varint::size(tag(field)) + varint::size(value as u64) + value
}

#[cfg(test)]
mod tests {
    use arrow_flight::{FlightData, FlightDescriptor};
    use prost::Message as _;

    use super::*;

    fn pieces(encoder: &mut Encoder) -> Vec<Bytes> {
        std::iter::from_fn(|| encoder.pop().or_else(|| encoder.cut())).collect()
    }

    #[test]
    fn the_bytes_are_those_of_the_generated_code() {
        let descriptor = FlightDescriptor::new_path(vec!["batches".to_owned(), "a".to_owned()]);
        for body in [vec![], vec![10], vec![100_000], vec![10, 0, 100_000, 20, WRAP, 1]] {
            for (header, app_metadata) in [(300, 0), (0, 4), (0, 0), (200, 200_000)] {
                let body: Vec<Bytes> =
                    body.iter().map(|&size| vec![size.to_le_bytes()[0]; size].into()).collect();
                let message = Message {
                    header: vec![1; header].into(),
                    app_metadata: vec![2; app_metadata].into(),
                    body,
                };
                let data = FlightData {
                    flight_descriptor: Some(descriptor.clone()),
                    data_header: message.header.clone(),
                    app_metadata: message.app_metadata.clone(),
                    data_body: message.contiguous_body(),
                };
                let encoded = data.encode_to_vec();
                let mut encoder = Encoder::new(Copies::default(), Sending::new(None));
                encoder.push(message, Some(&descriptor.encode_to_vec()));
                let whole = pieces(&mut encoder).concat();
                let length = u32::try_from(encoded.len()).unwrap().to_be_bytes();
                assert_eq!(whole[..5], [&[0][..], &length].concat());
                assert!(whole[5..] == encoded, "{header} {app_metadata}");
            }
        }
    }

    #[test]
    fn large_bodies_are_not_copied_and_no_piece_is_short() {
        let copies = Copies::default();
        let mut encoder = Encoder::new(copies.clone(), Sending::new(None));
        let body = Bytes::from(vec![7; 4 << 20]);
        for _ in 0..3 {
            encoder.push(Message::new(Bytes::from_static(&[1; 100]), body.clone()), None);
        }
        let sent = pieces(&mut encoder);
        assert_eq!(sent.len(), 6);
        assert!(sent.iter().all(|piece| piece.len() >= SHORT));
        let range = body.as_ptr_range();
        assert!(sent.iter().filter(|piece| range.contains(&piece.as_ptr())).count() == 3);
        let (copied, wrapped) = copies.counts();
        assert_eq!(copied + wrapped, sent.iter().map(|piece| piece.len() as u64).sum::<u64>());
        assert!(copied <= 3 * 2 * SHORT as u64);
    }

    #[test]
    fn small_messages_are_sent_together() {
        let mut encoder = Encoder::new(Copies::default(), Sending::new(None));
        for _ in 0..10 {
            encoder.push(Message::new(vec![1; 100].into(), vec![2; 1_000].into()), None);
        }
        assert!(!encoder.is_full());
        assert_eq!(pieces(&mut encoder).len(), 1);
    }
}
