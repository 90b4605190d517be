//! What both peers share: arguments, the record, and counting what ran.

use std::collections::HashSet;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use serde::{Deserialize, Serialize};
use serde_json::json;

pub(crate) type Result<T, E = Box<dyn std::error::Error + Send + Sync>> = std::result::Result<T, E>;

/// The name of the queue.
pub(crate) const QUEUE: &str = "bench";

/// Without progress for so long, what is missing is lost.
const PATIENCE: Duration = Duration::from_secs(20);

pub(crate) struct Options {
    pub(crate) port: u16,
    pub(crate) jobs: u64,
    pub(crate) n: usize,
    pub(crate) lease: Option<Duration>,
    pub(crate) pause: Duration,
    pub(crate) each: bool,
}

impl Options {
    pub(crate) fn parse(mut arguments: impl Iterator<Item = String>) -> Result<Self> {
        let mut options = Options {
            port: 0,
            jobs: 1,
            n: 1,
            lease: None,
            pause: Duration::from_millis(5),
            each: false,
        };
        while let Some(flag) = arguments.next() {
            let mut value = || arguments.next().ok_or(format!("{flag} needs a value"));
            match flag.as_str() {
                "--port" => options.port = value()?.parse()?,
                "--jobs" => options.jobs = value()?.parse()?,
                "--n" => options.n = value()?.parse()?,
                "--lease-ms" => options.lease = Some(Duration::from_millis(value()?.parse()?)),
                "--pause-ms" => options.pause = Duration::from_millis(value()?.parse()?),
                "--each" => options.each = true,
                _ => return Err(format!("no flag {flag}").into()),
            }
        }
        Ok(options)
    }

    pub(crate) fn url(&self) -> String {
        format!("redis://127.0.0.1:{}", self.port)
    }
}

/// A record of about 300 bytes, as every side has it.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub(crate) struct Record {
    pub(crate) number: u64,
    rows: u64,
    bytes: u64,
    checksum: String,
    schema: String,
    location: String,
    note: String,
}

impl Record {
    pub(crate) fn new(number: u64) -> Self {
        Record {
            number,
            rows: 1_000,
            bytes: 100_000,
            checksum: "0123456789abcdef0123456789abcdef".to_owned(),
            schema: "fedcba9876543210fedcba9876543210".to_owned(),
            location: "grpc://127.0.0.1:8080".to_owned(),
            note: "x".repeat(120),
        }
    }
}

pub(crate) fn now_ns() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_nanos()).unwrap_or(u64::MAX)
}

/// The result of `enqueue`.
pub(crate) fn say_enqueued(jobs: u64, from: u64) {
    let seconds = (now_ns() - from) as f64 / 1e9;
    println!("{}", json!({ "jobs": jobs, "seconds": seconds }));
}

/// What ran, when.
#[derive(Default)]
struct Seen {
    from: u64,
    numbers: HashSet<u64>,
    duplicated: u64,
    started: Vec<(u64, u64)>,
}

/// Counts jobs; a clone counts with the same counter.
#[derive(Clone, Default)]
pub(crate) struct Counter {
    seen: Arc<Mutex<Seen>>,
    each: bool,
    pub(crate) hold: bool,
}

impl Counter {
    pub(crate) fn new(each: bool, hold: bool) -> Self {
        Counter { each, hold, ..Counter::default() }
    }

    /// The job itself.
    pub(crate) async fn run(&self, number: u64) {
        if self.hold {
            println!("holding");
            std::future::pending::<()>().await;
        }
        let at = now_ns();
        let mut seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        if seen.from == 0 {
            seen.from = at;
        }
        if self.each {
            seen.started.push((number, at));
        }
        if !seen.numbers.insert(number) {
            seen.duplicated += 1;
        }
    }

    /// How many different jobs ran.
    pub(crate) fn count(&self) -> u64 {
        self.seen.lock().unwrap_or_else(PoisonError::into_inner).numbers.len() as u64
    }

    /// Ends the process with the result of `work`.
    pub(crate) fn end(&self, jobs: u64) -> ! {
        let to = now_ns();
        let seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        let result = json!({
            "jobs": jobs,
            "seconds": (to - seen.from) as f64 / 1e9,
            "lost": jobs - seen.numbers.len() as u64,
            "duplicated": seen.duplicated,
            "started": seen.started,
        });
        println!("{result}");
        std::process::exit(0)
    }
}

/// Sees that something happens.
pub(crate) struct Progress {
    count: u64,
    since: u64,
}

impl Progress {
    pub(crate) fn new() -> Self {
        Progress { count: 0, since: now_ns() }
    }

    /// Whether nothing happened for too long.
    pub(crate) fn is_over(&mut self, count: u64) -> bool {
        if count != self.count {
            *self = Progress { count, since: now_ns() };
        }
        u128::from(now_ns() - self.since) > PATIENCE.as_nanos()
    }
}
