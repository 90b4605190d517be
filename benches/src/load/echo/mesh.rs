//! Several processes, each of which sends messages to all others at once and answers
//! theirs.

use clap::Args;
use futures::future::BoxFuture;
use serde_json::Value;

use super::{Caller, Kind, Measured, calls, drive, runtime, unary};
use crate::error::{Error, Result};
use crate::load::mesh::{Command, Control};

/// One of several processes that send messages to each other.
#[derive(Debug, Args)]
pub(crate) struct Mesh {
    kind: Kind,
    /// Bytes of a message.
    #[arg(long)]
    size: usize,
    /// Messages under way to each other process.
    #[arg(long)]
    depth: usize,
}

pub(in crate::load) fn run(options: &Mesh) -> Result<()> {
    match options.kind {
        Kind::Tcp => Err(Error::Message("raw TCP has no mesh of messages".into())),
        Kind::Unary => {
            let runtime = runtime()?;
            let (address, serving) = runtime.block_on(unary::serve())?;
            runtime.spawn(serving);
            rounds(options, &runtime, &address, |server| {
                Box::pin(async move { unary::connect(&server).await })
            })
        }
    }
}

/// Each command's `size` is milliseconds.
fn rounds<C: Caller>(
    options: &Mesh,
    runtime: &tokio::runtime::Runtime,
    address: &str,
    connect: impl Fn(String) -> BoxFuture<'static, Result<C>>,
) -> Result<()> {
    let mut control = Control::accept(address)?;
    while let Some(command) = control.next()? {
        let answer = runtime.block_on(round(options, &command, &connect))?;
        control.answer(&answer)?;
    }
    Ok(())
}

async fn round<C: Caller>(
    options: &Mesh,
    command: &Command,
    connect: &impl Fn(String) -> BoxFuture<'static, Result<C>>,
) -> Result<Value> {
    let mut callers = Vec::new();
    for (at, peer) in command.peers.iter().enumerate() {
        if at != command.index {
            callers.push(connect(peer.clone()).await?);
        }
    }
    let pids = [std::process::id().to_string()];
    let seconds = command.size as f64 / 1e3;
    let drives = callers.into_iter().map(|caller| {
        let call = calls(caller, options.size);
        drive(&pids, options.depth, seconds, call)
    });
    // All at the same time, and the CPU of each is that of the process.
    let all = futures::future::try_join_all(drives).await?;
    let longest = |of: fn(&Measured) -> f64| all.iter().map(of).fold(0.0, f64::max);
    let (seconds, cpu_seconds) = (longest(|one| one.seconds), longest(|one| one.cpu_seconds));
    let nanoseconds = all.into_iter().flat_map(|one| one.nanoseconds).collect();
    Measured { nanoseconds, seconds, cpu_seconds }.json()
}
