//! Tests of plans.

use super::*;
use crate::check::check;

const DIAMOND: &str = "
apiVersion: sheaf.dev/v1
kind: Pipeline
metadata: {name: diamond}
sources:
  - {id: orders, kind: generate, config: {columns: [{name: n, values: sequence}]}, port: 7000}
processors:
  - {id: all, kind: merge, inputs: [small, {from: big, credits: 4, policy: spill, spillLimit: 1MB}]}
  - id: small
    kind: filter
    replicas: 3
    config: {where: n < 10}
    inputs: [{from: orders, partitioning: {hash: [n]}}]
    health: {port: 9000}
  - {id: big, kind: filter, replicas: 1, config: {where: n >= 10}, inputs: [orders]}
sinks:
  - {id: out, kind: stdout, inputs: [{from: all, durable: true}]}
";

fn plan(text: &str) -> Plan {
    match check("test.yaml", text) {
        Ok(checked) => Plan::new(&checked.pipeline),
        Err(report) => panic!("{}", report.render(Default::default())),
    }
}

fn change(old: &str, with: &str) -> Diff {
    assert!(DIAMOND.contains(old), "{old}");
    plan(DIAMOND).diff(&plan(&DIAMOND.replacen(old, with, 1)))
}

#[test]
fn readers_start_first_and_sources_stop_first() {
    let plan = plan(DIAMOND);
    let order = vec![vec!["orders"], vec!["small", "big"], vec!["all"], vec!["out"]];
    assert_eq!(plan.stop_order(), order);
    assert_eq!(plan.start_order(), order.into_iter().rev().collect::<Vec<_>>());
}

#[test]
fn replicas_become_instances_with_ports_of_their_own() {
    let plan = plan(DIAMOND);
    let small = plan.component("small").unwrap();
    let ids: Vec<_> =
        small.instances.iter().map(|one| (one.id.as_str(), one.health_port)).collect();
    assert_eq!(ids, [("small", 9000), ("small.1", 9001), ("small.2", 9002)]);
    assert_eq!(plan.component("orders").unwrap().instances[0].port, 7000);
    assert_eq!(plan.instance_count(), 7);
}

#[test]
fn edges_say_who_talks_to_whom_and_how() {
    let plan = plan(DIAMOND);
    let hash = plan.edge("orders:small").unwrap();
    assert_eq!(hash.partitioning, Partitioning::Hash(vec!["n".into()]));
    let streams: Vec<_> = hash.streams.iter().map(|one| (one.from, one.to)).collect();
    assert_eq!(streams, [(0, 0), (0, 1), (0, 2)]);
    assert_eq!(plan.edge("small:all").unwrap().partitioning, Partitioning::RoundRobin);
    let spill = plan.edge("big:all").unwrap();
    assert_eq!((spill.policy, spill.credits), (Policy::Spill, 4));
    assert_eq!((spill.spill_limit_bytes, spill.durable), (Some(1_000_000), false));
    assert_eq!(spill.partitioning, Partitioning::Forward);
    let last = plan.edge("all:out").unwrap();
    assert_eq!((last.durable, last.credits, last.spill_limit_bytes), (true, 32, None));
    assert_eq!(plan.senders_of("all").count(), 2);
    assert_eq!(plan.readers_of("orders").count(), 2);
}

#[test]
fn the_whole_pipeline_may_be_durable_but_for_an_edge() {
    let text = DIAMOND
        .replace("metadata:", "durable: true\nmetadata:")
        .replace("inputs: [orders]}", "inputs: [{from: orders, durable: false}]}")
        .replace("policy: spill, spillLimit: 1MB", "");
    let plan = plan(&text.replace("credits: 4, }", "credits: 4}"));
    let durable = |id| plan.edge(id).unwrap().durable;
    assert!(durable("orders:small") && durable("small:all") && !durable("orders:big"));
}

#[test]
fn equal_files_have_nothing_to_change() {
    let text = DIAMOND.replace("replicas: 1, ", "restart: {policy: on-failure}, ");
    let diff = plan(DIAMOND).diff(&plan(&text));
    assert!(diff.is_empty(), "{diff:?}");
    assert_eq!(diff.kept.len(), 7);
}

