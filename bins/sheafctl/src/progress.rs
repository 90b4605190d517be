//! What a run shows of itself while it runs.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use futures::future::join_all;
use sheaf_drivers::runner::Note;
use sheaf_pipeline::control::ControlPlane;
use sheaf_pipeline::registry::{Component, Filter};
use sheaf_retry::SharedClock;
use sheaf_terminal::{Console, Table, compact, count};

use crate::stats::{Look, Rows};

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
    last: String,
    /// By instance, as seen last.
    rows: BTreeMap<String, Rows>,
    seen: BTreeMap<String, Arc<Component>>,
}

impl Progress {
    pub(crate) fn new(
        pipeline: &str,
        plane: ControlPlane,
        clock: &SharedClock,
        quiet: bool,
    ) -> Self {
        Progress {
            pipeline: pipeline.to_owned(),
            plane,
            look: Look::new(clock),
            clock: clock.clone(),
            began: clock.elapsed(),
            quiet,
            ticks: 0,
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

    /// Something that happened.
    pub(crate) fn tell(&self, console: &mut Console, note: &Note) {
        let Note { instance, text } = note;
        match instance.is_empty() {
            true => self.note(console, text),
            false => self.note(console, &format!("{instance}  {text}")),
        }
    }

    /// Waits, and asks all components how far they are.
    pub(crate) async fn tick(&mut self, clock: &SharedClock, console: &mut Console) {
        clock.sleep(EVERY).await;
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

    async fn ask(&mut self) {
        let filter = Filter { pipeline: self.pipeline.clone(), ..Filter::default() };
        let Ok(all) = self.plane.select(filter).await else { return };
        let look = &self.look;
        let asked = all
            .iter()
            .filter(|one| one.status.is_held())
            .map(|component| async move { (instance(component), look.at(component).await) });
        for (instance, rows) in join_all(asked).await {
            if let Some(rows) = rows {
                self.rows.insert(instance, rows);
            }
        }
        self.seen = all.into_iter().map(|component| (instance(&component), component)).collect();
    }

    /// The rows that went through each component.
    fn line(&self) -> String {
        let mut sums: BTreeMap<&str, u64> = BTreeMap::new();
        for (instance, rows) in &self.rows {
            let name = self.seen.get(instance).map_or(instance.as_str(), |one| &one.component);
            *sums.entry(name).or_default() += rows.shown();
        }
        let parts: Vec<String> =
            sums.iter().map(|(name, rows)| format!("{name} {}", count(*rows))).collect();
        match parts.is_empty() {
            true => String::new(),
            false => format!("rows: {}", parts.join(", ")),
        }
    }

    /// A table of all instances.
    pub(crate) fn summary(&mut self, console: &mut Console) {
        if self.quiet || self.seen.is_empty() {
            return;
        }
        let mut table = Table::new(["component", "kind"]).right("rows in").right("rows out");
        table = table.right("restarts");
        for (instance, component) in &self.seen {
            let rows = self.rows.get(instance);
            let shown = |rows: Option<u64>| rows.map_or_else(|| "-".to_owned(), count);
            let (input, output) =
                (rows.and_then(|rows| rows.input), rows.and_then(|rows| rows.output));
            let restarts = component.restarts.to_string();
            let kind = component.kind.as_str().to_owned();
            table.row([instance.clone(), kind, shown(input), shown(output), restarts]);
        }
        let text = table.render(console.width());
        console.note(text.trim_end());
    }
}

fn instance(component: &Component) -> String {
    component.id.split_once(':').map_or(&*component.id, |(_, instance)| instance).to_owned()
}
