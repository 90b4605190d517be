//! The command line.

use std::path::PathBuf;

use clap::Parser;
use sheaf_terminal::HumanBytes;

use super::kill::Role;

const DATA: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../target/data");
const PYTHON: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../target/services/python/bin/python");

/// Flights and weather of New York, worked on by several processes.
#[derive(Clone, Debug, Parser)]
pub(crate) struct Arguments {
    /// Worker processes.
    #[arg(long, default_value_t = 4, value_parser = clap::value_parser!(u32).range(1..=64))]
    pub(crate) workers: u32,
    /// Partitions; four for each worker unless said otherwise. A broadcast has one for each.
    #[arg(long, value_parser = clap::value_parser!(u32).range(1..=4_096))]
    pub(crate) partitions: Option<u32>,
    /// Folder with flights.parquet and weather.parquet, as `cargo xtask data` makes them.
    #[arg(long, default_value = DATA)]
    pub(crate) data: PathBuf,
    /// Folder for the result, a Parquet file for each partition; else a temporary one.
    #[arg(long)]
    pub(crate) out: Option<PathBuf>,
    /// Print the result as one line of JSON.
    #[arg(long)]
    pub(crate) json: bool,
    /// Compare the result with that of pyarrow, in one process.
    #[arg(long)]
    pub(crate) check: bool,
    /// The Python with pyarrow, as `cargo xtask services python` makes it.
    #[arg(long, default_value = PYTHON)]
    pub(crate) python: PathBuf,
    /// Kill a worker with SIGKILL in the middle of the shuffle: one that has sent a part of
    /// its rows, or one that has sent all of them and receives those of others.
    #[arg(long)]
    pub(crate) kill: Option<Role>,
    /// Decides which worker is killed, and when.
    #[arg(long, default_value_t = 1)]
    pub(crate) seed: u64,
    /// Memory of each worker for what it receives.
    #[arg(long, default_value = "256MiB")]
    pub(crate) memory: HumanBytes,
    /// Bytes of a chunk.
    #[arg(long, default_value = "4MiB")]
    pub(crate) chunk_bytes: HumanBytes,
    /// Rows that are read at once.
    #[arg(long, default_value_t = 8_192, value_parser = clap::value_parser!(u32).range(1..=1_048_576))]
    pub(crate) batch_rows: u32,
    /// This process is a worker.
    #[arg(long, hide = true, requires = "out")]
    pub(crate) worker: bool,
}

impl Arguments {
    /// What a worker needs to know of them.
    pub(crate) fn of_worker(&self, out: &std::path::Path) -> Vec<std::ffi::OsString> {
        let pairs = [
            ("--workers", self.workers.to_string().into()),
            ("--data", self.data.clone().into()),
            ("--out", out.into()),
            ("--memory", format!("{}B", self.memory.0).into()),
            ("--chunk-bytes", format!("{}B", self.chunk_bytes.0).into()),
            ("--batch-rows", self.batch_rows.to_string().into()),
        ];
        let pairs = pairs.into_iter().flat_map(|(name, value)| [name.into(), value]);
        pairs.chain(["--worker".into()]).collect()
    }
}
