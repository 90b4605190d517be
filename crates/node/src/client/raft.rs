//! `sheaf raft …`

use bytes::Bytes;
use serde::Serialize;
use serde::de::DeserializeOwned;
use sheaf_flight::CallOptions;
use sheaf_raft::admin::{
    AddLearnerInput, DigestInput, DoneRecord, MemberRecord, NodeInput, StatusRecord, TransferInput,
};
use sheaf_retry::Code;
use sheaf_terminal::{Failure, Table, count};

use super::server::Session;

/// What to do with a cluster.
#[derive(Clone, Debug, clap::Subcommand)]
pub enum RaftCommand {
    /// Show a node and its cluster
    Status(StatusArgs),
    /// Have a node that was started with --join follow the cluster, without a vote
    AddLearner(AddLearnerArgs),
    /// Give a learner a vote, once it has caught up
    Promote(NodeArgs),
    /// Take a node out of the cluster; its number is never used again
    Remove(NodeArgs),
    /// Have another node lead
    TransferLeader(TransferArgs),
    /// Write a snapshot of the state now, on the node that is asked
    Snapshot,
}

/// How much to show.
#[derive(Clone, Debug, clap::Args)]
pub struct StatusArgs {
    /// Show a hash of the whole state too: nodes that applied the same have the same
    #[arg(long)]
    pub digest: bool,
}

/// Which node to add.
#[derive(Clone, Debug, clap::Args)]
pub struct AddLearnerArgs {
    /// Its number, which no node ever had
    #[arg(value_name = "NODE")]
    pub node: u64,
    /// Where the others reach it; several ways to it one after the other
    #[arg(value_name = "HOST:PORT", required = true)]
    pub endpoints: Vec<String>,
}

/// Which node.
#[derive(Clone, Debug, clap::Args)]
pub struct NodeArgs {
    /// Its number
    #[arg(value_name = "NODE")]
    pub node: u64,
}

/// Who is to lead.
#[derive(Clone, Debug, clap::Args)]
pub struct TransferArgs {
    /// The node; by default the voter that has most of the log
    #[arg(value_name = "NODE")]
    pub node: Option<u64>,
}

impl RaftCommand {
    /// Does it.
    ///
    /// # Errors
    /// As the server; `unimplemented` where it is no node of a cluster.
    pub async fn run(self, session: &mut Session) -> Result<(), Failure> {
        match self {
            RaftCommand::Status(StatusArgs { digest }) => {
                let status: StatusRecord =
                    ask(session, "RaftStatus", &DigestInput { digest }).await?;
                show(session, &status)
            }
            RaftCommand::AddLearner(AddLearnerArgs { node, endpoints }) => {
                let input = AddLearnerInput { node_id: node, endpoints };
                change(session, "RaftAddLearner", &input).await
            }
            RaftCommand::Promote(NodeArgs { node }) => {
                change(session, "RaftPromote", &NodeInput { node_id: node }).await
            }
            RaftCommand::Remove(NodeArgs { node }) => {
                change(session, "RaftRemove", &NodeInput { node_id: node }).await
            }
            RaftCommand::TransferLeader(TransferArgs { node }) => {
                change(session, "RaftTransferLeader", &TransferInput { node_id: node }).await
            }
            RaftCommand::Snapshot => change(session, "RaftSnapshot", &DigestInput::default()).await,
        }
    }
}

async fn change(
    session: &mut Session,
    action: &str,
    input: &impl Serialize,
) -> Result<(), Failure> {
    let done: DoneRecord = ask(session, action, input).await?;
    match session.json {
        true => session.console.json(&done),
        false => session.console.data(&format!("{}\n", done.done)),
    }
}

async fn ask<T: DeserializeOwned>(
    session: &Session,
    action: &str,
    input: &impl Serialize,
) -> Result<T, Failure> {
    let unreadable =
        |error: serde_json::Error| Failure::new(Code::Internal, format!("{action}: {error}"));
    let body = Bytes::from(serde_json::to_vec(input).map_err(unreadable)?);
    let answer = session.flight.action(action, body, &CallOptions::default()).await;
    let answer = answer.map_err(|error| {
        let failure = session.failed(&error);
        match failure.code() {
            Code::Unimplemented => failure.help(format!(
                "{} is no node of a Raft cluster: name one with --server, such as \
                 grpc://localhost:5001",
                session.target()
            )),
            _ => failure,
        }
    })?;
    let first = answer.first().map_or(&[][..], |bytes| bytes);
    serde_json::from_slice(first).map_err(unreadable)
}

fn show(session: &mut Session, status: &StatusRecord) -> Result<(), Failure> {
    if session.json {
        return session.console.json(status);
    }
    let mut table = Table::new(["field", "value"]);
    let mut row = |name: &str, value: String| table.row([name.to_owned(), value]);
    row("cluster", status.cluster_id.clone());
    row("node", status.node_id.to_string());
    row("role", status.role.clone());
    row("term", count(status.term));
    row(
        "leader",
        match &status.leader {
            Some(leader) => format!("{} at {}", leader.node_id, leader.endpoints.join(", ")),
            None => "none is known".to_owned(),
        },
    );
    row("last log", count(status.last_log));
    row("committed", count(status.committed));
    row("applied", count(status.applied));
    row("snapshot", count(status.snapshot));
    row("purged", count(status.purged));
    if let Some(digest) = &status.digest {
        row("digest", digest.clone());
    }
    if let Some(stopped) = &status.stopped {
        row("stopped", stopped.clone());
    }
    session.console.table(&table)?;
    session.console.data("\n")?;
    session.console.table(&members(status))
}

fn members(status: &StatusRecord) -> Table {
    let mut table = Table::new(["node", "role", "endpoints"]).right("matched").right("lag");
    let is_troubled = status.members.iter().any(|member| member.problem.is_some());
    table = table.right("answered");
    if is_troubled {
        table = table.left("problem");
    }
    let leader = status.leader.as_ref().map(|leader| leader.node_id);
    let number = |number: Option<u64>| number.map(count).unwrap_or_default();
    for member in &status.members {
        let MemberRecord { node_id, endpoints, voter, matched, lag, answered_ms, problem } = member;
        let role = match (voter, leader == Some(*node_id)) {
            (false, _) => "learner",
            (true, true) => "leader",
            (true, false) => "follower",
        };
        let answered = answered_ms.map(|ms| format!("{} ms ago", count(ms)));
        let mut cells = vec![
            node_id.to_string(),
            role.to_owned(),
            endpoints.join(", "),
            number(*matched),
            number(*lag),
            answered.unwrap_or_default(),
        ];
        if is_troubled {
            cells.push(problem.clone().unwrap_or_default());
        }
        table.row(cells);
    }
    table
}
