//! The short form of `cargo xtask soak fuzz`: the same targets on the stable
//! compiler, over their seeds, over inputs that were findings once, and over
//! random changes of both.

use std::fs;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::path::Path;

// The targets stand in a workspace of their own, which needs libFuzzer.
#[path = "../../../../fuzz/src/targets/mod.rs"]
mod targets;

use super::mutate::{Random, mutated};
use targets::{TARGETS, Target};

/// Printed with a failure. Another one tries other inputs.
const SEED: u64 = 0x5eaf;

fn target(name: &str) -> Target {
    *TARGETS.iter().find(|target| target.name == name).expect("a target of this name")
}

/// Inputs that must never fail again: `fuzz/regressions/TARGET/*`.
fn regressions(target: &Target) -> Vec<Vec<u8>> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../fuzz/regressions");
    let Ok(entries) = fs::read_dir(folder.join(target.name)) else { return Vec::new() };
    let mut paths: Vec<_> = entries.map(|entry| entry.expect("a file").path()).collect();
    paths.sort();
    paths.iter().map(|path| fs::read(path).expect("an input")).collect()
}

/// Whether the input was accepted.
fn run(target: &Target, data: &[u8], what: &str) -> bool {
    catch_unwind(AssertUnwindSafe(|| (target.run)(data))).unwrap_or_else(|panic| {
        let path = std::env::temp_dir().join(format!("sheaf-fuzz-{}", target.name));
        let kept = fs::write(&path, data).is_ok();
        let path = path.display();
        eprintln!("target {} fails on {what}; input kept in {path}: {kept}", target.name);
        resume_unwind(panic)
    })
}

/// Seeds, regressions, then `changes` random inputs.
fn exercise(name: &str, changes: u64) {
    let target = target(name);
    let mut inputs = (target.seeds)();
    let seeds = inputs.len();
    inputs.extend(regressions(&target));
    let valid = inputs.iter().enumerate().filter(|(number, input)| {
        run(&target, input, &format!("input {number}")) && *number < seeds
    });
    let valid = valid.count();
    assert!(valid * 2 > seeds, "{valid} of {seeds} seeds are valid: they lead nowhere");
    let mut random = Random::new(SEED);
    let mut accepted = 0;
    for number in 0..changes {
        let input = mutated(&inputs, target.words, &mut random);
        let what = format!("change {number} with seed {SEED:#x}");
        accepted += u64::from(run(&target, &input, &what));
    }
    eprintln!("{name}: {valid} of {seeds} seeds and {accepted} of {changes} changes are accepted");
    assert!(accepted > 0 && accepted < changes, "{accepted} of {changes} changes are accepted");
}

#[test]
fn fuzz_ticket() {
    exercise("ticket", 20_000);
}

#[test]
fn fuzz_handshake() {
    exercise("handshake", 20_000);
}

#[test]
fn fuzz_descriptor() {
    exercise("descriptor", 5_000);
}

#[test]
fn fuzz_exchange_chunk() {
    exercise("exchange_chunk", 3_000);
}

#[test]
fn fuzz_actions() {
    exercise("actions", 1_000);
}

#[test]
fn fuzz_put() {
    exercise("put", 5_000);
}

#[test]
fn fuzz_raft_frame() {
    exercise("raft_frame", 20_000);
}

#[test]
fn fuzz_control_record() {
    exercise("control_record", 5_000);
}

#[test]
fn fuzz_coordinator_record() {
    exercise("coordinator_record", 5_000);
}

#[test]
fn fuzz_store_file() {
    exercise("store_file", 3_000);
}

#[test]
fn fuzz_format() {
    exercise("format", 3_000);
}

#[test]
fn fuzz_frames() {
    exercise("frames", 20_000);
}

#[test]
fn fuzz_journal() {
    exercise("journal", 3_000);
}

/// No target without its test above, its binary and its name in the manifest.
#[test]
fn each_target_is_run_here_and_by_libfuzzer() {
    let home = Path::new(env!("CARGO_MANIFEST_DIR"));
    let tests = fs::read_to_string(home.join("tests/it/fuzz.rs")).unwrap();
    let manifest = fs::read_to_string(home.join("../../fuzz/Cargo.toml")).unwrap();
    for Target { name, .. } in TARGETS {
        assert!(tests.contains(&format!("exercise(\"{name}\"")), "{name}");
        assert!(manifest.contains(&format!("path = \"fuzz_targets/{name}.rs\"")), "{name}");
    }
}
