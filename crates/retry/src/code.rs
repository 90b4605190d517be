//! The closed set of error codes that Sheaf ever shows.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// What a caller may do about an error.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Class {
    /// The same call may succeed later.
    Transient,
    /// The same call fails again until something else is changed.
    Permanent,
}

macro_rules! codes {
    ($( $(#[doc = $doc:literal])+ $variant:ident = $name:literal, $class:ident, $exit:literal, $advice:literal; )+) => {
        /// A stable error code: the same word in logs, gRPC trailers, JSON and exit codes.
        ///
        /// The set is closed within a version of the protocol; a code that a
        /// newer peer sends and this build does not know reads as [`Code::Internal`].
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
        #[non_exhaustive]
        pub enum Code {
            $(
                $(#[doc = $doc])+
                ///
                #[doc = concat!("`", $name, "`, ", stringify!($class), ", exit code ", $exit, ": ", $advice, ".")]
                $variant,
            )+
        }

        impl Code {
            /// Every code, in the order of the documentation.
            pub const ALL: &'static [Code] = &[ $( Code::$variant, )+ ];

            /// The word that crosses process borders, such as `stale_fence`.
            pub const fn as_str(self) -> &'static str {
                match self { $( Code::$variant => $name, )+ }
            }

            /// Whether the same call may succeed later.
            pub const fn class(self) -> Class {
                match self { $( Code::$variant => Class::$class, )+ }
            }

            /// The exit code of a command that ends with this error.
            pub const fn exit_code(self) -> u8 {
                match self { $( Code::$variant => $exit, )+ }
            }

            /// What to do about it, in one sentence for people.
            pub const fn advice(self) -> &'static str {
                match self { $( Code::$variant => $advice, )+ }
            }
        }
    };
}

codes! {
    /// A request, flag or field that is not of the form asked for.
    InvalidArgument = "invalid_argument", Permanent, 2, "correct the value that the message names";
    /// Bytes that are not a valid Arrow IPC stream: truncated, out of range, wrong order.
    MalformedData = "malformed_data", Permanent, 2, "send a complete Arrow IPC stream: schema first, whole messages after it";
    /// A size, count or depth over a configured limit that more room would not cure.
    LimitExceeded = "limit_exceeded", Permanent, 2, "send less at once, or raise the limit that the message names";
    /// No batch, stream, queue or namespace of that name.
    NotFound = "not_found", Permanent, 3, "check the name; a completed payload may have passed its time to live";
    /// The same identifier was used before for other content.
    AlreadyExists = "already_exists", Permanent, 4, "use another identifier, or let the server choose one";
    /// The call does not fit the state that the thing is in.
    FailedPrecondition = "failed_precondition", Permanent, 5, "look at the state that the message names";
    /// The lease was lost: a newer fencing token exists.
    StaleFence = "stale_fence", Permanent, 5, "drop the work; another worker holds the batch";
    /// The lease ran out ten times without an answer from a worker.
    LeaseLost = "lease_lost", Permanent, 5, "look for what kills the workers, then requeue the batch";
    /// The batch is registered, but its payload is gone.
    PayloadLost = "payload_lost", Permanent, 5, "put the data again under the same identifier and requeue the batch";
    /// The processor refused the data for good.
    ProcessorFailed = "processor_failed", Permanent, 5, "read the error of the batch, mend the data or the processor, and requeue it";
    /// Memory, or a quota, is full for now.
    MemoryFull = "memory_full", Transient, 6, "wait for work to finish, add a data directory to spill to, or raise --memory-limit";
    /// The disk is full or over its quota.
    DiskFull = "disk_full", Transient, 6, "free disk space under --data-dir";
    /// What one token may have stored is full.
    QuotaFull = "quota_full", Transient, 6, "delete payloads that were put with this token, wait until some expire, or raise its quota= in the token file";
    /// A bounded queue is full, or a rate limit is reached.
    Overloaded = "overloaded", Transient, 6, "slow down; the server says when to come back";
    /// The peer cannot be reached, or the connection broke.
    Unavailable = "unavailable", Transient, 7, "check that the server runs and that the address is right";
    /// The server is shutting down and takes no new work.
    Draining = "draining", Transient, 7, "try again on the restarted server";
    /// No answer within the time allowed.
    DeadlineExceeded = "deadline_exceeded", Transient, 7, "try again, or allow more time";
    /// No credentials, or wrong or expired ones.
    Unauthenticated = "unauthenticated", Permanent, 8, "give a valid token or certificate";
    /// The credentials do not allow this.
    PermissionDenied = "permission_denied", Permanent, 8, "use credentials that allow the call";
    /// Stored bytes do not match their checksum.
    Corrupt = "corrupt", Permanent, 9, "check the disk; a damaged payload is kept under quarantine: put its data again";
    /// Written by a newer version of Sheaf.
    FormatNewer = "format_newer", Permanent, 9, "use the newer Sheaf that wrote it, or restore a backup";
    /// Another process holds this data directory.
    DirectoryLocked = "directory_locked", Permanent, 5, "stop the other server, or name another --data-dir";
    /// The address is in use.
    AddressInUse = "address_in_use", Permanent, 5, "stop what uses the port, or name another with the flag in the message";
    /// Reading or writing a file failed.
    Io = "io", Transient, 74, "read the cause: permissions, a missing directory, a failing disk";
    /// Known to the protocol, not built into this server.
    Unimplemented = "unimplemented", Permanent, 10, "use a server that has it";
    /// Cancelled by the caller or by a signal.
    Cancelled = "cancelled", Transient, 130, "run it again";
    /// A bug of ours.
    Internal = "internal", Permanent, 70, "report it with the log";
}

impl fmt::Display for Code {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// The text is no code of this version.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("unknown error code {0:?}")]
pub struct UnknownCode(pub String);

impl FromStr for Code {
    type Err = UnknownCode;

    fn from_str(text: &str) -> Result<Self, UnknownCode> {
        Code::ALL
            .iter()
            .copied()
            .find(|code| code.as_str() == text)
            .ok_or_else(|| UnknownCode(text.to_owned()))
    }
}

impl Serialize for Code {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.as_str())
    }
}

impl<'de> Deserialize<'de> for Code {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        Ok(text.parse().unwrap_or(Code::Internal))
    }
}

impl crate::Retryable for UnknownCode {
    fn code(&self) -> Code {
        Code::InvalidArgument
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::HashSet;

    #[test]
    fn words_are_unique_and_read_back() {
        let words: HashSet<_> = Code::ALL.iter().map(|code| code.as_str()).collect();
        assert_eq!(words.len(), Code::ALL.len());
        for &code in Code::ALL {
            assert_eq!(code.as_str().parse(), Ok(code));
            let json = serde_json::to_string(&code).unwrap();
            assert_eq!(json, format!("\"{code}\""));
            assert_eq!(serde_json::from_str::<Code>(&json).unwrap(), code);
        }
    }

    #[test]
    fn a_word_from_a_newer_peer_reads_as_internal() {
        assert_eq!("brand_new".parse::<Code>(), Err(UnknownCode("brand_new".to_owned())));
        assert_eq!(serde_json::from_str::<Code>("\"brand_new\"").unwrap(), Code::Internal);
    }

    #[test]
    fn no_error_exits_as_success_and_each_says_what_to_do() {
        for &code in Code::ALL {
            assert_ne!(code.exit_code(), 0, "{code}");
            assert!(!code.advice().is_empty(), "{code}");
        }
    }
}
