//! What goes wrong with Valkey, as errors of a coordinator.

use fred::error::{Error as FredError, ErrorKind};
use sheaf_coordinator::Error;
use sheaf_retry::Code;

use crate::unpack::Damaged;

/// What the beginning of a server's error says.
const WORDS: [(&str, Code); 18] = [
    ("OOM", Code::Overloaded),
    ("BUSY", Code::Overloaded),
    ("NOREPLICAS", Code::Unavailable),
    ("LOADING", Code::Unavailable),
    ("MASTERDOWN", Code::Unavailable),
    ("READONLY", Code::Unavailable),
    ("CLUSTERDOWN", Code::Unavailable),
    ("TRYAGAIN", Code::Unavailable),
    ("MOVED", Code::Unavailable),
    ("ASK", Code::Unavailable),
    ("UNBLOCKED", Code::Unavailable),
    ("MISCONF", Code::Io),
    ("NOAUTH", Code::Unauthenticated),
    ("WRONGPASS", Code::Unauthenticated),
    ("NOPERM", Code::PermissionDenied),
    ("WRONGTYPE", Code::Corrupt),
    ("ERR ACL failure", Code::PermissionDenied),
    // Loaded again, and forgotten again meanwhile.
    ("ERR Function not found", Code::Unavailable),
];

/// The code of an error of the client or of the server.
pub(crate) fn code(error: &FredError) -> Code {
    let details = error.details();
    if let Some((_, code)) = WORDS.iter().find(|(word, _)| details.starts_with(word)) {
        return *code;
    }
    match error.kind() {
        ErrorKind::Auth => Code::Unauthenticated,
        ErrorKind::IO
        | ErrorKind::Canceled
        | ErrorKind::Cluster
        | ErrorKind::Routing
        | ErrorKind::Sentinel
        | ErrorKind::Tls => Code::Unavailable,
        ErrorKind::Timeout => Code::DeadlineExceeded,
        ErrorKind::Backpressure => Code::Overloaded,
        ErrorKind::Config | ErrorKind::Url | ErrorKind::InvalidArgument => Code::InvalidArgument,
        _ => Code::Internal,
    }
}

/// An error of a call on Valkey.
pub(crate) fn backend(operation: impl Into<String>, error: FredError) -> Error {
    let code = code(&error);
    Error::Backend { operation: operation.into(), code, source: Some(Box::new(error)) }
}

/// An answer that is not one of our scripts.
pub(crate) fn unexpected(operation: &str) -> Error {
    Error::Backend {
        operation: format!("{operation}: the server's answer is not that of the script"),
        code: Code::Internal,
        source: None,
    }
}

/// A record that cannot be read.
pub(crate) fn damaged(operation: &str) -> impl Fn(Damaged) -> Error {
    let operation = operation.to_owned();
    move |error| Error::Backend {
        operation: operation.clone(),
        code: Code::Corrupt,
        source: Some(Box::new(error)),
    }
}
