//! One of several processes that send to each other, all at once.
//!
//! It takes commands over a connection of its own, a line of JSON each; before
//! the first it says there by which address the others reach it.

pub(super) mod shuffle;
pub(super) mod socket;

use std::io::{BufRead as _, BufReader, Write as _};
use std::net::{TcpListener, TcpStream};

use serde_json::{Value, json};

use crate::error::{Error, Result};

/// The connection to the comparison.
pub(super) struct Control {
    commands: BufReader<TcpStream>,
    answers: TcpStream,
}

/// What a process is to do: send to all others, and take what they send.
pub(super) struct Command {
    /// From 1; one begins when all processes have ended the one before.
    pub(super) round: u64,
    /// Which of the addresses is its own.
    pub(super) index: usize,
    pub(super) peers: Vec<String>,
    /// Batches that are partitioned, or bytes that are sent to each.
    pub(super) size: u64,
}

impl Control {
    pub(super) fn accept(address: &str) -> Result<Self> {
        let listener = TcpListener::bind("127.0.0.1:0").map_err(Error::io("listen"))?;
        let port = listener.local_addr().map_err(Error::io("name the port"))?;
        println!("ready flight=tcp://{port}");
        let (stream, _) = listener.accept().map_err(Error::io("accept"))?;
        let answers = stream.try_clone().map_err(Error::io("answer"))?;
        let mut control = Control { commands: BufReader::new(stream), answers };
        control.answer(&json!({ "address": address }))?;
        Ok(control)
    }

    pub(super) fn answer(&mut self, answer: &Value) -> Result<()> {
        writeln!(self.answers, "{answer}").map_err(Error::io("answer"))
    }

    /// `None` once the comparison goes away.
    pub(super) fn next(&mut self) -> Result<Option<Command>> {
        let mut line = String::new();
        let read = self.commands.read_line(&mut line).map_err(Error::io("read a command"))?;
        if read == 0 {
            return Ok(None);
        }
        parse(&line).map(Some).ok_or_else(|| Error::Message(format!("no command: {line}")))
    }
}

fn parse(line: &str) -> Option<Command> {
    let command: Value = serde_json::from_str(line).ok()?;
    let peers = command["peers"].as_array()?.iter().map(|peer| Some(peer.as_str()?.to_owned()));
    Some(Command {
        round: command["round"].as_u64().filter(|round| *round > 0)?,
        index: usize::try_from(command["index"].as_u64()?).ok()?,
        peers: peers.collect::<Option<_>>()?,
        size: command["size"].as_u64()?,
    })
}

#[cfg(test)]
mod tests {
    use super::parse;

    #[test]
    fn a_command_has_all_of_its_parts() {
        let line = r#"{"round":2,"index":1,"peers":["a","b"],"size":7}"#;
        let command = parse(line).unwrap();
        assert_eq!((command.round, command.index, command.size), (2, 1, 7));
        assert_eq!(command.peers, ["a", "b"]);
        assert!(parse(r#"{"round":2,"index":1,"peers":["a",1],"size":7}"#).is_none());
        assert!(parse(r#"{"round":2}"#).is_none());
    }
}
