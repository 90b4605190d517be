//! What an error of a driver means for whoever may try again.

use adbc_core::error::{Error as AdbcError, Status};
use sheaf_retry::Code;

use super::spec::AdbcSpec;
use crate::error::Error;

/// Turns the errors of one database into ours.
#[derive(Clone, Debug)]
pub(super) struct Failure {
    place: String,
    secrets: Vec<String>,
}

/// What the driver said, without secrets.
#[derive(Debug, thiserror::Error)]
#[error("{message}")]
struct Said {
    message: String,
    conflict: bool,
}

impl Failure {
    pub(super) fn of(spec: &AdbcSpec) -> Self {
        Failure { place: spec.to_string(), secrets: spec.secrets() }
    }

    pub(super) fn place(&self) -> &str {
        &self.place
    }

    /// Of rows that are written: one that is there already, by a key of the table,
    /// is no transaction that was in the way.
    pub(super) fn rows_error(&self, operation: &'static str) -> impl FnOnce(AdbcError) -> Error {
        move |error| {
            let is_twice = is_duplicate(&error);
            match self.error(operation)(error) {
                Error::Io { operation, place, source, .. } if is_twice => {
                    let said = source.to_string();
                    Error::external(operation, place, Code::AlreadyExists, said)
                }
                other => other,
            }
        }
    }

    pub(super) fn error(&self, operation: &'static str) -> impl FnOnce(AdbcError) -> Error {
        move |error| {
            let (code, conflict) = (code(&error), is_conflict(&error));
            let mut message = error.message;
            for secret in &self.secrets {
                message = message.replace(secret, "***");
            }
            Error::external(operation, &self.place, code, Said { message, conflict })
        }
    }
}

/// Whether another transaction was in the way: this one, its commit included,
/// has certainly had no effect.
pub(super) fn was_in_conflict(error: &Error) -> bool {
    let Error::Io { source, .. } = error else { return false };
    source.downcast_ref::<Said>().is_some_and(|said| said.conflict)
}

fn is_conflict(error: &AdbcError) -> bool {
    const CONFLICTS: [&str; 4] = [
        "conflict on ",         // DuckDB
        "write-write conflict", // DuckDB
        "transaction conflict", // DuckDB
        "could not serialize",  // PostgreSQL
    ];
    let message = error.message.to_lowercase();
    matches!(sqlstate(error).as_str(), "40001" | "40P01")
        || CONFLICTS.iter().any(|text| message.contains(text))
        || is_duplicate(error)
        || is_busy(error)
}

/// A key is there already.
fn is_duplicate(error: &AdbcError) -> bool {
    const DUPLICATES: [&str; 3] = [
        "duplicate key",          // DuckDB, PostgreSQL
        "primary key constraint", // DuckDB
        "unique constraint",      // DuckDB, SQLite
    ];
    let message = error.message.to_lowercase();
    sqlstate(error) == "23505" || DUPLICATES.iter().any(|text| message.contains(text))
}

/// SQLite: another connection is writing.
fn is_busy(error: &AdbcError) -> bool {
    error.message.contains("database is locked") || error.message.contains("table is locked")
}

/// Drivers are not of one mind about the status, so their words come first.
fn code(error: &AdbcError) -> Code {
    const FULL: [&str; 4] =
        ["No space left", "disk is full", "database or disk is full", "max_temp_directory_size"];
    const LOST: [&str; 5] = [
        "server closed the connection",
        "terminating connection",
        "connection to server",
        "Connection refused",
        "Connection reset",
    ];
    const MEMORY: [&str; 2] = ["Out of Memory Error", "out of memory"];
    let says = |words: &[&str]| words.iter().any(|word| error.message.contains(word));
    let state = sqlstate(error);
    if says(&FULL) || state == "53100" {
        return Code::DiskFull;
    }
    if says(&MEMORY) || state == "53200" {
        return Code::MemoryFull;
    }
    if says(&["Conflicting lock is held", "Could not set lock"]) {
        return Code::DirectoryLocked;
    }
    if says(&["not a valid DuckDB database", "file is not a database", "disk image is malformed"]) {
        return Code::Corrupt;
    }
    if is_conflict(error) || state.starts_with("08") || state.starts_with("57P") {
        return Code::Unavailable;
    }
    if says(&["authentication failed", "no password supplied"]) {
        return Code::Unauthenticated;
    }
    if says(&LOST) {
        return Code::Unavailable;
    }
    if says(&["Permission denied", "readonly database", "read-only mode"]) {
        return Code::PermissionDenied;
    }
    if says(&["No such file or directory", "unable to open database file"]) {
        return Code::NotFound;
    }
    if says(&["IO Error"]) {
        return Code::Io;
    }
    by_status(error.status)
}

