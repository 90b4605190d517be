//! Why logs, traces or the admin port could not be set up.

use sheaf_retry::{Code, Retryable};

/// An error of this crate.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The log filter is not of the form `level` or `target=level,…`.
    #[error(
        "log filter {filter:?} is not valid: write a level such as debug, or sheaf_store=trace,info"
    )]
    Filter {
        /// What was given.
        filter: String,
        /// What the parser says.
        #[source]
        source: tracing_subscriber::filter::ParseError,
    },
    /// Logs were set up before in this process.
    #[error("logs are set up already in this process")]
    LogsTwice,
    /// The listener does not tell its address.
    #[error("the admin listener has no address")]
    Listener(#[source] std::io::Error),
    /// Metrics could not be written as text.
    #[error("the metrics could not be written as text")]
    Exposition(#[source] std::fmt::Error),
    /// A profile asks for more time than allowed, or for none.
    #[error("a profile takes 1 to {limit} seconds, not {asked}")]
    ProfileSeconds {
        /// What was asked for.
        asked: u64,
        /// The most there is.
        limit: u64,
    },
    /// One profile at a time.
    #[error("another profile is being taken; try again when it is done")]
    ProfileBusy,
    /// The server shuts down.
    #[error("the profile was cut short: the process is shutting down")]
    ProfileCut,
    /// Nobody has asked for it in time.
    #[error(
        "the memory of this process is not sampled; start it with --pprof, if it has that flag"
    )]
    HeapNotSampled,
    /// A variable of OpenTelemetry that cannot be used.
    #[error("{variable}={value} cannot be used: {help}")]
    TraceVariable {
        /// Its name.
        variable: &'static str,
        /// What it is set to.
        value: String,
        /// What to write.
        help: &'static str,
    },
    /// What is named as the collector of traces is none.
    #[error("traces cannot be sent to {endpoint:?}: {why}")]
    Collector {
        /// What was named.
        endpoint: String,
        /// What the exporter says.
        why: String,
    },
    /// There is no thread to be had.
    #[error("the thread that sends traces cannot be started")]
    TraceThread(#[source] std::io::Error),
    /// The profiler refused.
    #[error("the CPU profiler failed")]
    Profiler(#[source] pprof::Error),
}

impl Retryable for Error {
    fn code(&self) -> Code {
        match self {
            Error::Filter { .. }
            | Error::ProfileSeconds { .. }
            | Error::TraceVariable { .. }
            | Error::Collector { .. } => Code::InvalidArgument,
            Error::LogsTwice | Error::HeapNotSampled => Code::FailedPrecondition,
            Error::Listener(source) | Error::TraceThread(source) => source.code(),
            Error::Exposition(_) => Code::Internal,
            Error::ProfileBusy => Code::Overloaded,
            Error::ProfileCut => Code::Draining,
            Error::Profiler(_) => Code::Unavailable,
        }
    }
}
