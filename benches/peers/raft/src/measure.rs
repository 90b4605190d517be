//! How many requests are answered within a time, and how long each takes: the same as
//! `sheaf-bench load` measures.

use std::future::Future;
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use crate::{Load, Result};

const MEASURED: u8 = 1;
const OVER: u8 = 2;

/// The system counts CPU in hundredths of a second.
const TICKS: f64 = 100.0;

/// Keeps so many requests under way, prints what was measured, and gives each request a
/// number of its own.
pub async fn drive<C, F>(load: &Load, client: C, request: fn(C, u64) -> F) -> Result<()>
where
    C: Clone + Send + 'static,
    F: Future<Output = Result<()>> + Send + 'static,
{
    let (phase, next) = (Arc::new(AtomicU8::new(0)), Arc::new(AtomicU64::new(0)));
    let mut tasks = Vec::new();
    for _ in 0..load.depth {
        let (phase, next, client) = (Arc::clone(&phase), Arc::clone(&next), client.clone());
        tasks.push(tokio::spawn(async move {
            let mut times = Vec::new();
            loop {
                let before = phase.load(Ordering::Relaxed);
                if before == OVER {
                    return Ok::<_, Box<dyn std::error::Error + Send + Sync>>(times);
                }
                let (start, number) = (Instant::now(), next.fetch_add(1, Ordering::Relaxed));
                request(client.clone(), number).await?;
                if before == MEASURED && phase.load(Ordering::Relaxed) == MEASURED {
                    times.push(u32::try_from(start.elapsed().as_nanos()).unwrap_or(u32::MAX));
                }
            }
        }));
    }
    let mut pids = load.pids.clone();
    pids.push(std::process::id().to_string());
    let time = Duration::from_secs_f64(load.seconds);
    tokio::time::sleep(time / 4).await;
    let (start, before) = (Instant::now(), cpu_seconds(&pids)?);
    phase.store(MEASURED, Ordering::Relaxed);
    tokio::time::sleep(time).await;
    phase.store(OVER, Ordering::Relaxed);
    let (seconds, used) = (start.elapsed().as_secs_f64(), cpu_seconds(&pids)? - before);
    let mut times = Vec::new();
    for task in tasks {
        times.extend(task.await??);
    }
    times.sort_unstable();
    let percentile = |percent: usize| {
        let rank = (times.len() * percent).div_ceil(100).max(1);
        times.get(rank - 1).map(|time| f64::from(*time) / 1e3)
    };
    let (Some(p50), Some(p99)) = (percentile(50), percentile(99)) else {
        return Err("no request was answered in time".into());
    };
    println!(
        "{}",
        serde_json::json!({
            "messages": times.len(),
            "seconds": seconds,
            "cpu_seconds": used,
            "p50_us": p50,
            "p99_us": p99,
        })
    );
    Ok(())
}

fn cpu_seconds(pids: &[String]) -> Result<f64> {
    let mut ticks = 0_u64;
    for pid in pids {
        let text = std::fs::read_to_string(format!("/proc/{pid}/stat"))?;
        // The name of the program may have spaces; what follows it has none.
        let fields = text.rsplit(')').next().unwrap_or_default().split_whitespace();
        ticks += fields.skip(11).take(2).filter_map(|field| field.parse::<u64>().ok()).sum::<u64>();
    }
    Ok(ticks as f64 / TICKS)
}
