//! Clients that mean harm.

use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use super::peer::{
    CONTINUATION, DATA, END_HEADERS, END_STREAM, HEADERS, PING, Peer, RESET, SETTINGS, WINDOW,
    descriptor, field, frame, headers, message, prefix,
};
use crate::bad_input::sound;

/// Just under the largest message of a server with 256 MB.
const LARGE: usize = 60_000_000;
/// What of a body is sent before the client falls silent.
const BODY_PART: usize = 10_000_000;
/// What is sent of other messages.
const PART: usize = 3_000_000;
/// Header fields of a call that is heavy by them alone.
const HEAVY: usize = 900;
/// What one connection sends at most of anything that is refused.
const MANY: u32 = 2_000;

/// What clients do: each of these by its number, one after the other.
pub(crate) const WAYS: usize = 18;

/// How long a client without an answer stays before it comes anew.
const STAY: Duration = Duration::from_millis(200);

/// One connection that does it its way, then stays for as long as the server
/// lets it where `way` is one that waits.
pub(crate) async fn harm(address: SocketAddr, way: usize) -> io::Result<()> {
    let open = i32::MAX.unsigned_abs();
    match way {
        0 => stay(Peer::connect(address).await?).await,
        1 => stay(Peer::greeted(address, 65_535).await?).await,
        2 => {
            let peer = Peer::greeted(address, 65_535).await?;
            peer.call(1, "DoPut", &[]).await?;
            stay(peer).await
        }
        3 => within(address, &prefix(1 << 20)[..3]).await,
        4 | 5 => within(address, &large_body()).await,
        6 => within_action(address).await,
        7 => unread(address, "batches/long", 0).await,
        8 => unread(address, "batches/long", 65_535).await,
        9 => unread(address, "batches/bomb?columns=n", open).await,
        10 => heavy(address).await,
        11 => between(address).await,
        12 => resets(address).await,
        13 => no_frames(address).await,
        14 => lengths(address).await,
        15 => tiny(address).await,
        16 => questions(address).await,
        _ => no_messages(address).await,
    }
}

/// Stays for a while with a connection that it said all on.
pub(crate) async fn linger(time: Duration) {
    // sleep: what the server answers is nothing these clients wait for.
    tokio::time::sleep(time).await;
}

/// Whether a client of this way is one that waits.
pub(crate) fn waits(way: usize) -> bool {
    way < 12
}

/// Stays connected, and answers pings, for ever.
async fn stay(mut peer: Peer) -> io::Result<()> {
    peer.read();
    std::future::pending().await
}

/// A put whose message ends within itself.
async fn within(address: SocketAddr, bytes: &[u8]) -> io::Result<()> {
    let mut peer = Peer::greeted(address, 65_535).await?;
    peer.read();
    peer.call(1, "DoPut", &[]).await?;
    peer.body(1, bytes).await?;
    stay(peer).await
}

/// A schema, and of a large record batch the beginning.
fn large_body() -> Vec<u8> {
    let sound = sound();
    let schema = [descriptor("harm"), field(2, sound[0].header.len(), &sound[0].header)];
    let header = &sound[2].header;
    let batch = [field(2, header.len(), header), field(1_000, LARGE, &[])].concat();
    let length = u32::try_from(batch.len() + LARGE).unwrap();
    [message(&schema), prefix(length), batch, vec![7; BODY_PART]].concat()
}

/// The same of an action, which is one message of gRPC's own codec.
async fn within_action(address: SocketAddr) -> io::Result<()> {
    let mut peer = Peer::greeted(address, 65_535).await?;
    peer.read();
    peer.call(1, "DoAction", &[]).await?;
    let body = [prefix(u32::try_from(LARGE).unwrap()), field(2, LARGE, &[])].concat();
    peer.body(1, &[body, vec![7; PART]].concat()).await?;
    stay(peer).await
}

/// Asks for payloads, many times, and reads none.
async fn unread(address: SocketAddr, ticket: &str, window: u32) -> io::Result<()> {
    let mut peer = Peer::greeted(address, window).await?;
    peer.read();
    let ask = message(&[field(1, ticket.len(), ticket.as_bytes())]);
    for number in 0..4 {
        let stream = 2 * number + 1;
        peer.call(stream, "DoGet", &[]).await?;
        peer.frame(DATA, END_STREAM, stream, &ask).await?;
    }
    stay(peer).await
}

/// Calls with as many headers as there may be, left open.
async fn heavy(address: SocketAddr) -> io::Result<()> {
    let mut peer = Peer::greeted(address, 65_535).await?;
    peer.read();
    let block = headers("DoPut", &vec![("x", "y"); HEAVY]);
    for number in 0..60 {
        peer.frame(HEADERS, END_HEADERS, 2 * number + 1, &block).await?;
    }
    stay(peer).await
}

/// A put that falls silent between two messages.
async fn between(address: SocketAddr) -> io::Result<()> {
    let sound = sound();
    let schema =
        message(&[descriptor("between"), field(2, sound[0].header.len(), &sound[0].header)]);
    let note = message(&[field(3, PART, &vec![b'x'; PART])]);
    within(address, &[schema, note].concat()).await
}

