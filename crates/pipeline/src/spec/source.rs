//! The configurations of the built-in sources.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::forms::{HOST_PORT, JSON_POINTER, WEB_ADDRESS};
use super::shared::{
    Column, Compression, Database, FileFormat, FlightServer, KafkaSecurity, Storage, batch_rows,
    half_a_minute, yes,
};
use super::units::{Duration, Size};
use super::value::Text;

/// What a built-in source is to do.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind", content = "config", rename_all = "lowercase")]
pub enum SourceConfig {
    /// Reads topics of Kafka.
    Kafka(KafkaSource),
    /// Reads files.
    File(FileSource),
    /// Reads a stream of a Flight server.
    Flight(FlightSource),
    /// Asks an address again and again.
    Http(HttpSource),
    /// Reads a database.
    Adbc(AdbcSource),
    /// Makes rows up.
    Generate(GenerateSource),
}

/// Reads topics of Kafka, as one member of a consumer group per instance.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct KafkaSource {
    /// Brokers to begin with, as `HOST:PORT`.
    #[schemars(length(min = 1), inner(regex(pattern = HOST_PORT)))]
    pub brokers: Vec<String>,
    /// The topics.
    #[schemars(length(min = 1), inner(length(min = 1)))]
    pub topics: Vec<String>,
    /// The consumer group; by default named after pipeline and component.
    #[serde(default)]
    pub group: Option<String>,
    /// What the values are.
    #[serde(default)]
    pub format: MessageFormat,
    /// The columns, where they are not to be inferred.
    #[serde(default)]
    pub columns: Vec<Column>,
    /// A file with the Avro or Protobuf schema of the values: `PATH` or `PATH#MESSAGE`.
    #[serde(default)]
    pub schema_file: Option<String>,
    /// Where a new group begins.
    #[serde(default)]
    pub start_at: StartAt,
    /// Rows of a batch, at most.
    #[serde(default = "batch_rows")]
    #[schemars(range(min = 1, max = 1_000_000))]
    pub batch_rows: u32,
    /// How long rows may wait for a batch to fill.
    #[serde(default = "linger")]
    pub batch_wait: Duration,
    /// How to get in.
    #[serde(default)]
    pub security: KafkaSecurity,
}

fn linger() -> Duration {
    Duration(std::time::Duration::from_millis(100))
}

/// What the values of messages are.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
#[schemars(inline)]
pub enum MessageFormat {
    /// Found out from the first ones.
    #[default]
    Auto,
    /// JSON objects.
    Json,
    /// Avro records.
    Avro,
    /// Protobuf messages.
    Protobuf,
    /// Comma-separated values.
    Csv,
    /// Text, in one column.
    String,
    /// Bytes, in one column.
    Bytes,
    /// Arrow IPC.
    Arrow,
}

/// Where a new consumer group begins.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
#[schemars(inline)]
pub enum StartAt {
    /// At the oldest message that is kept.
    #[default]
    Earliest,
    /// At messages that are yet to come.
    Latest,
}

/// Reads files once, in the order of their names.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct FileSource {
    /// A file, a folder, a pattern with `*`, or an address such as `s3://BUCKET/KEY`.
    #[schemars(length(min = 1))]
    pub path: String,
    /// The format, where the name does not say it.
    #[serde(default)]
    pub format: Option<FileFormat>,
    /// The compression, where the name does not say it.
    #[serde(default)]
    pub compression: Option<Compression>,
    /// The columns, where they are not to be inferred.
    #[serde(default)]
    pub columns: Vec<Column>,
    /// Whether the first line of CSV has the names.
    #[serde(default = "yes")]
    pub header: bool,
    /// What separates the values of CSV.
    #[serde(default)]
    #[schemars(length(equal = 1))]
    pub delimiter: Option<String>,
    /// Rows of a batch, at most.
    #[serde(default = "batch_rows")]
    #[schemars(range(min = 1, max = 1_000_000))]
    pub batch_rows: u32,
    /// Where files are that are no local ones.
    #[serde(default)]
    pub storage: Storage,
}

/// Reads one stream of a Flight server.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct FlightSource {
    /// The server.
    pub server: FlightServer,
    /// What to read: `batches/ID`, `topics/TOPIC`.
    #[schemars(length(min = 1))]
    pub ticket: String,
}

/// Asks an address again and again, and reads what it answers.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct HttpSource {
    /// The address.
    #[schemars(regex(pattern = WEB_ADDRESS))]
    pub url: String,
    /// Headers of the request.
    #[serde(default)]
    pub headers: BTreeMap<String, Text>,
    /// The pause between two requests.
    #[schemars(extend("x-minimum" = "10ms"))]
    pub every: Duration,
    /// What it answers with.
    #[serde(default = "json")]
    pub format: FileFormat,
    /// Where the rows are in an answer of JSON: a JSON pointer such as `/data/items`.
    #[serde(default)]
    #[schemars(regex(pattern = JSON_POINTER))]
    pub rows_at: Option<String>,
    /// The columns, where they are not to be inferred.
    #[serde(default)]
    pub columns: Vec<Column>,
    /// How long an answer may take.
    #[serde(default = "half_a_minute")]
    pub timeout: Duration,
    /// The longest answer.
    #[serde(default = "answer_limit")]
    pub max_bytes: Size,
}

fn json() -> FileFormat {
    FileFormat::Json
}

fn answer_limit() -> Size {
    Size(64_000_000)
}

/// Reads the rows of a query, once or again and again.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct AdbcSource {
    /// The database.
    pub database: Database,
    /// The query.
    #[schemars(length(min = 1))]
    pub query: String,
    /// The pause between two runs; without it the query runs once.
    #[serde(default)]
    #[schemars(extend("x-minimum" = "10ms"))]
    pub every: Option<Duration>,
    /// A column that only grows: a run takes rows that are beyond the last one's.
    #[serde(default)]
    pub cursor: Option<String>,
}

/// Makes rows up, the same ones for the same seed.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct GenerateSource {
    /// The columns.
    #[schemars(length(min = 1, max = 4_096))]
    pub columns: Vec<GeneratedColumn>,
    /// Rows in all; without it there is no end.
    #[serde(default)]
    pub rows: Option<u64>,
    /// Rows of a batch.
    #[serde(default = "batch_rows")]
    #[schemars(range(min = 1, max = 1_000_000))]
    pub batch_rows: u32,
    /// The most rows in a second; without it as fast as they are taken.
    #[serde(default)]
    #[schemars(range(min = 1))]
    pub rows_per_second: Option<u64>,
    /// What the random values follow from.
    #[serde(default)]
    pub seed: u64,
}

/// A column that is made up.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct GeneratedColumn {
    /// The name.
    #[schemars(length(min = 1))]
    pub name: String,
    /// What its values are.
    pub values: Generator,
}

/// How values are made up.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[schemars(inline)]
pub enum Generator {
    /// 0, 1, 2 and so on, as `int64`.
    Sequence,
    /// The time at which the row is made, as `timestamp`.
    Now,
    /// Whole numbers from the first to the second, both among them.
    Integers(i64, i64),
    /// Numbers from the first up to the second.
    Numbers(f64, f64),
    /// One of these, all of one type.
    Choice(#[schemars(length(min = 1))] Vec<Value>),
    /// Always this.
    Constant(Value),
}
