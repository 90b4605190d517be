//! Raft: the transport against raw TCP and against unary calls of tonic, the node against
//! etcd and against openraft as it is first written.
//!
//! Every side runs in processes of its own, in turns. What waits for the disk waits for
//! that of the target directory.

mod aggregate;
mod echo;

use serde_json::Map;

use super::{Comparison, Outcome, Samples, Setup};
use crate::error::Result;
use crate::report::Better;

pub(super) const COMPARISON: Comparison =
    Comparison { name: "raft", peers: &[], services: &[], run };

const RATE: (&str, Better) = ("messages/s", Better::Higher);
const TIME: (&str, Better) = ("us", Better::Lower);
const CPU: (&str, Better) = ("CPU-us/message", Better::Lower);

fn run(setup: &Setup) -> Result<Outcome> {
    let mut samples = Samples::default();
    let mut echo = echo::Servers::start()?;
    for round in 1..=setup.rounds {
        eprintln!("round {round} of {}", setup.rounds);
        echo.turn(setup, &mut samples)?;
        aggregate::turn(setup, round, &mut samples)?;
    }
    let cases = [echo::cases(&samples)?, aggregate::cases(&samples)?].concat();
    let notes = vec![("echo", echo::note()), ("aggregate", aggregate::note())];
    Ok(Outcome { cases, versions: Map::new(), notes })
}

/// How long one measurement takes, in milliseconds.
fn milliseconds(setup: &Setup) -> u64 {
    setup.size(2_000, 200)
}
