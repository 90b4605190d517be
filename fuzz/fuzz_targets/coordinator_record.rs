//! See `src/targets/coordinator_record.rs`.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| sheaf_fuzz::run("coordinator_record", data));
