//! A client that speaks HTTP/2 by hand, and as it likes.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::sync::{Mutex, Notify};
use tokio::task::JoinHandle;

pub(crate) const DATA: u8 = 0;
pub(crate) const HEADERS: u8 = 1;
pub(crate) const RESET: u8 = 3;
pub(crate) const SETTINGS: u8 = 4;
pub(crate) const PING: u8 = 6;
pub(crate) const WINDOW: u8 = 8;
pub(crate) const CONTINUATION: u8 = 9;
pub(crate) const END_STREAM: u8 = 1;
pub(crate) const END_HEADERS: u8 = 4;

const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

/// One connection. It answers pings for as long as it reads, and never grants
/// a window that its first settings did not.
pub(crate) struct Peer {
    writer: Arc<Mutex<OwnedWriteHalf>>,
    reader: Option<OwnedReadHalf>,
    reading: Option<JoinHandle<()>>,
    sent: i64,
    granted: Arc<Granted>,
}

/// How much the server lets it send.
struct Granted {
    connection: AtomicI64,
    stream: AtomicI64,
    more: Notify,
}

impl Peer {
    pub(crate) async fn connect(address: SocketAddr) -> io::Result<Self> {
        let (reader, writer) = TcpStream::connect(address).await?.into_split();
        let (connection, stream) = (AtomicI64::new(65_535), AtomicI64::new(65_535));
        let granted = Arc::new(Granted { connection, stream, more: Notify::new() });
        let writer = Arc::new(Mutex::new(writer));
        Ok(Peer { writer, reader: Some(reader), reading: None, sent: 0, granted })
    }

    /// A connection that has said hello: `window` is that of each stream to it.
    pub(crate) async fn greeted(address: SocketAddr, window: u32) -> io::Result<Self> {
        let mut peer = Self::connect(address).await?;
        peer.greet(window).await?;
        Ok(peer)
    }

    pub(crate) async fn greet(&mut self, window: u32) -> io::Result<()> {
        self.raw(PREFACE).await?;
        let setting = [&[0, 4][..], &window.to_be_bytes()].concat();
        self.frame(SETTINGS, 0, 0, &setting).await
    }

    /// Reads from now on, and throws away what comes.
    pub(crate) fn read(&mut self) {
        let Some(reader) = self.reader.take() else { return };
        let (writer, granted) = (Arc::clone(&self.writer), Arc::clone(&self.granted));
        self.reading = Some(tokio::spawn(async move {
            // Ends when the server closes.
            drop(answer(reader, &writer, &granted).await);
            granted.connection.store(i64::MAX / 2, Ordering::Relaxed);
            granted.stream.store(i64::MAX / 2, Ordering::Relaxed);
            granted.more.notify_waiters();
        }));
    }

    pub(crate) async fn raw(&self, bytes: &[u8]) -> io::Result<()> {
        self.writer.lock().await.write_all(bytes).await
    }

    pub(crate) async fn frame(
        &self,
        kind: u8,
        flags: u8,
        stream: u32,
        payload: &[u8],
    ) -> io::Result<()> {
        self.raw(&frame(kind, flags, stream, payload)).await
    }

    /// The headers of a call.
    pub(crate) async fn call(
        &self,
        stream: u32,
        method: &str,
        more: &[(&str, &str)],
    ) -> io::Result<()> {
        self.frame(HEADERS, END_HEADERS, stream, &headers(method, more)).await
    }

    /// Sends as much as the server takes: what it owes to nobody's window.
    pub(crate) async fn body(&mut self, stream: u32, bytes: &[u8]) -> io::Result<()> {
        for piece in bytes.chunks(16_000) {
            let length = i64::try_from(piece.len()).unwrap_or(0);
            loop {
                let mut more = std::pin::pin!(self.granted.more.notified());
                more.as_mut().enable();
                let most = self.granted.connection.load(Ordering::Relaxed);
                let most = most.min(self.granted.stream.load(Ordering::Relaxed));
                if self.sent + length <= most {
                    break;
                }
                more.await;
            }
            self.sent += length;
            self.frame(DATA, 0, stream, piece).await?;
        }
        Ok(())
    }
}

