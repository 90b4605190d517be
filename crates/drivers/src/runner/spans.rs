//! The span of a start: from when the driver is told until it has answered.

use std::time::Duration;

use sheaf_dataflow::Assignment;
use sheaf_proto::{Begin, SharedTracer, Span, Value};

use crate::driver::LaunchId;

/// Begins one, which begins a trace.
pub(super) fn launch(
    tracer: Option<&SharedTracer>,
    driver: &str,
    id: &LaunchId,
    assignment: &Assignment,
) -> Span {
    let (of, parent, ago) = (assignment.instance.as_str(), None, Duration::ZERO);
    let mut span = Span::start(tracer, Begin { name: "launch", of, parent, ago });
    if let Some(recording) = span.recorded() {
        recording.set("sheaf.pipeline", Value::Text(&assignment.pipeline));
        recording.set("sheaf.run", Value::Number(assignment.run));
        recording.set("sheaf.component", Value::Text(&assignment.definition.id));
        recording.set("sheaf.instance", Value::Number(assignment.index.into()));
        recording.set("sheaf.attempt", Value::Number(id.attempt));
        recording.set("sheaf.driver", Value::Text(driver));
    }
    span
}

/// Ends it.
pub(super) fn end(mut span: Span, started: &Result<(), String>) {
    if let (Some(recording), Err(why)) = (span.recorded(), started) {
        recording.fail(why);
    }
}
