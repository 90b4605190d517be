//! The one place that turns errors into gRPC statuses, and back.

use std::time::Duration;

use http::StatusCode;
use sheaf_retry::{Code, Retryable};
use tonic::metadata::{MetadataMap, MetadataValue};
use tonic::{Code as Grpc, Status};

use crate::error::Error;

/// Trailer with the stable code.
pub const CODE_TRAILER: &str = "sheaf-code";
/// Trailer with the hint when to try again, in milliseconds.
pub const RETRY_AFTER_TRAILER: &str = "sheaf-retry-after-ms";

/// Longest text that is sent. A status travels in HTTP/2 headers, percent
/// encoded (three bytes for one at worst), and some clients take 8 KiB of them.
const MAX_TEXT: usize = 2_000;

/// The gRPC status of a code.
///
/// What pyarrow raises was seen with pyarrow 26 (its `FlightInternalError` for
/// lost data says no more than that Arrow has no class of its own for it); the
/// text always begins with the code.
///
/// | code | gRPC status | class | exit code | pyarrow raises | what to do |
/// |---|---|---|---|---|---|
/// | `invalid_argument` | `INVALID_ARGUMENT` | permanent | 2 | `pyarrow.lib.ArrowInvalid` | correct the value that the message names |
/// | `malformed_data` | `INVALID_ARGUMENT` | permanent | 2 | `pyarrow.lib.ArrowInvalid` | send a complete Arrow IPC stream: schema first, whole messages after it |
/// | `limit_exceeded` | `OUT_OF_RANGE` | permanent | 2 | `pyarrow.lib.ArrowInvalid` | send less at once, or raise the limit that the message names |
/// | `not_found` | `NOT_FOUND` | permanent | 3 | `pyarrow.lib.ArrowKeyError` | check the name; a completed payload may have passed its time to live |
/// | `already_exists` | `ALREADY_EXISTS` | permanent | 4 | `pyarrow.lib.ArrowException` | use another identifier, or let the server choose one |
/// | `failed_precondition` | `FAILED_PRECONDITION` | permanent | 5 | `pyarrow.lib.ArrowInvalid` | look at the state that the message names |
/// | `stale_fence` | `FAILED_PRECONDITION` | permanent | 5 | `pyarrow.lib.ArrowInvalid` | drop the work; another worker holds the batch |
/// | `lease_lost` | `FAILED_PRECONDITION` | permanent | 5 | `pyarrow.lib.ArrowInvalid` | look for what kills the workers, then requeue the batch |
/// | `payload_lost` | `DATA_LOSS` | permanent | 5 | `pyarrow.flight.FlightInternalError` | put the data again under the same identifier and requeue the batch |
/// | `processor_failed` | `FAILED_PRECONDITION` | permanent | 5 | `pyarrow.lib.ArrowInvalid` | read the error of the batch, mend the data or the processor, and requeue it |
/// | `memory_full` | `RESOURCE_EXHAUSTED` | transient | 6 | `pyarrow.lib.ArrowInvalid` | wait for work to finish, add a data directory to spill to, or raise --memory-limit |
/// | `disk_full` | `RESOURCE_EXHAUSTED` | transient | 6 | `pyarrow.lib.ArrowInvalid` | free disk space under --data-dir |
/// | `quota_full` | `RESOURCE_EXHAUSTED` | transient | 6 | `pyarrow.lib.ArrowInvalid` | delete payloads that were put with this token, wait until some expire, or raise its quota= in the token file |
/// | `overloaded` | `RESOURCE_EXHAUSTED` | transient | 6 | `pyarrow.lib.ArrowInvalid` | slow down; the server says when to come back |
/// | `unavailable` | `UNAVAILABLE` | transient | 7 | `pyarrow.flight.FlightUnavailableError` | check that the server runs and that the address is right |
/// | `draining` | `UNAVAILABLE` | transient | 7 | `pyarrow.flight.FlightUnavailableError` | try again on the restarted server |
/// | `deadline_exceeded` | `DEADLINE_EXCEEDED` | transient | 7 | `pyarrow.flight.FlightTimedOutError` | try again, or allow more time |
/// | `unauthenticated` | `UNAUTHENTICATED` | permanent | 8 | `pyarrow.flight.FlightUnauthenticatedError` | give a valid token or certificate |
/// | `permission_denied` | `PERMISSION_DENIED` | permanent | 8 | `pyarrow.flight.FlightUnauthorizedError` | use credentials that allow the call |
/// | `corrupt` | `DATA_LOSS` | permanent | 9 | `pyarrow.flight.FlightInternalError` | check the disk; a damaged payload is kept under quarantine: put its data again |
/// | `format_newer` | `FAILED_PRECONDITION` | permanent | 9 | `pyarrow.lib.ArrowInvalid` | use the newer Sheaf that wrote it, or restore a backup |
/// | `directory_locked` | `FAILED_PRECONDITION` | permanent | 5 | `pyarrow.lib.ArrowInvalid` | stop the other server, or name another --data-dir |
/// | `address_in_use` | `FAILED_PRECONDITION` | permanent | 5 | `pyarrow.lib.ArrowInvalid` | stop what uses the port, or name another with the flag in the message |
/// | `io` | `UNAVAILABLE` | transient | 74 | `pyarrow.flight.FlightUnavailableError` | read the cause: permissions, a missing directory, a failing disk |
/// | `unimplemented` | `UNIMPLEMENTED` | permanent | 10 | `pyarrow.lib.ArrowNotImplementedError` | use a server that has it |
/// | `cancelled` | `CANCELLED` | transient | 130 | `pyarrow.flight.FlightCancelledError` | run it again |
/// | `internal` | `INTERNAL` | permanent | 70 | `pyarrow.flight.FlightInternalError` | report it with the log |
pub fn grpc_code(code: Code) -> Grpc {
    match code {
        Code::InvalidArgument | Code::MalformedData => Grpc::InvalidArgument,
        Code::LimitExceeded => Grpc::OutOfRange,
        Code::NotFound => Grpc::NotFound,
        Code::AlreadyExists => Grpc::AlreadyExists,
        Code::FailedPrecondition
        | Code::StaleFence
        | Code::LeaseLost
        | Code::ProcessorFailed
        | Code::FormatNewer
        | Code::DirectoryLocked
        | Code::AddressInUse => Grpc::FailedPrecondition,
        Code::PayloadLost | Code::Corrupt => Grpc::DataLoss,
        Code::MemoryFull | Code::DiskFull | Code::QuotaFull | Code::Overloaded => {
            Grpc::ResourceExhausted
        }
        // A failing disk is the server's trouble and may pass: the gRPC world
        // knows no closer word than UNAVAILABLE.
        Code::Unavailable | Code::Draining | Code::Io => Grpc::Unavailable,
        Code::DeadlineExceeded => Grpc::DeadlineExceeded,
        Code::Unauthenticated => Grpc::Unauthenticated,
        Code::PermissionDenied => Grpc::PermissionDenied,
        Code::Unimplemented => Grpc::Unimplemented,
        Code::Cancelled => Grpc::Cancelled,
        // `Code` is open to additions; the test over `Code::ALL` finds one
        // that is missing here.
        _ => Grpc::Internal,
    }
}

