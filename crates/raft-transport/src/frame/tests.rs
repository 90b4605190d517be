//! Frames there and back, and bytes that are none.

use bytes::Bytes;
use proptest::collection::vec;
use proptest::prelude::*;
use sheaf_flight::Message;

use super::*;
use crate::Compression;
use crate::packet::Packet;

const LIMIT: usize = 1 << 20;
const ENDS: Ends = Ends { cluster: 7, from: 1, to: 2 };

fn packets() -> impl Strategy<Value = Vec<Packet>> {
    let bytes = || prop_oneof![Just(Vec::new()), vec(any::<u8>(), 0..40), vec(0..3_u8, 0..9_000)];
    let packet = (vec(any::<u8>(), 0..40), vec(bytes(), 0..4)).prop_map(|(meta, payloads)| {
        Packet { meta: meta.into(), payloads: payloads.into_iter().map(Bytes::from).collect() }
    });
    vec(packet, 1..6)
}

fn compression() -> impl Strategy<Value = Compression> {
    prop_oneof![
        Just(Compression::Off),
        Just(Compression::Zstd { level: 1, from_bytes: 0 }),
        Just(Compression::default()),
    ]
}

/// The bytes of a message and where its body begins, to be bent.
fn flat(message: &Message) -> (Vec<u8>, usize) {
    (join(message).to_vec(), message.app_metadata.len())
}

fn unflat(bytes: &[u8], at: usize) -> Message {
    let (metadata, body) = bytes.split_at(at.min(bytes.len()));
    let body = if body.is_empty() { vec![] } else { vec![Bytes::copy_from_slice(body)] };
    Message { app_metadata: Bytes::copy_from_slice(metadata), body, ..Message::default() }
}

/// With a checksum that is right: what is behind it has to be refused by itself.
fn sealed_again(bytes: &[u8], at: usize) -> Message {
    let message = unflat(bytes, at);
    let mut metadata = message.app_metadata.to_vec();
    seal(&mut metadata, &message.header, &message.body);
    Message { app_metadata: metadata.into(), ..message }
}

proptest! {
    #[test]
    fn packets_come_back_as_they_went(
        all in vec((packets(), compression()), 1..4),
        in_one_piece: bool,
    ) {
        let mut order = Order::new(ENDS, 3, Kind::Request);
        let mut next = 0;
        for (packets, compression) in all {
            let mut packer = Packer::new(ENDS, 3, compression).from(next);
            let message = packer.frame(Kind::Request, &packets).message;
            let message = if in_one_piece { split(join(&message)).unwrap() } else { message };
            let frame = decode(message, LIMIT).unwrap();
            order.accept(&frame).unwrap();
            prop_assert!(order.accept(&frame).is_err(), "it came again");
            next += packets.len() as u64;
            prop_assert_eq!(frame.packets, packets);
        }
    }

    #[test]
    fn no_change_of_a_byte_gets_through(
        packets in packets(),
        compression in compression(),
        place: prop::sample::Index,
        bits in 1..=255_u8,
    ) {
        let message = Packer::new(ENDS, 3, compression).frame(Kind::Request, &packets).message;
        let (mut bytes, at) = flat(&message);
        let place = place.index(bytes.len());
        bytes[place] ^= bits;
        prop_assert!(decode(unflat(&bytes, at), LIMIT).is_err());
    }

    #[test]
    fn no_cut_gets_through(
        packets in packets(),
        compression in compression(),
        place: prop::sample::Index,
    ) {
        let message = Packer::new(ENDS, 3, compression).frame(Kind::Request, &packets).message;
        let (bytes, at) = flat(&message);
        let cut = &bytes[..place.index(bytes.len())];
        prop_assert!(decode(unflat(cut, at), LIMIT).is_err());
        prop_assert!(split(Bytes::copy_from_slice(cut)).and_then(|one| decode(one, LIMIT)).is_err());
    }

    #[test]
    fn bytes_under_a_right_checksum_are_read_or_refused(
        packets in packets(),
        compression in compression(),
        changes in vec((any::<prop::sample::Index>(), any::<u8>()), 1..8),
    ) {
        let message = Packer::new(ENDS, 3, compression).frame(Kind::Request, &packets).message;
        let (mut bytes, at) = flat(&message);
        for (place, byte) in changes {
            // Behind magic and version.
            let place = 5 + place.index(bytes.len() - 5);
            bytes[place] = byte;
        }
        if let Ok(frame) = decode(sealed_again(&bytes, at), LIMIT) {
            let held: usize = frame.packets.iter().map(Packet::len).sum();
            prop_assert!(held <= LIMIT);
            prop_assert_eq!(frame.packets.len(), frame.header.packets as usize);
        }
    }

    #[test]
    fn any_bytes_are_read_or_refused(bytes in vec(any::<u8>(), 0..300), at in 0..300_usize) {
        drop(decode(unflat(&bytes, at), LIMIT));
        drop(split(bytes.clone().into()));
        drop(Hello::read(bytes.into()));
    }
}

#[test]
fn what_does_not_get_smaller_is_left_alone_for_a_while() {
    let mut bits = 1_u64;
    let noise = std::iter::repeat_with(|| {
        bits = bits.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        bits.to_le_bytes()[7]
    });
    let noise = Packet { payloads: vec![noise.take(8_192).collect()], ..Packet::default() };
    let plain = Packet { payloads: vec![vec![0; 8_192].into()], ..Packet::default() };
    let mut packer = Packer::new(ENDS, 3, Compression::default());
    let mut is_compressed = |packet: &Packet| {
        packer.frame(Kind::Request, std::slice::from_ref(packet)).unpacked.is_some()
    };
    assert!(is_compressed(&plain));
    assert!(!is_compressed(&noise));
    // One is not tried, the next one is.
    assert!(!is_compressed(&plain));
    assert!(is_compressed(&plain));
    for _ in 0..300 {
        assert!(!is_compressed(&noise));
    }
    let skipped = std::iter::repeat_with(|| is_compressed(&plain)).take_while(|done| !done).count();
    assert!((2..=256).contains(&skipped), "{skipped}");
}

#[test]
fn a_body_that_unpacks_to_more_than_it_says_is_refused() {
    let packet = Packet { payloads: vec![vec![0; 100_000].into()], ..Packet::default() };
    let mut packer = Packer::new(ENDS, 3, Compression::default());
    let message = packer.frame(Kind::Request, &[packet]).message;
    let (mut bytes, at) = flat(&message);
    for says in [99_999_u32, 100_001, 10] {
        bytes[60..64].copy_from_slice(&says.to_le_bytes());
        let error = decode(sealed_again(&bytes, at), LIMIT).unwrap_err();
        assert!(matches!(error, crate::Error::Frame { reason: Reason::Malformed, .. }), "{error}");
    }
    bytes[60..64].copy_from_slice(&u32::MAX.to_le_bytes());
    let error = decode(sealed_again(&bytes, at), LIMIT).unwrap_err();
    assert!(matches!(error, crate::Error::Frame { reason: Reason::TooLarge, .. }), "{error}");
}

#[test]
fn payloads_are_not_copied_on_their_way_out() {
    let payload = Bytes::from(vec![1; 100_000]);
    let packet = Packet { payloads: vec![payload.clone()], ..Packet::of("meta") };
    let message = Packer::new(ENDS, 3, Compression::Off).frame(Kind::Request, &[packet]).message;
    assert_eq!(message.body[0].as_ptr(), payload.as_ptr());
    let frame = decode(message, LIMIT).unwrap();
    assert_eq!(frame.packets[0].payloads[0].as_ptr(), payload.as_ptr());
}
