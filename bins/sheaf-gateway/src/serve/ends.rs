//! How it ends that does not end well.

use sheaf_retry::Code;
use sheaf_terminal::Failure;

/// Nobody told it to end.
pub(super) fn stopped() -> Failure {
    Failure::new(Code::FailedPrecondition, "topics cannot be read any more")
        .help("read above what was in the way; what was not committed is read again after a start")
}

/// A signal did not wait for a good order.
pub(super) fn interrupted(signal: &str) -> Failure {
    Failure::new(Code::Cancelled, format!("ended at once by {signal}"))
        .help("what was not committed is read again after the next start")
}