/// The HTTP status of a code, where the answer is no gRPC.
pub fn http_status(code: Code) -> StatusCode {
    match grpc_code(code) {
        Grpc::Ok => StatusCode::OK,
        Grpc::InvalidArgument => StatusCode::BAD_REQUEST,
        Grpc::OutOfRange => StatusCode::PAYLOAD_TOO_LARGE,
        Grpc::Unauthenticated => StatusCode::UNAUTHORIZED,
        Grpc::PermissionDenied => StatusCode::FORBIDDEN,
        Grpc::NotFound => StatusCode::NOT_FOUND,
        Grpc::AlreadyExists | Grpc::FailedPrecondition | Grpc::Aborted => StatusCode::CONFLICT,
        Grpc::ResourceExhausted => StatusCode::TOO_MANY_REQUESTS,
        Grpc::Unavailable => StatusCode::SERVICE_UNAVAILABLE,
        Grpc::DeadlineExceeded => StatusCode::GATEWAY_TIMEOUT,
        Grpc::Unimplemented => StatusCode::NOT_IMPLEMENTED,
        Grpc::Cancelled | Grpc::Unknown | Grpc::Internal | Grpc::DataLoss => {
            StatusCode::INTERNAL_SERVER_ERROR
        }
    }
}

/// The code of a status that names none: what a server that is not Sheaf means by it.
fn code_of(grpc: Grpc) -> Code {
    match grpc {
        Grpc::InvalidArgument => Code::InvalidArgument,
        Grpc::OutOfRange => Code::LimitExceeded,
        Grpc::NotFound => Code::NotFound,
        Grpc::AlreadyExists => Code::AlreadyExists,
        Grpc::FailedPrecondition | Grpc::Aborted => Code::FailedPrecondition,
        Grpc::DataLoss => Code::Corrupt,
        Grpc::ResourceExhausted => Code::Overloaded,
        Grpc::Unavailable => Code::Unavailable,
        Grpc::DeadlineExceeded => Code::DeadlineExceeded,
        Grpc::Unauthenticated => Code::Unauthenticated,
        Grpc::PermissionDenied => Code::PermissionDenied,
        Grpc::Unimplemented => Code::Unimplemented,
        Grpc::Cancelled => Code::Cancelled,
        Grpc::Ok | Grpc::Unknown | Grpc::Internal => Code::Internal,
    }
}

