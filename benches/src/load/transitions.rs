//! Transitions of the embedded coordinator with fsync.

use std::path::Path;

use serde_json::json;
use sheaf_bench::embedded::{LIFE, lifecycle, open, registrations};

use crate::error::{Error, Result};

/// A batch's whole life, then registrations alone; one batch in each call.
pub(super) async fn run(folder: &Path, batches: u64) -> Result<()> {
    let coordinator = open(Some(folder))?;
    let failed = |error| Error::Message(format!("the load failed: {error}"));
    // The database grows to its working size, connections and tasks get warm.
    lifecycle(&coordinator, 1, batches / 4).await.map_err(failed)?;
    let life = lifecycle(&coordinator, 1, batches).await.map_err(failed)?;
    let register = registrations(&coordinator, 1, batches).await.map_err(failed)?;
    coordinator.close().await?;
    let per_second = |count: u64, seconds: f64| count as f64 / seconds;
    let line = json!({
        "transitions_per_s": per_second(batches * LIFE, life.as_secs_f64()),
        "registrations_per_s": per_second(batches, register.as_secs_f64()),
    });
    println!("{line}");
    Ok(())
}
