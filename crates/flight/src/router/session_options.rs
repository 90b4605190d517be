//! Options of sessions, as embedders see them.

use std::sync::Arc;

use super::sessions::pb;

/// A value of a session option.
#[derive(Clone, Debug, PartialEq)]
pub enum SessionValue {
    /// Text.
    String(String),
    /// True or false.
    Bool(bool),
    /// A whole number.
    Int64(i64),
    /// A number.
    Double(f64),
    /// Several texts, in order.
    StringList(Vec<String>),
}

/// Why an option is not set; the client is told, for each option.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SessionProblem {
    /// There is no option of this name.
    InvalidName,
    /// The option takes no such value.
    InvalidValue,
    /// It cannot be set now.
    Refused,
}

/// Decides whether an option may have a value.
pub type SessionCheck =
    Arc<dyn Fn(&str, &SessionValue) -> Result<(), SessionProblem> + Send + Sync>;

impl From<pb::Value> for SessionValue {
    fn from(value: pb::Value) -> Self {
        match value {
            pb::Value::String(text) => SessionValue::String(text),
            pb::Value::Bool(flag) => SessionValue::Bool(flag),
            pb::Value::Int64(number) => SessionValue::Int64(number),
            pb::Value::Double(number) => SessionValue::Double(number),
            pb::Value::StringList(list) => SessionValue::StringList(list.values),
        }
    }
}

impl From<SessionProblem> for pb::Problem {
    fn from(problem: SessionProblem) -> Self {
        match problem {
            SessionProblem::InvalidName => pb::Problem::InvalidName,
            SessionProblem::InvalidValue => pb::Problem::InvalidValue,
            SessionProblem::Refused => pb::Problem::Refused,
        }
    }
}