impl From<Error> for Status {
    /// The message is `code: text`; the trailers carry code and hint.
    fn from(error: Error) -> Status {
        let code = error.code();
        let mut text = format!("{code}: {}", error.message());
        if text.len() > MAX_TEXT {
            let end = (0..=MAX_TEXT).rev().find(|&at| text.is_char_boundary(at)).unwrap_or(0);
            text.truncate(end);
            text.push('…');
        }
        let mut metadata = MetadataMap::new();
        metadata.insert(CODE_TRAILER, MetadataValue::from_static(code.as_str()));
        if let Some(after) = error.retry_after() {
            let ms = u64::try_from(after.as_millis()).unwrap_or(u64::MAX);
            metadata.insert(RETRY_AFTER_TRAILER, MetadataValue::from(ms));
        }
        Status::with_metadata(grpc_code(code), text, metadata)
    }
}

impl From<Status> for Error {
    /// By the trailer where there is one, else by the gRPC status.
    ///
    /// A status that a broken connection or an unreachable server left behind
    /// is [`Code::Unavailable`], whatever gRPC calls it.
    fn from(status: Status) -> Error {
        let named = status.metadata().get(CODE_TRAILER).and_then(|value| value.to_str().ok());
        if let Some(own) = own(&status) {
            return own;
        }
        let code = match named {
            Some(word) => word.parse().unwrap_or(Code::Internal),
            None if is_transport(&status) => Code::Unavailable,
            None => code_of(status.code()),
        };
        let text = match status.message().strip_prefix(code.as_str()) {
            Some(rest) => rest.strip_prefix(": ").unwrap_or(status.message()),
            None => status.message(),
        };
        let text = if text.is_empty() { status.code().description() } else { text };
        let hint = status
            .metadata()
            .get(RETRY_AFTER_TRAILER)
            .and_then(|value| value.to_str().ok()?.parse().ok())
            .map(Duration::from_millis);
        let mut message = text.to_owned();
        let mut cause = std::error::Error::source(&status);
        while let Some(inner) = cause {
            let inner_text = inner.to_string();
            if !message.contains(&inner_text) {
                message.push_str(": ");
                message.push_str(&inner_text);
            }
            cause = inner.source();
        }
        let error = Error::new(code, message);
        match hint {
            Some(after) => error.with_retry_after(after),
            None => error,
        }
    }
}

/// The error of ours that gRPC was given when it asked for a connection.
fn own(status: &Status) -> Option<Error> {
    let mut cause = std::error::Error::source(status);
    while let Some(inner) = cause {
        if let Some(error) = inner.downcast_ref::<Error>() {
            return Some(Error::new(error.code(), error.message()));
        }
        cause = inner.source();
    }
    None
}

/// Whether this end made the status out of a failed connection: only such a
/// one has a source, since sources do not travel.
fn is_transport(status: &Status) -> bool {
    let made_here = std::error::Error::source(status).is_some();
    let unclear = matches!(
        status.code(),
        Grpc::Unknown | Grpc::Internal | Grpc::Unavailable | Grpc::Cancelled
    );
    made_here && unclear
}

/// What went wrong with a stream that a client was sending: gRPC's own errors
/// in our terms, each with the limit it ran into.
pub(crate) fn inbound(status: Status, max_message_bytes: usize) -> Error {
    if status.metadata().get(CODE_TRAILER).is_some() {
        return Error::from(status);
    }
    match status.code() {
        Grpc::OutOfRange => Error::new(
            Code::LimitExceeded,
            format!(
                "a message of {} is over the limit, max_message_bytes is {max_message_bytes}; \
                 send smaller record batches",
                found(status.message()).unwrap_or("unknown size"),
            ),
        ),
        Grpc::Internal if status.message().contains("EOF") => {
            Error::new(Code::MalformedData, "the stream ends within a message; send it again whole")
        }
        Grpc::Internal if status.message().contains("decode") => {
            Error::new(Code::MalformedData, format!("not a Flight message: {}", status.message()))
        }
        _ => Error::new(
            Code::Cancelled,
            format!("the client broke off its stream: {}", status.message()),
        ),
    }
}

