//! Runs that go on where the one before was broken off, runs that begin anew, and rows that
//! are equal: no row is lost, and none that ought to be there once is there twice.

use std::time::Duration;

use rustix::process::Signal;
use sheaf_testkit::{Process, wait_until};

use super::flows::{Flows, LONG, assert_once, component_program, sink, source};
use super::pipelines::signal;
use super::{code, notes, sheafctl_in};

const RESTART: &str = "restart: {backoff: 20ms, maxBackoff: 100ms, maxRestarts: 100}";

/// The same row again and again: only numbers of batches tell them apart.
fn equal_rows(rows: u64, per_second: u64) -> String {
    format!(
        "apiVersion: sheaf.dev/v1\nkind: Pipeline\nmetadata: {{name: p}}\nsources:\n  \
         - id: clicks\n    kind: generate\n    {RESTART}\n    config:\n      rows: {rows}\n      \
         batchRows: 10\n      rowsPerSecond: {per_second}\n      columns:\n        \
         - {{name: what, values: {{constant: click}}}}\n\
         sinks:\n  - {{id: keep, kind: file, inputs: [clicks], {RESTART}, config: {{path: \
         out/keep, format: json}}}}\n"
    )
}

fn lines(flows: &Flows) -> usize {
    let files = std::fs::read_dir(flows.path("out/keep")).into_iter().flatten().flatten();
    let files = files.filter(|file| file.path().extension().is_some_and(|end| end == "jsonl"));
    files.map(|file| std::fs::read_to_string(file.path()).unwrap().lines().count()).sum()
}

/// A source of another name, as an entry of `sources`.
fn named(name: &str, rows: u64, per_second: u64) -> String {
    let text = source(rows, per_second).replace("numbers", name);
    text.split_once("sources:\n").unwrap().1.to_owned()
}

/// What stands before the sources of a durable pipeline, and those.
fn durable(sources: &str) -> String {
    let text = source(1, 1);
    let head = text.split_once("sources:\n").unwrap().0;
    format!("{head}delivery: exactly-once\ndurable: true\nsources:\n{sources}")
}

/// Whether so many processes of an instance have come to their end, and not only to that of the
/// run.
fn is_done(flows: &Flows, instance: &str, times: usize) -> bool {
    let log = flows.path(".sheaf/pipelines/p/instances").join(instance).join("log");
    let log = std::fs::read_to_string(log).unwrap_or_default();
    let is_its = |line: &&str| line.contains("deregistering") && line.contains("done with pass");
    log.lines().filter(is_its).count() >= times
}

fn run(flows: &Flows, more: &[&str]) -> Process {
    component_program();
    flows.process(&[&["run", "p.yaml", "--control-addr", "127.0.0.1:0"], more].concat())
}

#[test]
fn equal_rows_of_a_source_that_was_killed_are_not_taken_for_those_before() {
    let flows = Flows::new();
    flows.start(&equal_rows(10_000, 1_000));
    for _ in 0..2 {
        let before = lines(&flows);
        wait_until(LONG, "more rows", || lines(&flows) > before + 500).unwrap();
        signal(flows.pid("clicks"), Signal::KILL);
    }
    flows.wait_end();
    // What was on its way comes again.
    let rows = lines(&flows);
    assert!((10_000..14_000).contains(&rows), "{rows}");
}

#[test]
fn equal_rows_of_two_runs_are_written_twice_also_where_nothing_is_kept_of_the_first() {
    let flows = Flows::new();
    flows.write(&equal_rows(500, 1_000_000));
    for (round, folder) in [(1, ".sheaf"), (2, ".sheaf"), (3, "other")] {
        let mut process = run(&flows, &["--state", "memory", "--data-dir", folder]);
        let status = process.wait_exit(LONG).unwrap();
        assert!(status.success(), "{}", process.stderr());
        assert_eq!(lines(&flows), round * 500, "{}", process.stderr());
    }
}

#[test]
fn a_source_that_has_ended_stays_there_until_all_have() {
    let flows = Flows::new();
    let south = source(1_000_000, 2_000).replace("numbers", "south");
    let south = south.split_once("sources:\n").unwrap().1.to_owned();
    let text = source(100, 1_000_000).replace("numbers", "north") + &south;
    let text = format!("{text}sinks:\n{}{}", sink("n", "north"), sink("s", "south"));
    flows.write(&text);
    for round in [1, 2] {
        let before = flows.written("s").len();
        let mut process = run(&flows, &[]);
        let go_on = || flows.written("s").len() > before + 2_000 && is_done(&flows, "north", 1);
        wait_until(LONG, "rows of one, and the end of the other", go_on).unwrap();
        match round {
            1 => drop(process.kill9().unwrap()),
            _ => assert!(process.terminate(LONG).unwrap().success(), "{}", process.stderr()),
        }
    }
    assert_once(&flows.written("n"), 0..100);
    // From the beginning, if that is asked for.
    let mut process = run(&flows, &["--fresh"]);
    let again = || flows.written("n").values().all(|count| *count == 2);
    wait_until(LONG, "all rows once more", again).unwrap();
    process.terminate(LONG).unwrap();
}

