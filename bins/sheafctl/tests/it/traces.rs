//! Traces of pipelines of real processes, at a collector that speaks OTLP.

use std::collections::BTreeMap;
use std::path::Path;

use sheaf_testkit::{CollectedSpan, Collector, Process, TempDir, program_beside};

use super::flows::{LONG, component_program, sink, source};

const BATCHES: usize = 5;

/// Runs a pipeline to its end.
fn run(folder: &TempDir, pipeline: &str, variables: &[(&str, &str)]) -> Process {
    component_program();
    std::fs::write(folder.path().join("p.yaml"), pipeline).unwrap();
    let mut process = Process::command(env!("CARGO_BIN_EXE_sheafctl"))
        .args(["run", "p.yaml", "--control-addr", "127.0.0.1:0"])
        .current_dir(folder.path());
    for (name, value) in variables {
        process = process.env(name, value);
    }
    let mut process = process.spawn().unwrap();
    let status = process.wait_exit(LONG).unwrap();
    assert!(status.success(), "{}\n{}", process.stdout(), process.stderr());
    process
}

/// Numbers through a processor into files.
fn pipeline(processor: &str, more: &str) -> String {
    let source = source(BATCHES as u64 * 1_000, 100_000);
    let source = source.replace("kind: Pipeline\n", &format!("kind: Pipeline\n{more}"));
    format!("{source}processors:\n{processor}sinks:\n{}", sink("files", "middle"))
}

const FILTER: &str =
    "  - {id: middle, kind: filter, inputs: [numbers], config: {where: id >= 0}}\n";

fn named<'a>(spans: &'a [CollectedSpan], name: &str) -> Vec<&'a CollectedSpan> {
    spans.iter().filter(|span| span.name == name).collect()
}

/// The one that caused it.
fn parent<'a>(spans: &'a [CollectedSpan], span: &CollectedSpan) -> &'a CollectedSpan {
    let found = spans.iter().find(|other| other.id == span.parent);
    let found = found.unwrap_or_else(|| panic!("no parent of {span:?}"));
    assert_eq!(found.trace, span.trace);
    found
}

/// What is said of a span, without what differs from run to run.
fn told(span: &CollectedSpan) -> BTreeMap<&str, &str> {
    let all = span.attributes.iter().map(|(key, value)| (key.as_str(), value.as_str()));
    all.filter(|(key, _)| *key != "sheaf.bytes").collect()
}

fn rows(folder: &Path) -> usize {
    let files = std::fs::read_dir(folder.join("out/files")).unwrap().flatten();
    let parts = files.filter(|file| file.path().extension().is_some_and(|it| it == "jsonl"));
    parts.map(|file| std::fs::read_to_string(file.path()).unwrap().lines().count()).sum()
}

#[test]
fn one_trace_shows_a_batch_from_its_source_to_the_sink() {
    let (collector, folder) = (Collector::start().unwrap(), TempDir::new().unwrap());
    let endpoint = collector.endpoint();
    run(
        &folder,
        &pipeline(FILTER, ""),
        &[
            ("OTEL_EXPORTER_OTLP_ENDPOINT", &endpoint),
            ("OTEL_RESOURCE_ATTRIBUTES", "deployment.environment=test"),
        ],
    );
    let spans = collector.spans();
    let writes = named(&spans, "write files");
    assert_eq!(writes.len(), BATCHES, "{spans:?}");
    let mut sequences = Vec::new();
    for write in &writes {
        let process = parent(&spans, write);
        let make = parent(&spans, process);
        assert_eq!((process.name.as_str(), make.name.as_str()), ("process middle", "make numbers"));
        assert_eq!(make.parent, "", "a source begins a trace");
        assert_eq!(
            (&make.events[..], &process.events[..]),
            (&["made".to_owned()][..], &["processed".to_owned()][..])
        );
        for span in [write, process, make] {
            assert_eq!((span.service.as_str(), &span.failure), ("sheaf-component", &None));
            assert_eq!(span.resource["deployment.environment"], "test");
            let bytes: u64 = span.attributes["sheaf.bytes"].parse().unwrap();
            assert!(bytes >= 8_000, "{bytes} of a thousand numbers");
        }
        let sequence = write.attributes["sheaf.sequence"].as_str();
        let common = [
            ("sheaf.pipeline", "p"),
            ("sheaf.run", "1"),
            ("sheaf.instance", "0"),
            ("sheaf.rows", "1000"),
            ("sheaf.sequence", sequence),
        ];
        let with = |more: &[(&'static str, &'static str)]| {
            common.iter().chain(more).copied().collect::<BTreeMap<_, _>>()
        };
        assert_eq!(
            told(make),
            with(&[("sheaf.component", "numbers"), ("sheaf.edge", "numbers:middle")])
        );
        assert_eq!(
            told(process),
            with(&[
                ("sheaf.component", "middle"),
                ("sheaf.edge", "numbers:middle"),
                ("sheaf.from_instance", "0"),
                ("sheaf.batches", "1")
            ])
        );
        assert_eq!(
            told(write),
            with(&[
                ("sheaf.component", "files"),
                ("sheaf.edge", "middle:files"),
                ("sheaf.from_instance", "0")
            ])
        );
        sequences.push(sequence.to_owned());
    }
    sequences.sort_unstable();
    assert_eq!(sequences, ["1", "2", "3", "4", "5"]);
}

