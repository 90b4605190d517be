//! From pieces of a gRPC stream to messages.

use arrow_flight::FlightDescriptor;
use bytes::{Buf as _, Bytes};
use prost::Message as _;
use sheaf_retry::Code;

use super::coming::Coming;
use super::memory::{Body, COUNTED, Memory, Receiving};
use super::{PREFIX, field, varint};
use crate::error::Error;
use crate::message::Message;
use crate::metrics::Copies;
use crate::plain::FRAMING_BYTES;
use crate::router::resolve::MAX_PATH;

/// Bytes of a descriptor; the router allows less.
const MAX_DESCRIPTOR: usize = 64 << 10;

/// Field of `FlightDescriptor`: an element of its path.
const PATH: u32 = 3;

/// Tag and length, or tag and number, of a field.
const MAX_HEAD: usize = 20;

/// One `FlightData` of a stream.
#[derive(Debug, Default)]
pub(crate) struct Received {
    /// What the first message of a client is for.
    pub(crate) descriptor: Option<FlightDescriptor>,
    /// The message itself.
    pub(crate) message: Message,
}

/// Puts the messages of one stream together.
///
/// Takes pieces as they come and however they are cut. Everything is copied once,
/// from the piece to where it stays: a piece is part of a larger buffer, which
/// nothing of it keeps alive.
pub(super) struct Decoder {
    receiving: Receiving,
    /// Bytes of memory that the body which is coming needs and does not get.
    lacking: Option<u64>,
    copies: Copies,
    /// Bytes of one message, without framing.
    limit: usize,
    state: State,
    /// Of parts that are whole, until their message is.
    pending: Vec<(u32, Coming)>,
    /// Bytes of parts that are not counted.
    small: usize,
    /// A message is whole already.
    has_begun: bool,
    received: Received,
}

enum State {
    /// Before a message: its flag and length.
    Prefix { bytes: [u8; PREFIX], filled: usize },
    /// Before a field of a message, of which so many bytes are left.
    Field { left: usize, bytes: [u8; MAX_HEAD], filled: usize },
    /// Within the value of a field; so many bytes of the message come after it.
    Value { left: usize, value: Value },
}

enum Value {
    Small {
        field: u32,
        size: usize,
        bytes: Vec<u8>,
    },
    /// A body, or anything else that is as long as one.
    Large {
        field: u32,
        body: Body,
    },
    /// Of a field that Flight does not have: so many bytes to pass over.
    Unknown(usize),
}

const START: State = State::Prefix { bytes: [0; PREFIX], filled: 0 };

impl Decoder {
    /// A decoder of messages of at most `limit` bytes.
    pub(super) fn new(limit: usize, memory: &Memory, copies: Copies) -> Self {
        Decoder {
            receiving: memory.receiving(),
            lacking: None,
            copies,
            limit,
            state: START,
            pending: Vec::new(),
            small: 0,
            has_begun: false,
            received: Received::default(),
        }
    }

    /// Whether the stream may end here.
    pub(super) fn is_between_messages(&self) -> bool {
        matches!(self.state, State::Prefix { filled: 0, .. })
    }

    /// The stream as others see it that need memory.
    pub(super) fn receiving(&self) -> &Receiving {
        &self.receiving
    }

    /// What the first message is for, as soon as that is known.
    pub(super) fn descriptor(&self) -> Option<&FlightDescriptor> {
        self.received.descriptor.as_ref()
    }

    /// Lets go what it has of a message that will not be whole.
    pub(super) fn give_up(&mut self) {
        self.begin_message();
        self.received = Received::default();
    }

    fn begin_message(&mut self) {
        (self.state, self.small) = (START, 0);
        self.pending.clear();
    }

    /// Bytes of memory without which nothing more is taken.
    pub(super) fn lacking(&self) -> Option<u64> {
        self.lacking
    }