#[test]
fn what_waits_on_a_durable_edge_behind_a_source_that_has_ended_is_there_once() {
    let flows = Flows::new();
    // It is at it for three seconds.
    let text = source(30_000, 10_000)
        .replace("sources:", "delivery: exactly-once\ndurable: true\nsources:");
    flows.write(&format!("{text}sinks:\n{}", sink("out", "{from: numbers, credits: 1000}")));
    let mut process = run(&flows, &[]);
    flows.wait_files("out", 1);
    signal(flows.pid("out"), Signal::STOP);
    wait_until(LONG, "the end of the source", || is_done(&flows, "numbers", 1)).unwrap();
    process.kill9().unwrap();
    assert!(flows.written("out").len() < 30_000, "some wait");
    let run = ["run", "p.yaml", "--control-addr", "127.0.0.1:0", "--quiet"];
    let output = sheafctl_in(flows.folder.path(), &run);
    assert_eq!(code(&output), 0, "{}", notes(&output));
    assert_once(&flows.written("out"), 0..30_000);
    // All have come to their end: the next one is another pass.
    let output = sheafctl_in(flows.folder.path(), &run);
    assert_eq!(code(&output), 0, "{}", notes(&output));
    let written = flows.written("out");
    assert!(written.len() == 30_000 && written.values().all(|count| *count == 2));
}

#[test]
fn what_is_new_in_a_pass_reads_what_is_new_and_waits_for_nobody_who_is_done() {
    let flows = Flows::new();
    let old = named("north", 100, 1_000_000) + &named("south", 1_000_000, 100);
    let file = |sources: &str, sinks: &str| format!("{}sinks:\n{sinks}", durable(sources));
    let south = sink("s", "south");
    flows.write(&file(&old, &(sink("n", "north") + &south)));
    let mut process = run(&flows, &[]);
    let done = || is_done(&flows, "north", 1) && is_done(&flows, "n", 1);
    wait_until(LONG, "the end of one branch", done).unwrap();
    assert!(process.terminate(LONG).unwrap().success(), "{}", process.stderr());
    // A reader more of who is done, and a sender more to who is done.
    let new = old + &named("west", 100, 1_000_000);
    let sinks = sink("n", "north, west") + &sink("m", "north") + &south;
    flows.write(&file(&new, &sinks));
    let mut process = run(&flows, &[]);
    let done = || is_done(&flows, "m", 1) && is_done(&flows, "n", 2);
    let waited = wait_until(LONG, "the ends of what is new", done);
    assert!(process.terminate(LONG).unwrap().success(), "{}", process.stderr());
    waited.unwrap();
    let (n, m) = (flows.written("n"), flows.written("m"));
    assert!(n.len() == 100 && n.values().all(|count| *count == 2), "{n:?}");
    assert!(m.is_empty(), "it came after them: {m:?}");
}

/// Its reader has not heard of the end that its sender came to: in the file that has more inputs
/// now, that sender goes on, and has another end.
#[test]
fn who_was_done_and_has_more_inputs_now_is_read_to_its_new_end() {
    let flows = Flows::new();
    let north = named("north", 100, 50).replace("batchRows: 1_000", "batchRows: 10")
        + &named("south", 1_000_000, 100);
    let file = |sources: &str, inputs: &str| {
        format!(
            "{}processors:\n  - {{id: p, kind: filter, inputs: [{inputs}], config: {{where: id \
             >= 0}}}}\nsinks:\n{}{}",
            durable(sources),
            sink("n", "p"),
            sink("s", "south")
        )
    };
    flows.write(&file(&north, "north"));
    let mut process = run(&flows, &[]);
    wait_until(LONG, "rows", || !flows.written("n").is_empty()).unwrap();
    signal(flows.pid("n"), Signal::STOP);
    wait_until(LONG, "the end of what it reads", || is_done(&flows, "p", 1)).unwrap();
    process.kill9().unwrap();
    assert!(flows.written("n").len() < 100, "some wait");

    flows.write(&file(&(north + &named("west", 100, 1_000_000)), "north, west"));
    let mut process = run(&flows, &[]);
    let waited = wait_until(LONG, "all ends", || is_done(&flows, "n", 1));
    assert!(process.terminate(LONG).unwrap().success(), "{}", process.stderr());
    waited.unwrap();
    let n = flows.written("n");
    assert!(n.len() == 100 && n.values().all(|count| *count == 2), "{n:?}");
}

#[test]
fn a_source_that_takes_its_time_for_a_batch_is_not_asked_again_before() {
    use std::io::{Read as _, Write as _};

    let flows = Flows::new();
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let asked = std::sync::Arc::new(std::sync::atomic::AtomicU32::new(0));
    let counted = std::sync::Arc::clone(&asked);
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let mut stream = stream.unwrap();
            counted.fetch_add(1, std::sync::atomic::Ordering::SeqCst);
            let mut request = [0; 4_096];
            // Who has gone away again is not waited for.
            if stream.read(&mut request).is_err() {
                continue;
            }
            // sleep: the server takes this long.
            std::thread::sleep(Duration::from_millis(700));
            let body = r#"[{"id": 7}]"#;
            let answer = format!(
                "HTTP/1.1 200 OK\r\ncontent-type: application/json\r\nconnection: close\r\n\
                 content-length: {}\r\n\r\n{body}",
                body.len()
            );
            drop(stream.write_all(answer.as_bytes()));
        }
    });
    flows.start(&format!(
        "apiVersion: sheaf.dev/v1\nkind: Pipeline\nmetadata: {{name: p}}\nsources:\n  \
         - {{id: api, kind: http, config: {{url: \"http://{address}/x\", every: 1h, format: json}}}}\n\
         sinks:\n{}",
        sink("out", "api")
    ));
    wait_until(LONG, "the row", || !flows.written("out").is_empty()).unwrap();
    assert_eq!(asked.load(std::sync::atomic::Ordering::SeqCst), 1);
}