impl Drop for Peer {
    fn drop(&mut self) {
        if let Some(reading) = &self.reading {
            reading.abort();
        }
    }
}

/// Answers settings and pings, and counts the windows.
async fn answer(
    mut reader: OwnedReadHalf,
    writer: &Mutex<OwnedWriteHalf>,
    granted: &Granted,
) -> io::Result<()> {
    let mut head = [0; 9];
    loop {
        reader.read_exact(&mut head).await?;
        let length = u32::from_be_bytes([0, head[0], head[1], head[2]]) as usize;
        let stream = u32::from_be_bytes([head[5], head[6], head[7], head[8]]);
        let mut payload = vec![0; length];
        reader.read_exact(&mut payload).await?;
        let number = |bytes: &[u8]| bytes.try_into().map_or(0, u32::from_be_bytes);
        match (head[3], head[4]) {
            (SETTINGS, 0) => {
                for setting in payload.chunks_exact(6).filter(|setting| setting[..2] == [0, 4]) {
                    granted.stream.store(i64::from(number(&setting[2..])), Ordering::Relaxed);
                }
                writer.lock().await.write_all(&frame(SETTINGS, 1, 0, &[])).await?;
            }
            (PING, 0) => writer.lock().await.write_all(&frame(PING, 1, 0, &payload)).await?,
            (WINDOW, _) => {
                let window = if stream == 0 { &granted.connection } else { &granted.stream };
                window.fetch_add(i64::from(number(&payload)), Ordering::Relaxed);
            }
            _ => {}
        }
        granted.more.notify_waiters();
    }
}

pub(crate) fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let length = u32::try_from(payload.len()).unwrap_or(u32::MAX).to_be_bytes();
    let head = [length[1], length[2], length[3], kind, flags];
    [&head[..], &stream.to_be_bytes(), payload].concat()
}

/// A block of headers, each spelt out.
pub(crate) fn headers(method: &str, more: &[(&str, &str)]) -> Vec<u8> {
    let path = format!("/arrow.flight.protocol.FlightService/{method}");
    let first = [
        (":method", "POST"),
        (":scheme", "http"),
        (":path", path.as_str()),
        (":authority", "localhost"),
        ("content-type", "application/grpc"),
        ("te", "trailers"),
    ];
    let mut block = Vec::new();
    for (name, value) in first.iter().chain(more) {
        block.push(0);
        text(name, &mut block);
        text(value, &mut block);
    }
    block
}

/// A text of a header block: its length in seven bits and more, then itself.
fn text(text: &str, block: &mut Vec<u8>) {
    match text.len() {
        short @ 0..127 => block.push(u8::try_from(short).unwrap_or(0)),
        long => {
            block.push(127);
            varint((long - 127) as u64, block);
        }
    }
    block.extend_from_slice(text.as_bytes());
}

/// A number as protobuf and header blocks have it.
pub(crate) fn varint(mut number: u64, bytes: &mut Vec<u8>) {
    while number > 127 {
        bytes.push((number & 127) as u8 | 128);
        number >>= 7;
    }
    bytes.push(u8::try_from(number).unwrap_or(0));
}

/// gRPC's prefix of a message that says to be so long.
pub(crate) fn prefix(length: u32) -> Vec<u8> {
    [&[0][..], &length.to_be_bytes()].concat()
}

/// A field of bytes, with a length that may be a lie.
pub(crate) fn field(number: u32, length: usize, value: &[u8]) -> Vec<u8> {
    let mut bytes = Vec::new();
    varint(u64::from(number << 3 | 2), &mut bytes);
    varint(length as u64, &mut bytes);
    bytes.extend_from_slice(value);
    bytes
}

/// A gRPC message that is what it says.
pub(crate) fn message(fields: &[Vec<u8>]) -> Vec<u8> {
    let body = fields.concat();
    [prefix(u32::try_from(body.len()).unwrap_or(u32::MAX)), body].concat()
}

/// A descriptor of `["batches", id]`, as the field of a message.
pub(crate) fn descriptor(id: &str) -> Vec<u8> {
    let path = |part: &str| field(3, part.len(), part.as_bytes());
    let descriptor = [vec![8, 1], path("batches"), path(id)].concat();
    field(1, descriptor.len(), &descriptor)
}
