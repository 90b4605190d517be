//! Batches in, batches out.

use std::sync::Arc;

use arrow_array::{ArrayRef, RecordBatch};
use arrow_cast::display::{ArrayFormatter, FormatOptions};
use sheaf_components::Host;
use sheaf_components::processors::build;
use sheaf_dataflow::{ComponentError, Processor, Received, Start};
use sheaf_pipeline::spec::ProcessorConfig;

pub(crate) fn start() -> Start {
    Start {
        pipeline: "p".into(),
        component: "c".into(),
        config: Default::default(),
        instance: 0,
        replicas: 1,
        state_dir: std::env::temp_dir(),
        offset: None,
    }
}

/// The processor of a configuration, which is written as in a pipeline.
pub(crate) fn processor(kind: &str, config: serde_json::Value) -> Box<dyn Processor> {
    build(&parse(kind, config), &start(), &Host::plain()).unwrap()
}

pub(crate) fn parse(kind: &str, config: serde_json::Value) -> ProcessorConfig {
    let text = serde_json::json!({ "kind": kind, "config": config });
    serde_json::from_value(text).unwrap()
}

pub(crate) fn received(batch: RecordBatch, sequence: u64) -> Received {
    Received { batch, from: "before".into(), from_instance: 0, epoch: 1, sequence, lease: None }
}

/// What comes of one batch.
pub(crate) fn one(
    processor: &mut dyn Processor,
    batch: &RecordBatch,
) -> Result<Vec<RecordBatch>, ComponentError> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(processor.process(&received(batch.clone(), 1))).map(|outcome| outcome.batches)
}

pub(crate) fn batch<const N: usize>(columns: [(&str, ArrayRef); N]) -> RecordBatch {
    let columns = columns.into_iter().map(|(name, array)| (name, array, true));
    RecordBatch::try_from_iter_with_nullable(columns).unwrap()
}

pub(crate) fn array<A: arrow_array::Array + 'static>(array: A) -> ArrayRef {
    Arc::new(array)
}

/// Every row as text, its values separated by a comma.
pub(crate) fn rows<'a>(batches: impl IntoIterator<Item = &'a RecordBatch>) -> Vec<String> {
    let options = FormatOptions::default().with_null("null");
    let mut all = Vec::new();
    for batch in batches {
        let columns = batch.columns().iter();
        let columns: Vec<_> =
            columns.map(|column| ArrayFormatter::try_new(column, &options).unwrap()).collect();
        all.extend((0..batch.num_rows()).map(|row| {
            let values = columns.iter().map(|column| column.value(row).to_string());
            values.collect::<Vec<_>>().join(",")
        }));
    }
    all
}
