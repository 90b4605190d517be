//! Reads topics of Kafka.

mod handover;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::mpsc::sync_channel;
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use serde::{Deserialize, Serialize};
use sheaf_dataflow::{ComponentError, Made, Source, Start};
use sheaf_flight::Budget;
use sheaf_kafka::{
    ConsumerOptions, DecoderOptions, Format, From as Begin, Gateway, GatewayOptions, Metrics,
    SchemaFile, StreamOptions, WhenFull,
};
use sheaf_pipeline::spec::{KafkaSource, MessageFormat, StartAt};
use sheaf_retry::Code;
use tokio::runtime::{Handle, RuntimeFlavor};

use crate::failure::{failed, lost, refused};
use crate::host::Host;
use crate::{columns, offset};
use handover::{Handed, Handover};

const KIND: &str = "kafka";
/// Bytes of rows in memory that are not handed on yet.
const BUFFER: u64 = 64 << 20;
/// How long it may take at the end to commit and to leave the group.
const LEAVE: Duration = Duration::from_secs(10);

/// The rows of one member of a consumer group.
///
/// Where to go on is known to Kafka alone: an offset is committed there after all that read
/// this source have taken its row.
pub(super) struct Topics {
    gateway: Option<Gateway>,
    handed: Handed,
    /// Of this process: what an earlier one handed on is told to nobody.
    process: u64,
}

/// The number of a batch of a process.
#[derive(Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct Offset {
    process: u64,
    batch: u64,
}

impl Topics {
    pub(super) async fn open(
        config: &KafkaSource,
        start: &Start,
        host: &Host,
    ) -> Result<Self, ComponentError> {
        let group = config.group.clone();
        let group = group.unwrap_or_else(|| format!("{}.{}", start.pipeline, start.component));
        let batch_rows = usize::try_from(config.batch_rows.max(1)).unwrap_or(usize::MAX);
        let consumer = ConsumerOptions {
            start: match config.start_at {
                StartAt::Earliest => Begin::Earliest,
                StartAt::Latest => Begin::Latest,
            },
            librdkafka: crate::kafka::security(&config.security, host).await?,
            batch_size: batch_rows,
            linger: config.batch_wait.0,
            ..ConsumerOptions::new(config.brokers.join(","), config.topics.clone(), group)
        };
        let (handover, handed) = Handover::pair(batch_rows, config.batch_wait.0);
        let options = GatewayOptions {
            consumer,
            decoder: decoder(config).await?,
            decoders: BTreeMap::new(),
            registry: None,
            stream: StreamOptions {
                limit_bytes: BUFFER,
                ttl: Duration::from_secs(60),
                when_full: WhenFull::Block,
            },
            sink: Some(Arc::new(handover)),
        };
        let metrics = Metrics::new(2 * BUFFER);
        let clock = Arc::clone(&host.clock);
        let gateway = Gateway::start(options, Budget::new(2 * BUFFER), metrics, clock).await;
        let gateway = gateway
            .map_err(failed(format!("Kafka at {} cannot be read", config.brokers.join(", "))))?;
        let process = host.clock.now().as_micros() ^ (u64::from(std::process::id()) << 44);
        Ok(Topics { gateway: Some(gateway), handed, process })
    }
}

async fn decoder(config: &KafkaSource) -> Result<DecoderOptions, ComponentError> {
    let plain = DecoderOptions {
        format: match config.format {
            MessageFormat::Auto => Format::Auto,
            MessageFormat::Json => Format::Json,
            MessageFormat::Avro => Format::Avro,
            MessageFormat::Protobuf => Format::Protobuf,
            MessageFormat::Csv => Format::Csv,
            MessageFormat::String => Format::String,
            MessageFormat::Bytes => Format::Bytes,
            MessageFormat::Arrow => Format::Arrow,
        },
        schema: columns::schema(&config.columns),
        ..DecoderOptions::default()
    };
    let Some(file) = config.schema_file.clone() else { return Ok(plain) };
    let wrong = |why: String| refused(format!("config.schemaFile: {why}"));
    let read = move || {
        let file: SchemaFile = file.parse()?;
        file.read(&plain)
    };
    tokio::task::spawn_blocking(read).await.map_err(lost)?.map_err(wrong)
}

#[async_trait]
impl Source for Topics {
    async fn next(&mut self) -> Result<Option<Made>, ComponentError> {
        let Some(gateway) = &self.gateway else { return Ok(None) };
        let ended = gateway.ended();
        let next = tokio::select! {
            next = self.handed.next() => next,
            () = ended.cancelled() => None,
        };
        let Some((batch, number)) = next else {
            let text = "Kafka is not read any more; the log says why";
            return Err(ComponentError::new(Code::Internal, text));
        };
        let at = Offset { process: self.process, batch: number };
        Ok(Some(Made { batch, offset: offset::write(KIND, &at)? }))
    }

    fn wants_acknowledgements(&self) -> bool {
        true
    }

    async fn acknowledged(&mut self, offset: &Bytes) -> Result<(), ComponentError> {
        let at = offset::read::<Offset>(KIND, Some(offset))?;
        if let Some(at) = at.filter(|at| at.process == self.process) {
            self.handed.acknowledged(at.batch);
        }
        Ok(())
    }
}

impl Drop for Topics {
    /// What was acknowledged is committed, and the group is left, before the process ends.
    fn drop(&mut self) {
        let (Some(gateway), Ok(runtime)) = (self.gateway.take(), Handle::try_current()) else {
            return;
        };
        self.handed.close();
        let (left, wait) = sync_channel(1);
        runtime.spawn(async move {
            gateway.stop().await;
            if left.send(()).is_err() {
                tracing::debug!("nobody waited until the consumer group was left");
            }
        });
        if runtime.runtime_flavor() == RuntimeFlavor::MultiThread
            && tokio::task::block_in_place(|| wait.recv_timeout(LEAVE)).is_err()
        {
            tracing::warn!("the consumer group is not left yet: its last offsets may be missing");
        }
    }
}
