//! A hash join over several processes: every flight with the weather at its start.
//!
//! Each worker reads its share of both tables and sends each row to the partition
//! of its key; then it joins its partitions and writes them as Parquet files.
//!
//! `cargo xtask data`, then
//! `cargo run --release -p sheaf-examples --example shuffle_join -- --workers 4 --check`;
//! with `--kill sender` or `--kill receiver` a worker dies in the middle of it.

mod join;
#[path = "../workers/mod.rs"]
mod workers;

use std::process::ExitCode;

use join::HashJoin;
use workers::{Input, Job, Route, as_it_is};

const KEYS: &[&str] = &["origin", "time_hour"];

static JOB: Job = Job {
    name: "shuffle_join",
    inputs: &[
        Input {
            table: "weather",
            // The flights have them.
            without: &["year", "month", "day", "hour"],
            route: Route::Hash(KEYS),
            before: as_it_is,
        },
        Input { table: "flights", without: &[], route: Route::Hash(KEYS), before: as_it_is },
    ],
    reducer: || Box::new(HashJoin::new(KEYS)),
};

fn main() -> ExitCode {
    workers::main(&JOB)
}
