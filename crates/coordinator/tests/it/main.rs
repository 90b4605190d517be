//! The embedded coordinator: conformance, crashes, full and damaged disks.
#![allow(clippy::unwrap_used, missing_docs, reason = "tests")]

mod bounds;
mod conformance;
mod crash;
mod damage;
mod ext;
mod migration;
mod snapshot;
mod tracker;

use std::path::Path;
use std::time::Duration;

use sheaf_coordinator::{BatchSpec, ClaimRequest};

fn directory() -> tempfile::TempDir {
    tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap()
}

fn file(directory: &Path) -> std::path::PathBuf {
    directory.join("coordinator.redb")
}

fn spec(name: &str) -> BatchSpec {
    BatchSpec { rows: 10, bytes: 100, ..BatchSpec::new(name.parse().unwrap()) }
}

fn claim(name: &str, max: u32) -> ClaimRequest {
    ClaimRequest::new("worker", name, max, Duration::from_secs(600))
}
