//! The same for Prometheus.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use prometheus_client::collector::Collector;
use prometheus_client::encoding::text::encode;
use prometheus_client::encoding::{DescriptorEncoder, EncodeMetric as _};
use prometheus_client::metrics::MetricType;
use prometheus_client::metrics::counter::ConstCounter;
use prometheus_client::metrics::gauge::ConstGauge;
use prometheus_client::registry::Registry;

use super::{Stats, get};

/// Labels of one stream.
type Labels = Vec<(&'static str, String)>;

/// One number of each stream.
struct Family {
    name: &'static str,
    help: &'static str,
    is_counter: bool,
    values: Vec<(Labels, u64)>,
}

struct View(Arc<Stats>);

impl fmt::Debug for View {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("View")
    }
}

impl Stats {
    /// Everything, as Prometheus reads it.
    pub(crate) fn metrics(self: &Arc<Self>) -> String {
        let mut registry = Registry::default();
        registry.register_collector(Box::new(View(Arc::clone(self))));
        let mut text = String::new();
        match encode(&mut text, &registry) {
            Ok(()) => text,
            Err(error) => format!("# {error}\n"),
        }
    }

    fn families(&self) -> Vec<Family> {
        let mut families = self.sent();
        families.extend(self.received());
        families.push(self.counted());
        families.push(self.retried());
        families
    }

    fn sent(&self) -> Vec<Family> {
        let mut families = [
            ("sent_events", "Batches put into a stream", true),
            ("sent_rows", "Rows put into a stream", true),
            ("sent_bytes", "Bytes put into a stream", true),
            ("dropped_events", "Batches dropped by the policy of an edge", true),
            ("spilled_bytes", "Bytes written to disk for a stream", true),
            ("credits", "Batches that the reader would take now", false),
            ("waiting_events", "Batches that wait to be sent", false),
            ("unacknowledged_events", "Batches that the reader has not acknowledged", false),
            ("retained_memory_bytes", "Bytes held in memory for a stream", false),
            ("retained_disk_bytes", "Bytes held on disk for a stream", false),
            ("reader_connected", "Whether the reader of a stream is connected", false),
        ]
        .map(Family::new);
        for stream in self.edges.iter().flat_map(|edge| &edge.streams) {
            let (now, counts, options) = (stream.snapshot(), &stream.counts, &stream.options);
            let values = [
                get(&counts.batches),
                get(&counts.rows),
                get(&counts.bytes),
                get(&counts.dropped),
                get(&counts.spilled_bytes),
                now.credits,
                now.waiting,
                now.unacknowledged,
                now.memory_bytes,
                now.disk_bytes,
                u64::from(now.is_connected),
            ];
            for (family, value) in families.iter_mut().zip(values) {
                family.values.push((self.labels(&options.edge, options.from, options.to), value));
            }
        }
        families.into()
    }

    fn received(&self) -> Vec<Family> {
        let mut families = [
            ("received_events", "Batches that came from a stream", true),
            ("received_rows", "Rows that came from a stream", true),
            ("received_bytes", "Bytes that came from a stream", true),
            ("pending_events", "Batches that came and were not taken yet", false),
            ("sender_connected", "Whether the sender of a stream is connected", false),
        ]
        .map(Family::new);
        for place in &self.places {
            let (now, counts) = (place.snapshot(), &place.counts);
            let values = [
                counts.batches.load(Ordering::Relaxed),
                counts.rows.load(Ordering::Relaxed),
                counts.bytes.load(Ordering::Relaxed),
                now.waiting,
                u64::from(now.is_connected),
            ];
            for (family, value) in families.iter_mut().zip(values) {
                let labels = self.labels(&place.edge, place.from_instance, place.to);
                family.values.push((labels, value));
            }
        }
        families.into()
    }

    fn counted(&self) -> Family {
        let help = "What a component counts, by name, such as rows that came too late";
        let mut family = Family::new(("count", help, false));
        for (name, value) in self.counters() {
            let labels = vec![
                ("pipeline", self.pipeline.clone()),
                ("instance", self.instance.clone()),
                ("name", name.to_owned()),
            ];
            family.values.push((labels, value));
        }
        family
    }

    fn retried(&self) -> Family {
        let mut family = Family::new(("retries", "Calls that failed and were tried again", true));
        let labels = vec![("pipeline", self.pipeline.clone()), ("instance", self.instance.clone())];
        family.values.push((labels, get(&self.retried)));
        family
    }

    fn labels(&self, edge: &str, from: u32, to: u32) -> Labels {
        vec![
            ("pipeline", self.pipeline.clone()),
            ("edge", edge.to_owned()),
            ("from", from.to_string()),
            ("to", to.to_string()),
        ]
    }
}

impl Family {
    fn new((name, help, is_counter): (&'static str, &'static str, bool)) -> Self {
        Family { name, help, is_counter, values: Vec::new() }
    }
}

impl Collector for View {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> Result<(), fmt::Error> {
        for family in self.0.families() {
            let name = format!("sheaf_component_{}", family.name);
            let kind = if family.is_counter { MetricType::Counter } else { MetricType::Gauge };
            let mut metric = encoder.encode_descriptor(&name, family.help, None, kind)?;
            for (labels, value) in &family.values {
                let one = metric.encode_family(labels)?;
                if family.is_counter {
                    ConstCounter::new(*value).encode(one)?;
                } else {
                    let value = i64::try_from(*value).unwrap_or(i64::MAX);
                    ConstGauge::new(value).encode(one)?;
                }
            }
        }
        Ok(())
    }
}
