//! Several nodes that all send to all others.

use super::echo::add;
use super::{CPU, RATE, TIME, milliseconds};
use crate::compare::nodes::{self, Node};
use crate::compare::{Samples, Setup};
use crate::error::{Error, Result};
use crate::process::{load, number};
use crate::report::Case;
use crate::stats::percentile;

const SIDES: [&str; 2] = ["stream", "unary"];

/// Nodes, messages under way to each other node, and messages a second of all.
const MESHES: [(u64, &str, f64); 3] =
    [(3, "8", 30_000.0), (5, "4", 50_000.0), (10, "2", 100_000.0)];

/// What the original promises of its slowest and its middle message, in microseconds.
const TIMES: [(&str, f64); 2] = [("p50", 1_000.0), ("p99", 5_000.0)];

pub(super) fn note() -> String {
    let depths = MESHES.map(|(nodes, depth, _)| format!("{depth} of {nodes} nodes")).join(", ");
    format!(
        "each node is a process, and sends messages of 1 KiB to every other one at once, which \
         gives them back; messages under way from one to another: {depths}; counted are those of \
         all nodes, CPU is of all, times are the middle of the nodes'"
    )
}

pub(super) fn turn(setup: &Setup, round: u32, samples: &mut Samples) -> Result<()> {
    let mut sides = SIDES;
    // Who goes first changes.
    if round.is_multiple_of(2) {
        sides.reverse();
    }
    for (count, depth, _) in MESHES {
        for side in sides {
            measure(setup, side, count, depth, samples)?;
        }
    }
    Ok(())
}

fn measure(
    setup: &Setup,
    side: &str,
    count: u64,
    depth: &str,
    samples: &mut Samples,
) -> Result<()> {
    let start = |node: u64| {
        let node = node.to_string();
        let numbers = ["--node", &node, "--size", "1024", "--depth", depth];
        Node::start(load(&[&["mesh-messages", side][..], &numbers].concat())?)
    };
    let mut nodes: Vec<Node> = (1..=count).map(start).collect::<Result<_>>()?;
    let told = nodes::run(&mut nodes, 1, milliseconds(setup))?;
    let all = |key: &str| told.iter().map(|one| number(one, key)).collect::<Result<Vec<f64>>>();
    let sum = |key: &str| Ok::<f64, Error>(all(key)?.iter().sum());
    let middle = |key: &str| Ok::<_, Error>(percentile(&all(key)?, 50).unwrap_or_default());
    let whole = serde_json::json!({
        "messages": sum("messages")?,
        "seconds": middle("seconds")?,
        "cpu_seconds": sum("cpu_seconds")?,
        "p50_us": middle("p50_us")?,
        "p99_us": middle("p99_us")?,
    });
    add(samples, &format!("aggregate {count} {side}"), &whole)
}

pub(super) fn cases(samples: &Samples) -> Result<Vec<Case>> {
    let mut cases = Vec::new();
    for (count, _, target) in MESHES {
        let of = |side: &str, tail: &str| samples.of(&format!("aggregate {count} {side}{tail}"));
        let name = format!("aggregate_{count}");
        cases.push(Case::target(&*name, RATE, of("stream", ""), target)?);
        for (time, target) in TIMES {
            let ours = of("stream", &format!(" {time}"));
            cases.push(Case::target(format!("{name}_{time}"), TIME, ours, target)?);
        }
        for (what, unit, tail) in [("", RATE, ""), ("_cpu", CPU, " cpu"), ("_p99", TIME, " p99")] {
            let peer = ("unary tonic", of("unary", tail));
            let case = format!("{name}{what}_vs_tonic");
            cases.push(Case::against(case, unit, of("stream", tail), peer)?);
        }
    }
    Ok(cases)
}
