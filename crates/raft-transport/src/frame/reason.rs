//! Why a frame is refused.

use std::fmt;

use sheaf_retry::Code;

/// What is wrong with a frame: metrics count refusals by it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[non_exhaustive]
pub enum Reason {
    /// It does not begin as frames do.
    Magic,
    /// It is of another version of the protocol.
    Version,
    /// It is of another cluster.
    Cluster,
    /// It is for another node, or from another than its stream is.
    Node,
    /// The sender's certificate does not name the node that it says it is.
    Certificate,
    /// A frame is missing, or comes again.
    Sequence,
    /// Its bytes are not those that were sent.
    Checksum,
    /// It ends too early.
    Truncated,
    /// It is longer than is allowed.
    TooLarge,
    /// Its parts contradict each other.
    Malformed,
}

impl Reason {
    /// All of them.
    pub const ALL: [Reason; 10] = [
        Reason::Magic,
        Reason::Version,
        Reason::Cluster,
        Reason::Node,
        Reason::Certificate,
        Reason::Sequence,
        Reason::Checksum,
        Reason::Truncated,
        Reason::TooLarge,
        Reason::Malformed,
    ];

    /// The word for metrics.
    pub const fn as_str(self) -> &'static str {
        match self {
            Reason::Magic => "magic",
            Reason::Version => "version",
            Reason::Cluster => "cluster",
            Reason::Node => "node",
            Reason::Certificate => "certificate",
            Reason::Sequence => "sequence",
            Reason::Checksum => "checksum",
            Reason::Truncated => "truncated",
            Reason::TooLarge => "too_large",
            Reason::Malformed => "malformed",
        }
    }

    pub(crate) const fn code(self) -> Code {
        match self {
            Reason::Version => Code::FormatNewer,
            Reason::Cluster | Reason::Node => Code::FailedPrecondition,
            Reason::Certificate => Code::PermissionDenied,
            Reason::Checksum => Code::Corrupt,
            Reason::TooLarge => Code::LimitExceeded,
            _ => Code::MalformedData,
        }
    }
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}
