//! See `src/targets/ticket.rs`.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| sheaf_fuzz::run("ticket", data));
