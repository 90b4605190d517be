//! Raft: the transport against raw TCP and against unary calls of tonic, the node against
//! etcd and against openraft as it is first written.
//!
//! Every side runs in processes of its own, in turns. What waits for the disk waits for
//! that of the target directory.

mod aggregate;
mod clusters;
mod echo;
mod proposals;

use serde_json::{Map, Value};

use super::{Comparison, Outcome, Samples, Setup};
use crate::conditions;
use crate::error::Result;
use crate::process::pinned;
use crate::report::Better;

pub(super) const COMPARISON: Comparison =
    Comparison { name: "raft", peers: &["raft"], services: &["etcd", "protoc"], run };

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
        proposals::turn(setup, round, &mut samples)?;
    }
    let cases =
        [echo::cases(&samples)?, aggregate::cases(&samples)?, proposals::cases(&samples)?].concat();
    let notes = vec![
        ("echo", echo::note()),
        ("aggregate", aggregate::note()),
        ("proposals", proposals::note()),
    ];
    Ok(Outcome { cases, versions: versions()?, notes })
}

fn versions() -> Result<Map<String, Value>> {
    let etcd = sheaf_testkit::services_dir().join("etcd/etcd");
    let etcd = conditions::output(&etcd.to_string_lossy(), &["--version"]);
    let etcd = etcd.lines().next().and_then(|line| line.rsplit(' ').next()).unwrap_or_default();
    let openraft = pinned("raft/Cargo.toml", "\nopenraft = { version = \"=")?;
    let pairs = [("etcd", etcd.to_owned()), ("openraft", openraft)];
    Ok(pairs.map(|(name, version)| (name.to_owned(), version.into())).into_iter().collect())
}

/// How long one measurement takes, in milliseconds.
fn milliseconds(setup: &Setup) -> u64 {
    setup.size(2_000, 200)
}