/// Opens streams and resets them at once.
async fn resets(address: SocketAddr) -> io::Result<()> {
    let mut peer = Peer::greeted(address, 65_535).await?;
    peer.read();
    let block = headers("DoGet", &[]);
    for number in 0..MANY {
        let stream = 2 * number + 1;
        let flood =
            [frame(HEADERS, END_HEADERS, stream, &block), frame(RESET, 0, stream, &[0, 0, 0, 8])];
        peer.raw(&flood.concat()).await?;
    }
    linger(STAY).await;
    Ok(())
}

/// What HTTP/2 does not allow, each on a connection of its own.
async fn no_frames(address: SocketAddr) -> io::Result<()> {
    let block = headers("DoGet", &[]);
    let open = frame(HEADERS, 0, 1, &block);
    let wrong = [
        vec![0xff; 4_096],
        frame(DATA, 0, 1, b"of no stream"),
        frame(SETTINGS, 0, 0, b"12345"),
        frame(SETTINGS, 0, 0, &[0, 4, 0xff, 0xff, 0xff, 0xff]),
        frame(WINDOW, 0, 0, &[0, 0, 0, 0]),
        frame(WINDOW, 0, 0, &[0x7f, 0xff, 0xff, 0xff]),
        frame(HEADERS, END_HEADERS, 2, &block),
        frame(HEADERS, END_HEADERS, 1, &[0xff; 100]),
        [open.clone(), frame(DATA, 0, 1, b"within headers")].concat(),
        [open, frame(CONTINUATION, 0, 1, &[0; 16_000]).repeat(100)].concat(),
        // A frame of 16 MB, and its beginning.
        [&[0xff, 0xff, 0xff, DATA, 0, 0, 0, 0, 1][..], &[0; 60_000]].concat(),
    ];
    for wrong in wrong {
        let mut peer = Peer::greeted(address, 65_535).await?;
        peer.read();
        // The server may have closed it by now: that is what is asked for.
        drop(peer.raw(&wrong).await);
        linger(STAY / 10).await;
    }
    Ok(())
}

/// Messages that are longer or shorter than they say, or compressed.
async fn lengths(address: SocketAddr) -> io::Result<()> {
    let schema = &sound()[0].header;
    let wrong: [Vec<u8>; 7] = [
        prefix(1 << 31),
        prefix(u32::MAX),
        [&[1][..], &prefix(100)[1..], &[0x1f, 0x8b, 8, 0]].concat(),
        [prefix(10), field(1_000, 1 << 40, b"x")].concat(),
        [prefix(4), field(1_000, LARGE, b"x")].concat(),
        [prefix(100), field(2, schema.len(), schema)].concat(),
        message(&[vec![0xff; 40]]),
    ];
    let mut peer = Peer::greeted(address, 65_535).await?;
    peer.read();
    for (number, wrong) in (0..).zip(&wrong) {
        let encoding = [("grpc-encoding", "gzip")];
        for (more, offset) in [(&[][..], 0), (&encoding[..], 2)] {
            let stream = 4 * number + 1 + offset;
            peer.call(stream, "DoPut", more).await?;
            peer.frame(DATA, END_STREAM, stream, wrong).await?;
        }
    }
    linger(STAY).await;
    Ok(())
}

/// Frames with one byte each, and with none.
async fn tiny(address: SocketAddr) -> io::Result<()> {
    let mut peer = Peer::greeted(address, 65_535).await?;
    peer.read();
    peer.call(1, "DoPut", &[]).await?;
    peer.frame(DATA, 0, 1, &prefix(1 << 20)).await?;
    let frames = [frame(DATA, 0, 1, b"x"), frame(DATA, 0, 1, b"")].concat().repeat(100);
    for _ in 0..MANY / 100 {
        peer.raw(&frames).await?;
    }
    linger(STAY).await;
    Ok(())
}

/// Asks and asks, and reads no answer.
async fn questions(address: SocketAddr) -> io::Result<()> {
    let peer = Peer::greeted(address, 65_535).await?;
    let flood = [frame(PING, 0, 0, &[1; 8]), frame(SETTINGS, 0, 0, &[])].concat().repeat(500);
    for _ in 0..MANY / 100 {
        let sent = tokio::time::timeout(STAY, peer.raw(&flood)).await;
        if sent.is_err() {
            break;
        }
        sent.unwrap()?;
    }
    Ok(())
}

/// Whole messages that are no Arrow: cut headers, and headers with each byte
/// turned around.
async fn no_messages(address: SocketAddr) -> io::Result<()> {
    let mut peer = Peer::greeted(address, 65_535).await?;
    peer.read();
    let sound = sound();
    let schema = message(&[descriptor("none"), field(2, sound[0].header.len(), &sound[0].header)]);
    let (header, body) = (&sound[2].header, sound[2].contiguous_body());
    for (number, at) in (0..).zip((0..header.len()).step_by(7)) {
        let mut wrong = header.to_vec();
        wrong[at] ^= 0xff;
        if at % 2 == 0 {
            wrong.truncate(at);
        }
        let batch = message(&[field(2, wrong.len(), &wrong), field(1_000, body.len(), &body)]);
        let stream = 2 * number + 1;
        peer.call(stream, "DoPut", &[]).await?;
        peer.frame(DATA, END_STREAM, stream, &[&schema[..], &batch].concat()).await?;
    }
    linger(STAY).await;
    Ok(())
}