#[test]
fn only_what_changed_restarts() {
    let diff = change("where: n >= 10", "where: n >= 11");
    assert_eq!(diff.changes, [Change::Restart { instance: "big".into() }]);
    assert!(!diff.kept.contains(&"big".to_owned()) && diff.kept.len() == 6);
}

fn restart(instance: &str) -> Change {
    Change::Restart { instance: instance.into() }
}

#[test]
fn another_number_of_instances_is_told_to_all_who_talk_to_them() {
    let diff = change("replicas: 3", "replicas: 2");
    let stop = Change::Stop { instance: "small.2".into() };
    let restarts = ["all", "small", "small.1", "orders"].map(restart);
    assert_eq!(diff.changes[0], stop);
    assert_eq!(diff.changes[1..], restarts, "readers first");
    assert_eq!(diff.kept, ["big", "out"]);
    let diff = change("replicas: 1", "replicas: 2");
    assert!(diff.changes.contains(&Change::Start { instance: "big.1".into() }), "{diff:?}");
}

#[test]
fn another_edge_is_told_to_both_its_ends() {
    let diff = change("credits: 4", "credits: 8");
    assert_eq!(diff.changes, [restart("all"), restart("big")]);
    assert_eq!(diff.kept.len(), 5);
}

#[test]
fn the_order_of_readers_in_the_file_says_nothing() {
    let lines = "processors: [{id: a, kind: filter, config: {where: n > 1}, inputs: [s]}]\n";
    let text = |sinks: &str| {
        format!(
            "apiVersion: sheaf.dev/v1\nkind: Pipeline\nmetadata: {{name: p}}\nsources: [{{id: s, \
             command: [x]}}]\n{lines}sinks: [{sinks}]\n"
        )
    };
    let (one, two) =
        ("{id: b, kind: stdout, inputs: [s]}", "{id: c, kind: stdout, inputs: [a, s]}");
    let first = plan(&text(&format!("{one}, {two}")));
    assert!(first.diff(&plan(&text(&format!("{two}, {one}")))).is_empty());
    // That of inputs does.
    let other = text(&format!("{one}, {two}")).replace("[a, s]", "[s, a]");
    assert_eq!(first.diff(&plan(&other)).changes, [restart("c")]);
}

#[test]
fn supervision_changes_without_a_restart() {
    let diff = change("replicas: 1", "drain: 5s");
    assert_eq!(diff.changes, [Change::Supervise { component: "big".into() }]);
    assert_eq!(diff.kept.len(), 7);
}

#[test]
fn components_come_and_go_in_order() {
    let diff = change(
        "{id: out, kind: stdout, inputs: [{from: all, durable: true}]}",
        "{id: print, kind: stdout, inputs: [all]}",
    );
    assert_eq!(
        diff.changes,
        [
            Change::Stop { instance: "out".into() },
            Change::Start { instance: "print".into() },
            restart("all"),
        ]
    );
}

#[test]
fn the_hash_of_a_definition_is_the_same_in_every_build() {
    let hash = plan(DIAMOND).component("big").unwrap().hash.to_string();
    assert_eq!(hash, "807efab16b3bfc99b0f4967d3d7bdb3f");
}

#[test]
fn every_setting_that_a_process_sees_is_in_its_hash() {
    let hash = |text: &str| plan(text).component("big").unwrap().hash;
    let first = hash(DIAMOND);
    for with in [
        "environment: {A: b}",
        "resources: {memory: 1GB}",
        "resources: {cpu: 1}",
        "port: 7100",
        "health: {port: 7101}",
        "health: {interval: 5s}",
        "health: {path: /up}",
    ] {
        assert_ne!(hash(&DIAMOND.replace("replicas: 1", with)), first, "{with}");
    }
    for with in ["replicas: 2", "drain: 1s", "restart: {policy: always}", "health: {timeout: 1m}"] {
        assert_eq!(hash(&DIAMOND.replace("replicas: 1", with)), first, "{with}");
    }
}
