//! The command line.

use clap::{Parser, Subcommand};
use sheaf_terminal::exit_code_help;

use crate::client::ClientArgs;
use crate::serve::ServeArgs;

const EXAMPLES: &str = "Examples:
  sheaf-gateway serve --brokers localhost:9092 --topics logs,metrics
  sheaf-gateway client --server grpc://localhost:8080
  sheaf-gateway client --server grpc://localhost:8080 --topic logs --limit 10";

const SERVE_EXAMPLES: &str = "Examples:
  sheaf-gateway serve --brokers kafka-1:9092,kafka-2:9092 --topics logs,metrics --batch-size 1024 --ttl 60s --buffer-limit 100MB
  sheaf-gateway serve --topics '^orders[.]' --group reports --start 2026-11-29T00:00:00Z --format json
  sheaf-gateway serve --topics logs --full drop-oldest --metrics --metrics-addr :9090 --metrics-namespace roar
  SHEAF_SCHEMA_REGISTRY_AUTH=me:secret sheaf-gateway serve --topics orders --schema-registry https://registry:8081
  sheaf-gateway serve --topics logs --persist-to parquet:/data/topics --persist-every 30s
  AWS_ACCESS_KEY_ID=me AWS_SECRET_ACCESS_KEY=secret sheaf-gateway serve --topics logs \\
      --persist-to 's3://lake/topics?endpoint=http://minio:9000'
  sheaf-gateway serve --topics logs --kafka-option sasl.mechanism=PLAIN --kafka-option security.protocol=SASL_PLAINTEXT \\
      --kafka-option sasl.username=me --kafka-option sasl.password=secret

When it is up, one line on standard output says where:
  ready flight=grpc://127.0.0.1:8080

Offsets are committed when the rows before them are in their stream, and where else they go. What cannot be read as a row is
in the stream of its topic's name with .dead-letters behind it: its bytes, its place and what is wrong.";

const CLIENT_EXAMPLES: &str = "Examples:
  sheaf-gateway client                                  which topics there are
  sheaf-gateway client --topic logs --limit 10
  sheaf-gateway client --topic logs --follow --output json --where \"level = 'error'\"
  sheaf-gateway client --topic logs --from 2026-11-29T12:00:00Z --columns level,message --output csv > logs.csv
  sheaf-gateway client --topic logs.dead-letters --columns error,_partition,_offset";

/// Kafka topics as Arrow Flight streams, nothing lost.
#[derive(Debug, Parser)]
#[command(
    name = "sheaf-gateway",
    version,
    after_help = EXAMPLES,
    after_long_help = format!("{EXAMPLES}\n\n{}", exit_code_help()),
)]
pub(crate) struct Cli {
    #[command(subcommand)]
    pub(crate) command: Command,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Read topics and serve them over Arrow Flight
    #[command(after_help = SERVE_EXAMPLES)]
    Serve(Box<ServeArgs>),
    /// List the topics of a gateway, or read one
    #[command(after_help = CLIENT_EXAMPLES)]
    Client(Box<ClientArgs>),
}