    /// Takes bytes off the front of `piece` until a message is whole, there
    /// are no more, or there is no memory for them ([`Decoder::lacking`]).
    ///
    /// # Errors
    /// [`Code::LimitExceeded`], [`Code::MalformedData`], [`Code::Unimplemented`]
    /// for a compressed message, [`Code::MemoryFull`].
    pub(super) fn next(&mut self, piece: &mut Bytes) -> Result<Option<Received>, Error> {
        self.lacking = None;
        loop {
            if let State::Field { left: 0, filled: 0, .. } = self.state {
                self.begin_message();
                self.has_begun = true;
                return Ok(Some(std::mem::take(&mut self.received)));
            }
            // A value of no bytes is whole without another piece.
            let is_whole =
                matches!(&self.state, State::Value { value, .. } if value.missing() == 0);
            if piece.is_empty() && !is_whole {
                return Ok(None);
            }
            self.step(piece)?;
            if self.lacking.is_some() {
                return Ok(None);
            }
        }
    }

    fn step(&mut self, piece: &mut Bytes) -> Result<(), Error> {
        match &mut self.state {
            State::Prefix { bytes, filled } => {
                let count = piece.len().min(PREFIX - *filled);
                bytes[*filled..*filled + count].copy_from_slice(&piece[..count]);
                *filled += count;
                piece.advance(count);
                if *filled == PREFIX {
                    let prefix = *bytes;
                    let left = self.length(prefix)?;
                    self.state = State::Field { left, bytes: [0; MAX_HEAD], filled: 0 };
                }
                Ok(())
            }
            State::Field { left, bytes, filled } => {
                // The head of a field is some bytes long at the most.
                let count = piece.len().min(MAX_HEAD - *filled).min(*left);
                bytes[*filled..*filled + count].copy_from_slice(&piece[..count]);
                let known = *filled + count;
                let (head, left) = (*bytes, *left);
                match Head::read(&head[..known])? {
                    Some(head) => {
                        piece.advance(head.size - *filled);
                        let left = (left + *filled).checked_sub(head.size);
                        let left = left.ok_or_else(cut)?;
                        self.begin(head, left)
                    }
                    None if count == left => Err(cut()),
                    None => {
                        piece.advance(count);
                        *filled = known;
                        let State::Field { left, .. } = &mut self.state else { return Ok(()) };
                        *left -= count;
                        Ok(())
                    }
                }
            }
            State::Value { .. } => self.take(piece),
        }
    }

    /// The length of a message, by its prefix.
    fn length(&self, prefix: [u8; PREFIX]) -> Result<usize, Error> {
        let [flag, length @ ..] = prefix;
        if flag > 1 {
            return Err(malformed(format!("it begins with {flag}, gRPC's messages with 0 or 1")));
        }
        if flag == 1 {
            let text = "a message is compressed by gRPC; send it uncompressed, or have Arrow \
                        compress its buffers";
            return Err(Error::new(Code::Unimplemented, text));
        }
        let length = usize::try_from(u32::from_be_bytes(length)).unwrap_or(usize::MAX);
        if length > self.limit.saturating_add(FRAMING_BYTES) {
            let limit = self.limit;
            return Err(Error::new(
                Code::LimitExceeded,
                format!(
                    "a message of {length} bytes is over the limit, max_message_bytes is \
                     {limit}; send smaller record batches"
                ),
            ));
        }
        Ok(length)
    }

    /// Begins the value of a field, with so many bytes of the message behind its head.
    fn begin(&mut self, head: Head, left: usize) -> Result<(), Error> {
        let size = usize::try_from(head.value).unwrap_or(usize::MAX);
        let left = left.checked_sub(size).ok_or_else(cut)?;
        let small = self.small.saturating_add(size);
        let value = match head.field {
            // Only that of the first message counts.
            field::DESCRIPTOR if head.is_bytes && self.has_begun => Value::Unknown(size),
            field::DESCRIPTOR if head.is_bytes && size > MAX_DESCRIPTOR => {
                return Err(Error::new(
                    Code::LimitExceeded,
                    format!(
                        "the descriptor has {size} bytes, at most {MAX_DESCRIPTOR} are allowed"
                    ),
                ));
            }
            field @ (field::DESCRIPTOR | field::HEADER | field::APP_METADATA)
                if head.is_bytes && small < COUNTED =>
            {
                self.small = small;
                Value::Small { field, size, bytes: Vec::with_capacity(size) }
            }
            field @ (field::DESCRIPTOR | field::HEADER | field::APP_METADATA | field::BODY)
                if head.is_bytes =>
            {
                let body = self.receiving.body(size, small >= COUNTED);
                let body = body.map_err(|error| no_memory(size, &error))?;
                Value::Large { field, body }
            }
            field::DESCRIPTOR | field::HEADER | field::APP_METADATA | field::BODY => {
                return Err(malformed(format!("field {} is no bytes", head.field)));
            }
            _ => Value::Unknown(size),
        };
        self.state = State::Value { left, value };
        Ok(())
    }

