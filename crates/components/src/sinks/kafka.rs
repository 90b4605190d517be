//! Writes to a topic of Kafka.

use std::sync::Arc;
use std::time::Duration;

use arrow_array::cast::AsArray as _;
use arrow_array::{Array as _, RecordBatch};
use arrow_cast::display::{ArrayFormatter, FormatOptions};
use arrow_schema::DataType;
use async_trait::async_trait;
use sheaf_dataflow::{ComponentError, Received, Sink};
use sheaf_kafka::{OutgoingMessage, Producer, ProducerOptions};
use sheaf_pipeline::spec::{Compression, KafkaSink, SinkMessageFormat};
use sheaf_retry::Code;

use crate::encode::{self, IpcStream};
use crate::failure::{failed, failed_as, lost, refused};
use crate::host::Host;

/// How long a message may take until the batch is tried again.
const PATIENCE: Duration = Duration::from_secs(30);

/// The rows of each batch as messages; it is written when all brokers in sync have them.
pub(super) struct Topic {
    producer: Producer,
    topic: String,
    /// For people.
    brokers: String,
    key: Option<String>,
    format: SinkMessageFormat,
    done: u64,
}

impl Topic {
    pub(super) async fn open(config: &KafkaSink, host: &Host) -> Result<Self, ComponentError> {
        if config.key.is_some() && config.format == SinkMessageFormat::Arrow {
            return Err(refused(
                "config.key is the key of a row, and a message of Arrow is a whole batch: leave \
                 one of them out",
            ));
        }
        let mut librdkafka = crate::kafka::security(&config.security, host).await?;
        if let Some(compression) = config.compression {
            let name = match compression {
                Compression::None => "none",
                Compression::Gzip => "gzip",
                Compression::Snappy => "snappy",
                Compression::Lz4 => "lz4",
                Compression::Zstd => "zstd",
            };
            librdkafka.push(("compression.type".to_owned(), name.to_owned()));
        }
        let brokers = config.brokers.join(",");
        let options = ProducerOptions { brokers: brokers.clone(), librdkafka, patience: PATIENCE };
        let producer = Producer::open(&options, Arc::clone(&host.clock));
        Ok(Topic {
            producer: producer.map_err(failed("the topic cannot be written to"))?,
            topic: config.topic.clone(),
            brokers,
            key: config.key.clone(),
            format: config.format,
            done: 0,
        })
    }

    async fn take(&self, received: &Received) -> Result<(), ComponentError> {
        let (batch, key, format) = (received.batch.clone(), self.key.clone(), self.format);
        let encode = move || messages(&batch, key.as_deref(), format);
        let messages = tokio::task::spawn_blocking(encode).await.map_err(lost)??;
        let sent = self.producer.send(&self.topic, &messages).await;
        sent.map_err(|error| {
            let (topic, brokers) = (&self.topic, &self.brokers);
            failed(format!("the topic {topic} at {brokers} does not take a batch"))(error)
        })
    }
}

fn messages(
    batch: &RecordBatch,
    key: Option<&str>,
    format: SinkMessageFormat,
) -> Result<Vec<OutgoingMessage>, ComponentError> {
    if format == SinkMessageFormat::Arrow {
        let mut stream = IpcStream::begin(batch.schema_ref())?;
        let mut value = stream.push(batch)?;
        value.extend(stream.end()?);
        return Ok(vec![OutgoingMessage { key: None, value }]);
    }
    let keys = key.map(|key| keys(batch, key)).transpose()?;
    let mut key_of = keys.into_iter().flatten();
    let mut messages = Vec::with_capacity(batch.num_rows());
    for row in 0..batch.num_rows() {
        let row = batch.slice(row, 1);
        let mut value = match format {
            SinkMessageFormat::Csv => encode::csv(&row, false)?,
            SinkMessageFormat::Json | SinkMessageFormat::Arrow => encode::json(&row)?,
        };
        if value.last() == Some(&b'\n') {
            value.pop();
        }
        messages.push(OutgoingMessage { key: key_of.next().flatten(), value });
    }
    Ok(messages)
}

/// The key of each row: bytes and texts as they are, all else as text.
fn keys(batch: &RecordBatch, name: &str) -> Result<Vec<Option<Vec<u8>>>, ComponentError> {
    let Some(column) = batch.column_by_name(name) else {
        return Err(refused(format!("config.key: the rows have no column {name}")));
    };
    if column.data_type() == &DataType::Binary {
        let values = column.as_binary::<i32>();
        return Ok(values.iter().map(|value| value.map(<[u8]>::to_vec)).collect());
    }
    let no_text = || failed_as(Code::InvalidArgument, format!("config.key: {name} has no text"));
    let options = FormatOptions::default();
    let values = ArrayFormatter::try_new(column, &options).map_err(no_text())?;
    let value = |row| {
        let text = column.is_valid(row).then(|| values.value(row).try_to_string());
        Ok(text.transpose().map_err(no_text())?.map(String::into_bytes))
    };
    (0..column.len()).map(value).collect()
}

#[async_trait]
impl Sink for Topic {
    async fn write(&mut self, received: &Received) -> Result<u64, ComponentError> {
        if received.batch.num_rows() > 0 {
            self.take(received).await?;
        }
        self.done += 1;
        Ok(self.done)
    }

    async fn flush(&mut self) -> Result<u64, ComponentError> {
        Ok(self.done)
    }
}
