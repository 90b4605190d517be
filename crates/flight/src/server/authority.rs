//! Names of sockets in the file system, as HTTP/2 takes them.
//!
//! gRPC's C core calls a server on such a socket by its path, with `%2F` for
//! every slash, in the pseudo-header `:authority`. That is no authority as the
//! standard has it, and hyper refuses the call. What stands there means nothing
//! to us, so `%` becomes `-` on the way: one byte for another, so that nothing
//! else of the stream changes.

/// Bytes with which every connection begins.
const PREFACE: usize = 24;
/// Length, type, flags and stream of a frame.
const HEAD: usize = 9;
const HEADERS: u8 = 1;
const CONTINUATION: u8 = 9;
const END_HEADERS: u8 = 4;
const PADDED: u8 = 8;
const PRIORITY: u8 = 0x20;
/// The pseudo-header, and its index in HPACK's static table. gRPC's C core
/// writes the name.
const NAME: &[u8] = b":authority";
const AUTHORITY: u8 = 1;

/// Follows the frames of one connection, and changes the bytes of authorities.
///
/// Where it sees what it does not understand it leaves the rest alone: hyper
/// decides what that is.
#[derive(Debug)]
pub(super) struct Authorities {
    frame: Frame,
    block: Block,
}

#[derive(Clone, Copy, Debug)]
enum Frame {
    Preface(usize),
    Head {
        bytes: [u8; HEAD],
        filled: usize,
    },
    /// Before a block of headers: the length of its padding.
    Padding {
        left: usize,
        flags: u8,
    },
    /// Before a block of headers: its priority.
    Priority {
        skip: usize,
        left: usize,
        padding: usize,
        flags: u8,
    },
    /// Within a block of headers.
    Headers {
        left: usize,
        padding: usize,
        flags: u8,
    },
    Skip(usize),
    Lost,
}

/// Where in a block of headers; it goes on over several frames.
#[derive(Clone, Copy, Debug)]
enum Block {
    Field,
    /// The rest of an index or a length that did not fit into its first byte.
    Number {
        value: usize,
        shift: u32,
        then: Then,
    },
    NameLength,
    /// So many bytes of a name to come; whether those before are of ours.
    Name {
        left: usize,
        is_ours: bool,
    },
    ValueLength {
        is_authority: bool,
    },
    Value {
        left: usize,
        is_ours: bool,
    },
}

#[derive(Clone, Copy, Debug)]
enum Then {
    Field,
    ValueLength,
    Name,
    Value { is_ours: bool },
}

impl Authorities {
    pub(super) fn new() -> Self {
        Authorities { frame: Frame::Preface(PREFACE), block: Block::Field }
    }

    /// Takes the next bytes of the connection, and changes those of an authority.
    pub(super) fn pass(&mut self, mut bytes: &mut [u8]) {
        while !bytes.is_empty() {
            let taken = self.step(bytes);
            bytes = &mut bytes[taken..];
        }
    }

    /// Takes at least one byte off the front.
    fn step(&mut self, bytes: &mut [u8]) -> usize {
        let first = bytes[0];
        match &mut self.frame {
            Frame::Lost => return bytes.len(),
            Frame::Preface(left) | Frame::Skip(left) => {
                let taken = bytes.len().min(*left);
                *left -= taken;
                if *left == 0 {
                    self.frame = Frame::Head { bytes: [0; HEAD], filled: 0 };
                }
                return taken;
            }
            Frame::Head { bytes: head, filled } => {
                head[*filled] = first;
                *filled += 1;
                if *filled == HEAD {
                    self.frame = self.begin();
                }
            }
            Frame::Padding { left, flags } => {
                let (left, flags, padding) = (*left - 1, *flags, usize::from(first));
                self.frame = headers(left, padding, flags);
                self.end_if_over();
            }
            Frame::Priority { skip, left, padding, flags } => {
                *skip -= 1;
                if *skip == 0 {
                    self.frame = Frame::Headers { left: *left, padding: *padding, flags: *flags };
                    self.end_if_over();
                }
            }
            Frame::Headers { left, .. } => {
                *left -= 1;
                if self.block.take(&mut bytes[0]).is_none() {
                    self.frame = Frame::Lost;
                }
                self.end_if_over();
            }
        }
        1
    }

