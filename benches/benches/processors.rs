//! What the built-in processors make of batches, on one core.
#![allow(missing_docs, reason = "criterion's macros make undocumented functions")]

use std::hint::black_box;
use std::sync::Arc;

use arrow_array::{ArrayRef, Float64Array, Int64Array, RecordBatch, StringArray};
use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use sheaf_components::Host;
use sheaf_components::processors::build;
use sheaf_dataflow::{Processor, Received, Start};
use sheaf_pipeline::spec::ProcessorConfig;

const ROWS: u32 = 8_192;

/// A number, an amount and one of eight countries; half of the amounts are over 250.
fn batch() -> RecordBatch {
    let countries = ["DE", "FR", "IT", "ES", "PL", "NL", "SE", "AT"];
    // Spread without a pattern that a processor could foresee.
    let spread = |row: u32| row.wrapping_mul(2_654_435_761) >> 16;
    let rows = || 0..ROWS;
    let numbers: ArrayRef = Arc::new(Int64Array::from_iter_values(rows().map(i64::from)));
    let amounts = rows().map(|row| f64::from(spread(row) % 5_000) / 10.0);
    let amounts: ArrayRef = Arc::new(Float64Array::from_iter_values(amounts));
    let country = |row: u32| countries[(spread(row) % 8) as usize];
    let countries: ArrayRef = Arc::new(StringArray::from_iter_values(rows().map(country)));
    RecordBatch::try_from_iter([("n", numbers), ("amount", amounts), ("country", countries)])
        .expect("columns of one length")
}

fn processor(text: &str) -> Box<dyn Processor> {
    let config: ProcessorConfig = serde_json::from_str(text).expect("a configuration");
    let start = Start {
        pipeline: "bench".into(),
        component: "part".into(),
        config: serde_json::Map::new(),
        instance: 0,
        replicas: 1,
        state_dir: std::env::temp_dir(),
        offset: None,
    };
    build(&config, &start, &Host::plain()).expect("a processor")
}

fn processors(c: &mut Criterion) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let runtime = runtime.expect("a runtime");
    let received = Received {
        batch: batch(),
        from: "before".into(),
        from_instance: 0,
        epoch: 1,
        sequence: 1,
        lease: None,
    };
    let mut group = c.benchmark_group("processors");
    group.throughput(Throughput::Elements(ROWS.into()));
    for (name, text) in [
        ("filter, number", r#"{"kind": "filter", "config": {"where": "amount > 250"}}"#),
        (
            "filter, number and text",
            r#"{"kind": "filter",
                "config": {"where": "amount > 250 and country in ('DE', 'FR')"}}"#,
        ),
        (
            "project",
            r#"{"kind": "project", "config": {"columns":
                ["n", {"name": "gross", "value": "amount * 1.19 + 1"}]}}"#,
        ),
        (
            "aggregate by text",
            r#"{"kind": "aggregate", "config": {"groupBy": ["country"], "aggregates": [
                {"name": "c", "function": "count"},
                {"name": "s", "function": "sum", "column": "amount"}]}}"#,
        ),
        (
            "aggregate by a number, 8192 groups",
            r#"{"kind": "aggregate", "config": {"groupBy": ["n"], "aggregates": [
                {"name": "m", "function": "max", "column": "amount"}]}}"#,
        ),
    ] {
        let mut made = processor(text);
        group.bench_function(name, |b| {
            b.iter(|| {
                let outcome = runtime.block_on(made.process(black_box(&received)));
                outcome.expect("an outcome").batches.len()
            });
        });
    }
    group.finish();
}

criterion_group!(benches, processors);
criterion_main!(benches);
