//! The join of a large and a small table over several processes, without moving
//! the large one: every worker gets all of the weather, and joins it with its
//! share of the flights.
//!
//! `cargo xtask data`, then
//! `cargo run --release -p sheaf-examples --example broadcast_join -- --workers 4 --check`

#[path = "../shuffle_join/join.rs"]
mod join;
#[path = "../workers/mod.rs"]
mod workers;

use std::process::ExitCode;

use join::HashJoin;
use workers::{Input, Job, Route, as_it_is};

static JOB: Job = Job {
    name: "broadcast_join",
    inputs: &[
        Input {
            table: "weather",
            // The flights have them.
            without: &["year", "month", "day", "hour"],
            route: Route::Broadcast,
            before: as_it_is,
        },
        Input { table: "flights", without: &[], route: Route::Stay, before: as_it_is },
    ],
    reducer: || Box::new(HashJoin::new(&["origin", "time_hour"])),
};

fn main() -> ExitCode {
    workers::main(&JOB)
}
