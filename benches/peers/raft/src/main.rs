//! Peers of the bench `raft`: a driver of etcd, and a cluster on openraft as it is first
//! written, with one unary call for each message.
//!
//! ```text
//! raft-peer etcd put|get ENDPOINT PIDS DEPTH SIZE SECONDS
//! raft-peer node ID ADDRESS,ADDRESS,… [FOLDER]
//! raft-peer load put|get ENDPOINT PIDS DEPTH SIZE SECONDS
//! ```
//!
//! PIDS are those whose CPU counts, with commas between; ours comes to them. A `node`
//! keeps its log in memory, or in a file of FOLDER that it syncs; it says `ready` when
//! it serves. Loads print one line of JSON. ENDPOINT is the leader's.

mod etcd;
mod measure;
mod naive;

use std::error::Error;

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

type Result<T> = std::result::Result<T, Box<dyn Error + Send + Sync>>;

/// Different keys.
const KEYS: u64 = 10_000;

#[tokio::main]
async fn main() -> Result<()> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let words: Vec<&str> = arguments.iter().map(String::as_str).collect();
    match words.as_slice() {
        ["etcd", rest @ ..] => etcd::run(&Load::parse(rest)?).await,
        ["load", rest @ ..] => naive::load(&Load::parse(rest)?).await,
        ["node", id, addresses] => naive::serve(id.parse()?, addresses, None).await,
        ["node", id, addresses, folder] => naive::serve(id.parse()?, addresses, Some(folder)).await,
        _ => Err("usage: raft-peer etcd|load put|get ENDPOINT PIDS DEPTH SIZE SECONDS, or \
                  raft-peer node ID ADDRESSES [FOLDER]"
            .into()),
    }
}

/// What is asked, of whom, and how much of it.
struct Load {
    puts: bool,
    endpoint: String,
    pids: Vec<String>,
    /// Requests under way.
    depth: usize,
    /// Bytes of a value.
    size: usize,
    seconds: f64,
}

impl Load {
    fn parse(words: &[&str]) -> Result<Self> {
        let [what, endpoint, pids, depth, size, seconds] = words else {
            return Err("a load needs put|get ENDPOINT PIDS DEPTH SIZE SECONDS".into());
        };
        let puts = match *what {
            "put" => true,
            "get" => false,
            other => return Err(format!("no load is called {other:?}: put or get").into()),
        };
        Ok(Load {
            puts,
            endpoint: (*endpoint).to_owned(),
            pids: pids.split(',').map(str::to_owned).collect(),
            depth: depth.parse()?,
            size: size.parse()?,
            seconds: seconds.parse()?,
        })
    }
}

/// The key of a request, one after the other.
fn key(number: u64) -> String {
    // Apart from each other, as keys of users are.
    format!("{:016x}", (number % KEYS).wrapping_mul(0x9e37_79b9_7f4a_7c15))
}
