//! Errors that crossed the wire, back as the coordinator's own.

use sheaf_coordinator::Error;
use sheaf_retry::{Code, Retryable as _};

/// The error that the coordinator behind a connection gave, or that the
/// connection itself made of the call.
///
/// Code and text always survive. The variant does where the text has its form;
/// what else there is, a broken connection above all, becomes
/// [`Error::Backend`] with the call and the address as its operation.
pub(crate) fn restore(operation: String, error: sheaf_flight::Error) -> Error {
    let code = error.code();
    typed(code, error.message())
        // The forms above are read loosely: only what renders alike is the same.
        .filter(|typed| typed.to_string() == error.message())
        .unwrap_or_else(|| Error::Backend { operation, code, source: Some(Box::new(error)) })
}

fn typed(code: Code, text: &str) -> Option<Error> {
    match code {
        Code::InvalidArgument => {
            let (field, problem) = text.split_once(": ")?;
            Some(Error::Invalid { field: name(field)?, problem: problem.to_owned() })
        }
        Code::LimitExceeded => {
            let (field, rest) = text.split_once(": ")?;
            let (actual, limit) = rest.split_once(" is over the limit of ")?;
            let (actual, limit) = (actual.parse().ok()?, limit.parse().ok()?);
            Some(Error::Limit { field: name(field)?, actual, limit })
        }
        Code::Unimplemented => {
            let (what, _) = text.split_once(" is not built into this coordinator")?;
            Some(Error::Unimplemented { what: name(what)? })
        }
        Code::AlreadyExists => {
            let (id, rest) =
                text.strip_prefix("batch ")?.split_once(" is registered with another ")?;
            let (field, rest) = rest.split_once(": ")?;
            let (registered, asked) = rest.split_once(", not ")?;
            let (registered, asked) = (registered.to_owned(), asked.to_owned());
            Some(Error::Conflict { id: id.to_owned(), field: name(field)?, registered, asked })
        }
        Code::FailedPrecondition => precondition(text),
        Code::NotFound => {
            let id = text.strip_prefix("no batch ")?;
            Some(Error::NotFound { id: id.to_owned() })
        }
        Code::Overloaded if text.contains(" bytes of live batches; ") => {
            let (holder, rest) = text.split_once(" holds ")?;
            let (live, rest) = rest.split_once(" bytes of live batches; ")?;
            let (more, rest) = rest.split_once(" more are over its limit of ")?;
            let (limit, _) = rest.split_once(" until")?;
            let (live, more, limit) = (live.parse().ok()?, more.parse().ok()?, limit.parse().ok()?);
            Some(Error::Full { holder: holder.to_owned(), live, more, limit })
        }
        Code::Unavailable | Code::Draining | Code::Overloaded | Code::DeadlineExceeded => {
            let problem = text.strip_prefix("the coordinator ")?;
            Some(Error::Unavailable { problem: problem.to_owned(), code })
        }
        _ => None,
    }
}

fn precondition(text: &str) -> Option<Error> {
    if let Some(rest) = text.strip_prefix("queue \"") {
        let (queue, _) = rest.split_once("\" is draining")?;
        return Some(Error::Draining { queue: queue.to_owned() });
    }
    let (id, problem) = text.strip_prefix("batch ")?.split_once(' ')?;
    Some(Error::Precondition { id: id.to_owned(), problem: problem.to_owned() })
}

/// The fields that the coordinator's errors name: those of its requests.
const NAMES: &[&str] = &[
    "answer",
    "batch.spec",
    "batches",
    "bytes",
    "cancel",
    "cancel.ids",
    "checksum",
    "claim",
    "control",
    "credits",
    "cursor",
    "dedup_key",
    "dedup_window",
    "dedup_window_ms",
    "delay",
    "delay_ms",
    "depends_on",
    "duration",
    "error",
    "expires_after",
    "expires_after_ms",
    "fence",
    "finished_before",
    "get.ids",
    "id",
    "ids",
    "lease",
    "lease.id",
    "lease.spec",
    "lease_ms",
    "leases",
    "leases.duration",
    "leases.id",
    "limit",
    "location",
    "locations",
    "max",
    "max_bytes",
    "max_rows",
    "note",
    "on_parent_failure",
    "outcomes",
    "outcomes.id",
    "outputs",
    "parent",
    "parents",
    "partition_key",
    "prefix",
    "priority",
    "progress",
    "query",
    "queue",
    "queues",
    "recovery.leases",
    "register",
    "request_id",
    "requeue.ids",
    "resolution",
    "result",
    "retry",
    "retry.base_ms",
    "retry.cap_ms",
    "retry.deadline_ms",
    "retry.factor",
    "retry.jitter",
    "retry.max_retries",
    "rows",
    "schema_fingerprint",
    "started",
    "state",
    "states",
    "tenant",
    "trace_context",
    "wait",
    "wait_ms",
    "worker",
];

fn name(text: &str) -> Option<&'static str> {
    NAMES.iter().copied().find(|name| *name == text)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn back(error: Error) -> Error {
        let status = tonic::Status::from(sheaf_flight::Error::from_error(error));
        restore("claim at grpc://x".to_owned(), status.into())
    }

    #[test]
    fn every_variant_survives_the_way_over_the_wire() {
        let id = || "orders:1".to_owned();
        let errors = [
            Error::Invalid { field: "max", problem: "0 is not between 1 and 1024".to_owned() },
            Error::Limit { field: "ids", actual: 20_000, limit: 10_000 },
            Error::Unimplemented { what: "depends_on" },
            Error::Conflict {
                id: id(),
                field: "queue",
                registered: "\"a: b\"".to_owned(),
                asked: "\"c, not d\"".to_owned(),
            },
            Error::Draining { queue: "a: b".to_owned() },
            Error::NotFound { id: id() },
            Error::Precondition { id: id(), problem: "is not terminal".to_owned() },
            Error::Unavailable { problem: "is shutting down".to_owned(), code: Code::Draining },
        ];
        for error in errors {
            let before = (format!("{error:?}"), error.code());
            let after = back(error);
            assert_eq!((format!("{after:?}"), after.code()), before);
        }
    }

    #[test]
    fn what_has_no_form_keeps_code_and_text() {
        let cause = std::io::Error::other("no space left");
        let error = Error::Backend {
            operation: "write the journal".to_owned(),
            code: Code::DiskFull,
            source: Some(Box::new(cause)),
        };
        let after = back(error);
        assert_eq!(after.code(), Code::DiskFull);
        assert_eq!(after.to_string(), "claim at grpc://x");
        let cause = std::error::Error::source(&after).unwrap().to_string();
        assert_eq!(cause, "write the journal: no space left");
        let odd = Error::Draining { queue: "a \"b\"".to_owned() };
        assert_eq!(back(odd).code(), Code::FailedPrecondition);
    }
}