    /// Takes what the value needs, and ends it when it is whole.
    fn take(&mut self, piece: &mut Bytes) -> Result<(), Error> {
        let State::Value { left, value } = &mut self.state else { return Ok(()) };
        let left = *left;
        let mut count = piece.len().min(value.missing());
        match value {
            Value::Small { bytes, .. } => {
                bytes.extend_from_slice(&piece[..count]);
                self.copies.copied(count);
            }
            Value::Large { body, .. } => {
                self.lacking = body.lacks();
                count = body.fill(piece);
                self.copies.copied(count);
            }
            Value::Unknown(missing) => *missing -= count,
        }
        piece.advance(count);
        if value.missing() > 0 {
            return Ok(());
        }
        let after = State::Field { left, bytes: [0; MAX_HEAD], filled: 0 };
        if let State::Value { value, .. } = std::mem::replace(&mut self.state, after) {
            self.keep(value)?;
        }
        Ok(())
    }

    fn keep(&mut self, value: Value) -> Result<(), Error> {
        let message = &mut self.received.message;
        match value {
            Value::Small { field: field::HEADER, bytes, .. } => message.header = bytes.into(),
            Value::Small { field: field::APP_METADATA, bytes, .. } => {
                message.app_metadata = bytes.into();
            }
            Value::Small { bytes, .. } => self.received.descriptor = Some(descriptor(&bytes)?),
            Value::Large { field, body } => {
                let (value, pending) = body.finish();
                // Of a field that comes twice the last one counts.
                self.pending.retain(|(other, _)| *other != field);
                self.pending.extend(pending.map(|pending| (field, pending)));
                match field {
                    field::DESCRIPTOR => self.received.descriptor = Some(descriptor(&value)?),
                    field::HEADER => message.header = value,
                    field::APP_METADATA => message.app_metadata = value,
                    _ if value.is_empty() => message.body = Vec::new(),
                    _ => message.body = vec![value],
                }
            }
            Value::Unknown(_) => {}
        }
        Ok(())
    }
}

impl Value {
    fn missing(&self) -> usize {
        match self {
            Value::Small { size, bytes, .. } => size - bytes.len(),
            Value::Large { body, .. } => body.missing(),
            Value::Unknown(missing) => *missing,
        }
    }
}

/// Tag of a field, and the length of its value.
struct Head {
    field: u32,
    is_bytes: bool,
    /// Bytes of the value that follow the head.
    value: u64,
    /// Bytes of the head itself.
    size: usize,
}

impl Head {
    /// `None` where there is only the beginning of one.
    fn read(bytes: &[u8]) -> Result<Option<Self>, Error> {
        let wrong = || malformed("a number in it has more than ten bytes");
        let (tag, after) = match varint::read(bytes) {
            varint::Read::Number(tag, after) => (tag, after),
            varint::Read::Short => return Ok(None),
            varint::Read::Wrong => return Err(wrong()),
        };
        let field = u32::try_from(tag).ok().map(|tag| tag >> 3).filter(|field| *field > 0);
        let field = field.ok_or_else(|| malformed(format!("{tag} is no tag of a field")))?;
        let head = |is_bytes, value, size| Ok(Some(Head { field, is_bytes, value, size }));
        match tag & 7 {
            1 => head(false, 8, after),
            5 => head(false, 4, after),
            wire @ (0 | 2) => match varint::read(&bytes[after..]) {
                // The number itself is the value of a field of numbers.
                varint::Read::Number(_, size) if wire == 0 => head(false, 0, after + size),
                varint::Read::Number(length, size) => head(true, length, after + size),
                varint::Read::Short => Ok(None),
                varint::Read::Wrong => Err(wrong()),
            },
            other => Err(malformed(format!("wire type {other} of field {field} is unknown"))),
        }
    }
}

