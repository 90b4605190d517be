//! Another engine than Raft over the same transport: three nodes agree on a value by
//! a two-phase vote, in which any of them may propose. It needs nothing but the four
//! calls of `RaftTransport`.
//!
//! ```text
//! cargo run -p sheaf-examples --example raft_other_engine
//! ```

#![allow(clippy::print_stdout, reason = "an example shows what happens")]

use std::collections::BTreeMap;
use std::sync::Arc;

use sheaf_raft_transport::{
    Config, Error, NodeId, RaftTransport, create_arrow_flight_transport as create,
};
use sheaf_retry::SystemClock;

const NODES: [NodeId; 3] = [1, 2, 3];

/// What a node knows: what it promised to whom, and what was decided.
#[derive(Default)]
struct Voter {
    promised: Option<(u64, NodeId)>,
    decided: Option<String>,
}

impl Voter {
    /// Answers `prepare BALLOT` and `commit BALLOT VALUE`.
    fn answer(&mut self, from: NodeId, message: &str) -> &'static str {
        let words: Vec<&str> = message.splitn(3, ' ').collect();
        let ballot = words.get(1).and_then(|word| word.parse().ok()).unwrap_or(0);
        match words.as_slice() {
            ["prepare", _] if self.promised.is_none_or(|known| known < (ballot, from)) => {
                self.promised = Some((ballot, from));
                "promised"
            }
            ["commit", _, value] if self.promised == Some((ballot, from)) => {
                self.decided = Some((*value).to_owned());
                "committed"
            }
            _ => "refused",
        }
    }
}

/// Receives and answers until the node has decided.
async fn follow(transport: Arc<dyn RaftTransport>) -> Result<String, Error> {
    let mut voter = Voter::default();
    loop {
        let message = transport.receive_message().await?;
        let text = String::from_utf8_lossy(&message.payload).into_owned();
        let answer = voter.answer(message.from, &text);
        message.reply(answer);
        if let Some(value) = voter.decided.take() {
            return Ok(value);
        }
    }
}

/// How many of the others answer a message as they should.
async fn ask(transport: &dyn RaftTransport, message: &str, wanted: &str) -> usize {
    let asked =
        NODES[1..].iter().map(|&peer| transport.send_message(peer, message.to_owned().into()));
    let answers = futures::future::join_all(asked).await;
    answers.iter().filter(|answer| matches!(answer, Ok(text) if text == wanted)).count()
}

#[tokio::main]
async fn main() -> Result<(), Error> {
    let mut nodes: BTreeMap<NodeId, Arc<dyn RaftTransport>> = BTreeMap::new();
    let mut addresses = BTreeMap::new();
    for node in NODES {
        let config = Config::new("two-phase", node);
        let transport = create("localhost:0", config, SystemClock::shared()).await?;
        addresses.insert(node, transport.local_addr().map(|address| address.to_string()));
        nodes.insert(node, Arc::new(transport));
    }
    let followers: Vec<_> =
        NODES[1..].iter().map(|node| tokio::spawn(follow(Arc::clone(&nodes[node])))).collect();
    let proposer = Arc::clone(&nodes[&1]);
    for peer in &NODES[1..] {
        proposer.connect_to_peer(*peer, addresses[peer].iter().cloned().collect()).await?;
    }
    let promised = ask(proposer.as_ref(), "prepare 1", "promised").await;
    let committed = ask(proposer.as_ref(), "commit 1 blue", "committed").await;
    println!("{promised} of 2 promised, {committed} committed");
    for (node, decided) in NODES[1..].iter().zip(followers) {
        println!("node {node} decided {:?}", decided.await.unwrap_or(Err(Error::Closed))?);
    }
    println!("healthy: {:?}", proposer.health_status());
    println!("messages sent: {}", proposer.metrics().counter("messages_sent").unwrap_or(0));
    proposer.disconnect_from_peer(2).await
}
