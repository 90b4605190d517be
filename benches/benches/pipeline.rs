//! What it costs to check the file of a large pipeline, and to plan it.
#![allow(missing_docs, reason = "criterion's macros make undocumented functions")]

use std::fmt::Write as _;
use std::hint::black_box;

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use sheaf_pipeline::check::check;
use sheaf_pipeline::diagnostics::Style;
use sheaf_pipeline::graph::{Format, draw};
use sheaf_pipeline::plan::Plan;

/// 100 sources, 800 processors in 100 rows behind them, 100 sinks, with what
/// such files have: conditions, resources, environment, policies.
fn thousand_components() -> String {
    let mut text = "apiVersion: sheaf.dev/v1\nkind: Pipeline\nmetadata: {name: large}\n".to_owned();
    text.push_str("sources:\n");
    for index in 0..100 {
        let columns = "{name: n, values: sequence}, {name: amount, values: {numbers: [1, 500]}}";
        let rest = format!("kind: generate\n    config:\n      columns: [{columns}]\n");
        add(&mut text, &format!("  - id: source-{index}\n    {rest}"));
    }
    text.push_str("processors:\n");
    for index in 0..800_u32 {
        let from = match index.checked_sub(100) {
            Some(before) => format!("step-{before}"),
            None => format!("source-{index}"),
        };
        let first = format!("  - id: step-{index}\n    kind: filter\n    inputs: [{from}]\n");
        let config = format!("    config:\n      where: amount >= {index} and n is not null\n");
        let rest = "    resources: {cpu: 500m, memory: 64MB}\n    environment: {LOG: info, \
                    DB_PASSWORD: {env: DB_PASSWORD}}\n";
        add(&mut text, &(first + &config + rest));
    }
    text.push_str("sinks:\n");
    for index in 0..100 {
        let input = format!("{{from: step-{}, policy: spill, spillLimit: 100MB}}", 700 + index);
        let config = format!("{{path: out/{index}, format: parquet}}");
        let first = format!("  - id: sink-{index}\n    kind: file\n");
        add(&mut text, &format!("{first}    inputs:\n      - {input}\n    config: {config}\n"));
    }
    text
}

fn add(text: &mut String, part: &str) {
    text.write_str(part).expect("a text takes more");
}

fn pipeline(c: &mut Criterion) {
    let text = thousand_components();
    let checked = check("large.yaml", &text).expect("the file is good");
    assert_eq!(checked.pipeline.components().count(), 1_000);
    let broken = text.replace("resources:", "resource:");
    let plan = Plan::new(&checked.pipeline);
    let mut group = c.benchmark_group("pipeline");
    group.throughput(Throughput::Elements(1_000));
    group.bench_function("validate_1000", |b| {
        b.iter(|| check("large.yaml", black_box(&text)).is_ok());
    });
    group.bench_function("validate_1000, 800 problems", |b| {
        b.iter(|| check("large.yaml", black_box(&broken)).is_err());
    });
    let report = check("large.yaml", &broken).expect_err("a field is misspelt");
    group.bench_function("show 800 problems", |b| {
        b.iter(|| black_box(&report).render(Style::default()).len());
    });
    group.bench_function("plan_1000", |b| b.iter(|| Plan::new(black_box(&checked.pipeline))));
    group.bench_function("diff_1000", |b| b.iter(|| plan.diff(black_box(&plan)).is_empty()));
    group.bench_function("svg_1000", |b| b.iter(|| draw(black_box(&plan), Format::Svg).len()));
    group.finish();
}

criterion_group!(benches, pipeline);
criterion_main!(benches);
