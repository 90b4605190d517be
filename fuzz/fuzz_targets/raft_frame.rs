//! See `src/targets/raft_frame.rs`.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| sheaf_fuzz::run("raft_frame", data));
