//! Messages that come back.

use serde_json::Value;

use super::{CPU, RATE, TIME, milliseconds};
use crate::compare::{Samples, Setup};
use crate::error::{Error, Result};
use crate::process::{HALF_TICK, Server, finish, load, number};
use crate::report::{Better, Case};

/// Ours first: a stream, and a call for each message.
const KINDS: [&str; 4] = ["stream", "call", "unary", "tcp"];

/// What comparisons call the peers.
const PEERS: [(&str, &str, &str); 2] =
    [("unary", "tonic", "unary tonic"), ("tcp", "tcp", "raw TCP")];

/// A size, its bytes, and how many messages are under way.
struct Shape {
    name: &'static str,
    bytes: u64,
    depth: u64,
}

const SHAPES: [Shape; 6] = [
    Shape { name: "64b", bytes: 64, depth: 64 },
    Shape { name: "1k", bytes: 1 << 10, depth: 64 },
    Shape { name: "1k_16_under_way", bytes: 1 << 10, depth: 16 },
    Shape { name: "1k_alone", bytes: 1 << 10, depth: 1 },
    Shape { name: "64k", bytes: 64 << 10, depth: 16 },
    Shape { name: "1m", bytes: 1 << 20, depth: 4 },
];

const MEGABYTE: f64 = 1_048_576.0;
const GIGABYTES: (&str, Better) = ("GB/s", Better::Higher);

pub(super) fn note() -> String {
    let depths = SHAPES.map(|shape| format!("{} {}", shape.name, shape.depth)).join(", ");
    format!(
        "one client over one connection to one server, bytes that do not compress; messages under \
         way: {depths}; CPU is of both processes"
    )
}

/// A server of each kind.
pub(super) struct Servers(Vec<(&'static str, Server)>);

impl Servers {
    pub(super) fn start() -> Result<Self> {
        let start = |kind| Ok((kind, Server::start(load(&["echo-server", kind])?, None)?));
        KINDS.into_iter().map(start).collect::<Result<_>>().map(Servers)
    }

    pub(super) fn turn(&mut self, setup: &Setup, samples: &mut Samples) -> Result<()> {
        let seconds = (milliseconds(setup) as f64 / 1e3).to_string();
        for Shape { name, bytes, depth } in SHAPES {
            for (kind, server) in &mut self.0 {
                let (bytes, depth) = (bytes.to_string(), depth.to_string());
                let words = ["echo-client", kind, server.address(), &server.pid()];
                let numbers = ["--size", &bytes, "--depth", &depth, "--seconds", &seconds];
                let mut client = load(&[&words[..], &numbers].concat())?.spawn()?;
                let told = finish(&mut client, &mut [server.process()])?.pop();
                let told = told.ok_or_else(|| Error::Message("a load told nothing".into()))?;
                add(samples, &format!("echo {name} {kind}"), &told)?;
            }
        }
        Ok(())
    }
}

/// What a load told, as rate, CPU for each message, and times.
pub(super) fn add(samples: &mut Samples, name: &str, told: &Value) -> Result<()> {
    let messages = number(told, "messages")?;
    samples.add(name, messages / number(told, "seconds")?);
    let cpu = number(told, "cpu_seconds")?.max(HALF_TICK);
    samples.add(format!("{name} cpu"), cpu * 1e6 / messages);
    samples.add(format!("{name} p50"), number(told, "p50_us")?);
    samples.add(format!("{name} p99"), number(told, "p99_us")?);
    Ok(())
}

pub(super) fn cases(samples: &Samples) -> Result<Vec<Case>> {
    let mut cases = Vec::new();
    for Shape { name, .. } in SHAPES {
        for (ours, way) in [("stream", ""), ("call", "_calls")] {
            for (peer, against, title) in PEERS {
                let units = [("", RATE, ""), ("_cpu", CPU, " cpu"), ("_p50", TIME, " p50")];
                for (what, unit, tail) in units {
                    let of = |kind: &str| samples.of(&format!("echo {name} {kind}{tail}"));
                    let case = format!("echo_{name}{way}{what}_vs_{against}");
                    cases.push(Case::against(case, unit, of(ours), (title, of(peer)))?);
                }
            }
        }
    }
    let of = |name: &str| samples.of(&format!("echo {name}"));
    let gigabytes: Vec<f64> = of("1m stream").iter().map(|rate| rate * MEGABYTE / 1e9).collect();
    cases.extend([
        Case::target("echo_1k", RATE, of("1k stream"), 100_000.0)?,
        Case::target("echo_1k_16_under_way", RATE, of("1k_16_under_way stream"), 100_000.0)?,
        Case::target("echo_1k_16_under_way_p50", TIME, of("1k_16_under_way stream p50"), 300.0)?,
        Case::target("echo_1k_16_under_way_p99", TIME, of("1k_16_under_way stream p99"), 5_000.0)?,
        Case::target("echo_1m", GIGABYTES, &gigabytes, 1.0)?,
        Case::target("echo_1m_p50", TIME, of("1m stream p50"), 10_000.0)?,
        Case::target("echo_1m_p99", TIME, of("1m stream p99"), 50_000.0)?,
    ]);
    Ok(cases)
}
