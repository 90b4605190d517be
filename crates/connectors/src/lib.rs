//! Where data comes from and goes to: sources, two-phase sinks, external programs.
//!
//! A [`Source`] yields record batches; a [`Sink`] takes the result of each
//! batch exactly once, whatever crashes; an [`ExecCommand`] turns one into the
//! other outside of this process. Files are here ([`FileSource`],
//! [`FileSink`]: Parquet, Arrow IPC, CSV, JSON); other systems implement the
//! same traits and run the same `conformance` suite (a feature). Tables of an
//! [`AdbcDatabase`] take rows and the offsets up to which they reach at once, and so
//! do the files of [`TopicFiles`], in a directory or (feature `s3`) a bucket.
//!
//! ```
//! use futures::StreamExt as _;
//! use sheaf_connectors::{CommitKey, FileSource, SinkSpec, Source as _, SourceOptions};
//! use sheaf_retry::SystemClock;
//!
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> Result<(), Box<dyn std::error::Error>> {
//! # let dir = tempfile::tempdir()?;
//! # let (input, out) = (dir.path().join("in.csv"), dir.path().join("out"));
//! # let (input, out) = (input.to_str().unwrap(), out.to_str().unwrap());
//! std::fs::write(input, "city,people\nUlm,128928\nBonn,335789\n")?;
//! let source = FileSource::open(input, SourceOptions::default()).await?;
//!
//! let spec: SinkSpec = format!("parquet:{out}").parse()?;
//! let sink = spec.open(SystemClock::shared()).await?.ok_or("no sink")?;
//! let key = CommitKey { id: "cities:1".parse()?, fence: 7 };
//! let mut write = sink.prepare(&key, source.schema().await?).await?;
//! let mut rows = source.read(1_000).await?;
//! while let Some(batch) = rows.next().await {
//!     write.write(&batch?).await?;
//! }
//! write.finish().await?; // durable, not visible: time to prove that the lease stands
//! let committed = write.commit().await?;
//! assert_eq!((committed.rows, committed.fence, committed.created), (2, 7, true));
//!
//! // An attempt that comes late finds the winner and changes nothing.
//! let late = CommitKey { fence: 8, ..key };
//! let write = sink.prepare(&late, source.schema().await?).await?;
//! let adopted = write.commit().await?;
//! assert_eq!((adopted.rows, adopted.fence, adopted.created), (2, 7, false));
//! # Ok(())
//! # }
//! ```
//!
//! # What files can hold
//!
//! | | Parquet | Arrow IPC | CSV | JSON |
//! |---|---|---|---|---|
//! | nested types | yes | yes | no | yes |
//! | unions | no | yes | no | no |
//! | month-day-nano intervals | no | yes | yes | yes |
//! | structs without fields | no | yes | no | yes |
//! | batches without columns | no | yes | no | yes |
//! | types and metadata come back | yes | yes | no | no |
//! | an empty text and null are told apart | yes | yes | no | yes |
//!
//! A sink refuses a column that its format cannot hold when the write is
//! opened ([`Error::Unsupported`], permanent).

mod adbc;
mod blocking;
#[cfg(feature = "conformance")]
pub mod conformance;
mod error;
mod exec;
mod file_sink;
mod file_source;
mod format;
mod sink;
mod source;
mod spec;
mod topic_files;

pub use adbc::{
    AdbcDatabase, AdbcSpec, AdbcTables, Appended, DriverPaths, Position, TableNames, TableRows,
    sanitise,
};
pub use error::Error;
pub use exec::{EXIT_PERMANENT, ExecCommand, ExecLimits, ExecOutput};
pub use file_sink::{FileSink, SinkOptions};
pub use file_source::{FileSource, SourceOptions};
pub use format::{Compression, FileFormat};
pub use sink::{CommitKey, Committed, PreparedWrite, Sink};
pub use source::{BatchStream, Source};
pub use spec::SinkSpec;
#[cfg(feature = "s3")]
pub use topic_files::Objects;
pub use topic_files::{FilesSpec, Span, TopicFiles};
