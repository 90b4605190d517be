//! Asks components how far they are.

use std::sync::Arc;

use futures::future::join_all;
use sheaf_pipeline::registry::{Component, Filter};
use sheaf_terminal::Console;

use super::{EVERY, Progress};
use crate::stats::instance;

/// After how many times a line is shown.
const SHOWN: u32 = 8;

impl Progress {
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
