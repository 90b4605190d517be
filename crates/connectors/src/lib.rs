//! Sources and two-phase sinks.

mod error;
mod sink;
mod source;

pub use error::Error;
pub use sink::{CommitKey, Committed, PreparedWrite, Sink};
pub use source::{BatchStream, Source};
