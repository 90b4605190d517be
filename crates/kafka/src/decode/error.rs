//! Why messages could not be decoded.

use sheaf_retry::{Code, Retryable};

/// A decoder that cannot go on. What is wrong with one message is not an
/// error: that message is [`Rejected`](crate::Rejected), the others are kept.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The given schema cannot be used.
    #[error("the given schema: {0}")]
    Schema(String),
    /// The messages do not fit into one record batch.
    #[error("{actual} {what} are over the limit of {limit} for one batch; decode fewer at once")]
    TooLarge {
        /// `messages`, `rows` or `bytes`.
        what: &'static str,
        /// How many.
        actual: usize,
        /// How many one batch can count.
        limit: usize,
    },
    /// Messages that decode one by one do not decode together.
    #[error("{count} messages that are good by themselves fail together: {problem}")]
    Inconsistent {
        /// How many.
        count: usize,
        /// What the decoder said.
        problem: String,
    },
    /// Columns cannot be brought to a schema.
    #[error("column {column}: {problem}")]
    Column {
        /// The column, with the path to a nested field.
        column: String,
        /// Why.
        problem: String,
    },
}

impl Error {
    /// The error of a column that does not fit.
    pub(crate) fn column(column: impl Into<String>, problem: impl ToString) -> Self {
        Error::Column { column: column.into(), problem: problem.to_string() }
    }
}

impl Retryable for Error {
    fn code(&self) -> Code {
        match self {
            Error::Schema(_) | Error::Column { .. } => Code::InvalidArgument,
            Error::TooLarge { .. } => Code::LimitExceeded,
            Error::Inconsistent { .. } => Code::Internal,
        }
    }
}
