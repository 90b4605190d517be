//! Processes that do something together, each at the same time as the others.

use std::io::{BufRead as _, BufReader, Write as _};
use std::net::TcpStream;

use serde_json::{Value, json};
use sheaf_testkit::ProcessCommand;

use crate::error::{Error, Result};
use crate::process::Server;

/// One of them, which takes commands as `load mesh-…` does.
pub(super) struct Node {
    pid: String,
    address: String,
    commands: TcpStream,
    answers: BufReader<TcpStream>,
    /// Kept so that it ends with this.
    process: Server,
}

/// Has all do one round at once; what each answers.
pub(super) fn run(nodes: &mut [Node], round: u64, size: u64) -> Result<Vec<Value>> {
    let peers: Vec<String> = nodes.iter().map(|node| node.address.clone()).collect();
    for (index, node) in nodes.iter_mut().enumerate() {
        let command = json!({ "round": round, "index": index, "peers": peers, "size": size });
        writeln!(node.commands, "{command}").map_err(Error::io("ask a process"))?;
    }
    nodes.iter_mut().map(Node::answer).collect()
}

impl Node {
    pub(super) fn start(command: ProcessCommand) -> Result<Self> {
        let process = Server::start(command, None)?;
        let to = process.address().trim_start_matches("tcp://");
        let commands = TcpStream::connect(to).map_err(Error::io("reach a process"))?;
        let answers = commands.try_clone().map_err(Error::io("reach a process"))?;
        let (pid, answers) = (process.pid(), BufReader::new(answers));
        let mut node = Node { pid, address: String::new(), commands, answers, process };
        let said = node.answer()?;
        node.address = said["address"].as_str().unwrap_or_default().to_owned();
        Ok(node)
    }

    pub(super) fn pid(&self) -> &str {
        &self.pid
    }

    fn answer(&mut self) -> Result<Value> {
        let mut line = String::new();
        self.answers.read_line(&mut line).map_err(Error::io("hear from a process"))?;
        serde_json::from_str(&line).map_err(|_| {
            let said = self.process.process();
            Error::Message(format!("a process answers {line:?}: {}", said.stderr()))
        })
    }
}
