//! What a run shows of itself while it runs.

mod shown;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use futures::future::join_all;
use sheaf_flight::TlsFiles;
use sheaf_pipeline::control::ControlPlane;
use sheaf_pipeline::registry::{Component, Filter};
use sheaf_retry::SharedClock;
use sheaf_terminal::{Console, compact};

use crate::stats::{Look, Rows, instance};

/// How often components are asked.
const EVERY: Duration = Duration::from_millis(250);
/// After how many of these a line is shown.
const SHOWN: u32 = 8;

/// See the module.
pub(crate) struct Progress {
    pipeline: String,
    plane: ControlPlane,
    look: Look,
    clock: SharedClock,
    began: Duration,
    quiet: bool,
    ticks: u32,
    /// When to ask again.
    next: Duration,
    last: String,
    /// By instance, as seen last.
    rows: BTreeMap<String, Rows>,
    seen: BTreeMap<String, Arc<Component>>,
}

impl Progress {
    pub(crate) fn new(
        pipeline: &str,
        plane: ControlPlane,
        health: Option<TlsFiles>,
        clock: &SharedClock,
        quiet: bool,
    ) -> Self {
        Progress {
            pipeline: pipeline.to_owned(),
            plane,
            look: Look::new(health, clock),
            clock: clock.clone(),
            began: clock.elapsed(),
            quiet,
            ticks: 0,
            next: clock.elapsed() + EVERY,
            last: String::new(),
            rows: BTreeMap::new(),
            seen: BTreeMap::new(),
        }
    }

    /// A line for people.
    pub(crate) fn note(&self, console: &mut Console, text: &str) {
        if !self.quiet {
            let time = compact(self.clock.elapsed().saturating_sub(self.began));
            console.note(&format!("{time:>6}  {text}"));
        }
    }

    /// Waits until it is time to ask. Dropped and called again, it goes on to wait for the same
    /// time.
    pub(crate) async fn wait(&self) {
        self.clock.sleep(self.next.saturating_sub(self.clock.elapsed())).await;
    }

    /// Asks all components how far they are.
    pub(crate) async fn look(&mut self, console: &mut Console) {
        self.next = self.clock.elapsed() + EVERY;
        self.ask().await;
        self.ticks += 1;
        if self.ticks.is_multiple_of(SHOWN) {
            let line = self.line();
            if line != self.last && !line.is_empty() {
                self.note(console, &line);
                self.last = line;
            }
        }
    }

    /// Asks how far they came, once all of them have left.
    pub(crate) async fn end(&mut self) {
        self.ask().await;
    }

    async fn ask(&mut self) {
        let filter = Filter { pipeline: self.pipeline.clone(), ..Filter::default() };
        let Ok(all) = self.plane.select(filter).await else { return };
        let look = &self.look;
        let asked = all.iter().map(|component| async move {
            (instance(component).to_owned(), look.at(component).await)
        });
        for (instance, rows) in join_all(asked).await {
            if let Some(rows) = rows {
                self.rows.insert(instance, rows);
            }
        }
        let named = |component: Arc<Component>| (instance(&component).to_owned(), component);
        self.seen = all.into_iter().map(named).collect();
    }
}
