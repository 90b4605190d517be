//! Several processes, each of which sends messages to all others at once and answers
//! theirs.

use clap::Args;
use futures::future::try_join_all;
use tokio::runtime::Runtime;

use super::{Kind, Measured, calls, drive, ours, runtime, unary};
use crate::error::{Error, Result};
use crate::load::mesh::{Command, Control};

/// One of several processes that send messages to each other.
#[derive(Debug, Args)]
pub(crate) struct Mesh {
    kind: Kind,
    /// Its number among them, from 1.
    #[arg(long)]
    node: u64,
    /// Bytes of a message.
    #[arg(long)]
    size: usize,
    /// Messages under way to each other process.
    #[arg(long)]
    depth: usize,
}

/// Each command's `size` is how many milliseconds it takes.
pub(in crate::load) fn run(options: &Mesh) -> Result<()> {
    let runtime = runtime()?;
    match options.kind {
        Kind::Unary => {
            let (address, serving) = runtime.block_on(unary::serve())?;
            runtime.spawn(serving);
            rounds(&runtime, &address, async |command| over_calls(options, command).await)
        }
        Kind::Stream => {
            let (address, transport) = runtime.block_on(ours::serve(options.node))?;
            let round = async |command: &_| over_streams(options, &transport, command).await;
            rounds(&runtime, &address, round)
        }
        kind => Err(Error::Message(format!("{kind:?} has no mesh of messages"))),
    }
}

fn rounds(
    runtime: &Runtime,
    address: &str,
    round: impl AsyncFn(&Command) -> Result<Measured>,
) -> Result<()> {
    let mut control = Control::accept(address)?;
    while let Some(command) = control.next()? {
        let measured = runtime.block_on(round(&command))?;
        control.answer(&measured.json()?)?;
    }
    Ok(())
}

/// The numbers and addresses of the others.
fn others(command: &Command) -> impl Iterator<Item = (u64, &String)> {
    let others = command.peers.iter().enumerate().filter(|(at, _)| *at != command.index);
    others.map(|(at, peer)| (at as u64 + 1, peer))
}

async fn over_calls(options: &Mesh, command: &Command) -> Result<Measured> {
    let callers = others(command).map(|(_, peer)| unary::connect(peer));
    let callers = try_join_all(callers).await?;
    let (pids, seconds) = (own_pid(), seconds(command));
    let drives = callers.into_iter().map(|caller| {
        let call = calls(caller, options.size);
        drive(&pids, options.depth, seconds, call)
    });
    Ok(together(try_join_all(drives).await?))
}

async fn over_streams(
    options: &Mesh,
    transport: &sheaf_raft_transport::FlightTransport,
    command: &Command,
) -> Result<Measured> {
    let clients = others(command).map(|(node, peer)| ours::Client::new(transport, node, peer));
    let clients: Vec<_> = clients.collect::<Result<_>>()?;
    let (pids, seconds) = (own_pid(), seconds(command));
    let drives = clients.iter().map(|client| {
        client.drive(&pids, seconds, ours::Requests::echo(options.depth, options.size))
    });
    Ok(together(try_join_all(drives).await?))
}

fn own_pid() -> [String; 1] {
    [std::process::id().to_string()]
}

fn seconds(command: &Command) -> f64 {
    command.size as f64 / 1e3
}

/// What was measured at the same time; the CPU of each is that of the process.
fn together(all: Vec<Measured>) -> Measured {
    let longest = |of: fn(&Measured) -> f64| all.iter().map(of).fold(0.0, f64::max);
    let (seconds, cpu_seconds) = (longest(|one| one.seconds), longest(|one| one.cpu_seconds));
    let nanoseconds = all.into_iter().flat_map(|one| one.nanoseconds).collect();
    Measured { nanoseconds, seconds, cpu_seconds }
}
