//! How many calls return within a time, and how long each takes.

use std::future::Future;
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::error::{Error, Result};
use crate::process::cpu_seconds;
use crate::stats::percentile;

/// What is counted, warm-up first.
#[derive(Clone, Debug, Default)]
pub(in crate::load) struct Phase(Arc<AtomicU8>);

const MEASURED: u8 = 1;
const OVER: u8 = 2;

impl Phase {
    pub(in crate::load) fn counts(&self) -> bool {
        self.0.load(Ordering::Relaxed) == MEASURED
    }

    pub(in crate::load) fn is_over(&self) -> bool {
        self.0.load(Ordering::Relaxed) == OVER
    }

    fn set(&self, phase: u8) {
        self.0.store(phase, Ordering::Relaxed);
    }
}

/// Latencies of calls that began and ended within the time.
#[derive(Debug)]
pub(in crate::load) struct Measured {
    pub(in crate::load) nanoseconds: Vec<u32>,
    pub(in crate::load) seconds: f64,
    pub(in crate::load) cpu_seconds: f64,
}

impl Measured {
    /// What a load prints.
    pub(in crate::load) fn json(&self) -> Result<Value> {
        let messages = self.nanoseconds.len();
        let times: Vec<f64> = self.nanoseconds.iter().map(|ns| f64::from(*ns) / 1e3).collect();
        let (Some(p50), Some(p99)) = (percentile(&times, 50), percentile(&times, 99)) else {
            return Err(Error::Message("no message came back in time".into()));
        };
        Ok(json!({
            "messages": messages,
            "seconds": self.seconds,
            "cpu_seconds": self.cpu_seconds,
            "p50_us": p50,
            "p99_us": p99,
        }))
    }
}

/// The time since then, in as many nanoseconds as fit.
pub(in crate::load) fn since(start: Instant) -> u32 {
    u32::try_from(start.elapsed().as_nanos()).unwrap_or(u32::MAX)
}

/// Goes through the phases; gives the seconds and the CPU of the processes in the one
/// that is measured. `sleep` is the thread's.
pub(in crate::load) fn phases(phase: &Phase, pids: &[String], seconds: f64) -> Result<(f64, f64)> {
    let time = Duration::from_secs_f64(seconds);
    std::thread::sleep(time / 4);
    let (start, before) = (Instant::now(), cpu_seconds(pids)?);
    phase.set(MEASURED);
    std::thread::sleep(time);
    phase.set(OVER);
    Ok((start.elapsed().as_secs_f64(), cpu_seconds(pids)? - before))
}

/// Keeps `depth` calls under way for a quarter of the time, and then for all of it.
pub(in crate::load) async fn drive<F>(
    pids: &[String],
    depth: usize,
    seconds: f64,
    call: impl Fn() -> F + Clone + Send + 'static,
) -> Result<Measured>
where
    F: Future<Output = Result<()>> + Send,
{
    let phase = Phase::default();
    let tasks: Vec<_> = (0..depth)
        .map(|_| {
            let (phase, call) = (phase.clone(), call.clone());
            tokio::spawn(async move {
                let mut nanoseconds = Vec::new();
                while !phase.is_over() {
                    let (counts, start) = (phase.counts(), Instant::now());
                    call().await?;
                    if counts && phase.counts() {
                        nanoseconds.push(since(start));
                    }
                }
                Ok::<_, Error>(nanoseconds)
            })
        })
        .collect();
    let (clock, pids) = (phase.clone(), pids.to_vec());
    let timed = tokio::task::spawn_blocking(move || phases(&clock, &pids, seconds));
    let lost = |error| Error::Message(format!("a task is gone: {error}"));
    let (seconds, cpu_seconds) = timed.await.map_err(lost)??;
    let mut nanoseconds = Vec::new();
    for task in tasks {
        nanoseconds.extend(task.await.map_err(lost)??);
    }
    Ok(Measured { nanoseconds, seconds, cpu_seconds })
}
