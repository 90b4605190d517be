//! A shuffle from all to all, against what sockets and pyarrow do with the same bytes.

use std::fs;
use std::time::Instant;

use sheaf_testkit::ProcessCommand;

use crate::compare::nodes::{self, Node};
use crate::compare::{Samples, Setup};
use crate::error::{Error, Result};
use crate::process::{HALF_TICK, cpu_seconds, load, number, python};
use crate::report::{Better, Case};

/// Processes of each side.
const NODES: usize = 4;

const RATE: (&str, Better) = ("GB/s", Better::Higher);
const CPU: (&str, Better) = ("CPU-s/GB", Better::Lower);
const MEMORY: (&str, Better) = ("bytes", Better::Lower);

/// The peers' names, and how cases call them.
const PEERS: [(&str, &str); 2] = [("raw TCP", "socket"), ("pyarrow", "pyarrow")];

pub(super) fn note() -> String {
    format!(
        "{NODES} processes send to each other at once; counted are bytes that go to other \
         processes. Ours partitions rows of four columns of 64 bits by the hash of one, with a \
         checksum of each chunk, and decodes what it reads; raw TCP and pyarrow (DoPut of \
         batches of 4 MiB that are ready) send as much, and let go what they read"
    )
}

/// All sides of one round, in processes of their own.
pub(super) fn turn(setup: &Setup, round: u32, samples: &mut Samples) -> Result<()> {
    let batches = setup.size(2_048, 64);
    let sent = measure("ours", || load(&["mesh-shuffle"]), batches, samples)?;
    let each = sent / (NODES * (NODES - 1)) as u64;
    let mut peers = PEERS;
    // Who goes first changes, for the second finds warmer caches.
    if round.is_multiple_of(2) {
        peers.reverse();
    }
    for (name, key) in peers {
        let command = || match key {
            "socket" => load(&["mesh-socket"]),
            _ => python("pyarrow", "mesh.py"),
        };
        measure(name, command, each, samples)?;
    }
    Ok(())
}

/// One side, after a quarter of it that is not measured; all bytes that were sent.
fn measure(
    name: &str,
    command: impl Fn() -> Result<ProcessCommand>,
    size: u64,
    samples: &mut Samples,
) -> Result<u64> {
    let mut nodes = Vec::new();
    for _ in 0..NODES {
        nodes.push(Node::start(command()?)?);
    }
    let pids: Vec<String> = nodes.iter().map(|node| node.pid().to_owned()).collect();
    run(&mut nodes, 1, size.div_ceil(4))?;
    let (start, before) = (Instant::now(), cpu_seconds(&pids)?);
    let bytes = run(&mut nodes, 2, size)?;
    let (seconds, used) = (start.elapsed().as_secs_f64(), cpu_seconds(&pids)? - before);
    let mut peak = 0.0_f64;
    for pid in &pids {
        peak = peak.max(peak_bytes(pid)?);
    }
    let gigabytes = bytes as f64 / 1e9;
    samples.add(format!("mesh {name}"), gigabytes / seconds);
    samples.add(format!("mesh {name} cpu"), used.max(HALF_TICK) / gigabytes);
    samples.add(format!("mesh {name} memory"), peak);
    Ok(bytes)
}

/// All nodes at once; bytes of all.
fn run(nodes: &mut [Node], round: u64, size: u64) -> Result<u64> {
    let mut bytes = 0.0;
    for answer in nodes::run(nodes, round, size)? {
        bytes += number(&answer, "bytes")?;
    }
    // Far below where a float would not hold them.
    #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a whole number")]
    Ok(bytes as u64)
}

/// The most memory that a process had.
fn peak_bytes(pid: &str) -> Result<f64> {
    let path = format!("/proc/{pid}/status");
    let text = fs::read_to_string(&path).map_err(Error::io(format!("read {path}")))?;
    let line = text.lines().find_map(|line| line.strip_prefix("VmHWM:"));
    let kilobytes = line.and_then(|line| line.trim().strip_suffix(" kB")?.trim().parse().ok());
    let odd = || Error::Message(format!("{path} names no VmHWM in kB"));
    kilobytes.map(|kilobytes: f64| kilobytes * 1_024.0).ok_or_else(odd)
}

pub(super) fn cases(samples: &Samples) -> Result<Vec<Case>> {
    let mut cases = Vec::new();
    for (name, key) in PEERS {
        for (what, unit, tail) in
            [("", RATE, ""), ("_cpu", CPU, " cpu"), ("_memory", MEMORY, " memory")]
        {
            let ours = samples.of(&format!("mesh ours{tail}"));
            let its = samples.of(&format!("mesh {name}{tail}"));
            cases.push(Case::against(format!("shuffle{what}_vs_{key}"), unit, ours, (name, its))?);
        }
    }
    Ok(cases)
}
