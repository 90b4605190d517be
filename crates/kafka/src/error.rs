//! Why the gateway could not do something.

use sheaf_retry::{Code, Retryable};

use crate::decode::Error as DecodeError;

/// An error of the gateway.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// No message of the topic has come yet, so nobody knows its columns.
    #[error(
        "no message of topic {topic} has come yet, so its columns are not known; ask again later"
    )]
    NoRows {
        /// The topic.
        topic: String,
    },
    /// What is asked for is not in memory any more.
    #[error(
        "offset {offset} of {topic}/{partition} is gone: what is left begins with {oldest}; \
         ask for that, or raise --buffer-limit and --ttl"
    )]
    OffsetGone {
        /// The topic.
        topic: String,
        /// The partition.
        partition: i32,
        /// The offset that was asked for.
        offset: i64,
        /// The oldest that can be had.
        oldest: i64,
    },
    /// A stream has one schema; from here on the topic has another one.
    #[error(
        "the columns of topic {topic} changed at offset {offset} of partition {partition} \
         (schema {version}); ask again with from=~{place}"
    )]
    SchemaChanged {
        /// The topic.
        topic: String,
        /// The partition in which it was seen.
        partition: i32,
        /// The first offset of the new columns.
        offset: i64,
        /// Number of the new schema.
        version: u32,
        /// Where to go on, in all partitions: see [`Start::Place`](crate::Start::Place).
        place: u64,
    },
    /// Where a reader was to go on is not in memory any more.
    #[error(
        "rows of topic {topic} from place ~{place} on are gone; ask by offset, or from the oldest"
    )]
    PlaceGone {
        /// The topic.
        topic: String,
        /// What was asked for.
        place: u64,
    },
    /// A request that cannot be understood.
    #[error("{0}")]
    Invalid(String),
    /// There is no stream of this name.
    #[error("topic {topic:?} is not served here; there are: {known}")]
    UnknownTopic {
        /// What was asked for.
        topic: String,
        /// What there is.
        known: String,
    },
    /// Kafka refused something, or did not answer.
    #[error("{operation}")]
    Kafka {
        /// What was tried.
        operation: String,
        /// Stable code.
        code: Code,
        /// What librdkafka says.
        #[source]
        source: rdkafka::error::KafkaError,
    },
    /// Rows could not be worked on.
    #[error("{operation}")]
    Arrow {
        /// What was tried.
        operation: &'static str,
        /// The cause.
        #[source]
        source: arrow_schema::ArrowError,
    },
    /// A stream could not be made or read.
    #[error(transparent)]
    Flight(sheaf_flight::Error),
    /// Messages could not be decoded as a whole.
    #[error(transparent)]
    Decode(#[from] DecodeError),
    /// A database did not do what it should.
    #[error(transparent)]
    Persist(#[from] sheaf_connectors::Error),
    /// The coordinator did not do what it should.
    #[error(transparent)]
    Coordinator(#[from] sheaf_coordinator::Error),
    /// Another member of the group has handed on what is to be handed on.
    #[error("{of} is handed on by another member of the group from offset {offset}")]
    Fenced {
        /// The topic and partition.
        of: String,
        /// Where both wanted to go on.
        offset: i64,
    },
    /// The partition was taken away meanwhile.
    #[error("the partition is not this member's any more")]
    Revoked,
    /// The stream was closed.
    #[error("the stream is over")]
    StreamOver,
    /// A thread or task of the gateway is gone.
    #[error("a task of the gateway ended before its work was done")]
    TaskLost,
}

impl Retryable for Error {
    fn code(&self) -> Code {
        match self {
            Error::NoRows { .. } | Error::UnknownTopic { .. } => Code::NotFound,
            Error::OffsetGone { .. } | Error::PlaceGone { .. } | Error::SchemaChanged { .. } => {
                Code::FailedPrecondition
            }
            Error::Invalid(_) => Code::InvalidArgument,
            Error::Kafka { code, .. } => *code,
            Error::Arrow { .. } => Code::MalformedData,
            Error::Flight(error) => error.code(),
            Error::Decode(error) => error.code(),
            Error::Persist(error) => error.code(),
            Error::Coordinator(error) => error.code(),
            Error::Fenced { .. } => Code::StaleFence,
            Error::StreamOver => Code::Draining,
            Error::Revoked => Code::LeaseLost,
            Error::TaskLost => Code::Internal,
        }
    }
}

impl From<Error> for sheaf_flight::Error {
    fn from(error: Error) -> Self {
        match error {
            Error::Flight(error) => error,
            other => sheaf_flight::Error::from_error(other),
        }
    }
}
