//! Two components of one's own, which `examples/pipelines/rust.yaml` puts into a pipeline: a
//! source of readings, and a processor that keeps those far from what is usual.
//!
//! `cargo build --release -p sheaf-examples --example own_components`, then in
//! `examples/pipelines`: `../../target/release/sheafctl run rust.yaml`

mod outliers;
mod sensors;

use std::io::Write as _;
use std::process::ExitCode;

use outliers::Outliers;
use sensors::Sensors;
use sheaf_dataflow::Component;
use sheaf_telemetry::{LogOptions, init_logs};

fn main() -> ExitCode {
    // The control plane keeps what a component says on standard error: `sheafctl logs`.
    if let Err(error) = init_logs(&LogOptions::default()) {
        return refuse(&error.to_string());
    }
    match std::env::args().nth(1).as_deref() {
        Some("sensors") => Component::source(async |start| Sensors::new(&start)).main(),
        Some("outliers") => Component::processor(async |start| Outliers::new(&start)).main(),
        _ => refuse("say which component: `sensors` or `outliers`"),
    }
}

/// Ends with a code after which it is not started again.
fn refuse(why: &str) -> ExitCode {
    drop(writeln!(std::io::stderr(), "error: {why}"));
    ExitCode::from(2)
}
