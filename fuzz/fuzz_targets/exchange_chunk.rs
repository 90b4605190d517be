//! See `src/targets/exchange_chunk.rs`.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| sheaf_fuzz::run("exchange_chunk", data));
