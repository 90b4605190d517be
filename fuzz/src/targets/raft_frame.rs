//! Frames of the Raft transport, as a message and as the body of an action: what is
//! accepted is within its limit, and goes through a frame again as the same packets.

use bytes::Bytes;
use sheaf_flight::Message;
use sheaf_raft_transport::{Compression, Packet, fuzzing};

use super::support::{Input, push_chunk, refused};

/// What frames are made of.
pub(crate) const WORDS: &[&str] = &["SRFT\u{1}\u{2}", "\0\0\0\0", "(\u{b5}/", "\u{1}\u{1}test"];

/// The frame gets the checksum that its bytes have: otherwise nothing gets by it.
const SEALED: u8 = 1;
/// The body of an action in one piece.
const JOINED: u8 = 2;
/// Bytes of a frame.
const LIMIT: usize = 1 << 20;

const ZSTD: Compression = Compression::Zstd { level: 1, from_bytes: 1 };

/// Frames of few packets, compressed and not.
pub(crate) fn seeds() -> Vec<Vec<u8>> {
    let packet = |meta: &'static str, payloads: &[usize]| Packet {
        meta: Bytes::from_static(meta.as_bytes()),
        payloads: payloads.iter().map(|&bytes| vec![7; bytes].into()).collect(),
    };
    let frames = [
        vec![packet("vote", &[])],
        vec![packet("", &[100, 0, 300]), packet("append", &[1]), packet("", &[])],
    ];
    let mut seeds = Vec::new();
    for packets in &frames {
        for compression in [Compression::Off, ZSTD] {
            let message = fuzzing::encode(packets, compression);
            for flags in [0, SEALED] {
                let mut seed = vec![flags];
                push_chunk(&mut seed, &message.app_metadata);
                seed.extend(message.contiguous_body());
                seeds.push(seed);
            }
            let mut seed = vec![JOINED];
            seed.extend(fuzzing::join(&message));
            seeds.push(seed);
        }
    }
    seeds
}

/// Reads a frame, and makes one of what is in it.
pub(crate) fn run(data: &[u8]) -> bool {
    let mut input = Input::new(data);
    let flags = input.byte();
    drop(fuzzing::hello(Bytes::copy_from_slice(input.rest())));
    let read = if flags & JOINED == 0 {
        let app_metadata = Bytes::copy_from_slice(input.chunk());
        let body = vec![Bytes::copy_from_slice(input.rest())];
        let mut message = Message { app_metadata, body, ..Message::default() };
        if flags & SEALED != 0 {
            fuzzing::seal(&mut message);
        }
        fuzzing::decode(message, LIMIT)
    } else {
        fuzzing::decode_joined(Bytes::copy_from_slice(input.rest()), LIMIT)
    };
    let packets = match read {
        Ok(packets) => packets,
        Err(error) => {
            refused(&error);
            return false;
        }
    };
    let bytes: usize = packets.iter().map(Packet::len).sum();
    assert!(!packets.is_empty() && bytes <= LIMIT, "{} packets, {bytes} bytes", packets.len());
    for compression in [Compression::Off, ZSTD] {
        let message = fuzzing::encode(&packets, compression);
        let again = fuzzing::decode(message, 2 * LIMIT).expect("our own frame");
        assert_eq!(again, packets);
    }
    true
}