#[test]
fn the_control_plane_records_each_start() {
    let (collector, folder) = (Collector::start().unwrap(), TempDir::new().unwrap());
    let name = ("OTEL_SERVICE_NAME", "mine");
    run(
        &folder,
        &pipeline(FILTER, ""),
        &[("OTEL_EXPORTER_OTLP_ENDPOINT", &collector.endpoint()), name],
    );
    let spans = collector.spans();
    assert!(spans.iter().all(|span| span.service == "mine"), "{spans:?}");
    let launch = named(&spans, "launch middle");
    let [launch] = launch[..] else { panic!("{spans:?}") };
    assert_eq!(launch.attributes["sheaf.driver"], "process");
    assert_eq!(launch.attributes["sheaf.attempt"], "1");
    assert_eq!(launch.failure, None);
}

#[test]
fn what_comes_of_many_batches_goes_on_with_the_first_and_names_the_others() {
    let (collector, folder) = (Collector::start().unwrap(), TempDir::new().unwrap());
    let total = "  - {id: middle, kind: aggregate, inputs: [numbers], config: {aggregates: [{name: total, function: sum, column: id}], window: end}}\n";
    run(&folder, &pipeline(total, ""), &[("OTEL_EXPORTER_OTLP_ENDPOINT", &collector.endpoint())]);
    let spans = collector.spans();
    let [write] = named(&spans, "write files")[..] else { panic!("{spans:?}") };
    let emit = parent(&spans, write);
    assert_eq!((emit.name.as_str(), emit.links.len()), ("emit middle", BATCHES));
    let first = parent(&spans, emit);
    assert_eq!(
        (first.name.as_str(), first.attributes["sheaf.sequence"].as_str()),
        ("process middle", "1")
    );
    for link in &emit.links {
        let cause = spans.iter().find(|span| span.id == *link).unwrap();
        assert_eq!(cause.name, "process middle");
    }
}

#[test]
fn a_trace_goes_through_durable_edges() {
    let own = Path::new(env!("CARGO_BIN_EXE_sheafctl"));
    if program_beside(own, "sheaf", "sheaf-cli").is_none() {
        return;
    }
    let (collector, folder) = (Collector::start().unwrap(), TempDir::new().unwrap());
    let slow =
        pipeline(FILTER, "durable: true\n").replace("rowsPerSecond: 100000", "rowsPerSecond: 5000");
    run(&folder, &slow, &[("OTEL_EXPORTER_OTLP_ENDPOINT", &collector.endpoint())]);
    let spans = collector.spans();
    let made = named(&spans, "make numbers");
    let made = made.iter().map(|span| span.attributes["sheaf.rows"].parse::<usize>().unwrap());
    assert_eq!(made.sum::<usize>(), BATCHES * 1_000);
    let writes = named(&spans, "write files");
    assert!(!writes.is_empty(), "{spans:?}");
    for write in writes {
        let process = parent(&spans, write);
        let make = parent(&spans, process);
        assert_eq!((process.name.as_str(), make.name.as_str()), ("process middle", "make numbers"));
        let id = &write.attributes["sheaf.batch_id"];
        assert!(id.starts_with("p:middle:files:"), "{id}");
    }
    assert_eq!(rows(folder.path()), BATCHES * 1_000);
}

