//! Ways in for fuzz targets: frames as bytes.
//!
//! No part of the interface, and there with the feature `fuzzing` only.

use bytes::Bytes;
use sheaf_flight::Message;

use crate::frame::{self, Ends, Kind, Packer};
use crate::packet::Packet;
use crate::{Compression, Error};

/// The packets of a frame.
///
/// # Errors
/// As of every message of a stream.
pub fn decode(message: Message, limit: usize) -> Result<Vec<Packet>, Error> {
    frame::decode(message, limit).map(|frame| frame.packets)
}

/// The packets of the body of an action.
///
/// # Errors
/// As of every call.
pub fn decode_joined(body: Bytes, limit: usize) -> Result<Vec<Packet>, Error> {
    decode(frame::split(body)?, limit)
}

/// A frame of these packets, of which there is one at least.
pub fn encode(packets: &[Packet], compression: Compression) -> Message {
    let ends = Ends { cluster: 1, from: 2, to: 3 };
    Packer::new(ends, 4, compression).frame(Kind::Request, packets).message
}

/// The same as the body of an action.
pub fn join(message: &Message) -> Bytes {
    frame::join(message)
}

/// Gives a frame the checksum that its bytes have.
pub fn seal(message: &mut Message) {
    let mut metadata = message.app_metadata.to_vec();
    if frame::seal(&mut metadata, &message.header, &message.body) {
        message.app_metadata = metadata.into();
    }
}

/// Reads a hello.
///
/// # Errors
/// As of the first frame of a stream.
pub fn hello(bytes: Bytes) -> Result<String, Error> {
    frame::Hello::read(bytes).map(|hello| hello.cluster_id)
}
