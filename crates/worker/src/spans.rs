//! The span of an attempt: it goes on with the trace of its batch, and what the attempt makes
//! goes on with it.

use std::time::Duration;

use sheaf_coordinator::{BatchSpec, Lease, Outcome, Resolution};
use sheaf_proto::{Begin, SharedTracer, Span, Value};

/// An attempt begins. A batch without a trace begins one.
pub(crate) fn begin(tracer: Option<&SharedTracer>, lease: &Lease) -> Span {
    let spec = &lease.spec;
    let (parent, ago) = (spec.trace_context.parse().ok(), Duration::ZERO);
    let begin = Begin { name: "work", of: &spec.queue, parent, ago };
    let mut span = Span::start(tracer, begin);
    if let Some(recording) = span.recorded() {
        recording.set("sheaf.batch_id", Value::Text(spec.id.as_str()));
        recording.set("sheaf.queue", Value::Text(&spec.queue));
        recording.set("sheaf.attempt", Value::Number(lease.attempt.into()));
        recording.set("sheaf.rows", Value::Number(spec.rows));
        recording.set("sheaf.bytes", Value::Number(spec.bytes));
    }
    span
}

/// What came of it goes on with it, where its processor does not say otherwise.
pub(crate) fn carry_on(span: &Span, batches: &mut [BatchSpec]) {
    let Some(context) = span.context() else { return };
    for batch in batches.iter_mut().filter(|batch| batch.trace_context.is_empty()) {
        batch.trace_context = context.to_string();
    }
}

/// How it ended.
pub(crate) fn end(mut span: Span, outcome: &Outcome) {
    let Some(recording) = span.recorded() else { return };
    match (outcome.resolution, &outcome.error) {
        (Resolution::Completed, _) => {
            recording.set("sheaf.batches", Value::Number(outcome.outputs.len() as u64));
        }
        (Resolution::Failed, Some(error)) => recording.fail(&error.message),
        (_, Some(error)) => recording.event("given back", &error.message),
        (_, None) => recording.event("given back", ""),
    }
}

/// The lease is somebody else's.
pub(crate) fn lost(mut span: Span) {
    if let Some(recording) = span.recorded() {
        recording.fail("the lease was lost");
    }
}
