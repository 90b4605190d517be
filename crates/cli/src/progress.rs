//! How far a long command is, on standard error.

use std::borrow::Cow;

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

use crate::number;

/// Most lines of progress where nobody watches a terminal: one per tenth.
const PLAIN_STEPS: u64 = 10;

/// Progress of one task: a moving bar on a terminal, a few plain lines in a
/// log file, nothing when it is not wanted.
#[derive(Debug)]
pub struct Progress(Kind);

#[derive(Debug)]
enum Kind {
    Bar(ProgressBar),
    Plain(Plain),
    Silent,
}

/// Decides which positions are worth a line.
#[derive(Debug)]
struct Plain {
    what: String,
    total: Option<u64>,
    done: u64,
    next: u64,
}

impl Plain {
    fn new(what: String, total: Option<u64>) -> Self {
        Plain { what, total, done: 0, next: Plain::step(total) }
    }

    /// With no total each line stands for ten times as much as the one before.
    fn step(total: Option<u64>) -> u64 {
        total.map_or(1_000, |total| (total / PLAIN_STEPS).max(1))
    }

    fn advance(&mut self, by: u64) -> Option<String> {
        self.done = self.done.saturating_add(by);
        if self.done < self.next {
            return None;
        }
        self.next = match self.total {
            Some(_) => self.done.saturating_add(Plain::step(self.total)),
            None => self.next.saturating_mul(10).max(self.done.saturating_add(1)),
        };
        Some(self.line())
    }

    fn line(&self) -> String {
        let done = number::count(self.done);
        match self.total {
            Some(total) => format!("{}: {done} of {}", self.what, number::count(total)),
            None => format!("{}: {done}", self.what),
        }
    }
}

impl Progress {
    /// Begins to show `what`, of `total` units where that is known.
    ///
    /// `on_terminal` is [`Console::notes_on_terminal`](crate::Console::notes_on_terminal).
    pub fn start(what: impl Into<String>, total: Option<u64>, on_terminal: bool) -> Self {
        let what = what.into();
        if !on_terminal {
            return Progress(Kind::Plain(Plain::new(what, total)));
        }
        let bar = ProgressBar::with_draw_target(total, ProgressDrawTarget::stderr());
        let template = match total {
            Some(_) => "{prefix} {wide_bar} {human_pos}/{human_len} {per_sec} {eta}",
            None => "{prefix} {spinner} {human_pos} {per_sec} {elapsed}",
        };
        if let Ok(style) = ProgressStyle::with_template(template) {
            bar.set_style(style);
        }
        bar.set_prefix(Cow::Owned(what));
        Progress(Kind::Bar(bar))
    }

    /// Shows nothing.
    pub fn silent() -> Self {
        Progress(Kind::Silent)
    }

    /// So many units more are done.
    #[allow(clippy::print_stderr, reason = "the lines are for the person at standard error")]
    pub fn advance(&mut self, by: u64) {
        match &mut self.0 {
            Kind::Bar(bar) => bar.inc(by),
            Kind::Plain(plain) => {
                if let Some(line) = plain.advance(by) {
                    eprintln!("{line}");
                }
            }
            Kind::Silent => {}
        }
    }

    /// So many units are done in all. A position that was reached before, as
    /// when a task begins anew, changes nothing.
    pub fn reach(&mut self, position: u64) {
        let done = match &self.0 {
            Kind::Bar(bar) => bar.position(),
            Kind::Plain(plain) => plain.done,
            Kind::Silent => return,
        };
        if position > done {
            self.advance(position - done);
        }
    }

    /// Runs `show`, which writes lines to standard error, above the bar.
    pub fn suspend<R>(&self, show: impl FnOnce() -> R) -> R {
        match &self.0 {
            Kind::Bar(bar) => bar.suspend(show),
            Kind::Plain(_) | Kind::Silent => show(),
        }
    }

    /// Takes the bar off the screen.
    pub fn finish(self) {
        if let Kind::Bar(bar) = self.0 {
            bar.finish_and_clear();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_log_file_gets_a_line_per_tenth() {
        let mut plain = Plain::new("put".to_owned(), Some(10_000));
        let lines: Vec<_> = (0..100).filter_map(|_| plain.advance(100)).collect();
        assert_eq!(lines.len(), 10);
        assert_eq!(lines.last().map(String::as_str), Some("put: 10,000 of 10,000"));
    }

    #[test]
    fn without_a_total_lines_become_rarer() {
        let mut plain = Plain::new("get".to_owned(), None);
        let lines: Vec<_> = (0..1_000).filter_map(|_| plain.advance(1_000)).collect();
        assert_eq!(lines, ["get: 1,000", "get: 10,000", "get: 100,000", "get: 1,000,000"]);
    }

    #[test]
    fn what_is_done_again_counts_once() {
        let mut progress = Progress(Kind::Plain(Plain::new("put".to_owned(), Some(1_000))));
        for position in [300, 600, 300, 600, 700] {
            progress.reach(position);
        }
        let Kind::Plain(plain) = progress.0 else { unreachable!() };
        assert_eq!(plain.line(), "put: 700 of 1,000");
    }

    #[test]
    fn an_empty_task_does_not_divide_by_zero() {
        let mut plain = Plain::new("put".to_owned(), Some(0));
        assert_eq!(plain.advance(0), None);
        assert!(plain.advance(1).is_some());
    }
}