fn by_status(status: Status) -> Code {
    match status {
        Status::NotFound => Code::NotFound,
        Status::AlreadyExists => Code::AlreadyExists,
        Status::IO => Code::Io,
        Status::Timeout => Code::DeadlineExceeded,
        Status::Cancelled => Code::Cancelled,
        Status::Unauthenticated => Code::Unauthenticated,
        Status::Unauthorized => Code::PermissionDenied,
        Status::NotImplemented => Code::Unimplemented,
        Status::InvalidState => Code::FailedPrecondition,
        // DuckDB calls nearly everything internal, most of all what it refuses.
        _ => Code::InvalidArgument,
    }
}

/// Five letters of SQL:2003, or nothing.
fn sqlstate(error: &AdbcError) -> String {
    let letters = error.sqlstate.iter().map(|&letter| letter as u8);
    letters.filter(|&letter| letter != 0).map(char::from).collect()
}

#[cfg(test)]
mod tests {
    use sheaf_retry::{Class, Retryable as _};

    use super::*;

    fn said(message: &str, status: Status) -> AdbcError {
        AdbcError::with_message_and_status(message, status)
    }

    #[test]
    fn what_passes_is_tried_again_and_what_does_not_is_not() {
        for (message, status, expected, class) in [
            (
                "TransactionContext Error: Conflict on update!",
                Status::InvalidArguments,
                Code::Unavailable,
                Class::Transient,
            ),
            (
                "Constraint Error: Duplicate key \"group: g\" violates primary key constraint.",
                Status::Internal,
                Code::Unavailable,
                Class::Transient,
            ),
            (
                "failed to execute query: database is locked",
                Status::IO,
                Code::Unavailable,
                Class::Transient,
            ),
            (
                "IO Error: Could not write: No space left on device",
                Status::Internal,
                Code::DiskFull,
                Class::Transient,
            ),
            ("database or disk is full", Status::IO, Code::DiskFull, Class::Transient),
            (
                "IO Error: Could not set lock on file",
                Status::Internal,
                Code::DirectoryLocked,
                Class::Permanent,
            ),
            (
                "Binder Error: no such column",
                Status::Internal,
                Code::InvalidArgument,
                Class::Permanent,
            ),
            ("no", Status::Unauthenticated, Code::Unauthenticated, Class::Permanent),
        ] {
            let found = code(&said(message, status));
            assert_eq!((found, found.class()), (expected, class), "{message}");
        }
        let mut error = said("deadlock detected", Status::Internal);
        error.sqlstate = b"40P01".map(|letter| letter as std::ffi::c_char);
        assert!(is_conflict(&error));
        assert_eq!(code(&error), Code::Unavailable);
        let failure = Failure::of(&AdbcSpec::duckdb("a"));
        assert!(was_in_conflict(&failure.error("commit to")(error)));
        let lost = said("connection reset by peer", Status::IO);
        assert!(!was_in_conflict(&failure.error("commit to")(lost)));
    }

    #[test]
    fn messages_of_drivers_lose_their_secrets() {
        let spec = AdbcSpec::driver("x", "p://u:secret@h/d");
        let error =
            Failure::of(&spec).error("open")(said("cannot reach p://u:secret@h/d", Status::IO));
        let text = format!("{error}: {}", std::error::Error::source(&error).unwrap());
        assert_eq!(text, "open adbc:x:p://u:***@h/d: cannot reach p://u:***@h/d");
        assert_eq!(error.code(), Code::Io);
    }
}
