//! What the configurations of several built-in kinds have in common.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::forms::FLIGHT_ADDRESS;
use super::units::Duration;
use super::value::{Secret, Text};

/// Rows of a batch, where a source does not say.
pub const DEFAULT_BATCH_ROWS: u32 = 8_192;

pub(super) fn batch_rows() -> u32 {
    DEFAULT_BATCH_ROWS
}

pub(super) fn yes() -> bool {
    true
}

pub(super) fn half_a_minute() -> Duration {
    Duration::from_secs(30)
}

/// The format of a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
#[schemars(inline)]
pub enum FileFormat {
    /// Parquet.
    Parquet,
    /// Comma-separated values.
    Csv,
    /// One JSON object a line.
    Json,
    /// Arrow IPC.
    Ipc,
}

/// How bytes are compressed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
#[schemars(inline)]
pub enum Compression {
    /// Not at all.
    None,
    /// gzip.
    Gzip,
    /// Snappy.
    Snappy,
    /// LZ4.
    Lz4,
    /// Zstandard.
    Zstd,
}

/// The type of a column.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
#[schemars(inline, extend("x-noun" = "column type"))]
#[allow(missing_docs, reason = "the names are those of Arrow")]
pub enum ColumnType {
    Bool,
    Int8,
    Int16,
    Int32,
    Int64,
    Uint8,
    Uint16,
    Uint32,
    Uint64,
    Float32,
    Float64,
    String,
    Binary,
    /// Days since 1970.
    Date,
    /// Microseconds since 1970, UTC.
    Timestamp,
}

/// A column with its type.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Column {
    /// The name.
    #[schemars(length(min = 1))]
    pub name: String,
    /// The type.
    #[serde(rename = "type")]
    pub column_type: ColumnType,
    /// Whether it may be null.
    #[serde(default = "yes")]
    pub nullable: bool,
}

/// Where files are that are no local ones, such as S3.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct Storage {
    /// The address of the service, where it is not the vendor's own.
    pub endpoint: Option<String>,
    /// The region.
    pub region: Option<String>,
    /// Who asks.
    pub access_key_id: Option<Text>,
    /// The secret that proves it.
    pub secret_access_key: Option<Secret>,
}

/// A database that an ADBC driver speaks to.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Database {
    /// The driver: `duckdb`, `postgresql`, `sqlite`, or the path of its library.
    #[schemars(length(min = 1))]
    pub driver: String,
    /// The database: a file or an address.
    pub uri: Text,
    /// Further options of the driver.
    #[serde(default)]
    pub options: BTreeMap<String, Text>,
}

/// How to get into Kafka.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct KafkaSecurity {
    /// Whether to speak TLS.
    pub tls: bool,
    /// The certificates to trust, as PEM.
    pub ca_file: Option<String>,
    /// How to say who one is.
    pub mechanism: Option<SaslMechanism>,
    /// The name.
    pub username: Option<Text>,
    /// The password.
    pub password: Option<Secret>,
}

/// How to say who one is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
#[schemars(inline)]
pub enum SaslMechanism {
    /// Name and password as they are.
    Plain,
    /// A proof, with SHA-256.
    #[serde(rename = "scram-sha-256")]
    ScramSha256,
    /// A proof, with SHA-512.
    #[serde(rename = "scram-sha-512")]
    ScramSha512,
}

/// A Flight server.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct FlightServer {
    /// The address: `grpc://HOST:PORT` or `grpc+tls://HOST:PORT`.
    #[schemars(regex(pattern = FLIGHT_ADDRESS))]
    pub uri: String,
    /// The certificates to trust, as PEM.
    #[serde(default)]
    pub ca_file: Option<String>,
    /// The token to show.
    #[serde(default)]
    pub token: Option<Secret>,
}

/// Rows that are taken together.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[schemars(inline)]
pub enum Window {
    /// The rows of each batch, as it comes.
    #[default]
    Batch,
    /// All rows, when the input ends.
    End,
    /// So many rows each.
    Rows(#[schemars(range(min = 1))] u64),
    /// The rows of a span of time.
    Time(TimeWindow),
}

/// A window of time.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct TimeWindow {
    /// How long it is.
    #[schemars(extend("x-minimum" = "1ms"))]
    pub size: Duration,
    /// How far the next one starts after it; as long as the window by default.
    #[serde(default)]
    #[schemars(extend("x-minimum" = "1ms"))]
    pub slide: Option<Duration>,
    /// The column with the time of a row; by default the time of its arrival.
    #[serde(default)]
    pub column: Option<String>,
    /// How late a row may come.
    #[serde(default)]
    pub lateness: Option<Duration>,
}
