//! What it takes a built-in sink to write one batch, so that it may be acknowledged.
//!
//! Files and databases are in the folder for temporary files: what its disk takes is a part of
//! the figure, and the case `disk` shows it: as many bytes, and nothing but the system calls
//! without which they could be lost or seen half. Databases whose drivers `cargo xtask services`
//! has not fetched are left out.
#![allow(missing_docs, reason = "criterion's macros make undocumented functions")]

use std::fs::{self, File};
use std::io::{self, Write as _};
use std::path::Path;
use std::sync::Arc;

use arrow_array::{ArrayRef, Float64Array, Int64Array, RecordBatch, StringArray};
use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use serde_json::{Value, json};
use sheaf_components::{Host, build};
use sheaf_dataflow::{AnyComponent, Received, Sink, Start};
use sheaf_pipeline::spec::Role;

/// Rows of a batch: few, as those of a stream, and many.
const SIZES: [u32; 2] = [1_024, 8_192];

fn batch(rows: u32) -> RecordBatch {
    let numbers: ArrayRef = Arc::new(Int64Array::from_iter_values((0..rows).map(i64::from)));
    let amounts = (0..rows).map(|row| f64::from(row.wrapping_mul(2_654_435_761) >> 16) / 10.0);
    let amounts: ArrayRef = Arc::new(Float64Array::from_iter_values(amounts));
    let country = |row: u32| ["DE", "FR", "IT", "ES"][(row % 4) as usize];
    let countries: ArrayRef = Arc::new(StringArray::from_iter_values((0..rows).map(country)));
    RecordBatch::try_from_iter([("n", numbers), ("amount", amounts), ("country", countries)])
        .expect("columns of one length")
}

/// Each case, and the configuration of its sink.
fn sinks(folder: &Path) -> Vec<(&'static str, &'static str, Value)> {
    let at = |name: &str| folder.join(name).display().to_string();
    let file = |format: &str| json!({"path": at(format), "format": format});
    let mut all = vec![
        ("file, Parquet", "file", file("parquet")),
        ("file, Arrow IPC", "file", file("ipc")),
        ("file, CSV", "file", file("csv")),
        ("file, JSON", "file", file("json")),
    ];
    let mut database = |name, driver: Value, file: &str| {
        let database = json!({"driver": driver, "uri": at(file)});
        all.push((name, "adbc", json!({"database": database, "table": "rows"})));
    };
    if sheaf_testkit::libduckdb().is_some() {
        database("table of DuckDB", json!("duckdb"), "rows.duckdb");
    }
    if let Some(driver) = sheaf_testkit::sqlite_driver() {
        database("table of SQLite", json!(driver), "rows.sqlite");
    }
    all
}

async fn sink(folder: &Path, kind: &str, config: &Value) -> Box<dyn Sink> {
    let definition = json!({"id": "out", "kind": kind, "config": config});
    let definition = serde_json::from_value(definition).expect("a component");
    let start = Start {
        pipeline: "bench".into(),
        component: "out".into(),
        config: serde_json::Map::new(),
        instance: 0,
        replicas: 1,
        state_dir: folder.to_owned(),
        offset: None,
    };
    let mut host = Host::plain();
    host.drivers.flag = sheaf_testkit::libduckdb();
    match build(Role::Sink, &definition, start, &host).await.expect("a sink") {
        AnyComponent::Sink(sink) => sink,
        _ => unreachable!("it was asked for a sink"),
    }
}

/// What any program has to do for a file that is whole or not there.
fn plain(folder: &Path, name: &str, bytes: &[u8]) -> io::Result<()> {
    let attempt = folder.join("attempt");
    let mut file = File::create(&attempt)?;
    file.write_all(bytes)?;
    file.sync_all()?;
    fs::hard_link(&attempt, folder.join(name))?;
    File::open(folder)?.sync_all()?;
    fs::remove_file(&attempt)
}

fn disk(c: &mut Criterion) {
    let folder = tempfile::tempdir().expect("a folder");
    let mut group = c.benchmark_group("disk");
    for rows in SIZES {
        // The file of Arrow has little more.
        let bytes = vec![7; batch(rows).get_array_memory_size()];
        let mut number = 0;
        group.throughput(Throughput::Elements(rows.into())).sample_size(30);
        group.bench_function(format!("{rows} rows"), |b| {
            b.iter(|| {
                number += 1;
                plain(folder.path(), &format!("{rows}-{number}"), &bytes).expect("written");
            });
        });
    }
    group.finish();
}

fn batches(c: &mut Criterion) {
    let mut runtime = tokio::runtime::Builder::new_multi_thread();
    let runtime = runtime.worker_threads(1).enable_all().build().expect("a runtime");
    for rows in SIZES {
        let folder = tempfile::tempdir().expect("a folder");
        let mut group = c.benchmark_group("sinks");
        group.throughput(Throughput::Elements(rows.into())).sample_size(30);
        for (name, kind, config) in sinks(folder.path()) {
            let state = folder.path().join(format!("state of {name}"));
            fs::create_dir_all(&state).expect("a folder");
            let mut sink = runtime.block_on(sink(&state, kind, &config));
            let mut received = Received {
                batch: batch(rows),
                from: "before".into(),
                from_instance: 0,
                epoch: 1,
                sequence: 0,
                lease: None,
            };
            group.bench_function(format!("{name}, {rows} rows"), |b| {
                b.iter(|| {
                    received.sequence += 1;
                    runtime.block_on(async {
                        let given = sink.write(&received).await.expect("it takes the batch");
                        assert_eq!(sink.flush().await.expect("it is written"), given);
                    });
                });
            });
        }
        group.finish();
    }
}

criterion_group!(benches, disk, batches);
criterion_main!(benches);
