//! Grouping over several processes: how often each aircraft flew in 2013, and how
//! late it was.
//!
//! Each worker groups each batch of its share, so that fewer rows are sent; rows
//! of one aircraft meet in one partition, where they are added up.
//!
//! `cargo xtask data`, then
//! `cargo run --release -p sheaf-examples --example group_by -- --workers 4 --check`

mod groups;
#[path = "../workers/mod.rs"]
mod workers;

use std::process::ExitCode;

use groups::{Groups, group};
use workers::{Input, Job, Route};

static JOB: Job = Job {
    name: "group_by",
    inputs: &[Input {
        table: "flights",
        without: &[],
        route: Route::Hash(&["tailnum"]),
        before: group,
    }],
    reducer: || Box::new(Groups::default()),
};

fn main() -> ExitCode {
    workers::main(&JOB)
}
