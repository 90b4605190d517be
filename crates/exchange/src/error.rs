//! What can go wrong in an exchange.

use arrow_schema::{ArrowError, DataType};
use sheaf_retry::{Class, Code, Disposition, Retryable};

/// Why batches could not be partitioned.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A key names a column that the schema does not have.
    #[error("no column {column} in the schema; its columns are {known}")]
    NoSuchColumn {
        /// The name or the index that was asked for.
        column: String,
        /// The columns that there are, at most the first sixteen.
        known: String,
    },
    /// A key names a column by a name that several have.
    #[error("{count} columns are called {column:?}; name the key by its index")]
    AmbiguousColumn {
        /// The name.
        column: String,
        /// Columns of that name.
        count: usize,
    },
    /// Hash and range partitioning without a key.
    #[error("{partitioning} partitioning has no key columns; name at least one")]
    NoKeys {
        /// Which.
        partitioning: &'static str,
    },
    /// A column of this type has no order.
    #[error("column {column:?} cannot be a range key: {data_type} has no order")]
    NoOrder {
        /// The column.
        column: String,
        /// Its type.
        data_type: DataType,
    },
    /// No partitions, too many, or more than one for one.
    #[error("{partitions} partitions with {partitioning} partitioning; allowed are {allowed}")]
    PartitionCount {
        /// What was asked for.
        partitions: usize,
        /// Which partitioning.
        partitioning: &'static str,
        /// What is allowed.
        allowed: String,
    },
    /// Bounds that do not fit their keys, or each other.
    #[error("range bounds: {problem}")]
    Bounds {
        /// What is wrong, and where.
        problem: String,
    },
    /// A batch of another schema than that of the partitioner.
    #[error("a batch does not have the schema of its stream: {problem}")]
    SchemaMismatch {
        /// The first difference.
        problem: String,
    },
    /// The user's own function gave something that is no partition of its rows.
    #[error("the partition function: {problem}")]
    Function {
        /// What is wrong with its answer.
        problem: String,
    },
    /// Limits that contradict each other.
    #[error("{option} is {value}, allowed are {allowed}")]
    Option {
        /// The field of the options.
        option: &'static str,
        /// Its value.
        value: usize,
        /// What is allowed.
        allowed: String,
    },
    /// No word for a compression.
    #[error(
        "{text:?} is no compression: write none, lz4, zstd or auto; of codecs Arrow IPC has lz4 and zstd only"
    )]
    Compression {
        /// What was given, cut.
        text: String,
    },
    /// Encoding failed.
    #[error("encode a partition")]
    Encode(#[source] sheaf_flight::Error),
    /// A computation over arrays failed.
    #[error("compute over arrays")]
    Arrow(#[from] ArrowError),
}

impl Error {
    /// A number of partitions that nothing can have.
    pub(crate) fn no_partition_count(partitions: usize) -> Self {
        let allowed = format!("1 to {}", crate::MAX_PARTITIONS);
        Error::PartitionCount { partitions, partitioning: "any", allowed }
    }
}

impl Retryable for Error {
    fn code(&self) -> Code {
        match self {
            Error::Encode(error) => error.code(),
            Error::Arrow(ArrowError::NotYetImplemented(_)) => Code::Unimplemented,
            Error::PartitionCount { partitions, .. } if *partitions > 0 => Code::LimitExceeded,
            _ => Code::InvalidArgument,
        }
    }

    fn disposition(&self) -> Disposition {
        match self {
            Error::Encode(error) => error.disposition(),
            _ => match self.code().class() {
                Class::Transient => Disposition::Transient { after: None },
                Class::Permanent => Disposition::Permanent,
            },
        }
    }
}
