//! See `src/targets/store_file.rs`.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| sheaf_fuzz::run("store_file", data));