#[test]
fn a_worker_records_its_attempts() {
    let own = Path::new(env!("CARGO_BIN_EXE_sheafctl"));
    let Some(sheaf) = program_beside(own, "sheaf", "sheaf-cli") else { return };
    let (collector, folder) = (Collector::start().unwrap(), TempDir::new().unwrap());
    std::fs::write(folder.path().join("rows.csv"), "n\n1\n2\n3\n").unwrap();
    let mut server = Process::command(&sheaf)
        .args(["serve", "--flight-addr", "127.0.0.1:0", "--admin-addr", "127.0.0.1:0"])
        .env("OTEL_EXPORTER_OTLP_ENDPOINT", collector.endpoint())
        .current_dir(folder.path())
        .spawn()
        .unwrap();
    let address = server.wait_ready(LONG).unwrap().url("flight").unwrap().to_owned();
    let put = Process::command(&sheaf)
        .args(["put", "rows.csv", "--register", "--id", "three", "--server", &address])
        .current_dir(folder.path())
        .spawn();
    assert!(put.unwrap().wait_exit(LONG).unwrap().success());
    // Sent while it runs.
    let spans = collector.wait_spans(LONG, "a span", |spans| !spans.is_empty()).unwrap();
    let [work] = &spans[..] else { panic!("{spans:?}") };
    assert_eq!((work.service.as_str(), work.name.as_str()), ("sheaf", "work default"));
    assert_eq!(
        (&*work.attributes["sheaf.batch_id"], &*work.attributes["sheaf.rows"]),
        ("three", "3")
    );
    assert_eq!((&*work.attributes["sheaf.attempt"], &work.failure), ("1", &None));
    assert!(server.terminate(LONG).unwrap().success());
}

#[test]
fn what_is_not_sampled_at_its_source_is_not_sampled_anywhere() {
    let (collector, folder) = (Collector::start().unwrap(), TempDir::new().unwrap());
    run(
        &folder,
        &pipeline(FILTER, ""),
        &[
            ("OTEL_EXPORTER_OTLP_ENDPOINT", &collector.endpoint()),
            ("OTEL_TRACES_SAMPLER", "parentbased_traceidratio"),
            ("OTEL_TRACES_SAMPLER_ARG", "0"),
        ],
    );
    assert_eq!(collector.spans(), []);
    assert_eq!(rows(folder.path()), BATCHES * 1_000);
}

#[test]
fn a_pipeline_does_not_miss_a_collector_that_is_away() {
    let folder = TempDir::new().unwrap();
    let gone = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let slow = pipeline(FILTER, "").replace("rowsPerSecond: 100000", "rowsPerSecond: 1000");
    let process = run(
        &folder,
        &slow,
        &[
            ("OTEL_EXPORTER_OTLP_ENDPOINT", &format!("http://{gone}")),
            // Several exports fail.
            ("OTEL_BSP_SCHEDULE_DELAY", "200"),
        ],
    );
    assert_eq!(rows(folder.path()), BATCHES * 1_000);
    let said = |text: &str| text.matches("the collector does not take traces").count();
    for instance in ["numbers", "middle", "files"] {
        let log = folder.path().join(".sheaf/pipelines/p/instances").join(instance).join("log");
        let log = std::fs::read_to_string(log).unwrap();
        assert_eq!(said(&log), 1, "{instance}: {log}");
    }
    assert_eq!(said(&process.stderr()), 1, "{}", process.stderr());
}

#[test]
fn components_that_know_nothing_of_traces_are_read_and_written() {
    let (collector, folder) = (Collector::start().unwrap(), super::python::folder());
    let endpoint = collector.endpoint();
    let variables = [("OTEL_EXPORTER_OTLP_ENDPOINT", endpoint.as_str())];
    let Some(mut process) = super::python::run(&folder, &variables) else { return };
    let status = process.wait_exit(LONG).unwrap();
    assert!(status.success(), "{}\n{}", process.stdout(), process.stderr());
    let spans = collector.spans();
    let writes = named(&spans, "write prices");
    assert!(!writes.is_empty(), "{spans:?}");
    for write in writes {
        let process = parent(&spans, write);
        assert_eq!((process.name.as_str(), process.parent.as_str()), ("process cleaned", ""));
    }
}
