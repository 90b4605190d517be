//! The flags of `serve`.

use sheaf_retry::{HumanBytes, HumanDuration};
use sheaf_telemetry::LogOptions;

/// Which topics are read, and how they are kept and served.
#[derive(Clone, Debug, clap::Args)]
pub(crate) struct ServeArgs {
    /// Kafka brokers to begin with, HOST:PORT
    #[arg(long, value_name = "LIST", default_value = "localhost:9092")]
    pub(super) brokers: String,
    /// Topics to read; one that begins with ^ is a regular expression
    #[arg(long, value_name = "LIST", value_delimiter = ',', required = true)]
    pub(super) topics: Vec<String>,
    /// Messages of one record batch at most
    #[arg(long, value_name = "N", default_value = "1024")]
    pub(super) batch_size: u32,
    /// How long rows are kept after they came, or were last read
    #[arg(long, value_name = "TIME", default_value = "60s")]
    pub(super) ttl: HumanDuration,
    /// Bytes in memory of each topic at most
    #[arg(long, value_name = "SIZE", default_value = "100MB")]
    pub(super) buffer_limit: HumanBytes,
    /// Port of the Arrow Flight server; 0 is a free one
    #[arg(long, value_name = "PORT", default_value = "8080")]
    pub(super) port: u16,
    /// Address that ports are bound to
    #[arg(long, value_name = "HOST", default_value = "127.0.0.1")]
    pub(super) bind: String,
    #[command(flatten)]
    pub(super) persist: super::target::PersistArgs,
    #[command(flatten)]
    pub(super) register: super::register::RegisterArgs,
    /// Serve Prometheus metrics and health
    #[arg(long)]
    pub(super) metrics: bool,
    /// Where; without a host, on that of --bind
    #[arg(long, value_name = "ADDR", default_value = ":9090", requires = "metrics")]
    pub(super) metrics_addr: String,
    /// Beginning of the names of metrics: sheaf, or roar for the names of that gateway
    #[arg(long, value_name = "WORD", default_value = sheaf_kafka::METRICS_NAMESPACE, value_parser = super::words::namespace)]
    pub(super) metrics_namespace: String,
    /// Serve profiles of CPU time and memory
    #[arg(long)]
    pub(super) pprof: bool,
    /// Where; without a host, on that of --bind
    #[arg(long, value_name = "ADDR", default_value = ":6060", requires = "pprof")]
    pub(super) pprof_addr: String,
    /// Consumer group
    #[arg(long, value_name = "NAME", default_value = "sheaf-gateway")]
    pub(super) group: String,
    /// Where a group begins that has no offset: earliest, latest, or a time such as 2026-11-29T12:00:00Z
    #[arg(long, value_name = "PLACE", default_value = "earliest")]
    pub(super) start: String,
    /// What messages are: auto, json, avro, protobuf, csv, string, bytes or arrow
    #[arg(long, value_name = "FORMAT", default_value = "auto")]
    pub(super) format: sheaf_kafka::Format,
    /// Schema of messages that name none: an .avsc, .proto (also FILE#MESSAGE) or .arrow; TOPIC=FILE for one topic
    #[arg(long, value_name = "[TOPIC=]FILE")]
    pub(super) schema: Vec<sheaf_kafka::SchemaFile>,
    #[command(flatten)]
    pub(super) registry: super::registry::RegistryArgs,
    /// When a topic has no room: block (Kafka is read later) or drop-oldest (rows go unread)
    #[arg(long, value_name = "POLICY", default_value = "block", value_parser = super::words::when_full)]
    pub(super) full: sheaf_kafka::WhenFull,
    /// A property of librdkafka; may be given more than once
    #[arg(long, value_name = "NAME=VALUE", value_parser = super::words::property)]
    pub(super) kafka_option: Vec<(String, String)>,
    /// Memory of all topics and calls together [default: twice what the topics may have, 512MB at least]
    #[arg(long, value_name = "SIZE")]
    pub(super) memory_limit: Option<HumanBytes>,
    #[command(flatten)]
    pub(super) security: super::security::ServerSecurityArgs,
    /// Log debug messages too
    #[arg(long, short)]
    pub(super) verbose: bool,
}

impl ServeArgs {
    /// What is logged.
    pub(crate) fn logs(&self) -> LogOptions {
        LogOptions { verbose: self.verbose, ..LogOptions::default() }
    }
}
