//! Tests that run, with processors of their own.

use async_trait::async_trait;
use futures::FutureExt as _;
use serde_json::json;
use sheaf_dataflow::{AnyComponent, ComponentError, Outcome, Processor};
use sheaf_pipeline::check::check;
use sheaf_retry::Code;

use super::super::maker::{Built, Made};
use super::super::tested::Tested;
use super::*;

const FILE: &str = "
apiVersion: sheaf.dev/v1
kind: Pipeline
metadata: {name: p}
sources:
  - {id: a, kind: generate, config: {columns: [{name: n, values: sequence}]}}
  - {id: own, command: [none]}
processors:
  - {id: count, kind: filter, replicas: 2, config: {where: n > 0}, inputs: [
      {from: a, partitioning: {hash: [n]}}]}
  - {id: all, kind: merge, inputs: [count, own]}
sinks:
  - {id: out, kind: stdout, inputs: [all]}
tests:
  - name: counted
    inputs: {a: [{n: 1}, {n: 2}, {n: 1}], own: [{n: 7}]}
    outputs: OUTPUTS
";

/// Passes on what comes, and at the end how many rows did.
struct Counting(u64);

#[async_trait]
impl Processor for Counting {
    async fn process(&mut self, received: &Received) -> Result<Outcome, ComponentError> {
        self.0 += received.batch.num_rows() as u64;
        Ok(Outcome { batches: vec![received.batch.clone()], done: 1 })
    }

    async fn end(&mut self) -> Result<Outcome, ComponentError> {
        let column = std::sync::Arc::new(arrow_array::UInt64Array::from(vec![1_000 + self.0])) as _;
        let batch = RecordBatch::try_from_iter([("n", column)]).unwrap();
        Ok(Outcome { batches: vec![batch], done: 1 })
    }
}

fn counting(made: Made<'_>) -> Built<'_> {
    async move {
        assert!(made.start.state_dir.is_dir() && made.start.instance < made.start.replicas);
        Ok(AnyComponent::Processor(Box::new(Counting(0))))
    }
    .boxed()
}

fn failing(made: Made<'_>) -> Built<'_> {
    async move { Err(ComponentError::new(Code::Unimplemented, made.definition.id.clone())) }.boxed()
}

fn tested(file: &str, build: &Build) -> serde_json::Value {
    let pipeline = check("p.yaml", file).unwrap_or_else(|report| panic!("{report}")).pipeline;
    let plan = Plan::new(&pipeline);
    let test = &pipeline.tests[0];
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let tested = Tested::new(test, runtime.block_on(run(&plan, test, build)));
    serde_json::to_value(&tested).unwrap()
}

#[test]
fn rows_take_the_edges_of_the_plan_to_every_replica() {
    let outputs = "{count: [{n: 0}]}";
    let seen = tested(&FILE.replace("OUTPUTS", outputs), &counting);
    let differences = seen["differences"].as_array().unwrap();
    let got = |one: &serde_json::Value| {
        let row = &one["got"];
        row.get("n").unwrap_or(row).as_u64().unwrap()
    };
    let mut got: Vec<u64> = differences.iter().map(got).collect();
    got.sort_unstable();
    // Equal numbers are with one replica, and each replica counts what it got.
    assert!([vec![1, 1, 2, 1_001, 1_002], vec![1, 1, 2, 1_000, 1_003]].contains(&got), "{seen}");
    assert_eq!(differences[0]["component"], "count");
}

#[test]
fn a_sink_gets_what_comes_over_all_its_edges() {
    let outputs = "{out: [{n: 7}]}\n    anyOrder: true";
    let seen = tested(&FILE.replace("OUTPUTS", outputs), &counting);
    // 3 rows, 2 counts and the one of `own`, and how many of them `all` saw.
    assert_eq!(seen["differences"].as_array().unwrap().len(), 6, "{seen}");
    assert_eq!(seen["passed"], false);
    let given = "inputs: {all: [{n: 1}]}";
    let file = FILE.replace("inputs: {a: [{n: 1}, {n: 2}, {n: 1}], own: [{n: 7}]}", given);
    let seen = tested(&file.replace("OUTPUTS", "{out: [{n: 1}]}"), &failing);
    assert_eq!(seen["passed"], true, "nothing but the sink is needed: {seen}");
}

#[test]
fn what_cannot_be_run_is_told() {
    let seen = tested(&FILE.replace("OUTPUTS", "{out: []}"), &failing);
    assert_eq!(seen["error"], "count cannot be made: count");
    assert_eq!(seen["passed"], json!(false));
    let file = FILE.replace("kind: merge", "command: [none]");
    let seen = tested(&file.replace("OUTPUTS", "{out: []}"), &counting);
    assert!(seen["error"].as_str().unwrap().starts_with("all is a program of its own"), "{seen}");
}
