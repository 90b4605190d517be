//! The spans of a component: one for each batch at its stage.
//!
//! A source begins a trace with each batch that it makes (`make`). The batch carries its trace to
//! whoever reads it, and there a span goes on with it: `process`, or `write` of a sink. What a
//! processor gives for a batch goes on with the span of that batch, and has links to the batches
//! before that are not done with; what it gives without a batch (`emit`) goes on with the first of
//! those. A payload of a durable edge that is made of several batches goes on with the first of
//! them.
//!
//! A component without a tracer passes on what came with a batch, so that no trace ends there.

use std::collections::VecDeque;
use std::time::Duration;

use arrow_array::RecordBatch;
use sheaf_proto::{Begin, Recording, SharedTracer, Span, TraceContext, Value};

use crate::assignment::Assignment;
use crate::component::Outcome;
use crate::error::ComponentError;
use crate::inlet::Handed;
use crate::outlet::size_bytes;

/// Causes that are kept for what comes of them together.
const MOST_CAUSES: usize = 32;

/// What all spans of a component have in common.
pub(crate) struct Spans {
    tracer: Option<SharedTracer>,
    pipeline: String,
    run: u64,
    component: String,
    instance: u64,
    /// The edges that lead out.
    outputs: String,
}

impl Spans {
    pub(crate) fn new(assignment: &Assignment, tracer: Option<SharedTracer>) -> Self {
        let outputs: Vec<&str> =
            assignment.outputs.iter().map(|output| output.edge.id.as_str()).collect();
        Spans {
            tracer,
            pipeline: assignment.pipeline.clone(),
            run: assignment.run,
            component: assignment.definition.id.clone(),
            instance: assignment.index.into(),
            outputs: outputs.join(","),
        }
    }

    /// Whether anybody records them.
    pub(crate) fn are_recorded(&self) -> bool {
        self.tracer.is_some()
    }

    fn start(&self, name: &'static str, parent: Option<TraceContext>, ago: Duration) -> Span {
        let begin = Begin { name, of: &self.component, parent, ago };
        let mut span = Span::start(self.tracer.as_ref(), begin);
        if let Some(recording) = span.recorded() {
            recording.set("sheaf.pipeline", Value::Text(&self.pipeline));
            recording.set("sheaf.run", Value::Number(self.run));
            recording.set("sheaf.component", Value::Text(&self.component));
            recording.set("sheaf.instance", Value::Number(self.instance));
        }
        span
    }

    /// A source has made its batch of this number, which it was asked for so long ago.
    pub(crate) fn make(&self, batch: &RecordBatch, number: u64, ago: Duration) -> Span {
        let mut span = self.start("make", None, ago);
        if let Some(recording) = span.recorded() {
            recording.set("sheaf.edge", Value::Text(&self.outputs));
            recording.set("sheaf.sequence", Value::Number(number));
            size(recording, batch);
            recording.event("made", "");
        }
        span
    }

    /// A batch came in over this edge.
    pub(crate) fn take(&self, name: &'static str, handed: &Handed, edge: &str) -> Span {
        let received = &handed.received;
        let mut span = self.start(name, handed.trace, Duration::ZERO);
        if let Some(recording) = span.recorded() {
            recording.set("sheaf.edge", Value::Text(edge));
            recording.set("sheaf.sequence", Value::Number(received.sequence));
            recording.set("sheaf.from_instance", Value::Number(received.from_instance.into()));
            if let Some(lease) = &received.lease {
                recording.set("sheaf.batch_id", Value::Text(&lease.id));
            }
            size(recording, &received.batch);
        }
        span
    }

    /// Something came of batches before, and of none that came just now; where nothing did,
    /// there is no span.
    pub(crate) fn emit(&self, outcome: &Outcome, causes: &Causes, ago: Duration) -> Span {
        if outcome.batches.is_empty() {
            return Span::default();
        }
        let mut span = self.start("emit", causes.first(), ago);
        if let Some(recording) = span.recorded() {
            recording.set("sheaf.edge", Value::Text(&self.outputs));
            let rows = outcome.batches.iter().map(|batch| batch.num_rows() as u64).sum();
            let bytes = outcome.batches.iter().map(size_bytes).sum();
            recording.set("sheaf.rows", Value::Number(rows));
            recording.set("sheaf.bytes", Value::Number(bytes));
        }
        gave(&mut span, outcome, causes);
        span
    }
}

