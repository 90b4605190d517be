//! The figures of all components and edges for Prometheus, as they were read last.

use std::fmt;
use std::sync::Arc;

use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeMetric as _};
use prometheus_client::metrics::MetricType;
use prometheus_client::metrics::counter::ConstCounter;
use prometheus_client::metrics::gauge::ConstGauge;

use crate::console::Shared;
use crate::figures::{ComponentRow, EdgeRow};

/// One figure of each component, or of each edge.
struct Figure<Row> {
    name: &'static str,
    help: &'static str,
    is_counter: bool,
    /// `None` where it is not known.
    of: fn(&Row) -> Option<u64>,
}

const fn counter<Row>(
    name: &'static str,
    help: &'static str,
    of: fn(&Row) -> Option<u64>,
) -> Figure<Row> {
    Figure { name, help, is_counter: true, of }
}

const fn gauge<Row>(
    name: &'static str,
    help: &'static str,
    of: fn(&Row) -> Option<u64>,
) -> Figure<Row> {
    Figure { name, help, is_counter: false, of }
}

const COMPONENT: [Figure<ComponentRow>; 6] = [
    counter("rows_in", "Rows that came in since the process began", |row| row.rows_in),
    counter("rows_out", "Rows that went out since the process began", |row| row.rows_out),
    gauge("lag_events", "Batches that the readers have not acknowledged", |row| row.lag),
    gauge("memory_bytes", "Memory of the process", |row| row.memory_bytes),
    gauge("restarts", "Restarts after failures in this run", |row| Some(row.restarts.into())),
    gauge("healthy", "Whether it is", |row| Some(u64::from(row.status == "healthy"))),
];

const EDGE: [Figure<EdgeRow>; 9] = [
    counter("rows", "Rows since the senders began", |row| Some(row.rows)),
    counter("bytes", "Bytes since the senders began", |row| Some(row.bytes)),
    counter("dropped_events", "Batches dropped by the policy", |row| Some(row.dropped)),
    counter("spilled_bytes", "Bytes written to disk", |row| Some(row.spilled_bytes)),
    gauge("lag_events", "Batches that the readers have not acknowledged", |row| Some(row.lag)),
    gauge("waiting_events", "Batches that wait for credits", |row| Some(row.waiting)),
    gauge("credits", "Batches that the readers would take now", |row| Some(row.credits)),
    gauge("memory_bytes", "Held in memory until acknowledged", |row| Some(row.memory_bytes)),
    gauge("disk_bytes", "Held on disk until acknowledged", |row| Some(row.disk_bytes)),
];

/// Shows what was read last: while nobody looks at the page, that is up to 15 s old.
pub(crate) struct Figures(pub(crate) Arc<Shared>);

impl fmt::Debug for Figures {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Figures")
    }
}

impl Collector for Figures {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> Result<(), fmt::Error> {
        let rows = self.0.live.last();
        let labels = |row: &ComponentRow| {
            let (pipeline, instance) = row.place.split_once(':').unwrap_or(("", &row.place));
            [("pipeline", pipeline.to_owned()), ("instance", instance.to_owned())]
        };
        write(&mut encoder, "sheaf_pipeline_component", &COMPONENT, &rows.rows.components, labels)?;
        let labels =
            |row: &EdgeRow| [("pipeline", row.pipeline.clone()), ("edge", row.edge.clone())];
        write(&mut encoder, "sheaf_pipeline_edge", &EDGE, &rows.rows.edges, labels)
    }
}

fn write<Row>(
    encoder: &mut DescriptorEncoder<'_>,
    of: &str,
    figures: &[Figure<Row>],
    rows: &[Row],
    labels: impl Fn(&Row) -> [(&'static str, String); 2],
) -> Result<(), fmt::Error> {
    for figure in figures {
        let name = format!("{of}_{}", figure.name);
        let kind = if figure.is_counter { MetricType::Counter } else { MetricType::Gauge };
        let mut metric = encoder.encode_descriptor(&name, figure.help, None, kind)?;
        for row in rows {
            let Some(value) = (figure.of)(row) else { continue };
            let labels = labels(row);
            let one = metric.encode_family(&labels)?;
            match figure.is_counter {
                true => ConstCounter::new(value).encode(one)?,
                false => ConstGauge::new(i64::try_from(value).unwrap_or(i64::MAX)).encode(one)?,
            }
        }
    }
    Ok(())
}
