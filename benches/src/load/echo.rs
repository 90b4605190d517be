//! Messages that come back: over raw TCP, over unary calls of tonic, over ours.
//!
//! A server of each kind answers every message with the same bytes. A client keeps a
//! fixed number of messages under way and counts those that return within a time; each
//! message waits for its own answer alone.

mod measure;
mod mesh;
mod ours;
mod tcp;
mod unary;

use bytes::Bytes;
use clap::{Args, ValueEnum};
use futures::future::BoxFuture;

use crate::error::{Error, Result};

use measure::{Measured, drive};
pub(super) use mesh::{Mesh, run as mesh};
pub(super) use ours::{Client, Requests};

/// Nodes of ours.
const SERVER: u64 = 1;
const CLIENT: u64 = 2;

/// How messages travel.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(super) enum Kind {
    /// Frames over a connection.
    Tcp,
    /// A unary gRPC call for each message.
    Unary,
    /// A stream of ours.
    Stream,
    /// A call of ours for each message.
    Call,
}

/// A client of a server that echoes.
#[derive(Debug, Args)]
pub(crate) struct EchoClient {
    kind: Kind,
    /// As the server's ready line has it.
    server: String,
    /// Whose CPU counts too.
    server_pid: String,
    /// Bytes of a message.
    #[arg(long)]
    size: usize,
    /// Messages under way.
    #[arg(long)]
    depth: usize,
    /// How long it is measured, after a quarter of it.
    #[arg(long)]
    seconds: f64,
}

/// A server that echoes.
#[derive(Debug, Args)]
pub(crate) struct EchoServer {
    kind: Kind,
}

/// A connection to a node that echoes; clones share it.
trait Caller: Clone + Send + Sync + 'static {
    /// Returns when the answer is there, which has as many bytes.
    fn call(&self, message: Bytes) -> BoxFuture<'_, Result<()>>;
}

/// Serves until it is killed, or runs the client to its end.
pub(super) fn serve(options: &EchoServer) -> Result<()> {
    match options.kind {
        Kind::Tcp => tcp::serve(),
        Kind::Unary => runtime()?.block_on(async {
            let (address, serving) = unary::serve().await?;
            println!("ready flight={address}");
            serving.await
        }),
        Kind::Stream | Kind::Call => runtime()?.block_on(async {
            let (address, _serving) = ours::serve(SERVER).await?;
            println!("ready flight={address}");
            std::future::pending().await
        }),
    }
}

pub(super) fn client(options: &EchoClient) -> Result<()> {
    let pids = [std::process::id().to_string(), options.server_pid.clone()];
    let EchoClient { kind, server, size, depth, seconds, .. } = options;
    let measured = match kind {
        Kind::Tcp => tcp::drive(server, &pids, *size, *depth, *seconds)?,
        Kind::Unary => runtime()?.block_on(async {
            let caller = unary::connect(server).await?;
            drive(&pids, *depth, *seconds, calls(caller, *size)).await
        })?,
        Kind::Stream | Kind::Call => runtime()?.block_on(async {
            let caller = ours::Client::new(&ours::start(CLIENT)?, SERVER, server)?;
            if *kind == Kind::Stream {
                let requests = ours::Requests::echo(*depth, *size);
                return caller.drive(&pids, *seconds, requests).await;
            }
            drive(&pids, *depth, *seconds, calls(caller, *size)).await
        })?,
    };
    println!("{}", measured.json()?);
    Ok(())
}

/// A call of one message of so many bytes, again and again.
fn calls<C: Caller>(
    caller: C,
    size: usize,
) -> impl Fn() -> BoxFuture<'static, Result<()>> + Clone + Send + 'static {
    let message = message(size);
    move || {
        let (caller, message) = (caller.clone(), message.clone());
        Box::pin(async move { caller.call(message).await })
    }
}

/// Bytes that do not compress, as those of most logs.
pub(super) fn message(size: usize) -> Bytes {
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    let mut next = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state.to_le_bytes()
    };
    let mut bytes: Vec<u8> = Vec::with_capacity(size + 8);
    while bytes.len() < size {
        bytes.extend(next());
    }
    bytes.truncate(size);
    bytes.into()
}

fn runtime() -> Result<tokio::runtime::Runtime> {
    tokio::runtime::Runtime::new().map_err(Error::io("start the runtime"))
}