/// An answer that is none of gRPC: something else listens there, or stands between.
pub(crate) fn without_status(http: StatusCode) -> Status {
    let grpc = match http {
        StatusCode::BAD_REQUEST => Grpc::Internal,
        StatusCode::UNAUTHORIZED => Grpc::Unauthenticated,
        StatusCode::FORBIDDEN => Grpc::PermissionDenied,
        StatusCode::NOT_FOUND => Grpc::Unimplemented,
        StatusCode::TOO_MANY_REQUESTS
        | StatusCode::BAD_GATEWAY
        | StatusCode::SERVICE_UNAVAILABLE
        | StatusCode::GATEWAY_TIMEOUT => Grpc::Unavailable,
        _ => Grpc::Unknown,
    };
    Status::new(grpc, format!("the answer is HTTP {http} and no gRPC"))
}

/// The size in gRPC's own words: its limit there has room for framing, so that
/// the whole text would name two limits.
fn found(text: &str) -> Option<&str> {
    let (_, rest) = text.split_once("found ")?;
    rest.split_once(',').map(|(size, _)| size)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The table in the docs of [`grpc_code`], a row a line.
    fn documented() -> Vec<Vec<String>> {
        include_str!("status.rs")
            .lines()
            .filter_map(|line| line.strip_prefix("/// | `"))
            .map(|row| row.split('|').map(|cell| cell.trim().replace('`', "")).collect())
            .collect()
    }

    fn grpc_name(grpc: Grpc) -> String {
        let mut name = String::new();
        for (index, letter) in format!("{grpc:?}").chars().enumerate() {
            if letter.is_uppercase() && index > 0 {
                name.push('_');
            }
            name.extend(letter.to_uppercase());
        }
        name
    }

    #[test]
    fn the_table_covers_every_code_and_tells_the_truth() {
        let rows = documented();
        assert_eq!(rows.len(), Code::ALL.len());
        for (&code, row) in Code::ALL.iter().zip(&rows) {
            assert_eq!(row[0], code.as_str());
            assert_eq!(row[1], grpc_name(grpc_code(code)), "{code}");
            assert_eq!(row[2], format!("{:?}", code.class()).to_lowercase(), "{code}");
            assert_eq!(row[3], code.exit_code().to_string(), "{code}");
            assert!(row[4].starts_with("pyarrow."), "{code}");
            assert_eq!(row[5], code.advice(), "{code}");
            let internal = grpc_code(code) == Grpc::Internal;
            assert_eq!(internal, code == Code::Internal, "{code} is no bug of ours");
        }
    }

    #[test]
    fn the_readme_has_the_same_table() {
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../../README.md");
        let readme = std::fs::read_to_string(path).unwrap();
        for row in include_str!("status.rs").lines().filter(|line| line.starts_with("/// | `")) {
            let row = row.trim_start_matches("/// ");
            assert!(readme.contains(row), "README.md lacks the row {row}");
        }
    }

    #[test]
    fn every_code_and_hint_survives_the_way_there_and_back() {
        for &code in Code::ALL {
            let hint = Duration::from_millis(1_250);
            let status = Status::from(Error::new(code, "queue x is full").with_retry_after(hint));
            assert_eq!(status.message(), format!("{code}: queue x is full"));
            let back = Error::from(status);
            assert_eq!((back.code(), back.message()), (code, "queue x is full"));
            assert_eq!(back.retry_after(), Some(hint));
        }
    }

    #[test]
    fn a_foreign_status_is_read_by_its_grpc_code() {
        let error = Error::from(Status::not_found("no such flight"));
        assert_eq!((error.code(), error.message()), (Code::NotFound, "no such flight"));
        assert_eq!(Error::from(Status::resource_exhausted("")).code(), Code::Overloaded);
        assert_eq!(Error::from(Status::unknown("boom")).code(), Code::Internal);
        assert!(!Error::from(Status::unknown("")).message().is_empty());
    }

    #[test]
    fn a_code_of_a_newer_peer_reads_as_internal() {
        let mut metadata = MetadataMap::new();
        metadata.insert(CODE_TRAILER, MetadataValue::from_static("brand_new"));
        let status = Status::with_metadata(Grpc::NotFound, "brand_new: text", metadata);
        let error = Error::from(status);
        assert_eq!((error.code(), error.message()), (Code::Internal, "brand_new: text"));
    }

    #[test]
    fn a_long_text_is_cut_at_a_character() {
        let status = Status::from(Error::new(Code::Internal, "ä".repeat(5_000)));
        assert!(status.message().len() <= MAX_TEXT + '…'.len_utf8());
        assert!(status.message().ends_with("ä…"));
    }
}