/// Reads a descriptor. Decoded an empty element of its path takes a dozen times
/// as much, so that they are counted before.
fn descriptor(bytes: &[u8]) -> Result<FlightDescriptor, Error> {
    let unreadable = |error: &dyn std::fmt::Display| {
        malformed(format!("its descriptor cannot be read: {error}"))
    };
    let (mut rest, mut elements) = (bytes, 0);
    while !rest.is_empty() {
        let head = Head::read(&rest[..rest.len().min(MAX_HEAD)])?;
        let head = head.ok_or_else(|| unreadable(&"it is cut short"))?;
        elements += usize::from(head.field == PATH);
        let value = usize::try_from(head.value).unwrap_or(usize::MAX);
        let end = head.size.saturating_add(value);
        rest = rest.get(end..).ok_or_else(|| unreadable(&"it is cut short"))?;
    }
    if elements > MAX_PATH {
        let text = format!(
            "the path of the descriptor has {elements} elements, at most {MAX_PATH} are allowed"
        );
        return Err(Error::new(Code::LimitExceeded, text));
    }
    FlightDescriptor::decode(bytes).map_err(|error| unreadable(&error))
}

fn no_memory(size: usize, error: &std::io::Error) -> Error {
    Error::new(Code::MemoryFull, format!("no memory for a message of {size} bytes: {error}"))
}

fn malformed(text: impl std::fmt::Display) -> Error {
    Error::new(Code::MalformedData, format!("not a Flight message: {text}"))
}

