//! What the screen shows, and what keys change about it.

use std::cmp::Reverse;

use clap::ValueEnum;
use sheaf_console::figures::Rows;

/// What comes first.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub(super) enum Sort {
    #[default]
    Name,
    Rate,
    Lag,
    Memory,
    Restarts,
}

impl Sort {
    pub(super) fn apply(self, rows: &mut Rows) {
        let Rows { components, edges } = rows;
        components.sort_by(|left, right| left.place.cmp(&right.place));
        edges.sort_by(|left, right| {
            (&left.pipeline, &left.edge).cmp(&(&right.pipeline, &right.edge))
        });
        match self {
            Sort::Name => {}
            Sort::Rate => {
                components.sort_by_key(|row| {
                    Reverse(row.rows_in_per_second.max(row.rows_out_per_second))
                });
                edges.sort_by_key(|row| Reverse(row.rows_per_second));
            }
            Sort::Lag => {
                components.sort_by_key(|row| Reverse(row.lag));
                edges.sort_by_key(|row| Reverse(row.lag));
            }
            Sort::Memory => {
                components.sort_by_key(|row| Reverse(row.memory_bytes));
                edges.sort_by_key(|row| Reverse(row.memory_bytes + row.disk_bytes));
            }
            // An edge is not started again.
            Sort::Restarts => components.sort_by_key(|row| Reverse(row.restarts)),
        }
    }

    pub(super) fn as_str(self) -> &'static str {
        match self {
            Sort::Name => "name",
            Sort::Rate => "rate",
            Sort::Lag => "lag",
            Sort::Memory => "memory",
            Sort::Restarts => "restarts",
        }
    }
}

/// Everything on the screen.
#[derive(Clone, Debug, Default)]
pub(super) struct View {
    pub(super) title: String,
    pub(super) rows: Rows,
    pub(super) sort: Sort,
    /// Which of the two tables the arrows move.
    pub(super) focus: usize,
    /// The first line that is shown, of each table.
    pub(super) offsets: [usize; 2],
    /// Why the last reading failed.
    pub(super) problem: Option<String>,
}

impl View {
    /// What was read just now.
    pub(super) fn show(&mut self, rows: Rows) {
        (self.rows, self.problem) = (rows, None);
        self.sort.apply(&mut self.rows);
        self.scroll(0);
    }

    pub(super) fn sort_by(&mut self, sort: Sort) {
        self.sort = sort;
        sort.apply(&mut self.rows);
    }

    /// Moves the table that has the focus; it keeps a line.
    pub(super) fn scroll(&mut self, by: isize) {
        let lengths = [self.rows.components.len(), self.rows.edges.len()];
        let focus = self.focus.min(1);
        self.offsets[focus] = self.offsets[focus].saturating_add_signed(by);
        for (offset, length) in self.offsets.iter_mut().zip(lengths) {
            *offset = (*offset).min(length.saturating_sub(1));
        }
    }
}
