//! Errors of processors.

use arrow_schema::{ArrowError, Schema};
use sheaf_dataflow::ComponentError;
use sheaf_retry::Code;

/// The configuration does not fit itself or the rows.
pub(super) fn configuration(message: impl Into<String>) -> ComponentError {
    ComponentError::new(Code::InvalidArgument, message)
}

/// The rows cannot be worked on as asked.
pub(super) fn rows(message: impl Into<String>) -> ComponentError {
    ComponentError::new(Code::MalformedData, message)
}

/// Arrow refused what was to fit; `what` says what was tried.
pub(super) fn arrow(what: &str) -> impl Fn(ArrowError) -> ComponentError {
    move |error| rows(format!("{what}: {error}"))
}

/// More than a limit allows.
pub(super) fn limit(message: impl Into<String>) -> ComponentError {
    ComponentError::new(Code::LimitExceeded, message)
}

/// There is no such column.
pub(super) fn no_column(what: &str, name: &str, schema: &Schema) -> ComponentError {
    const SHOWN: usize = 20;

    let names = schema.fields().iter().take(SHOWN).map(|field| format!("`{}`", field.name()));
    let mut there = names.collect::<Vec<_>>().join(", ");
    match schema.fields().len() {
        0 => "none".clone_into(&mut there),
        count if count > SHOWN => there.push_str(&format!(" and {} more", count - SHOWN)),
        _ => {}
    }
    configuration(format!("{what}: the rows have no column `{name}`; they have {there}"))
}

/// The place of a column.
pub(super) fn column(what: &str, name: &str, schema: &Schema) -> Result<usize, ComponentError> {
    schema.index_of(name).map_err(|_| no_column(what, name, schema))
}