    /// The frame that a head announces.
    fn begin(&mut self) -> Frame {
        let Frame::Head { bytes: [a, b, c, kind, flags, ..], .. } = self.frame else {
            return Frame::Lost;
        };
        let length = usize::from(a) << 16 | usize::from(b) << 8 | usize::from(c);
        let next = match kind {
            HEADERS => {
                self.block = Block::Field;
                match (flags & PADDED != 0, length) {
                    (true, 0) => Frame::Lost,
                    (true, _) => Frame::Padding { left: length, flags },
                    (false, _) => headers(length, 0, flags),
                }
            }
            CONTINUATION => Frame::Headers { left: length, padding: 0, flags },
            _ => Frame::Skip(length),
        };
        match next {
            Frame::Skip(0) | Frame::Headers { left: 0, padding: 0, .. } => {
                Frame::Head { bytes: [0; HEAD], filled: 0 }
            }
            other => other,
        }
    }

    /// Goes on to the next frame where a block of headers is over.
    fn end_if_over(&mut self) {
        let Frame::Headers { left: 0, padding, flags } = self.frame else { return };
        let is_whole = matches!(self.block, Block::Field);
        self.frame = match padding {
            _ if flags & END_HEADERS != 0 && !is_whole => Frame::Lost,
            0 => Frame::Head { bytes: [0; HEAD], filled: 0 },
            padding => Frame::Skip(padding),
        };
    }
}

/// A block of headers of so many bytes, padding and priority included.
fn headers(length: usize, padding: usize, flags: u8) -> Frame {
    let skip = if flags & PRIORITY == 0 { 0 } else { 5 };
    match length.checked_sub(padding + skip) {
        None => Frame::Lost,
        Some(left) if skip == 0 => Frame::Headers { left, padding, flags },
        Some(left) => Frame::Priority { skip, left, padding, flags },
    }
}

impl Block {
    /// Takes one byte; `None` where it makes no sense.
    fn take(&mut self, byte: &mut u8) -> Option<()> {
        let first = *byte;
        *self = match *self {
            Block::Field => field(first),
            Block::Number { value, shift, then } => {
                let value = value.checked_add(usize::from(first & 0x7f).checked_shl(shift)?)?;
                if first & 0x80 != 0 {
                    let shift = Some(shift + 7).filter(|shift| *shift <= 21)?;
                    Block::Number { value, shift, then }
                } else {
                    then.with(value)
                }
            }
            Block::NameLength => string(first, Then::Name),
            Block::Name { left, is_ours } => {
                let is_ours = is_ours && NAME.iter().rev().nth(left - 1) == Some(&first);
                match left {
                    1 => Block::ValueLength { is_authority: is_ours },
                    _ => Block::Name { left: left - 1, is_ours },
                }
            }
            Block::ValueLength { is_authority } => {
                // In Huffman's code a character is no byte.
                let is_ours = is_authority && first & 0x80 == 0;
                string(first, Then::Value { is_ours })
            }
            Block::Value { left, is_ours } => {
                if is_ours && first == b'%' {
                    *byte = b'-';
                }
                match left {
                    1 => Block::Field,
                    _ => Block::Value { left: left - 1, is_ours },
                }
            }
        };
        Some(())
    }
}

/// A field by its first byte.
fn field(first: u8) -> Block {
    let number = |bits: u8, then| {
        let mask = (1 << bits) - 1;
        let value = first & mask;
        (value == mask).then_some(Block::Number { value: mask.into(), shift: 0, then })
    };
    match first {
        0x80.. => number(7, Then::Field).unwrap_or(Block::Field),
        0x20..0x40 => number(5, Then::Field).unwrap_or(Block::Field),
        _ => {
            let bits = if first >= 0x40 { 6 } else { 4 };
            let index = first & ((1 << bits) - 1);
            match index {
                0 => Block::NameLength,
                index => number(bits, Then::ValueLength)
                    .unwrap_or(Block::ValueLength { is_authority: index == AUTHORITY }),
            }
        }
    }
}

/// A string by the first byte of its length.
fn string(first: u8, then: Then) -> Block {
    match first & 0x7f {
        0x7f => Block::Number { value: 0x7f, shift: 0, then },
        length => then.with(length.into()),
    }
}

