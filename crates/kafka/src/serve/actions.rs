//! Actions of the gateway, JSON out.

use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;
use serde::Serialize;
use sheaf_flight::{ActionHandler, CallContext, Error, Need, Right};
use sheaf_retry::Code;
use tokio_util::sync::CancellationToken;

use crate::stream::TopicStream;
use crate::streams::Streams;
use crate::ticket::NAMESPACE;

/// Serves `health`, `listTopics` and `stats`, without a body.
///
/// `health` answers `{"status": "ok", "streams": 2}`, where the status is
/// `stopped` once Kafka is not read any more; `listTopics` a list of names, `stats`
/// one object for each topic.
#[derive(Clone)]
pub struct TopicActions {
    streams: Arc<Streams>,
    ended: CancellationToken,
}

impl TopicActions {
    /// Actions on these streams, which get no more rows when `ended` is cancelled.
    pub fn new(streams: Arc<Streams>, ended: CancellationToken) -> Self {
        TopicActions { streams, ended }
    }
}

#[derive(Serialize)]
struct Health {
    status: &'static str,
    streams: usize,
}

/// What `stats` says of a topic.
#[derive(Serialize)]
struct Stats {
    topic: String,
    rows: u64,
    used_bytes: u64,
    limit_bytes: u64,
    schema_version: Option<u32>,
    idle_ms: u64,
    messages: u64,
    dropped: u64,
    expired: u64,
    dead_letters: u64,
    partitions: Vec<Partition>,
}

#[derive(Serialize)]
struct Partition {
    partition: i32,
    rows: u64,
    next_offset: i64,
    oldest_offset: Option<i64>,
}

impl Stats {
    fn of(stream: &TopicStream) -> Self {
        let (partitions, metrics) = (stream.partitions(), stream.metrics());
        Stats {
            topic: stream.topic().to_string(),
            rows: partitions.values().map(|state| state.rows).sum(),
            used_bytes: stream.used_bytes(),
            limit_bytes: stream.limit_bytes(),
            schema_version: stream.schema().map(|(_, version)| version),
            idle_ms: u64::try_from(stream.idle().as_millis()).unwrap_or(u64::MAX),
            messages: metrics.messages.get(),
            dropped: metrics.dropped.get(),
            expired: metrics.expired.get(),
            dead_letters: metrics.dead_letters.get(),
            partitions: partitions
                .into_iter()
                .map(|(partition, state)| Partition {
                    partition,
                    rows: state.rows,
                    next_offset: state.end,
                    oldest_offset: state.gone,
                })
                .collect(),
        }
    }
}

fn answer(value: &impl Serialize) -> Result<Vec<Bytes>, Error> {
    let bytes = serde_json::to_vec(value)
        .map_err(|error| Error::new(Code::Internal, format!("no answer: {error}")))?;
    Ok(vec![Bytes::from(bytes)])
}

#[async_trait]
impl ActionHandler for TopicActions {
    fn actions(&self) -> Vec<(&'static str, &'static str)> {
        vec![
            ("health", "Whether the gateway serves"),
            ("listTopics", "The topics that it reads"),
            ("stats", "Rows, bytes and offsets of each topic"),
        ]
    }

    fn needs(&self, action: &str) -> Need {
        if action == "health" { Need::Nothing } else { Need::One(NAMESPACE, Right::Read) }
    }

    async fn call(
        &self,
        _context: &CallContext,
        action: &str,
        body: Bytes,
    ) -> Result<Vec<Bytes>, Error> {
        if !body.trim_ascii().is_empty() && body.trim_ascii() != b"{}" {
            return Err(sheaf_flight::invalid(format!("{action} takes no body")));
        }
        let all = self.streams.all();
        match action {
            "health" => {
                let status = if self.ended.is_cancelled() { "stopped" } else { "ok" };
                answer(&Health { status, streams: all.len() })
            }
            "listTopics" => {
                let names: Vec<_> = all.iter().map(|stream| stream.topic().to_string()).collect();
                answer(&names)
            }
            "stats" => {
                let stats: Vec<_> = all.iter().map(|stream| Stats::of(stream)).collect();
                answer(&stats)
            }
            _ => Err(Error::new(Code::Unimplemented, format!("there is no action {action:?}"))),
        }
    }
}
