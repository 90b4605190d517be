//! A raw socket: what the loopback of this machine gives at best.
//!
//! It does what a store and its client do with the same bytes, and nothing
//! else: what is sent comes from as much memory as the payload has, what is
//! put is kept in memory of its own, and what is got is read into one buffer
//! of the size of a batch, again and again.

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::time::{Duration, Instant};

use crate::error::{Error, Result};

/// What is written and read at once.
const BATCH: usize = 4 << 20;
/// What is there to be sent.
const STOCK: usize = 256 << 20;
/// Bit of a count that says that the client is the one who sends.
const PUT: u64 = 1 << 63;

/// Serves connections one after another until it is killed. Each says how many
/// bytes go which way (8 bytes, little-endian).
pub(crate) fn serve() -> Result<()> {
    let listener = TcpListener::bind("127.0.0.1:0").map_err(Error::io("listen"))?;
    let address = listener.local_addr().map_err(Error::io("name the port"))?;
    let stock = stock();
    println!("ready flight=tcp://{address}");
    let mut kept = Vec::new();
    for stream in listener.incoming() {
        let mut stream = stream.map_err(Error::io("accept"))?;
        let mut count = [0; 8];
        stream.read_exact(&mut count).map_err(Error::io("read the count"))?;
        let count = u64::from_le_bytes(count);
        if count & PUT == 0 {
            send(&mut stream, &stock, count)?;
            continue;
        }
        kept.clear();
        let mut left = usize::try_from(count & !PUT).unwrap_or(usize::MAX);
        while left > 0 {
            let size = left.min(BATCH);
            let mut batch = vec![0; size];
            stream.read_exact(&mut batch).map_err(Error::io("read"))?;
            kept.push(batch);
            left -= size;
        }
        stream.write_all(&[1]).map_err(Error::io("answer"))?;
    }
    Ok(())
}

/// Bytes to send.
pub(crate) fn stock() -> Vec<u8> {
    vec![0xA5; STOCK]
}

fn send(stream: &mut impl Write, stock: &[u8], count: u64) -> Result<()> {
    let mut left = usize::try_from(count).unwrap_or(usize::MAX);
    while left > 0 {
        for piece in stock[..left.min(stock.len())].chunks(BATCH) {
            stream.write_all(piece).map_err(Error::io("write"))?;
        }
        left -= left.min(stock.len());
    }
    Ok(())
}

fn connect(address: &str) -> Result<TcpStream> {
    let address = address.trim_start_matches("tcp://");
    let stream = TcpStream::connect(address).map_err(Error::io(format!("connect to {address}")))?;
    stream.set_nodelay(true).map_err(Error::io("set TCP_NODELAY"))?;
    Ok(stream)
}

/// Reads so many bytes from a server; gives how long it took.
pub(crate) fn read(address: &str, count: u64) -> Result<Duration> {
    let mut batch = vec![0; BATCH];
    let start = Instant::now();
    let mut stream = connect(address)?;
    stream.write_all(&count.to_le_bytes()).map_err(Error::io("ask for bytes"))?;
    let mut left = count;
    while left > 0 {
        let most = usize::try_from(left).unwrap_or(BATCH).min(BATCH);
        stream.read_exact(&mut batch[..most]).map_err(Error::io("read"))?;
        left -= most as u64;
    }
    Ok(start.elapsed())
}

/// Writes so many bytes to a server, which keeps them; gives how long it took.
pub(crate) fn write(address: &str, stock: &[u8], count: u64) -> Result<Duration> {
    let start = Instant::now();
    let mut stream = connect(address)?;
    stream.write_all(&(count | PUT).to_le_bytes()).map_err(Error::io("offer bytes"))?;
    send(&mut stream, stock, count)?;
    stream.read_exact(&mut [0]).map_err(Error::io("read the answer"))?;
    Ok(start.elapsed())
}
