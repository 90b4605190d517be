//! The figures of a run, for people.

use std::collections::BTreeMap;

use sheaf_drivers::runner::Note;
use sheaf_terminal::{Console, Table, count};

use super::Progress;
use crate::stats::put_aside;

impl Progress {
    /// Something that happened.
    pub(crate) fn tell(&self, console: &mut Console, note: &Note) {
        let Note { instance, text } = note;
        match instance.is_empty() {
            true => self.note(console, text),
            false => self.note(console, &format!("{instance}  {text}")),
        }
    }

    /// The rows that went through each component.
    pub(super) fn line(&self) -> String {
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
        for (instance, rows) in &self.rows {
            put_aside(console, instance, Some(*rows));
        }
    }
}
