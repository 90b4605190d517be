//! Fuzz targets for every decoder of bytes from outside.
//!
//! What a target does with its bytes is in `targets/`, free of libFuzzer:
//! `crates/node/tests/it/fuzz.rs` compiles the same files on the stable
//! compiler, and runs them shortly with every `cargo test`. The binaries in
//! `fuzz_targets/` give them to libFuzzer through [`run`]; `cargo xtask soak
//! fuzz` builds and runs those.

mod harness;
mod targets;

pub use harness::{run, write_seeds};
