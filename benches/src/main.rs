//! Comparisons of Sheaf with its peers, and the loads that they put on it.
//!
//! `compare NAME` starts real servers and peers and measures them in turns;
//! every load runs in a process of its own, which is this binary again
//! (`load KIND`) or a program of the peer below `benches/peers`.
#![allow(clippy::print_stdout, reason = "a program for people at a terminal")]
#![allow(clippy::disallowed_methods, reason = "a benchmark: it measures real time")]

mod compare;
mod conditions;
mod error;
mod load;
mod process;
mod report;
mod stats;

use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use clap::{Parser, Subcommand};
use sheaf_bench::plane;

use crate::error::{Error, Result};

/// Compares Sheaf with its peers.
#[derive(Debug, Parser)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// The comparisons and what they need, as one line of JSON.
    List,
    /// Run one comparison.
    Compare {
        /// Which: see `list`.
        name: String,
        /// How often every case is measured on every side.
        #[arg(long, default_value_t = compare::ROUNDS, value_parser = clap::value_parser!(u32).range(1..=100))]
        rounds: u32,
        /// One round of tiny sizes: shows that it runs, its figures mean nothing.
        #[arg(long)]
        quick: bool,
        /// Print the results as one line of JSON at the end.
        #[arg(long)]
        json: bool,
        /// Put the results into this file, the newest first.
        #[arg(long, conflicts_with = "quick")]
        record: Option<PathBuf>,
        /// The server under test.
        #[arg(long)]
        sheaf: PathBuf,
    },
    /// What a control plane takes while so many components run, and how soon three of them do, as
    /// one line of JSON.
    Plane {
        /// The program; `sheaf-component` is beside it.
        #[arg(long)]
        sheafctl: PathBuf,
        /// How many components run.
        #[arg(long, default_value_t = 100)]
        components: usize,
        /// How long the control plane is looked at, in seconds.
        #[arg(long, default_value_t = 30)]
        seconds: u64,
    },
    /// Put one load on a server; comparisons start these.
    Load {
        #[command(subcommand)]
        load: load::Load,
    },
}

/// That of the binaries.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    match run(Cli::parse().command) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            // Those of libraries do not repeat their sources.
            let mut text = error.to_string();
            let mut source = std::error::Error::source(&error);
            while let Some(inner) = source {
                if !text.contains(&inner.to_string()) {
                    text.push_str(&format!(": {inner}"));
                }
                source = inner.source();
            }
            eprintln!("bench: {text}");
            ExitCode::FAILURE
        }
    }
}

fn run(command: Command) -> Result<()> {
    match command {
        Command::List => {
            println!("{}", compare::list());
            Ok(())
        }
        Command::Plane { sheafctl, components, seconds } => {
            plane_of(&sheafctl, components, seconds)
        }
        Command::Load { load } => load::run(load),
        Command::Compare { name, rounds, quick, json, record, sheaf } => {
            let rounds = if quick { 1 } else { rounds };
            let report = compare::run(&name, rounds, quick, sheaf)?;
            println!("{}", report.markdown());
            if let Some(path) = record {
                let what = path.display().to_string();
                let page =
                    std::fs::read_to_string(&path).map_err(Error::io(format!("read {what}")))?;
                std::fs::write(&path, report::insert(&page, &report.markdown()))
                    .map_err(Error::io(format!("write {what}")))?;
            }
            if json {
                println!("{}", report.json());
            }
            Ok(())
        }
    }
}

fn plane_of(sheafctl: &Path, components: usize, seconds: u64) -> Result<()> {
    let measured = |error| Error::io("measure a control plane")(error);
    let mut times = Vec::new();
    for _ in 0..5 {
        times.push(plane::start_time(sheafctl).map_err(measured)?.as_millis());
    }
    times.sort_unstable();
    let taken = plane::taken(sheafctl, components, Duration::from_secs(seconds));
    let plane::Taken { components, resident_kib, cpu_percent, descriptors } =
        taken.map_err(measured)?;
    println!(
        "{}",
        serde_json::json!({
            "components": components,
            "resident_kib": resident_kib,
            "cpu_percent": cpu_percent,
            "descriptors": descriptors,
            "start_of_three_ms": times.iter().map(|time| u64::try_from(*time).unwrap_or(u64::MAX)).collect::<Vec<u64>>(),
        })
    );
    Ok(())
}
