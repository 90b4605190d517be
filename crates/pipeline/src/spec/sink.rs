//! The configurations of the built-in sinks.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::forms::{HOST_PORT, WEB_ADDRESS};
use super::shared::{
    Compression, Database, FileFormat, FlightServer, KafkaSecurity, Storage, half_a_minute, yes,
};
use super::units::Duration;
use super::value::Text;

/// What a built-in sink is to do.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind", content = "config", rename_all = "lowercase")]
pub enum SinkConfig {
    /// Writes files.
    File(FileSink),
    /// Writes into a database.
    Adbc(AdbcSink),
    /// Writes to a topic of Kafka.
    Kafka(KafkaSink),
    /// Sends to a Flight server.
    Flight(FlightSink),
    /// Calls an address with each batch.
    Http(HttpSink),
    /// Prints rows.
    Stdout(StdoutSink),
}

impl SinkConfig {
    /// Whether the kind writes each batch once, whatever is repeated.
    pub(crate) fn is_transactional(kind: &str) -> bool {
        matches!(kind, "file" | "adbc")
    }
}

/// Writes files into a folder, each batch once.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct FileSink {
    /// A folder, or an address such as `s3://BUCKET/PREFIX`.
    #[schemars(length(min = 1))]
    pub path: String,
    /// The format.
    pub format: FileFormat,
    /// The compression; that of the format by default.
    #[serde(default)]
    pub compression: Option<Compression>,
    /// The most rows of a row group of Parquet.
    #[serde(default = "row_group_rows")]
    #[schemars(range(min = 1))]
    pub row_group_rows: u32,
    /// Where the folder is, if it is no local one.
    #[serde(default)]
    pub storage: Storage,
}

fn row_group_rows() -> u32 {
    1_048_576
}

/// Writes into a table, each batch in one transaction with its identifier.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct AdbcSink {
    /// The database.
    pub database: Database,
    /// The table.
    #[schemars(length(min = 1))]
    pub table: String,
    /// Whether to make the table, and columns that it lacks.
    #[serde(default = "yes")]
    pub create: bool,
}

/// Writes each row as a message.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct KafkaSink {
    /// Brokers to begin with, as `HOST:PORT`.
    #[schemars(length(min = 1), inner(regex(pattern = HOST_PORT)))]
    pub brokers: Vec<String>,
    /// The topic.
    #[schemars(length(min = 1))]
    pub topic: String,
    /// The column with the key.
    #[serde(default)]
    pub key: Option<String>,
    /// What the values are.
    #[serde(default)]
    pub format: SinkMessageFormat,
    /// How messages are compressed.
    #[serde(default)]
    pub compression: Option<Compression>,
    /// How to get in.
    #[serde(default)]
    pub security: KafkaSecurity,
}

/// What the messages of a sink are.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
#[schemars(inline)]
pub enum SinkMessageFormat {
    /// A JSON object for each row.
    #[default]
    Json,
    /// Comma-separated values for each row.
    Csv,
    /// A batch as Arrow IPC in one message.
    Arrow,
}

/// Sends batches to a Flight server.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct FlightSink {
    /// The server.
    pub server: FlightServer,
    /// Where to: the path of the descriptor, such as `[batches]` or `[topics, orders]`.
    #[schemars(length(min = 1), inner(length(min = 1)))]
    pub path: Vec<String>,
}

/// Calls an address with each batch.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct HttpSink {
    /// The address.
    #[schemars(regex(pattern = WEB_ADDRESS))]
    pub url: String,
    /// The method.
    #[serde(default)]
    pub method: HttpMethod,
    /// Headers of the request.
    #[serde(default)]
    pub headers: BTreeMap<String, Text>,
    /// What the body is.
    #[serde(default = "json")]
    pub format: FileFormat,
    /// How long an answer may take.
    #[serde(default = "half_a_minute")]
    pub timeout: Duration,
}

fn json() -> FileFormat {
    FileFormat::Json
}

/// How an address is called.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "UPPERCASE")]
#[schemars(inline)]
pub enum HttpMethod {
    /// `POST`
    #[default]
    Post,
    /// `PUT`
    Put,
}

/// Prints rows on standard output.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct StdoutSink {
    /// How.
    pub format: PrintFormat,
}

/// How rows are printed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
#[schemars(inline)]
pub enum PrintFormat {
    /// A table for each batch.
    #[default]
    Table,
    /// One JSON object a line.
    Json,
    /// Comma-separated values.
    Csv,
    /// An Arrow IPC stream.
    Ipc,
}
