//! A retry policy around a call that is not to be relied upon: what the policy
//! says, what happens, and how it ends.
//!
//! `cargo run -p sheaf-examples --example retry_policy`
#![allow(clippy::print_stdout, reason = "an example shows what happens")]

use std::time::Duration;

use sheaf_retry::{Code, RawRetryPolicy, Retry, RetryPolicy, Retryable, SystemClock};

/// What the service answers when it does not serve.
#[derive(Debug, thiserror::Error)]
enum Refusal {
    #[error("connection reset by peer")]
    Reset,
    #[error("too many requests, come back in {} ms", .0.as_millis())]
    Busy(Duration),
    #[error("no table of that name")]
    NoSuchTable,
}

impl Retryable for Refusal {
    fn code(&self) -> Code {
        match self {
            Refusal::Reset => Code::Unavailable,
            Refusal::Busy(_) => Code::Overloaded,
            Refusal::NoSuchTable => Code::NotFound,
        }
    }

    fn retry_after(&self) -> Option<Duration> {
        match self {
            Refusal::Busy(wait) => Some(*wait),
            _ => None,
        }
    }
}

/// Breaks once, is busy once, then serves; for one table it never does.
async fn fetch(table: &str, attempt: u32) -> Result<u64, Refusal> {
    let answer = match (table, attempt) {
        ("lost", _) => Err(Refusal::NoSuchTable),
        ("down", _) | (_, 1) => Err(Refusal::Reset),
        (_, 2) => Err(Refusal::Busy(Duration::from_millis(60))),
        _ => Ok(25_000),
    };
    match &answer {
        Ok(rows) => println!("  attempt {attempt}: {rows} rows"),
        Err(refusal) => println!("  attempt {attempt}: {refusal}"),
    }
    answer
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    println!("for a queue:      {}", RetryPolicy::QUEUE);
    println!("for a transfer:   {}", RetryPolicy::TRANSFER);

    // From a configuration file: every mistake is reported, not only the first.
    let raw: RawRetryPolicy = serde_json::from_str(r#"{"base": "soon", "jitter": 20}"#)?;
    for problem in raw.resolve(&RetryPolicy::QUEUE).err().into_iter().flatten() {
        println!("refused:          {problem}");
    }
    let raw: RawRetryPolicy = serde_json::from_str(r#"{"base": "20ms", "deadline": "10s"}"#)?;
    let policy = raw.resolve(&RetryPolicy::QUEUE).map_err(|problems| format!("{problems:?}"))?;
    println!("from here on:     {policy}");

    let clock = SystemClock::shared();
    for table in ["flights", "lost", "down"] {
        println!("{table}:");
        let run = Retry::new(&policy, 42, clock.clone()).on_wait(|wait| {
            println!("  waiting {:.1} ms", wait.delay.as_secs_f64() * 1000.0);
        });
        match run.run(|attempt| fetch(table, attempt)).await {
            Ok(rows) => println!("  done: {rows} rows"),
            Err(error) => println!("  {error} ({}: {})", error.code(), error.last()),
        }
    }
    Ok(())
}
