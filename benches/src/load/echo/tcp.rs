//! Frames over one connection, each with its length before it: what this machine's
//! loopback gives to who sends messages and does nothing else.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::sync::mpsc;
use std::time::Instant;

use super::measure::{Measured, Phase, phases, since};
use crate::error::{Error, Result};

/// Small messages are sent together when they are there together.
const BUFFER: usize = 64 << 10;

/// Serves connections one after another until it is killed.
pub(super) fn serve() -> Result<()> {
    let listener = TcpListener::bind("127.0.0.1:0").map_err(Error::io("listen"))?;
    let address = listener.local_addr().map_err(Error::io("name the port"))?;
    println!("ready flight=tcp://{address}");
    for stream in listener.incoming() {
        let stream = stream.map_err(Error::io("accept"))?;
        // A client that goes away ends its connection.
        if let Err(error) = echo(&stream) {
            eprintln!("a connection ended: {error}");
        }
    }
    Ok(())
}

fn echo(stream: &TcpStream) -> Result<()> {
    stream.set_nodelay(true).map_err(Error::io("set TCP_NODELAY"))?;
    let mut reader = BufReader::with_capacity(BUFFER, stream);
    let mut answers = Answers { stream, buffer: Vec::with_capacity(BUFFER) };
    let mut message = Vec::new();
    loop {
        if reader.buffer().is_empty() {
            answers.flush()?;
            if reader.fill_buf().map_err(Error::io("read"))?.is_empty() {
                return Ok(());
            }
        }
        read(&mut reader, &mut message)?;
        answers.push(&message)?;
    }
}

/// Answers that wait to be sent together.
struct Answers<'a> {
    stream: &'a TcpStream,
    buffer: Vec<u8>,
}

impl Answers<'_> {
    fn push(&mut self, message: &[u8]) -> Result<()> {
        self.buffer.extend_from_slice(&length(message));
        if message.len() < BUFFER {
            self.buffer.extend_from_slice(message);
            return if self.buffer.len() >= BUFFER { self.flush() } else { Ok(()) };
        }
        self.flush()?;
        self.stream.write_all(message).map_err(Error::io("write"))
    }

    fn flush(&mut self) -> Result<()> {
        self.stream.write_all(&self.buffer).map_err(Error::io("write"))?;
        self.buffer.clear();
        Ok(())
    }
}

fn length(message: &[u8]) -> [u8; 4] {
    u32::try_from(message.len()).unwrap_or(u32::MAX).to_le_bytes()
}

fn read(reader: &mut BufReader<&TcpStream>, message: &mut Vec<u8>) -> Result<()> {
    let mut length = [0; 4];
    reader.read_exact(&mut length).map_err(Error::io("read a length"))?;
    message.resize(u32::from_le_bytes(length) as usize, 0);
    reader.read_exact(message).map_err(Error::io("read a message"))
}

/// One thread writes, another reads; what was sent and is not back is what waits between
/// them.
pub(super) fn drive(
    server: &str,
    pids: &[String],
    size: usize,
    depth: usize,
    seconds: f64,
) -> Result<Measured> {
    let server = server.trim_start_matches("tcp://");
    let stream = TcpStream::connect(server).map_err(Error::io(format!("connect to {server}")))?;
    stream.set_nodelay(true).map_err(Error::io("set TCP_NODELAY"))?;
    let phase = Phase::default();
    // One more is in the hands of who sends, and one in those of who reads.
    let (sent, waiting) = mpsc::sync_channel(depth.saturating_sub(2));
    std::thread::scope(|scope| {
        if depth == 1 {
            let pings = scope.spawn(|| ping(&stream, &phase, size));
            let (seconds, cpu_seconds) = phases(&phase, pids, seconds)?;
            return Ok(Measured { nanoseconds: joined(pings)?, seconds, cpu_seconds });
        }
        let (stream, phase) = (&stream, &phase);
        let writer = scope.spawn(move || write(stream, phase, sent, size));
        let reader = scope.spawn(move || receive(stream, phase, &waiting));
        let (seconds, cpu_seconds) = phases(phase, pids, seconds)?;
        let nanoseconds = joined(reader)?;
        joined(writer)?;
        Ok(Measured { nanoseconds, seconds, cpu_seconds })
    })
}

fn joined<T>(thread: std::thread::ScopedJoinHandle<'_, Result<T>>) -> Result<T> {
    thread.join().map_err(|_| Error::Message("a thread of a socket is gone".into()))?
}

/// One message after the other.
fn ping(stream: &TcpStream, phase: &Phase, size: usize) -> Result<Vec<u32>> {
    let mut reader = BufReader::with_capacity(BUFFER, stream);
    let mut requests = Answers { stream, buffer: Vec::with_capacity(BUFFER) };
    let (sent, mut message, mut nanoseconds) = (super::message(size), Vec::new(), Vec::new());
    while !phase.is_over() {
        let (counts, start) = (phase.counts(), Instant::now());
        requests.push(&sent)?;
        requests.flush()?;
        read(&mut reader, &mut message)?;
        if counts && phase.counts() {
            nanoseconds.push(since(start));
        }
    }
    Ok(nanoseconds)
}

/// What was sent, and whether it counts.
type Sent = (Instant, bool);

fn write(
    stream: &TcpStream,
    phase: &Phase,
    sent: mpsc::SyncSender<Sent>,
    size: usize,
) -> Result<()> {
    let message = super::message(size);
    let mut requests = Answers { stream, buffer: Vec::with_capacity(BUFFER) };
    while !phase.is_over() {
        requests.push(&message)?;
        let entry = (Instant::now(), phase.counts());
        match sent.try_send(entry) {
            Ok(()) => {}
            Err(mpsc::TrySendError::Full(entry)) => {
                requests.flush()?;
                if sent.send(entry).is_err() {
                    return Ok(());
                }
            }
            Err(mpsc::TrySendError::Disconnected(_)) => return Ok(()),
        }
    }
    requests.flush()
}

fn receive(stream: &TcpStream, phase: &Phase, waiting: &mpsc::Receiver<Sent>) -> Result<Vec<u32>> {
    let mut reader = BufReader::with_capacity(BUFFER, stream);
    let (mut message, mut nanoseconds) = (Vec::new(), Vec::new());
    while let Ok((start, counts)) = waiting.recv() {
        read(&mut reader, &mut message)?;
        if counts && phase.counts() {
            nanoseconds.push(since(start));
        }
    }
    Ok(nanoseconds)
}
