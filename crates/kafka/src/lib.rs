//! Kafka topics as streams of Arrow record batches, offsets committed last.
//!
//! A [`Gateway`] reads topics as a member of a consumer group, turns messages
//! into columns, keeps the recent rows of each topic in memory, and serves them
//! over Arrow Flight. `crates/kafka/examples/embed_gateway.rs` is a whole program.
//!
//! The part that needs no broker is the [`Decoder`]: it turns the raw
//! [`Messages`] of a topic into columns, and does no I/O of its own.
//!
//! ```
//! use sheaf_kafka::{Decoded, Decoder, DecoderOptions, Format, Messages};
//!
//! let mut messages = Messages::default();
//! messages.push(0, Some(0), Some(b"ulm"), Some(br#"{"city": "Ulm", "people": 128928}"#), []);
//! messages.push(1, Some(0), Some(b"x"), Some(b"}{"), []);
//! messages.push(2, Some(0), Some(b"bonn"), None, []);
//!
//! let mut decoder = Decoder::try_new("cities", DecoderOptions::default())?;
//! let Decoded::Batch(decoded) = decoder.decode(0, &messages)? else { panic!("no registry") };
//!
//! assert_eq!(decoder.format(), Some(Format::Json));
//! let batch = decoded.batch.unwrap();
//! assert_eq!((batch.num_rows(), batch.column(1).null_count()), (2, 1));
//! assert_eq!((decoded.rejected[0].index, &*decoded.rejected[0].error), (1, "not a JSON object"));
//! # Ok::<(), sheaf_kafka::DecodeError>(())
//! ```
//!
//! # Parts
//!
//! | question | answer |
//! |---|---|
//! | What may be committed? | [`Ledger`]: what lies before the first span that is not done; [`Tracker`]: that of each partition that is assigned |
//! | What is a row? | [`Decoder`]: one message, whole, or it is rejected and costs nothing else |
//! | What is kept, and for how long? | [`TopicStream`]: within a limit of bytes and a time to live, for its readers |
//! | What can be asked? | [`Ticket`]: a partition, an offset or a time, columns, a [`Filter`], and whether to follow |
//! | Who answers? | [`TopicHandler`], [`TopicActions`] on a Flight port |
//! | And the other way round? | [`Producer`]: messages that are on every replica when it says so |
//!
//! # What holds
//!
//! - No offset is committed before all messages up to it are rows of their
//!   stream or dead letters in theirs, and in the sink where there is one;
//!   none of a partition after that was taken away.
//! - A message that cannot be decoded is a dead letter with its bytes, and the
//!   others of its chunk are rows.
//! - In a database or in files every message is there once, whenever the process is
//!   killed. In memory alone it is at least once: what nobody has read when the
//!   process dies is gone.
//! - Memory is bounded: streams by their limit, chunks under way by their number
//!   and size, librdkafka's queue by a setting.

mod consume;
mod convert;
mod decode;
mod error;
mod filter;
mod format;
mod gateway;
mod ledger;
mod messages;
mod metrics;
mod persist;
mod produce;
mod registry;
mod schema;
mod schema_file;
mod serve;
mod sink;
mod stream;
mod streams;
mod ticket;
mod tracker;

pub use consume::{ConsumerOptions, From};
pub use decode::{
    Decoded, DecodedBatch, Decoder, DecoderOptions, Error as DecodeError, RegisteredKind,
    RegisteredSchema, Rejected, ValueSchema,
};
pub use error::Error;
pub use filter::Filter;
pub use format::{Format, UnknownFormat};
pub use gateway::{Gateway, GatewayOptions};
pub use ledger::Ledger;
pub use messages::{MessageRef, Messages};
pub use metrics::{Figures, Metrics, NAMESPACE as METRICS_NAMESPACE, StreamMetrics};
pub use produce::{OutgoingMessage, Producer, ProducerOptions};
pub use registry::{Error as RegistryError, Registry, RegistryOptions};
pub use schema::conform;
pub use schema_file::SchemaFile;
pub use serve::{TopicActions, TopicHandler};
pub use sheaf_proto::SharedTracer;
pub use sink::{BatchSink, BatchSinkOptions, FileSink, Portion, TableSink, TopicRows, TopicSink};
pub use stream::{
    Part, PartitionState, Reader, Refused, Selection, Start, StreamOptions, TopicStream, WhenFull,
};
pub use streams::Streams;
pub use ticket::{NAMESPACE as TOPICS, Ticket};
pub use tracker::{SpanId, TopicPartition, Tracker};
