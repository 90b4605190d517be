//! Looks at the file, and has the run brought to what it says.

use std::path::Path;
use std::time::Duration;

use sheaf_drivers::runner::Runner;
use sheaf_pipeline::check::check;
use sheaf_retry::SharedClock;
use tokio::sync::mpsc;

use super::Told;
use super::seen::Seen;

/// How often.
const EVERY: Duration = Duration::from_millis(500);

/// See the module.
pub(super) struct Looking {
    file: Seen,
    pipeline: String,
    runner: Runner,
    clock: SharedClock,
    told: mpsc::Sender<Told>,
}

impl Looking {
    /// Of a file whose name and text are known.
    pub(super) fn new(
        (path, name, text): (&Path, &str, String),
        runner: &Runner,
        clock: &SharedClock,
        told: mpsc::Sender<Told>,
    ) -> Self {
        let pipeline = check(name, &text).map(|checked| checked.pipeline.metadata.name);
        let pipeline = pipeline.unwrap_or_default();
        let file = Seen::new(path, text);
        Looking { file, pipeline, runner: runner.clone(), clock: clock.clone(), told }
    }

    pub(super) async fn run(mut self) {
        loop {
            self.clock.sleep(EVERY).await;
            let told = match self.file.look() {
                Ok(None) => continue,
                Ok(Some((name, text))) => self.take_up(&name, &text).await,
                Err(failure) => Some(Told::Unread(failure)),
            };
            if let Some(told) = told
                && self.told.send(told).await.is_err()
            {
                return;
            }
        }
    }

    async fn take_up(&self, name: &str, text: &str) -> Option<Told> {
        let checked = match check(name, text) {
            Ok(checked) => checked,
            Err(report) => return Some(Told::Report(report)),
        };
        let found = checked.pipeline.metadata.name;
        if found != self.pipeline {
            return Some(Told::Renamed(found));
        }
        if !checked.warnings.is_empty() {
            self.told.send(Told::Report(checked.warnings)).await.ok()?;
        }
        let reloaded = self.runner.reload(name, text).await;
        Some(Told::Reloaded(Box::new(reloaded)))
    }
}
