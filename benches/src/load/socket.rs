//! Raw TCP: what the loopback of this machine gives at best.

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::time::{Duration, Instant};

use crate::error::{Error, Result};

/// What is written and read at once.
const PIECE: usize = 256 << 10;

/// Serves connections one after another until it is killed: reads a count of
/// bytes (8 of them, little-endian), writes that many.
pub(super) fn serve() -> Result<()> {
    let listener = TcpListener::bind("127.0.0.1:0").map_err(Error::io("listen"))?;
    let address = listener.local_addr().map_err(Error::io("name the port"))?;
    println!("ready flight=tcp://{address}");
    let piece = vec![0xA5; PIECE];
    for stream in listener.incoming() {
        let mut stream = stream.map_err(Error::io("accept"))?;
        let mut count = [0; 8];
        stream.read_exact(&mut count).map_err(Error::io("read the count"))?;
        let mut left = u64::from_le_bytes(count);
        while left > 0 {
            let size = usize::try_from(left).unwrap_or(usize::MAX).min(PIECE);
            stream.write_all(&piece[..size]).map_err(Error::io("write"))?;
            left -= size as u64;
        }
    }
    Ok(())
}

/// Reads so many bytes from a server; gives how long it took.
pub(super) fn read(address: &str, count: u64) -> Result<Duration> {
    let address = address.trim_start_matches("tcp://");
    let mut piece = vec![0; PIECE];
    let start = Instant::now();
    let mut stream =
        TcpStream::connect(address).map_err(Error::io(format!("connect to {address}")))?;
    stream.write_all(&count.to_le_bytes()).map_err(Error::io("ask for bytes"))?;
    let mut left = count;
    while left > 0 {
        match stream.read(&mut piece).map_err(Error::io("read"))? {
            0 => return Err(Error::Message(format!("the socket ended {left} bytes early"))),
            size => left = left.saturating_sub(size as u64),
        }
    }
    Ok(start.elapsed())
}
