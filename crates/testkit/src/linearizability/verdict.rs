//! What a check found, and how it is told.

use std::fmt::{self, Debug};

use super::events::Place;
use super::{Operation, Outcome};

/// Whether a history is linearizable.
#[derive(Clone, Debug, PartialEq, Eq)]
#[must_use]
pub enum Verdict {
    /// There is an order.
    Linearizable,
    /// There is none.
    Violation(Violation),
    /// None was found, nor that there is none, in so many steps of the model.
    Undecided {
        /// The limit that was given.
        steps: u64,
    },
}

impl Verdict {
    /// Whether an order was found.
    pub fn is_linearizable(&self) -> bool {
        *self == Verdict::Linearizable
    }

    /// Whether it is certain that there is none.
    pub fn is_violation(&self) -> bool {
        matches!(self, Verdict::Violation(_))
    }
}

impl fmt::Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Verdict::Linearizable => f.write_str("linearizable"),
            Verdict::Violation(violation) => f.write_str(&violation.report),
            Verdict::Undecided { steps } => write!(f, "undecided after {steps} steps"),
        }
    }
}

/// Why there is no order: the first return, by time, up to which the history cannot be
/// explained. Shown by `Display`, with the operations around it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Violation {
    /// The operation that returned there, as a place in the history.
    pub culprit: usize,
    /// A few operations around it, as places: the last ones before it in the order that
    /// came furthest, it, and those that had not happened by then.
    pub window: Vec<usize>,
    report: String,
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.report)
    }
}

/// Where the search came no further.
pub(super) struct Stuck<S> {
    pub(super) place: Place,
    pub(super) culprit: usize,
    /// The last operations placed.
    pub(super) before: Vec<usize>,
    /// Those that could have been placed, if the model allowed it.
    pub(super) open: Vec<usize>,
    /// States in which this was so.
    pub(super) states: Vec<S>,
}

impl<S> Stuck<S> {
    /// How many operations of a kind a report shows at most.
    pub(super) const SHOWN: usize = 8;
    const STATES: usize = 4;
}

impl<S: Clone + Debug + Eq> Stuck<S> {
    pub(super) fn add(&mut self, state: &S) {
        if self.states.len() < Self::STATES && !self.states.contains(state) {
            self.states.push(state.clone());
        }
    }

    pub(super) fn violation<O: Debug, R: Debug>(self, history: &[Operation<O, R>]) -> Violation {
        let mut report = String::from("not linearizable: no order explains the answer of\n");
        add(&mut report, history, &[self.culprit]);
        if !self.before.is_empty() {
            report.push_str("the last that happened before it, in one order:\n");
            add(&mut report, history, &self.before);
        }
        if !self.open.is_empty() {
            report.push_str("what could have happened meanwhile, and does not help:\n");
            add(&mut report, history, &self.open);
        }
        report.push_str("states in which it should have happened:\n");
        for state in &self.states {
            report.push_str(&format!("  {state:?}\n"));
        }
        let window = [self.before, vec![self.culprit], self.open].concat();
        Violation { culprit: self.culprit, window, report }
    }
}

fn add<O: Debug, R: Debug>(report: &mut String, history: &[Operation<O, R>], indices: &[usize]) {
    for index in indices {
        let Operation { client, op, invoked, outcome } = &history[*index];
        let end = match outcome {
            Outcome::Returned { at, ret } => format!("{at} client {client}: {op:?} -> {ret:?}"),
            Outcome::Unknown => format!("? client {client}: {op:?} -> unknown"),
        };
        report.push_str(&format!("  #{index} {invoked}..{end}\n"));
    }
}
