//! Errors of the contract in messages, with all that they say.

use sheaf_coordinator::Error;
use sheaf_proto::raft::v1 as proto;
use sheaf_proto::raft::v1::call_error::Kind;
use sheaf_retry::{Code, Retryable as _};

/// Finds the name of a field that an error names. The one who wrote the error keeps
/// them: they are texts of this build.
pub(super) type Names<'a> = &'a dyn Fn(&str) -> Option<&'static str>;

/// The name in an error that is a text of this build.
pub(super) fn name(error: &Error) -> Option<&'static str> {
    match error {
        Error::Invalid { field, .. }
        | Error::Limit { field, .. }
        | Error::Conflict { field, .. } => Some(field),
        Error::Unimplemented { what } => Some(what),
        _ => None,
    }
}

fn text(value: &str) -> String {
    value.to_owned()
}

/// As it is written. A cause becomes part of the text.
pub(super) fn message(error: &Error) -> proto::CallError {
    let kind = |kind: Kind| proto::CallError {
        kind: kind.into(),
        field: name(error).unwrap_or_default().to_owned(),
        code: error.code().as_str().to_owned(),
        ..proto::CallError::default()
    };
    match error {
        Error::Invalid { problem, .. } => {
            proto::CallError { problem: text(problem), ..kind(Kind::Invalid) }
        }
        Error::Limit { actual, limit, .. } => {
            proto::CallError { actual: *actual, limit: *limit, ..kind(Kind::Limit) }
        }
        Error::Unimplemented { .. } => kind(Kind::Unimplemented),
        Error::Conflict { id, registered, asked, .. } => proto::CallError {
            subject: text(id),
            registered: text(registered),
            asked: text(asked),
            ..kind(Kind::Conflict)
        },
        Error::Draining { queue } => {
            proto::CallError { subject: text(queue), ..kind(Kind::Draining) }
        }
        Error::Full { holder, live, more, limit } => proto::CallError {
            subject: text(holder),
            actual: *live,
            more: *more,
            limit: *limit,
            ..kind(Kind::Full)
        },
        Error::NotFound { id } => proto::CallError { subject: text(id), ..kind(Kind::NotFound) },
        Error::Precondition { id, problem } => proto::CallError {
            subject: text(id),
            problem: text(problem),
            ..kind(Kind::Precondition)
        },
        Error::Unavailable { problem, .. } => {
            proto::CallError { problem: text(problem), ..kind(Kind::Unavailable) }
        }
        Error::Backend { operation, source, .. } => {
            let cause = source.as_ref().map_or_else(String::new, |cause| format!(": {cause}"));
            proto::CallError { problem: format!("{operation}{cause}"), ..kind(Kind::Backend) }
        }
    }
}

/// What [`message`] was given.
pub(super) fn read(message: &proto::CallError, name: Names<'_>) -> Error {
    let code = message.code.parse().unwrap_or(Code::Internal);
    let problem = message.problem.clone();
    let id = message.subject.clone();
    let (actual, limit) = (message.actual, message.limit);
    // The state machine that answered is of this process, so its names are known.
    let field = name(&message.field).unwrap_or("request");
    match message.kind() {
        Kind::Invalid => Error::Invalid { field, problem },
        Kind::Limit => Error::Limit { field, actual, limit },
        Kind::Unimplemented => Error::Unimplemented { what: field },
        Kind::Conflict => Error::Conflict {
            id,
            field,
            registered: message.registered.clone(),
            asked: message.asked.clone(),
        },
        Kind::Draining => Error::Draining { queue: id },
        Kind::Full => Error::Full { holder: id, live: actual, more: message.more, limit },
        Kind::NotFound => Error::NotFound { id },
        Kind::Precondition => Error::Precondition { id, problem },
        Kind::Unavailable => Error::Unavailable { problem, code },
        Kind::Backend | Kind::Unspecified => {
            Error::Backend { operation: problem, code, source: None }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn errors_arrive_as_they_were() {
        let id = || "batch".to_owned();
        let errors = [
            Error::Invalid { field: "max", problem: "is 0".to_owned() },
            Error::Limit { field: "batches", actual: 5, limit: 3 },
            Error::Unimplemented { what: "wings" },
            Error::Conflict {
                id: id(),
                field: "rows",
                registered: "1".to_owned(),
                asked: "2".to_owned(),
            },
            Error::Draining { queue: "q".to_owned() },
            Error::Full { holder: "queue \"q\"".to_owned(), live: 7, more: 8, limit: 9 },
            Error::NotFound { id: id() },
            Error::Precondition { id: id(), problem: "is late".to_owned() },
            Error::Unavailable { problem: "is busy".to_owned(), code: Code::Overloaded },
            Error::Backend { operation: "write".to_owned(), code: Code::DiskFull, source: None },
        ];
        for error in errors {
            let name = name(&error);
            let again = read(&message(&error), &|text| name.filter(|name| *name == text));
            assert_eq!(format!("{again:?}"), format!("{error:?}"));
        }
    }
}
