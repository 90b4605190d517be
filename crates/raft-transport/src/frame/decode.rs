//! From frames to packets. The bytes come from outside: nothing in them is
//! believed, and nothing is allocated by what they say alone.

use bytes::{Buf as _, Bytes};
use sheaf_flight::Message;

use super::encode::checksum;
use super::{Ends, HEADER_BYTES, Header, MAX_PACKETS, Reason};
use crate::Error;
use crate::packet::Packet;

/// A frame whose bytes are those that were sent.
#[derive(Debug, PartialEq)]
pub(crate) struct Frame {
    pub(crate) header: Header,
    pub(crate) packets: Vec<Packet>,
}

/// Reads a frame of at most `limit` bytes, unpacked.
///
/// # Errors
/// Every [`Reason`] but those of its place in a stream.
pub(crate) fn decode(message: Message, limit: usize) -> Result<Frame, Error> {
    let header = Header::read(&message.app_metadata)?;
    let table = message.app_metadata.slice(HEADER_BYTES..);
    check_lengths(&header, table.len(), message.body_len(), limit)?;
    let around = std::iter::once(&message.header).chain(&message.body).map(|piece| &**piece);
    let found = checksum(&header.to_bytes(), &table, around);
    if found != header.checksum {
        return Err(Error::frame(
            Reason::Checksum,
            format!("its checksum is {:08x}, its bytes have {found:08x}", header.checksum),
        ));
    }
    // Of a bulk transfer the body is Arrow's.
    let body = match (message.header.is_empty(), header.is_compressed) {
        (false, _) => Bytes::new(),
        (true, false) => message.contiguous_body(),
        (true, true) => unpack(&message.contiguous_body(), header.unpacked_bytes as usize)?,
    };
    let is_bare = !message.header.is_empty();
    let packets = packets(&header, table, body, is_bare)?;
    Ok(Frame { header, packets })
}

/// The body of an action, as the message that it was joined of.
pub(crate) fn split(joined: Bytes) -> Result<Message, Error> {
    let table_bytes = Header::read(&joined)?.table_bytes as usize;
    let mut body = joined;
    let Some(metadata) = HEADER_BYTES.checked_add(table_bytes).filter(|end| *end <= body.len())
    else {
        let text = format!("{} bytes, its table alone has {table_bytes}", body.len());
        return Err(Error::frame(Reason::Truncated, text));
    };
    let app_metadata = body.split_to(metadata);
    let body = if body.is_empty() { Vec::new() } else { vec![body] };
    Ok(Message { app_metadata, body, ..Message::default() })
}

fn check_lengths(header: &Header, table: usize, body: usize, limit: usize) -> Result<(), Error> {
    let wrong = |text: String| Err(Error::frame(Reason::Truncated, text));
    if table != header.table_bytes as usize {
        return wrong(format!("its table has {table} bytes of {}", header.table_bytes));
    }
    if body != header.body_bytes as usize {
        return wrong(format!("its body has {body} bytes of {}", header.body_bytes));
    }
    let unpacked = header.unpacked_bytes as usize;
    if !header.is_compressed && unpacked != body {
        let text = format!("{body} bytes that are not compressed are said to be {unpacked}");
        return Err(Error::frame(Reason::Malformed, text));
    }
    let whole = table.saturating_add(unpacked);
    if whole > limit {
        let text = format!(
            "it has {whole} bytes, this node takes {limit}; is max_message_bytes the same on all nodes?"
        );
        return Err(Error::frame(Reason::TooLarge, text));
    }
    if header.packets == 0 {
        return Err(Error::frame(Reason::Malformed, "it has no packets"));
    }
    if header.packets as usize > MAX_PACKETS {
        let text = format!("it has {} packets, {MAX_PACKETS} are allowed", header.packets);
        return Err(Error::frame(Reason::TooLarge, text));
    }
    Ok(())
}

/// `length` was held against the limit before.
fn unpack(body: &[u8], length: usize) -> Result<Bytes, Error> {
    let wrong = |text: String| Error::frame(Reason::Malformed, text);
    let unpacked = zstd::bulk::decompress(body, length)
        .map_err(|error| wrong(format!("its body cannot be unpacked: {error}")))?;
    match unpacked.len() == length {
        true => Ok(unpacked.into()),
        false => Err(wrong(format!("its body unpacks to {} bytes of {length}", unpacked.len()))),
    }
}

/// `is_bare`: the body is not the packets'.
fn packets(
    header: &Header,
    mut table: Bytes,
    mut body: Bytes,
    is_bare: bool,
) -> Result<Vec<Packet>, Error> {
    let mut packets = Vec::with_capacity(header.packets as usize);
    let mut metas = Vec::with_capacity(header.packets as usize);
    for _ in 0..header.packets {
        metas.push(length(&mut table)?);
        let count = length(&mut table)?;
        // Each has four bytes in the table.
        if count > table.len() / 4 {
            return Err(short("table"));
        }
        let mut payloads = Vec::with_capacity(count);
        for _ in 0..count {
            let bytes = length(&mut table)?;
            payloads.push(cut(&mut body, bytes, "body")?);
        }
        packets.push(Packet { meta: Bytes::new(), payloads });
    }
    for (packet, bytes) in packets.iter_mut().zip(metas) {
        packet.meta = cut(&mut table, bytes, "table")?;
    }
    if !table.is_empty() || !(body.is_empty() || is_bare) {
        let text = format!("{} bytes belong to no packet", table.len() + body.len());
        return Err(Error::frame(Reason::Malformed, text));
    }
    Ok(packets)
}

fn length(table: &mut Bytes) -> Result<usize, Error> {
    let number = table.try_get_u32_le().map_err(|_| short("table"))?;
    Ok(number as usize)
}

fn cut(bytes: &mut Bytes, length: usize, of: &str) -> Result<Bytes, Error> {
    if length > bytes.len() {
        return Err(short(of));
    }
    Ok(bytes.split_to(length))
}

fn short(of: &str) -> Error {
    Error::frame(Reason::Malformed, format!("its {of} ends before its packets do"))
}

impl Frame {
    /// Whether it is for this node, of this cluster.
    ///
    /// # Errors
    /// [`Reason::Cluster`], [`Reason::Node`].
    pub(crate) fn check(&self, expected: Ends) -> Result<(), Error> {
        let found = self.header.ends;
        if found.cluster != expected.cluster {
            return Err(Error::frame(Reason::Cluster, "it belongs to another cluster"));
        }
        if found.to != expected.to {
            let text = format!(
                "it is for node {}, this is node {}; are the addresses of the nodes right?",
                found.to, expected.to
            );
            return Err(Error::frame(Reason::Node, text));
        }
        if found.from != expected.from {
            let text = format!("it is from node {}, its stream from {}", found.from, expected.from);
            return Err(Error::frame(Reason::Node, text));
        }
        Ok(())
    }
}
