//! The `backoff` crate and Sheaf's policies, both ways round. For programs that
//! have that crate already: it is not maintained any more (RUSTSEC-2025-0012).
//!
//! `cargo run -p sheaf-examples --features backoff --example retry_backoff`
#![allow(clippy::print_stdout, reason = "an example shows what happens")]

use std::io;
use std::time::Duration;

use backoff::ExponentialBackoffBuilder;
use sheaf_retry::interop::{FromBackoff, PolicyBackoff, classify};
use sheaf_retry::{Retry, RetryPolicy, SystemClock};

fn flaky(attempt: u32) -> Result<&'static str, io::Error> {
    if attempt < 3 {
        println!("  attempt {attempt}: connection reset");
        return Err(io::ErrorKind::ConnectionReset.into());
    }
    println!("  attempt {attempt}: served");
    Ok("served")
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let clock = SystemClock::shared();

    let policy = RetryPolicy { base_ms: 20, ..RetryPolicy::default() };
    println!("backoff::retry with our policy ({policy}):");
    let mut attempt = 0;
    let delays = PolicyBackoff::new(&policy, 42, clock.clone());
    let answer = backoff::retry(delays, || {
        attempt += 1;
        flaky(attempt).map_err(classify)
    });
    assert_eq!(answer.map_err(|error| error.to_string())?, "served");

    println!("our retry with their ExponentialBackoff:");
    let theirs = ExponentialBackoffBuilder::new()
        .with_initial_interval(Duration::from_millis(10))
        .with_multiplier(3.0)
        .build();
    let answer = Retry::with_delays(FromBackoff::new(theirs), clock)
        .on_wait(|wait| println!("  waiting {:.1} ms", wait.delay.as_secs_f64() * 1000.0))
        .run_blocking(flaky)?;
    assert_eq!(answer, "served");
    Ok(())
}
