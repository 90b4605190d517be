//! See `src/targets/control_record.rs`.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| sheaf_fuzz::run("control_record", data));
