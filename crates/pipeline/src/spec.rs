//! The specification of a pipeline: what its file says, as types.
//!
//! [`Pipeline`] is the root. Files are read by [`check`](crate::check::check),
//! which reports everything that is wrong at once; [`json_schema`] describes
//! them for editors.

mod document;
mod edge;
mod expression;
pub(crate) mod forms;
mod pipeline;
mod processor;
mod schema;
mod shared;
mod sink;
mod source;
mod supervision;
mod test;
pub(crate) mod units;
mod value;

pub use document::MAX_DOCUMENT_BYTES;
pub(crate) use document::{Entry, Node, Value as NodeValue};
pub use edge::{DEFAULT_CREDITS, DEFAULT_SPILL_LIMIT, Input, Partitioning, Policy};
pub(crate) use expression::EXPRESSION_FORMAT;
pub use expression::{
    Expression, ExpressionError, Literal, MAX_EXPRESSION_BYTES, MAX_EXPRESSION_DEPTH,
    MAX_EXPRESSION_OPERATORS, Operator, Term,
};
pub use pipeline::{ApiVersion, Component, Delivery, DocumentKind, Metadata, Pipeline, Role};
pub use processor::*;
pub use schema::json_schema;
pub use shared::*;
pub use sink::*;
pub use source::*;
pub use supervision::{Health, Resources, Restart, RestartPolicy};
pub use test::{Row, Test};
pub use units::{Cpu, CpuError, Duration, Size};
pub use value::{Reference, Secret, SecretKey, Text};
