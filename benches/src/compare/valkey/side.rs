//! Who takes part. Every side is a program with the same roles and flags.

use sheaf_testkit::{Process, ProcessCommand, services_dir};

use super::Setup;
use crate::error::Result;
use crate::process::{load, python};

/// The name of our side in samples.
pub(super) const OURS: &str = "ours";

/// One side, at its own best setting: its program says which and why.
#[derive(Debug)]
pub(super) struct Side {
    /// In the names of cases.
    pub(super) name: &'static str,
    program: Program,
    /// Jobs of a run at N = 1 and at N = 64: some seconds each.
    jobs: [u64; 2],
    /// Whether work comes back that a dead worker held, without other work.
    pub(super) recovers: bool,
}

#[derive(Debug)]
enum Program {
    /// This binary's `load claims`.
    Ours,
    /// A script of a peer below `benches/peers`, in its Python.
    Python(&'static str, &'static str),
    /// `jobs.mjs` of a peer, copied to where its packages are.
    Node(&'static str),
    /// A peer of the binary of `benches/peers/rust`.
    Rust(&'static str),
}

/// Ours first, then the peers.
pub(super) const SIDES: [Side; 5] = [
    Side { name: OURS, program: Program::Ours, jobs: [30_000, 60_000], recovers: true },
    Side {
        name: "bullmq",
        program: Program::Node("bullmq"),
        jobs: [20_000, 20_000],
        recovers: true,
    },
    Side {
        name: "bullmq_official",
        program: Program::Rust("bullmq"),
        jobs: [20_000, 20_000],
        recovers: true,
    },
    // A worker of apalis-redis 1.0.0 ends with an error where 8,000 jobs wait.
    Side {
        name: "apalis_redis",
        program: Program::Rust("apalis"),
        jobs: [7_500, 7_500],
        recovers: true,
    },
    Side {
        name: "taskiq",
        program: Program::Python("taskiq", "valkey.py"),
        jobs: [5_000, 5_000],
        recovers: false,
    },
];

impl Side {
    /// Jobs of a run.
    pub(super) fn jobs(&self, setup: &Setup, n: u64) -> u64 {
        let [single, bulk] = self.jobs;
        if n == 1 { setup.size(single, 50) } else { setup.size(bulk, 500) }
    }

    /// Whether it can be started here; what cannot is told by who installs it.
    pub(super) fn is_there(&self) -> bool {
        let peers = services_dir().join("peers");
        match self.program {
            Program::Ours => true,
            Program::Python(peer, _) => peers.join(peer).join("python/bin/python").is_file(),
            Program::Node(peer) => peers.join(peer).join("node_modules").is_dir(),
            Program::Rust(_) => peers.join("rust/target/release/peers").is_file(),
        }
    }

    fn command(&self) -> Result<ProcessCommand> {
        let peers = services_dir().join("peers");
        Ok(match self.program {
            Program::Ours => load(&["claims"])?,
            Program::Python(peer, script) => python(peer, script)?,
            Program::Node(peer) => {
                Process::command("node").name(peer).arg(peers.join(peer).join("jobs.mjs"))
            }
            Program::Rust(peer) => {
                Process::command(peers.join("rust/target/release/peers")).name(peer).arg(peer)
            }
        })
    }

    /// Starts one role against the Valkey at a port of this machine.
    pub(super) fn start(&self, role: &[&str], port: u16, flags: &[(&str, u64)]) -> Result<Process> {
        let mut command = self.command()?.args(role).args(["--port", &port.to_string()]);
        for (flag, value) in flags {
            command = command.args([*flag, &value.to_string()]);
        }
        Ok(command.spawn()?)
    }
}