impl Then {
    fn with(self, value: usize) -> Block {
        match self {
            Then::Field => Block::Field,
            Then::ValueLength => Block::ValueLength { is_authority: false },
            Then::Name if value == 0 => Block::ValueLength { is_authority: false },
            Then::Name => Block::Name { left: value, is_ours: value == NAME.len() },
            Then::Value { .. } if value == 0 => Block::Field,
            Then::Value { is_ours } => Block::Value { left: value, is_ours },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn frame(kind: u8, flags: u8, payload: &[u8]) -> Vec<u8> {
        let length = u32::try_from(payload.len()).unwrap().to_be_bytes();
        [&length[1..], &[kind, flags, 0, 0, 0, 1], payload].concat()
    }

    fn text(value: &str) -> Vec<u8> {
        let length = value.len();
        let mut bytes = match u8::try_from(length) {
            Ok(short) if short < 0x7f => vec![short],
            _ => vec![0x7f, u8::try_from(length - 0x7f).unwrap()],
        };
        bytes.extend(value.bytes());
        bytes
    }

    /// Fields of every form around an authority, which begins with `first`; with
    /// its name where that is 0x40.
    fn block(first: u8, authority: &str) -> Vec<u8> {
        let mut block = vec![0x83, 0x3f, 0x01, 0x44];
        block.extend(text("/a%2Fb"));
        block.push(first);
        if first == 0x40 {
            block.extend(text(":authority"));
        }
        block.extend(text(authority));
        block.push(0x40);
        block.extend(text("x-%"));
        block.extend(text("%"));
        block.push(0x40);
        block.extend(text(":autho%ity"));
        block.extend(text("%"));
        // An index of two bytes, a value in Huffman's code, and an empty one.
        block.extend([0x0f, 0x20, 0x81, b'%', 0x41, 0x00, 0xff, 0x01]);
        block
    }

    fn pass(bytes: &[u8], piece: usize) -> Vec<u8> {
        let mut bytes = bytes.to_vec();
        let mut authorities = Authorities::new();
        for piece in bytes.chunks_mut(piece) {
            authorities.pass(piece);
        }
        bytes
    }

    fn connection(frames: &[Vec<u8>]) -> Vec<u8> {
        [&b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"[..], &frames.concat()].concat()
    }

    #[test]
    fn a_path_becomes_an_authority_and_nothing_else_changes() {
        let long = "%2Fvery".repeat(30);
        let short = "tmp%2Fs";
        for (path, first) in [(short, 0x41), (short, 0x01), (long.as_str(), 0x11), (short, 0x40)] {
            let name = path.replace('%', "-");
            let stream = |authority: &str| {
                let block = block(first, authority);
                let (one, two) = block.split_at(9);
                let with_padding = [&[3][..], &[0; 5], &block, b"%%%"].concat();
                connection(&[
                    frame(4, 0, b"%%%%%%"),
                    frame(HEADERS, END_HEADERS, &block),
                    frame(0, 1, b"A\x02%2"),
                    frame(HEADERS, 0, one),
                    frame(CONTINUATION, END_HEADERS, two),
                    frame(4, 1, b""),
                    frame(HEADERS, END_HEADERS | PADDED | PRIORITY, &with_padding),
                    frame(0, 0, &[0x41, 2, b'%', b'%']),
                    // Nothing but padding, and the block in the next frame.
                    frame(HEADERS, PADDED, &[0]),
                    frame(CONTINUATION, END_HEADERS, &block),
                    frame(HEADERS, PADDED | PRIORITY, &[2, 0, 0, 0, 0, 0, b'%', b'%']),
                    frame(CONTINUATION, END_HEADERS, &block),
                ])
            };
            let sent = stream(path);
            for piece in [1, 2, 3, 10, sent.len()] {
                assert_eq!(pass(&sent, piece), stream(&name), "{path} in pieces of {piece}");
            }
        }
    }

    #[test]
    fn what_is_not_understood_is_left_alone() {
        let strange = [
            frame(HEADERS, END_HEADERS | PADDED, &[]),
            frame(HEADERS, END_HEADERS | PADDED, &[200, 0x41]),
            frame(HEADERS, END_HEADERS | PRIORITY, &[0x41]),
            frame(HEADERS, END_HEADERS, &[0x41, 9, b'%'][..2]),
            frame(HEADERS, END_HEADERS, &[0x7f, 0xff, 0xff, 0xff, 0xff, 0xff]),
        ];
        for strange in strange {
            let block = frame(HEADERS, END_HEADERS, &block(0x41, "%2F"));
            let sent = connection(&[strange, block]);
            assert_eq!(pass(&sent, 5), sent);
        }
    }
}
