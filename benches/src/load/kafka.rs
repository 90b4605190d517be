//! Loads on a Kafka broker, and the decoder alone.
//!
//! Whoever reads a topic tells the time between its first and its last message
//! and the CPU that its process used between them.

mod decode;
mod fill;
mod read;
mod rows;

use std::path::PathBuf;

use clap::Subcommand;
use serde_json::json;

use crate::error::Result;

use self::rows::{Format, Values};

/// One load.
#[derive(Debug, Subcommand)]
pub(crate) enum Kafka {
    /// Makes a topic and fills it.
    Fill {
        /// HOST:PORT.
        broker: String,
        /// Its name.
        topic: String,
        /// Partitions, which get messages in turns.
        #[arg(long)]
        partitions: i32,
        /// Messages.
        #[arg(long)]
        count: u64,
        #[command(flatten)]
        values: Values,
    },
    /// Reads a topic with librdkafka and does nothing with the messages.
    Read {
        /// HOST:PORT.
        broker: String,
        /// Its name.
        topic: String,
        /// Partitions that it has.
        #[arg(long)]
        partitions: i32,
        /// Messages that it has.
        #[arg(long)]
        count: u64,
    },
    /// Tells the schema of values.
    Schema {
        #[command(flatten)]
        values: Values,
    },
    /// Writes values into a file, each after its length.
    Write {
        /// Made anew.
        file: PathBuf,
        /// Values.
        #[arg(long)]
        count: u64,
        #[command(flatten)]
        values: Values,
    },
    /// Decodes the values of such a file.
    Decode {
        /// What `write` wrote.
        file: PathBuf,
        /// Messages at once.
        #[arg(long)]
        batch: usize,
        #[command(flatten)]
        values: Values,
    },
}

/// Runs one load to its end.
pub(super) fn run(load: &Kafka) -> Result<()> {
    match load {
        Kafka::Fill { broker, topic, partitions, count, values } => {
            fill::run((broker, topic), *partitions, values, *count)
        }
        Kafka::Read { broker, topic, partitions, count } => {
            read::run(broker, topic, *partitions, *count)
        }
        Kafka::Schema { values } => {
            println!("{}", json!({ "schema": rows::schema(values.format, values.bytes) }));
            Ok(())
        }
        Kafka::Write { file, count, values } => decode::write(file, values, *count),
        Kafka::Decode { file, batch, values } => decode::run(file, values, *batch),
    }
}
