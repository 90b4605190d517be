//! What the tests have in common.

use std::io::Write;
use std::path::Path;
use std::sync::{Arc, Mutex};

use arrow_array::cast::AsArray as _;
use arrow_array::types::Int64Type;
use arrow_array::{ArrayRef, Int64Array, RecordBatch, StringArray};
use bytes::Bytes;
use serde_json::{Value, json};
use sheaf_components::{Host, Output, build};
use sheaf_dataflow::{AnyComponent, ComponentError, Made, Received, Sink, Source, Start};
use sheaf_pipeline::spec::{Component, Role};

pub(crate) fn start(dir: &Path) -> Start {
    Start {
        pipeline: "sales".into(),
        component: "part".into(),
        config: Default::default(),
        instance: 0,
        replicas: 1,
        state_dir: dir.to_owned(),
        offset: None,
    }
}

fn definition(kind: &str, config: Value) -> Component {
    serde_json::from_value(json!({"id": "part", "kind": kind, "config": config})).unwrap()
}

pub(crate) async fn source_of(
    kind: &str,
    config: Value,
    start: Start,
    host: &Host,
) -> Result<Box<dyn Source>, ComponentError> {
    match build(Role::Source, &definition(kind, config), start, host).await? {
        AnyComponent::Source(source) => Ok(source),
        _ => panic!("no source"),
    }
}

pub(crate) async fn source(kind: &str, config: Value, start: Start) -> Box<dyn Source> {
    source_of(kind, config, start, &Host::plain()).await.unwrap()
}

pub(crate) async fn sink_of(
    kind: &str,
    config: Value,
    dir: &Path,
    host: &Host,
) -> Result<Box<dyn Sink>, ComponentError> {
    match build(Role::Sink, &definition(kind, config), start(dir), host).await? {
        AnyComponent::Sink(sink) => Ok(sink),
        _ => panic!("no sink"),
    }
}

pub(crate) async fn all(source: &mut dyn Source) -> Vec<Made> {
    let mut all = Vec::new();
    while let Some(made) = source.next().await.unwrap() {
        all.push(made);
    }
    all
}

/// The values of a column of whole numbers.
pub(crate) fn numbers(made: &[Made], column: &str) -> Vec<i64> {
    let of = |made: &Made| {
        let column = made.batch.column_by_name(column).unwrap();
        column.as_primitive::<Int64Type>().values().to_vec()
    };
    made.iter().flat_map(of).collect()
}

/// From every offset that a source gives, another one goes on with exactly the rest.
pub(crate) async fn goes_on_from_everywhere(kind: &str, config: Value, dir: &Path, column: &str) {
    let whole = all(source(kind, config.clone(), start(dir)).await.as_mut()).await;
    assert!(whole.len() > 2, "{} batches", whole.len());
    for at in 0..whole.len() {
        let offset: Option<Bytes> = Some(whole[at].offset.clone());
        let start = Start { offset, ..start(dir) };
        let rest = all(source(kind, config.clone(), start).await.as_mut()).await;
        assert_eq!(numbers(&rest, column), numbers(&whole[at + 1..], column), "after batch {at}");
    }
}

/// Rows `first..first + rows` with the columns `n` and `text`.
/// The same, of a process that was started again after that one.
pub(crate) fn of_another_process(received: Received) -> Received {
    Received { epoch: received.epoch + 1, ..received }
}

pub(crate) fn received(sequence: u64, first: i64, rows: usize) -> Received {
    let batch = batch(first, rows);
    Received { batch, from: "in".into(), from_instance: 0, epoch: 1, sequence, lease: None }
}

pub(crate) fn batch(first: i64, rows: usize) -> RecordBatch {
    let n: ArrayRef = Arc::new(Int64Array::from_iter_values((first..).take(rows)));
    let text = (first..).take(rows).map(|n| (n % 3 != 0).then(|| format!("row {n}")));
    let text: ArrayRef = Arc::new(text.collect::<StringArray>());
    RecordBatch::try_from_iter_with_nullable([("n", n, false), ("text", text, true)]).unwrap()
}

/// Standard output that can be looked at.
#[derive(Clone, Default)]
pub(crate) struct Printed(Arc<Mutex<Vec<u8>>>);

impl Printed {
    pub(crate) fn host(&self) -> Host {
        Host { output: Output::new(self.clone()), ..Host::plain() }
    }

    pub(crate) fn bytes(&self) -> Vec<u8> {
        self.0.lock().unwrap().clone()
    }
}

impl Write for Printed {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.lock().unwrap().extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}