fn cut() -> Error {
    malformed("a field goes on behind the end of its message")
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use arrow_flight::FlightData;
    use bytes::{BufMut as _, BytesMut};
    use sheaf_retry::{Retryable as _, SystemClock};

    use super::*;
    use crate::budget::{Budget, MemoryBudget};

    const LIMIT: usize = 8 << 20;

    fn framed(message: &[u8]) -> BytesMut {
        let mut framed = BytesMut::new();
        framed.put_u8(0);
        framed.put_u32(u32::try_from(message.len()).unwrap());
        framed.put_slice(message);
        framed
    }

    fn decode(bytes: &[u8], piece: usize) -> Result<Vec<Received>, Error> {
        let mut decoder =
            Decoder::new(LIMIT, &Memory::of_client(SystemClock::shared()), Copies::default());
        let mut all = Vec::new();
        for piece in bytes.chunks(piece.max(1)) {
            let mut piece = Bytes::copy_from_slice(piece);
            while let Some(received) = decoder.next(&mut piece)? {
                all.push(received);
            }
            assert!(piece.is_empty());
        }
        if decoder.is_between_messages() { Ok(all) } else { Err(cut()) }
    }

    fn sample(body: usize) -> FlightData {
        FlightData {
            flight_descriptor: Some(FlightDescriptor::new_path(vec!["batches".to_owned()])),
            data_header: vec![1; 300].into(),
            app_metadata: b"meta".to_vec().into(),
            data_body: (0..body).map(|at| at.to_le_bytes()[0]).collect::<Vec<_>>().into(),
        }
    }

    #[test]
    fn messages_are_read_however_they_are_cut() {
        let sent = [sample(0), FlightData::default(), sample(70), sample(200_000), sample(1)];
        let mut bytes = BytesMut::new();
        for data in &sent {
            bytes.extend_from_slice(&framed(&data.encode_to_vec()));
        }
        for piece in [1, 2, 3, 7, 64, 1_000, 16_384, bytes.len()] {
            let got = decode(&bytes, piece).unwrap();
            assert_eq!(got.len(), sent.len());
            assert_eq!(got[0].descriptor, sent[0].flight_descriptor);
            assert!(got[1..].iter().all(|one| one.descriptor.is_none()));
            for (got, sent) in got.iter().zip(&sent) {
                assert_eq!(got.message.header, sent.data_header);
                assert_eq!(got.message.app_metadata, sent.app_metadata);
                assert_eq!(got.message.contiguous_body(), sent.data_body);
            }
        }
    }

    #[test]
    fn fields_in_any_order_and_of_any_number_are_read_as_protobuf_has_it() {
        let mut message = BytesMut::new();
        let mut put = |field: u32, wire: u32, value: &[u8]| {
            varint::put(u64::from(field << 3 | wire), &mut message);
            if wire == 2 {
                varint::put(value.len() as u64, &mut message);
            }
            message.put_slice(value);
        };
        put(field::BODY, 2, b"first");
        put(7, 0, &[0xff, 0x01]);
        put(field::HEADER, 2, b"header");
        put(8, 1, &[0; 8]);
        put(9, 5, &[0; 4]);
        put(field::BODY, 2, b"second");
        put(4, 2, b"unknown");
        let got = decode(&framed(&message), 1).unwrap();
        assert_eq!(got[0].message.header, "header");
        assert_eq!(got[0].message.contiguous_body(), "second");
        // The same reading as that of the generated code.
        let theirs = FlightData::decode(message.freeze()).unwrap();
        assert_eq!((theirs.data_header, theirs.data_body), ("header".into(), "second".into()));
    }

    #[test]
    fn what_is_whole_of_a_message_counts_until_all_of_it_is() {
        let budget: Arc<dyn MemoryBudget> = Budget::new(1 << 20);
        let memory = Memory::of_server(Some(Arc::clone(&budget)), SystemClock::shared());
        let mut decoder = Decoder::new(LIMIT, &memory, Copies::default());
        let used = || (1 << 20) - budget.spare();
        let long = "x".repeat(COUNTED);
        let data = FlightData {
            flight_descriptor: Some(FlightDescriptor::new_cmd(long.clone())),
            data_header: long.clone().into(),
            app_metadata: long.into(),
            data_body: vec![1; 10].into(),
        };
        let mut message = framed(&data.encode_to_vec()).freeze();
        let mut last = message.split_off(message.len() - 1);
        assert!(decoder.next(&mut message).unwrap().is_none());
        assert!(used() >= 3 * COUNTED as u64, "{}", used());
        assert!(decoder.next(&mut last).unwrap().is_some());
        assert_eq!(used(), 0);
        // Short parts count once they are many.
        let short = vec![1; COUNTED - 1];
        let data = FlightData {
            data_header: short.clone().into(),
            app_metadata: short.clone().into(),
            data_body: short.into(),
            ..FlightData::default()
        };
        let mut message = framed(&data.encode_to_vec()).freeze();
        let mut last = message.split_off(message.len() - 1);
        assert!(decoder.next(&mut message).unwrap().is_none());
        assert_eq!(used(), 2 * (COUNTED - 1) as u64);
        assert!(decoder.next(&mut last).unwrap().is_some());
        assert_eq!(used(), 0);
    }

    #[test]
    fn what_is_no_message_is_refused_by_kind() {
        let long = [&[0_u8][..], &u32::try_from(LIMIT + FRAMING_BYTES + 1).unwrap().to_be_bytes()]
            .concat();
        let descriptor =
            framed(&[&[0x0a, 0x81, 0x80, 0x04][..], &vec![0; MAX_DESCRIPTOR + 1]].concat());
        // Sixteen elements of nothing are a path, one more is too long.
        let path = |elements: usize| {
            let path = [0x1a, 0].repeat(elements);
            framed(&[&[0x0a, u8::try_from(path.len()).unwrap()][..], &path].concat())
        };
        decode(&path(MAX_PATH), 1).unwrap();
        let path = path(MAX_PATH + 1);
        let cases: [(&[u8], Code); 12] = [
            (&path, Code::LimitExceeded),
            (&[7, 0, 0, 0, 0], Code::MalformedData),
            (&descriptor, Code::LimitExceeded),
            (&[1, 0, 0, 0, 0], Code::Unimplemented),
            (&long, Code::LimitExceeded),
            // A body that is longer than its message.
            (&framed(&[0xc2, 0x3e, 5, 1]), Code::MalformedData),
            // Tag 0, wire types 3 and 7, and a number without an end.
            (&framed(&[0, 0]), Code::MalformedData),
            (&framed(&[0x0b]), Code::MalformedData),
            (&framed(&[0x0f]), Code::MalformedData),
            (&framed(&[0xff; 12]), Code::MalformedData),
            // A header that is a number, and a descriptor that is none.
            (&framed(&[0x10, 1]), Code::MalformedData),
            (&framed(&[0x0a, 1, 0xff]), Code::MalformedData),
        ];
        for (bytes, code) in cases {
            for piece in [1, bytes.len()] {
                let error = decode(bytes, piece).unwrap_err();
                assert_eq!(error.code(), code, "{bytes:?}: {error}");
            }
        }
        // Cut within a tag, at the end of its message.
        assert_eq!(decode(&framed(&[0xc2]), 1).unwrap_err().code(), Code::MalformedData);
    }
}