/// A processor is ready, with what is to be sent now.
pub(crate) fn gave(span: &mut Span, outcome: &Outcome, causes: &Causes) {
    let Some(recording) = span.recorded() else { return };
    recording.set("sheaf.batches", Value::Number(outcome.batches.len() as u64));
    recording.event("processed", "");
    if !outcome.batches.is_empty() {
        causes.sampled.iter().for_each(|(_, context)| recording.link(*context));
    }
}

/// It is tried again, or not.
pub(crate) fn failed(span: &mut Span, error: &ComponentError) {
    if let Some(recording) = span.recorded() {
        recording.event("failed", &error.chain());
    }
}

/// It came to nothing.
pub(crate) fn fail(span: &mut Span, why: &str) {
    if let Some(recording) = span.recorded() {
        recording.fail(why);
    }
}

fn size(recording: &mut dyn Recording, batch: &RecordBatch) {
    recording.set("sheaf.rows", Value::Number(batch.num_rows() as u64));
    recording.set("sheaf.bytes", Value::Number(size_bytes(batch)));
}

/// Of two that go on together, the one that is sampled; else the first.
pub(crate) fn either(
    first: Option<TraceContext>,
    second: Option<TraceContext>,
) -> Option<TraceContext> {
    match (first, second) {
        (Some(one), Some(other)) if !one.is_sampled() && other.is_sampled() => second,
        (None, _) => second,
        _ => first,
    }
}

/// Spans of batches that a processor has taken and is not done with, by their numbers. Only
/// those that are sampled are kept, and so many of them.
#[derive(Debug, Default)]
pub(crate) struct Causes {
    sampled: VecDeque<(u64, TraceContext)>,
    /// One that is not.
    other: Option<(u64, TraceContext)>,
}

impl Causes {
    /// The batch of this number was taken.
    pub(crate) fn add(&mut self, number: u64, context: Option<TraceContext>) {
        match context {
            Some(context) if !context.is_sampled() => {
                self.other.get_or_insert((number, context));
            }
            Some(context) if self.sampled.len() < MOST_CAUSES => {
                self.sampled.push_back((number, context));
            }
            _ => {}
        }
    }

    /// All that comes of batches up to this number has come.
    pub(crate) fn done(&mut self, number: u64) {
        while self.sampled.front().is_some_and(|(cause, _)| *cause <= number) {
            self.sampled.pop_front();
        }
        self.other = self.other.filter(|(cause, _)| *cause > number);
    }

    fn first(&self) -> Option<TraceContext> {
        self.sampled.front().or(self.other.as_ref()).map(|(_, context)| *context)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn context(number: u8, is_sampled: bool) -> Option<TraceContext> {
        TraceContext::new([number; 16], [number; 8], is_sampled)
    }

    #[test]
    fn what_is_done_with_causes_nothing_more() {
        let mut causes = Causes::default();
        causes.add(1, context(1, true));
        causes.add(2, context(2, false));
        causes.add(3, context(3, true));
        assert_eq!(causes.first(), context(1, true));
        causes.done(1);
        assert_eq!(causes.first(), context(3, true), "what is sampled comes first");
        causes.done(2);
        assert_eq!(causes.other, None);
        causes.done(3);
        assert_eq!(causes.first(), None);
        causes.add(4, context(4, false));
        assert_eq!(causes.first(), context(4, false), "what is not sampled stays so");
    }

    #[test]
    fn no_more_causes_are_kept_than_fit_into_a_span() {
        let mut causes = Causes::default();
        (1..=100).for_each(|number| causes.add(number, context(1, true)));
        assert_eq!(causes.sampled.len(), MOST_CAUSES);
        causes.done(100);
        causes.add(101, context(2, true));
        assert_eq!(causes.first(), context(2, true));
    }

    #[test]
    fn of_two_the_sampled_one_goes_on() {
        let (one, other) = (context(1, false), context(2, true));
        assert_eq!((either(one, other), either(other, one)), (other, other));
        assert_eq!((either(None, one), either(one, None)), (one, one));
        assert_eq!(either(other, context(3, true)), other);
    }
}
