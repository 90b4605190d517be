//! Raw TCP: a connection to each other process, a thread for each direction,
//! and nothing but bytes.

use std::io::{Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::thread;

use serde_json::json;

use super::{Command, Control};
use crate::error::{Error, Result};

/// What is written and read at once.
const PIECE: usize = 4 << 20;

/// What is there to be sent: as much as the batches of a shuffle take.
const STOCK: usize = 16 << 20;

pub(in crate::load) fn run() -> Result<()> {
    let listener = TcpListener::bind("127.0.0.1:0").map_err(Error::io("listen"))?;
    let address = listener.local_addr().map_err(Error::io("name the port"))?;
    let stock = vec![0xA5; STOCK];
    let mut control = Control::accept(&address.to_string())?;
    while let Some(command) = control.next()? {
        let bytes = round(&listener, &stock, &command)?;
        control.answer(&json!({ "bytes": bytes }))?;
    }
    Ok(())
}

/// Sends so much to each other process, and takes as much from each.
fn round(listener: &TcpListener, stock: &[u8], command: &Command) -> Result<u64> {
    let Command { index, peers, size, .. } = command;
    let others = peers.iter().enumerate().filter(|(at, _)| at != index).map(|(_, peer)| peer);
    thread::scope(|scope| {
        let senders: Vec<_> =
            others.map(|peer| scope.spawn(move || send(peer, stock, *size))).collect();
        let receivers = senders.iter().map(|_| {
            let (stream, _) = listener.accept().map_err(Error::io("accept"))?;
            Ok(scope.spawn(move || receive(stream, *size)))
        });
        let receivers: Vec<_> = receivers.collect::<Result<_>>()?;
        let lost = |_| Error::Message("a thread of a socket is gone".into());
        for receiver in receivers {
            receiver.join().map_err(lost)??;
        }
        let mut bytes = 0;
        for sender in senders {
            bytes += sender.join().map_err(lost)??;
        }
        Ok(bytes)
    })
}

fn send(peer: &str, stock: &[u8], size: u64) -> Result<u64> {
    let mut stream = TcpStream::connect(peer).map_err(Error::io(format!("connect to {peer}")))?;
    stream.set_nodelay(true).map_err(Error::io("set TCP_NODELAY"))?;
    let mut left = size;
    for piece in stock.chunks(PIECE).cycle() {
        let most = usize::try_from(left).unwrap_or(PIECE).min(piece.len());
        stream.write_all(&piece[..most]).map_err(Error::io("write"))?;
        left -= most as u64;
        if left == 0 {
            break;
        }
    }
    // It has everything once it says so.
    stream.read_exact(&mut [0]).map_err(Error::io("read the answer"))?;
    Ok(size)
}

fn receive(mut stream: TcpStream, size: u64) -> Result<()> {
    let mut piece = vec![0; PIECE];
    let mut left = size;
    while left > 0 {
        let most = usize::try_from(left).unwrap_or(PIECE).min(PIECE);
        stream.read_exact(&mut piece[..most]).map_err(Error::io("read"))?;
        left -= most as u64;
    }
    stream.write_all(&[1]).map_err(Error::io("answer"))
}
