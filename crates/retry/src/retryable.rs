//! Errors that say whether to try again.

use std::io;
use std::time::Duration;

use crate::{Class, Code};

/// What to do with a failed call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Disposition {
    /// Try again, not before the hint where there is one (a policy waits for
    /// a hint no longer than its cap).
    Transient {
        /// How long the other side asks to wait.
        after: Option<Duration>,
    },
    /// The same call fails again.
    Permanent,
    /// Retries were made and are used up.
    Exhausted,
}

/// An error that classifies itself.
///
/// Only the code is required; its class decides whether to try again. An
/// error that knows better overrides `disposition`.
///
/// ```
/// use std::time::Duration;
/// use sheaf_retry::{Code, Disposition, Retryable};
///
/// struct Busy;
///
/// impl Retryable for Busy {
///     fn code(&self) -> Code {
///         Code::Overloaded
///     }
///     fn retry_after(&self) -> Option<Duration> {
///         Some(Duration::from_secs(2))
///     }
/// }
///
/// let after = Some(Duration::from_secs(2));
/// assert_eq!(Busy.disposition(), Disposition::Transient { after });
/// ```
pub trait Retryable {
    /// The stable code.
    fn code(&self) -> Code;

    /// How long the other side asks to wait before the next attempt.
    fn retry_after(&self) -> Option<Duration> {
        None
    }

    /// What to do; by default what the code's class says.
    fn disposition(&self) -> Disposition {
        match self.code().class() {
            Class::Transient => Disposition::Transient { after: self.retry_after() },
            Class::Permanent => Disposition::Permanent,
        }
    }
}

impl<E: Retryable + ?Sized> Retryable for Box<E> {
    fn code(&self) -> Code {
        (**self).code()
    }

    fn retry_after(&self) -> Option<Duration> {
        (**self).retry_after()
    }

    fn disposition(&self) -> Disposition {
        (**self).disposition()
    }
}

impl Retryable for io::Error {
    /// By kind: what another moment can cure is transient.
    fn code(&self) -> Code {
        use io::ErrorKind as Kind;
        match self.kind() {
            Kind::NotFound => Code::NotFound,
            Kind::AlreadyExists => Code::AlreadyExists,
            Kind::PermissionDenied | Kind::ReadOnlyFilesystem => Code::PermissionDenied,
            Kind::AddrInUse => Code::AddressInUse,
            Kind::InvalidInput | Kind::AddrNotAvailable => Code::InvalidArgument,
            Kind::InvalidData => Code::MalformedData,
            Kind::StorageFull | Kind::QuotaExceeded => Code::DiskFull,
            Kind::OutOfMemory => Code::MemoryFull,
            Kind::TimedOut => Code::DeadlineExceeded,
            Kind::Unsupported => Code::Unimplemented,
            Kind::ConnectionRefused
            | Kind::ConnectionReset
            | Kind::ConnectionAborted
            | Kind::NotConnected
            | Kind::BrokenPipe
            | Kind::UnexpectedEof
            | Kind::HostUnreachable
            | Kind::NetworkUnreachable
            | Kind::NetworkDown => Code::Unavailable,
            _ => Code::Io,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn io_errors_are_told_apart_by_kind() {
        let code = |kind| io::Error::from(kind).code();
        assert_eq!(code(io::ErrorKind::ConnectionReset), Code::Unavailable);
        assert_eq!(code(io::ErrorKind::StorageFull), Code::DiskFull);
        assert_eq!(code(io::ErrorKind::Other), Code::Io);
        let refused = io::Error::from(io::ErrorKind::PermissionDenied);
        assert_eq!(refused.disposition(), Disposition::Permanent);
        let boxed: Box<dyn Retryable> = Box::new(io::Error::from(io::ErrorKind::TimedOut));
        assert_eq!(boxed.disposition(), Disposition::Transient { after: None });
    }
}
